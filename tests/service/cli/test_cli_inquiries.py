"""`keep`, `inquiries`, `refresh` and `suggest`: one JSON object, the contract's exit statuses, a sentence for every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli.main import main
from tests.service.answering.scripted_server import Reply, said, serving
from tests.service.answering.zebras import FLIES, QUESTION, TRIAL, VAULT, writes

NEW = "Zebra stripes keep most biting flies from landing at noon."
Passkb = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def passkb(capsys: pytest.CaptureFixture[str]) -> Passkb:
    """Runs a command in this process: (exit status, what it printed, as JSON where that was asked for, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, Any, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, json.loads(out) if "--json" in arguments and out else out, err

    return run


@pytest.fixture
def vault(tmp_path: Path, passkb: Passkb) -> Path:
    folder = tmp_path / "vault"
    folder.mkdir()
    for name, text in VAULT.items():
        (folder / name).write_text(text, "utf-8")
    assert passkb("ingest", folder)[0] == 0
    return folder


def test_kept_stale_refreshed(passkb: Passkb, vault: Path, home: Path) -> None:
    assert "no inquiries yet" in passkb("inquiries")[1]
    status, made, _ = passkb("keep", QUESTION, "--json")
    assert status == 0 and made.keys() >= {"id", "title", "path", "fresh", "unchanged"} and made["fresh"]
    assert "no changes" in passkb("keep", QUESTION)[1]
    assert passkb("note", made["id"], "--json")[1]["stale"] == [] and "stale" not in passkb("note", "vault/flies", "--json")[1]
    assert passkb("status", "--json")[1]["inquiries"] == {"kept": 1, "stale": 0}
    assert "no inquiry is stale" in passkb("inquiries", "--stale")[1]
    path = vault / "flies.md"
    path.write_text(path.read_text("utf-8").replace(FLIES, NEW), "utf-8")
    assert passkb("sync")[0] == 0
    (entry,) = passkb("inquiries", "--stale", "--json")[1]["inquiries"]
    assert entry["id"] == made["id"] and entry["question"] == QUESTION and entry["stale"][0]["was"] == FLIES
    assert passkb("note", made["id"], "--json")[1]["stale"] == entry["stale"]
    assert "Stale: “Zebra stripes against flies”" in passkb("note", made["id"])[1] and "1 stale" in passkb("status")[1]
    status, done, _ = passkb("refresh", QUESTION, "--json")
    assert status == 0 and done.keys() >= {"added", "removed", "unchanged", "because", "earlier", "mode"}
    assert NEW in [line["text"] for line in done["added"]] and FLIES in [line["text"] for line in done["removed"]]
    assert passkb("inquiries", "--json")[1]["inquiries"][0]["stale"] == []
    assert "no changes" in passkb("refresh", made["id"])[1]
    assert (home / "notes" / "inquiries" / done["earlier"]).is_file()


def test_a_note_changed_by_hand_gives_way_only_when_told(passkb: Passkb, vault: Path) -> None:
    made = passkb("keep", QUESTION, "--json")[1]
    note = Path(made["path"])
    note.write_text(note.read_text("utf-8") + "Mine.\n", "utf-8")
    path = vault / "flies.md"
    path.write_text(path.read_text("utf-8").replace(FLIES, NEW), "utf-8")
    passkb("sync")
    status, out, err = passkb("refresh", made["id"])
    assert (status, out) == (1, "") and "changed by hand" in err and "--replace" in err
    assert passkb("refresh", made["id"], "--replace")[0] == 0


def test_what_can_not_be_kept_or_refreshed_is_said(passkb: Passkb, vault: Path) -> None:
    for arguments, why in (
        (["keep", "How long does sourdough bread have to prove?"], "nothing to save"), (["keep", " "], "empty"),
        (["refresh", "vault/flies"], "is not a saved inquiry"), (["refresh", "nowhere"], "there is no note"),
        (["suggest", "nowhere"], "there is no note"), (["suggest", "vault/flies", "--why", "x"], "--accept"),
        (["suggest", "vault/flies", "--accept", "vault/heat"], "already"),
        (["suggest", "vault/flies", "--take-back", "vault/heat"], "no accepted link"),
    ):  # fmt: skip
        status, out, err = passkb(*arguments)
        assert (status, out) == (1, "") and why in err, arguments
    assert passkb("suggest", "vault/flies", "--accept", "vault/heat", "--dismiss", "vault/heat")[0] == 2
    assert passkb("suggest", "vault/flies", "--accept", "vault/heat", "--type", "loves")[0] == 2


def test_a_model_writes_what_is_kept_and_proposes(passkb: Passkb, vault: Path) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. {TRIAL[:-1]} [{{trial}}].")) as server:
        status, made, _ = passkb("keep", QUESTION, "--llm", server.url, "--model", "scripted", "--json")
    assert status == 0 and made["answer"]["mode"] == "generated"
    assert passkb("inquiries", "--json")[1]["inquiries"][0]["model"] == "scripted"
    (vault / "horses.md").write_text("# Horses\n\nStriped coats were compared in zebra stripes by season.\n", "utf-8")
    passkb("sync")
    with serving(said("1. explains: both tell of the seasons")) as server:
        found = passkb("suggest", "Horses", "--llm", server.url, "--model", "scripted", "--json")[1]["suggestions"]
    assert (found[0]["target"], found[0]["type"], found[0]["by"]) == ("vault/season", "explains", "scripted")
    with serving(Reply(status=500, error="out of order")) as server:
        status, out, err = passkb("suggest", "Horses", "--llm", server.url, "--model", "scripted")
    assert status == 3 and "Zebra stripes by season" in out and "out of order" in err


def test_a_suggestion_is_accepted_taken_back_and_dismissed(passkb: Passkb, vault: Path, home: Path) -> None:
    (vault / "horses.md").write_text("# Horses\n\nStriped coats were compared in zebra stripes by season.\n", "utf-8")
    passkb("sync")
    before = {path.name: path.read_bytes() for path in vault.iterdir()}
    (entry,) = [e for e in passkb("suggest", "Horses", "--json")[1]["suggestions"] if e["target"] == "vault/season"]
    assert entry["type"] == "related" and entry["reasons"][0]["quote"].startswith("Striped coats")
    link = passkb("suggest", "Horses", "--accept", "vault/season", "--type", "extends", "--why", "more coats", "--json")[1][
        "accepted"
    ]
    assert (link["source"], link["target"], link["type"], link["why"]) == (
        "vault/horses",
        "vault/season",
        "extends",
        "more coats",
    )
    shown = passkb("note", "Horses", "--json")[1]["links"]
    assert [(entry["target"], entry["origin"], entry["writer"]) for entry in shown] == [
        ("vault/season", "authored", link["writer"])
    ]
    assert passkb("rebuild")[0] == 0 and passkb("note", "Horses", "--json")[1]["links"] == shown
    assert passkb("suggest", "vault/season", "--take-back", "Horses", "--json")[1]["links"][0]["type"] == "extends"
    assert [entry["origin"] for entry in passkb("note", "Horses", "--json")[1]["links"]] == ["inferred"]
    assert passkb("suggest", "Horses", "--dismiss", "vault/season")[0] == 0
    assert "vault/season" not in passkb("suggest", "Horses")[1]
    assert (
        passkb("suggest", "Horses", "--take-back", "vault/season")[0] == 0 and "vault/season" in passkb("suggest", "Horses")[1]
    )
    assert {path.name: path.read_bytes() for path in vault.iterdir()} == before
