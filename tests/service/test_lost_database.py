"""A question to a home whose database vanished is answered from the notes, read again; never `nothing in your notes`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from service.cli.main import main

QUESTION = "What does pass@k reveal about base model reasoning capacity?"


@pytest.fixture
def without_database(sample_home: Path, home: Path) -> Path:
    shutil.copytree(sample_home, home)
    for file in home.glob("kb.sqlite*"):
        file.unlink()
    return home


def test_a_question_reads_the_notes_again_first(without_database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(without_database), "ask", QUESTION, "--json"]) == 0
    out, errors = capsys.readouterr()
    assert json.loads(out)["answered"]
    assert (
        "kb.sqlite was missing or empty, although sources are registered (1): indexed 62 notes again from the sources" in errors
    )
    assert main(["--home", str(without_database), "search", "entropy", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_status_and_doctor_say_it(without_database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(without_database), "status"]) == 0
    assert "problem: " in (out := capsys.readouterr().out) and "run `passkb sync`" in out
    assert main(["--home", str(without_database), "doctor", "--json"]) == 3
    (check,) = [c for c in json.loads(capsys.readouterr().out)["checks"] if c["name"] == "index"]
    assert not check["ok"] and check["remedy"] == "run `passkb sync`"


def test_a_removed_vector_index_is_said_and_made_again(
    sample_home: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sample_home, home)
    shutil.rmtree(home / "chroma")
    assert main(["--home", str(home), "status", "--json"]) == 0
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "the vector index" in problem and "its folder is missing" in problem
    assert main(["--home", str(home), "sync", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"]
    assert main(["--home", str(home), "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
