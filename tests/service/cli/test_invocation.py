"""Every command: --json is one object on stdout and nothing else, also where nothing is done; no traceback, however it ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pytest

from service.cli.main import main
from service.version import UNKNOWN, version, version_in

ROOT = Path(__file__).parents[3]
NOTE, QUESTION = "vault/does-rlvr-expand", "Does RLVR expand what models can reason about?"
SPEC = """
problems: {set: countdown, limit: 4}
models: {base: {model: "beta:0.4,1.2", engine: scripted}}
sampling: {n: 4, max_tokens: 64}
"""
COUNTS = "model,problem_id,n,c\n" + "".join(f"base,p{i},8,{i % 5}\ntuned,p{i},8,{i % 3}\n" for i in range(8))
# Each command with its arguments and exit status, in an order in which they build on each other. FOLDER is the test's own.
COMMANDS: tuple[tuple[int, str], ...] = (
    (0, "ingest FOLDER/vault"), (3, "ingest FOLDER/vault FOLDER/nowhere"), (1, "ingest FOLDER/nowhere"),
    (1, "ingest FOLDER/empty"), (0, "sync"), (0, "sync --dry-run"), (0, "status"), (0, "status --files"),
    (0, "search entropy"), (0, f"ask {QUESTION!r}"), (1, "ask ''"), (0, f"note {NOTE}"), (1, "note nothing"),
    (0, f"path {NOTE} vault/prorl"), (1, "path nothing vault/prorl"), (0, "map --out FOLDER/map.json"),
    (1, "map --out FOLDER/map.png"), (1, "map --out FOLDER/no/such/map.json"), (0, "claims"), (0, f"keep {QUESTION!r}"),
    (0, "inquiries"), (0, "inquiries --stale"), (0, "refresh INQUIRY"),
    (1, "refresh nothing"), (0, f"suggest {NOTE}"), (1, f"suggest {NOTE} --why because"),
    (0, f"suggest {NOTE} --dismiss vault/prorl"), (0, f"suggest {NOTE} --take-back vault/prorl"),
    (1, f"suggest {NOTE} --accept vault/prorl"), (0, f"suggest {NOTE} --accept vault/apples"),
    (1, "judge-check"), (1, "judge-check --llm http://127.0.0.1:9/v1 --model x"),
    (1, "ask anything --llm ftp://nowhere"), (0, "experiment plan FOLDER/spec.yaml"), (1, "experiment plan FOLDER/none.yaml"),
    (0, "experiment run FOLDER/spec.yaml"), (1, "experiment run FOLDER/absent.yaml"), (0, "experiment list"),
    (0, "experiment import FOLDER/counts.csv"), (1, "experiment import FOLDER/none.csv"), (1, "experiment show nothing"),
    (1, "experiment cancel nothing"), (1, "experiment resume nothing"), (1, "organism train --size enormous --out FOLDER/toys"),
    (0, "forget vault --yes"), (1, "forget nothing --yes"), (0, "rebuild"),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "samples" / "vault", tmp_path / "vault")
    (tmp_path / "vault" / "apples.md").write_text("# Apples\n\nApples fall.\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "absent.yaml").write_text(SPEC.replace('"beta:0.4,1.2", engine: scripted', "./absent, engine: transformers"))
    (tmp_path / "counts.csv").write_text(COUNTS)
    return tmp_path


def test_every_command_prints_one_json_object_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept: dict[str, str] = {}

    def run(line: str) -> tuple[int, Any, str]:
        filled = line.replace("FOLDER", str(folder)).replace("INQUIRY", kept.get("id", ""))
        status = main(["--home", str(folder / "home"), *shlex.split(filled), "--json"])
        out, err = capsys.readouterr()
        assert out.endswith("\n") and out.count("\n") == 1, (line, out, err)
        return status, json.loads(out), err

    for expected, line in COMMANDS:
        status, printed, err = run(line)
        assert status == expected and isinstance(printed, dict), (line, status, printed, err)
        assert "Traceback" not in err, (line, err)
        kept |= {"id": printed["id"]} if line.startswith("keep") else {}
        if status == 1 and "failed" not in printed and "added" not in printed:
            assert printed.keys() == {"error"} and f"passkb: {printed['error']}\n" in err, (line, printed, err)
    assert run("doctor")[0] in (0, 3)


def test_every_command_that_takes_json_is_in_the_table() -> None:
    """So that a new command can't be forgotten; `serve`, `worker` and `mcp` run until they are stopped and print no result."""
    from service.cli.main import build_parser

    def leaves(parser: Any, path: str = "") -> dict[str, set[str]]:
        inner = [action for action in parser._actions if hasattr(action, "choices") and isinstance(action.choices, dict)]
        if not inner:
            return {path.strip(): {option for action in parser._actions for option in action.option_strings}}
        return {k: v for name, child in inner[0].choices.items() for k, v in leaves(child, f"{path} {name}").items()}

    found = leaves(build_parser())
    without = {name for name, options in found.items() if "--json" not in options}
    assert without == {"serve", "worker", "mcp"}
    untested = {name for name in found.keys() - without if not any(line.startswith(name) for _, line in COMMANDS)}
    assert untested == {"doctor"}


def test_what_nobody_foresaw_is_a_sentence_and_a_traceback_only_on_request(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr("service.status.status", broken)
    assert main(["--home", str(home), "status", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "internal error (KeyError: 'surprise')" in json.loads(out)["error"] and "Traceback" not in err
    assert main(["--home", str(home), "--verbose", "status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_version_is_that_of_the_package_or_of_the_checkout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"passkb {version()}\n"
    assert version() == installed_version("passkb") and version_in(ROOT / "pyproject.toml") not in ("", UNKNOWN)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "9"\n')
    assert version_in(tmp_path / "pyproject.toml") == version_in(tmp_path / "none.toml") == UNKNOWN


def started(home: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service.cli", "--home", str(home), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, **options)


def test_output_that_nobody_reads_on_is_no_fault(sample_home: Path) -> None:
    """As in `passkb map … | head`: one output is larger than a pipe holds, another is written at the very end."""
    for arguments in (("status", "--files", "--json"), ("search", "pass@k", "-k", "500", "--json"), ("--help",)):
        reading, writing = os.pipe()
        os.close(reading)
        process = started(sample_home, *arguments, stdout=writing)
        os.close(writing)
        assert process.communicate(timeout=120)[1] == b"" and process.returncode == 0, arguments


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_an_interrupt_from_the_keyboard_ends_a_command_in_a_sentence(sample_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(sample_home, home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    app = started(home, "serve", "--no-worker", "--port", port, stdout=subprocess.PIPE)
    assert app.stdout is not None and app.stdout.readline().startswith(b"passkb: http")
    app.send_signal(signal.SIGINT)
    err = app.communicate(timeout=60)[1]
    assert app.returncode == 1 and b"Traceback" not in err and err.rstrip().endswith(b"passkb: stopped"), err
    program = started(home, "mcp", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert _answers(program)
    program.send_signal(signal.SIGINT)
    assert b"Traceback" not in program.communicate(timeout=60)[1]


def _answers(process: subprocess.Popen[bytes]) -> bool:
    """Whether it answers: a ping of the protocol comes back."""
    assert process.stdin is not None and process.stdout is not None
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}  # fmt: skip
    process.stdin.write(json.dumps(hello).encode() + b"\n")
    process.stdin.flush()
    return b"serverInfo" in process.stdout.readline()
