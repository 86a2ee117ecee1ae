"""The log: levels, formats, libraries kept at warning, timings of an answer, nothing on standard output."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb.notes import PasskbError
from service import log
from service.config import read_config

ROOT = Path(__file__).parents[2]
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    log.configure("warning")


def test_messages_of_passkb_have_its_level_and_those_of_libraries_are_warnings_at_least(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("info", timestamps=True)
    log.logger("web").info("well")
    log.logger("web").debug("too much")
    logging.getLogger("httpx").info("a library's")
    logging.getLogger("httpx").warning("a library's warning")
    out, err = capsys.readouterr()
    assert not out and [log.strip_prefix(line) for line in err.splitlines()] == ["well", "a library's warning"]
    assert re.match(STAMP + r"INFO    passkb\.web: well$", err.splitlines()[0])
    library = logging.getLogger("a_library_with_a_handler")
    library.addHandler(logging.NullHandler())
    library.warning("written by its own handler")
    assert capsys.readouterr().err == ""
    log.configure("warning")
    log.logger("web").info("quiet")
    log.logger("web").warning("short")
    assert capsys.readouterr().err == "passkb: short\n"


def test_child_processes_log_at_the_level_that_an_option_asked_for() -> None:
    log.configure("debug", requested="debug")
    assert log.child_options() == ["--log-level", "debug"]
    log.configure("info")
    assert log.child_options() == []


def run(home: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "service.cli", "--home", str(home), *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_an_option_a_variable_or_a_setting_shows_the_timings_of_an_answer(sample_home: Path) -> None:
    question = "What does pass@k reveal about base model reasoning capacity?"
    status, out, err = run(sample_home, "--verbose", "ask", question, "--json")
    assert status == 0 and json.loads(out)["answered"]
    assert re.search(STAMP + r"DEBUG   passkb\.ask: ask: retrieval \d+ ms, answer \d+ ms", err) and question not in err
    assert "retrieval" in run(sample_home, "ask", question, PASSKB_LOG_LEVEL="debug")[2]
    assert run(sample_home, "--log-level", "info", "ask", question, PASSKB_LOG_LEVEL="debug")[2] == ""
    status, out, err = run(sample_home, "--log-level", "chatty", "ask", question)
    assert status == 2 and not out and "chatty" in err


def test_a_level_that_is_none_is_refused(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text('log_level = "loud"\n')
    with pytest.raises(PasskbError, match="'log_level' must be one of debug, info, warning, error, not 'loud'"):
        read_config(home)
