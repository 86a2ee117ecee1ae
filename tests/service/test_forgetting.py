"""Deleting much at once is asked about: by a question at a terminal, by exit status 3 and a sentence elsewhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.pipeline import ingest
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from service.cli.main import main

if TYPE_CHECKING:
    from tests.conftest import Vault

ROOT = Path(__file__).parents[2]


@pytest.fixture
def emptied(home: Path, vault: Vault) -> Path:
    """A vault of six notes that are known, and gone."""
    folder = vault({f"{i}.md": f"# Note {i}\n\nOtters." for i in range(6)})
    with KnowledgeBase(home, HashedWords()) as kb:
        ingest(kb, [folder, vault({"a.md": "# A"}, "other")])
    for file in folder.iterdir():
        file.unlink()
    return folder


def passkb(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = main([*arguments, "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else {}, captured.err


def test_a_script_is_told_and_decides_by_an_option(emptied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["sync", "--dry-run"], ["sync"], ["sync", "--forget", "other"], ["ingest", str(emptied)]):
        status, report, err = passkb(capsys, *arguments)
        assert status == 3 and report["deleted"] == 0 and report["notes"] == 7
        assert report["held"][0]["source"] == "vault" and report["held"][0]["notes"] == 6
        assert "all 6 notes are missing at once" in err and "passkb sync --forget vault" in err
    status, report, err = passkb(capsys, "sync", "--forget", "nobody")
    assert status == 1 and "there is no source 'nobody': the sources are other, vault" in err
    status, report, _ = passkb(capsys, "sync", "--forget", "--dry-run")
    assert status == 0 and report["deleted"] == 6 and report["notes"] == 7 and len(report["would"]) == 6
    status, report, _ = passkb(capsys, "sync", "--forget")
    assert status == 0 and report["deleted"] == 6 and report["notes"] == 1 and report["held"] == []


def test_a_source_is_forgotten_when_it_is_confirmed(emptied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emptied.rmdir()
    status, _, err = passkb(capsys, "sync")
    assert status == 3 and "is missing" in err and "passkb forget vault" in err
    status, _, err = passkb(capsys, "forget", "vault")
    assert status == 1 and "6 notes" in err and "--yes" in err
    status, report, _ = passkb(capsys, "forget", "vault", "--yes")
    assert status == 0 and report["deleted"] == 6 and report["notes"] == 1
    assert passkb(capsys, "sync")[0] == 0 and passkb(capsys, "forget", "vault", "--yes")[0] == 1


def at_a_terminal(home: Path, reply: str, *arguments: str) -> str:
    """What a person sees who replies to the question."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "service.cli", "--home", str(home), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = ""
        while True:
            try:
                output += os.read(ours, 4096).decode()
            except OSError:
                break
            if reply and output.endswith("[y/N] "):
                os.write(ours, reply.encode())
                reply = ""
        process.wait()
    os.close(ours)
    return output


def test_a_person_is_asked(home: Path, emptied: Path) -> None:
    output = at_a_terminal(home, "n\n", "sync")
    assert (
        "all 6 notes are missing at once" in output
        and "Delete them now?" in output
        and "deleted" not in output.splitlines()[-2]
    )
    assert "6 deleted" in at_a_terminal(home, "y\n", "sync")
    assert "Forget 'other' and its 1 notes?" in at_a_terminal(home, "\n", "forget", "other")
    assert "1 deleted" in at_a_terminal(home, "yes\n", "forget", "other")
