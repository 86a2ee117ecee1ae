"""The command line: one JSON object with the contract's keys, the contract's exit statuses, a sentence for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from kb.store.schema import Database
from service.cli.main import main

if TYPE_CHECKING:
    from tests.conftest import Vault

ROOT = Path(__file__).parents[3]
QUESTION = "What does pass@k reveal about base model reasoning capacity?"
INGEST = {"added", "updated", "moved", "unchanged", "deleted", "failed"}
INGEST |= {"notes", "links", "stubs", "dangling", "ambiguous", "seconds"}
HIT = {"note_id", "title", "chunk_id", "start", "end", "text", "score", "via"}
NOTE = {"id", "title", "kind", "path", "text", "links", "backlinks", "similar", "inquiries", "claims"}
CLAIM = {"id", "text", "premise", "settles", "status", "evidence"}
ANSWER = {"question", "answered", "mode", "model", "statements", "disagreements", "evidence", "experiments"}
ANSWER |= {"sources", "nearest", "seconds"}
VAULT = {
    "One.md": (
        "---\naliases: [First]\nclaims:\n  - {id: c, text: Apples fall., settles: A drop.}\n---\n"
        "# Apples\n\nApples fall from trees.\n\n"
        "contradicts:: [[Two]] because pears hang on; see [[Unwritten]]\n"
    ),
    "Two.md": "# Pears\n\nPears hang on for long. [[Three]]\n",
    "Three.md": "# Plums\n\nPlums are blue.\n",
    "a/Same.md": "# Same\n\nOne of two.\n",
    "b/Same.md": "# Same\n\nTwo of two.\n",
}

Passkb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def passkb(capsys: pytest.CaptureFixture[str]) -> Passkb:
    """Runs a command in this process: (exit status, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def small(passkb: Passkb, vault: Vault) -> Path:
    """A small vault, indexed in $PASSKB_HOME."""
    folder = vault(VAULT)
    assert passkb("ingest", folder)[0] == 0
    return folder


def only_json(printed: str) -> dict[str, Any]:
    (line,) = printed.splitlines()
    loaded = json.loads(line)
    assert isinstance(loaded, dict)
    return loaded


def refused(result: tuple[int, str, str]) -> str:
    """The one line that says what is wrong, of a command that did nothing."""
    status, out, err = result
    assert status == 1 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("passkb: ") and "Traceback" not in line
    return line


def test_ingest_and_sync_report_what_they_did(passkb: Passkb, vault: Vault) -> None:
    folder = vault({**VAULT, "From.md": "[[Same]]"})
    status, out, _ = passkb("ingest", folder, "--json")
    report = only_json(out)
    assert status == 0 and report.keys() >= INGEST and report["added"] == 6
    assert report["dangling"] == [{"from": "vault/one", "target": "Unwritten"}]
    assert report["ambiguous"] == [{"from": "vault/from", "target": "Same", "candidates": ["vault/a/same", "vault/b/same"]}]
    (folder / "One.md").write_bytes(b"\0")
    for command, deleted in ((("sync", "--dry-run"), 0), (("sync",), 1), (("sync",), 0)):
        status, out, err = passkb(*command, "--json")
        assert only_json(out)["deleted"] == deleted
        assert status == (0 if "--dry-run" in command else 3)
    assert err.splitlines()[-1].startswith(f"passkb: {folder / 'One.md'}: not a text file")
    status, out, _ = passkb("status", "--json")
    described = only_json(out)
    assert status == 0 and described.keys() >= {"notes", "links", "chunks", "sources", "embedder"}
    (source,) = described["sources"]
    assert source["name"] == "vault" and source["notes"] == 5 and source["failed"][0]["path"].endswith("One.md")
    assert "not a text file" in source["failed"][0]["reason"]


def test_what_can_not_be_ingested_is_named(passkb: Passkb, vault: Vault, tmp_path: Path) -> None:
    status, out, err = passkb("ingest", tmp_path / "nowhere")
    assert status == 1 and "nowhere: no such file or folder" in err
    status, _, err = passkb("ingest", vault({}, "empty"))
    assert status == 1 and "no notes found in" in err and "empty" in err
    status, out, err = passkb("ingest", "--json", vault({"a.md": "# A"}), tmp_path / "nowhere")
    assert status == 3 and only_json(out)["failed"][0]["path"].endswith("nowhere") and "nowhere" in err
    status, out, _ = passkb("ingest", os.fsdecode(b"not-\xff-unicode"), "--json")
    assert status == 1 and "not-\\xff-unicode" in only_json(out)["failed"][0]["path"]
    status, _, err = passkb("ingest", "http://127.0.0.1:9/a.html")
    assert status == 1 and "http://127.0.0.1:9/a.html: 127.0.0.1 is an address of this machine" in err


def test_nothing_registered_is_said_and_not_an_error_to_look_at(passkb: Passkb) -> None:
    assert "there are no sources yet" in refused(passkb("sync"))
    status, out, _ = passkb("status")
    assert status == 0 and "no sources yet" in out
    assert passkb("search", "anything")[0] == 0
    status, out, _ = passkb("ask", QUESTION, "--json")
    assert status == 0 and only_json(out)["answered"] is False


def test_search_gives_hits_best_first_and_answers_batches(passkb: Passkb, sample_home: Path, tmp_path: Path) -> None:
    status, out, _ = passkb("--home", sample_home, "search", QUESTION, "-k", "7", "--json")
    result = only_json(out)
    scores = [hit["score"] for hit in result["hits"]]
    assert status == 0 and result["query"] == QUESTION and len(scores) == 7 and scores == sorted(scores, reverse=True)
    assert all(hit.keys() >= HIT and hit["via"] in ("text", "links") for hit in result["hits"])
    hit = result["hits"][0]
    note = only_json(passkb("--home", sample_home, "note", hit["note_id"], "--json")[1])
    assert note["text"][hit["start"] : hit["end"]] == hit["text"]

    queries = tmp_path / "queries.jsonl"
    queries.write_text(json.dumps({"id": 7, "text": QUESTION}) + "\n\n" + json.dumps({"id": "b", "text": "temperature"}) + "\n")
    status, out, _ = passkb("--home", sample_home, "search", "--queries", queries, "-k", "7")
    first, second = map(json.loads, out.splitlines())
    assert status == 0 and first == {"id": 7, **result} and second["id"] == "b"
    queries.write_text('{"id": 1, "text": "fine"}\n{"id": 2}\n')
    assert "queries.jsonl, line 2" in refused(passkb("search", "--queries", queries))
    assert "nowhere.jsonl cannot be read" in refused(passkb("search", "--queries", "nowhere.jsonl"))
    assert passkb("search")[0] == 2 and passkb("search", "x", "--queries", queries)[0] == 2
    assert passkb("search", "x", "-k", "0")[0] == 2


def test_ask_quotes_notes_at_their_place(passkb: Passkb, sample_home: Path) -> None:
    status, out, _ = passkb("--home", sample_home, "ask", QUESTION, "--json")
    answer = only_json(out)
    assert status == 0 and answer.keys() >= ANSWER and answer["answered"] is True and answer["mode"] == "quoted"
    assert answer["statements"] and answer["sources"] and answer["model"] is None
    for statement in answer["statements"]:
        assert statement["support"] == "quoted" and statement["citations"]
        for citation in statement["citations"]:
            note = only_json(passkb("--home", sample_home, "note", citation["note_id"], "--json")[1])
            assert citation["quote"] == note["text"][citation["start"] : citation["end"]]
            assert citation["quote"] in statement["text"]
    text = passkb("--home", sample_home, "ask", QUESTION)[1]
    assert "Sources (" in text and "[1]" in text
    refusal = only_json(passkb("--home", sample_home, "ask", "How do I bake sourdough bread?", "--json")[1])
    assert refusal["answered"] is False and refusal["statements"] == [] and refusal["nearest"]


def test_ask_refuses_what_can_not_be_asked(passkb: Passkb, small: Path) -> None:
    for empty in ("", "   ", "?!"):
        assert "empty" in refused(passkb("ask", empty))
    assert "characters" in refused(passkb("ask", "word " * 10_000))
    assert passkb("ask", "why \udcff apples", "--json")[0] == 0
    assert "not the URL" in refused(passkb("ask", QUESTION, "--llm", "localhost:1", "--model", "m"))
    assert "add --llm URL" in refused(passkb("ask", QUESTION, "--model", "m"))


def test_a_note_is_shown_by_id_title_or_alias(passkb: Passkb, small: Path) -> None:
    shown = [only_json(passkb("note", name, "--json")[1]) for name in ("vault/one", "Apples", "First")]
    assert shown[0] == shown[1] == shown[2] and shown[0].keys() >= NOTE
    (link,) = [link for link in shown[0]["links"] if link["type"] == "contradicts"]
    assert link == {"target": "vault/two", "type": "contradicts", "why": link["why"], "origin": "authored"}
    assert "pears hang on" in link["why"]
    (claim,) = shown[0]["claims"]
    assert claim.keys() >= CLAIM and claim["status"] == "untested"
    backlinks = only_json(passkb("note", "Pears", "--json")[1])["backlinks"]
    assert [(entry["source"], entry["type"]) for entry in backlinks] == [("vault/one", "contradicts")]
    assert len(shown[0]["similar"]) == 4 and shown[0]["similar"][0].keys() == {"id", "score"}
    assert "Apples fall from trees." in passkb("note", "vault/one")[1]


def test_an_unknown_or_ambiguous_note_is_answered_with_names(passkb: Passkb, small: Path) -> None:
    assert "did you mean 'Apples'" in refused(passkb("note", "apple"))
    assert "there is no note 'zebra'" in refused(passkb("path", "zebra", "Apples"))
    assert "vault/a/same, vault/b/same" in refused(passkb("map", "--around", "Same", "--out", "x.json"))
    assert "there is no note" in refused(passkb("note", "\udcff"))


def test_path_tells_how_notes_hang_together(passkb: Passkb, small: Path) -> None:
    status, out, _ = passkb("path", "Plums", "Apples", "--json")
    steps = only_json(out)["steps"]
    assert status == 0 and [(step["source"], step["type"], step["forward"]) for step in steps] == [
        ("vault/two", "mentions", False),
        ("vault/one", "contradicts", False),
    ]
    assert "<--contradicts--" in passkb("path", "Plums", "Apples")[1]
    assert "no path of links" in refused(passkb("path", "Apples", "vault/a/same"))


def test_the_map_is_written_in_three_formats(passkb: Passkb, vault: Vault, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    passkb("ingest", vault({**VAULT, "Evil.md": f"---\ntitle: '{evil}'\n---\n\nextends:: [[One]] because {evil}\n"}))
    for suffix in ("json", "graphml", "html"):
        out = tmp_path / f"map.{suffix}"
        status, printed, _ = passkb("map", "--out", out, "--json")
        assert status == 0 and only_json(printed) == {"out": str(out), "notes": 7, "links": 6}
    drawn = json.loads((tmp_path / "map.json").read_text())
    assert len(drawn["notes"]) == 7 and {link["type"] for link in drawn["links"] if link["origin"] == "authored"} == {
        "contradicts",
        "mentions",
        "extends",
    }
    assert [link["type"] for link in drawn["links"] if link["origin"] == "inferred"] == ["related", "related"]
    tree = ElementTree.parse(tmp_path / "map.graphml")
    assert len(tree.findall(".//{*}node")) == 7 and len(tree.findall(".//{*}edge")) == 6
    page = (tmp_path / "map.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "Plums" in page
    passkb("map", "--around", "Plums", "--depth", "1", "--out", tmp_path / "near.json")
    assert {note["id"] for note in json.loads((tmp_path / "near.json").read_text())["notes"]} == {"vault/three", "vault/two"}
    assert "map.png: use one of the formats" in refused(passkb("map", "--out", tmp_path / "map.png"))
    assert "cannot be written" in refused(passkb("map", "--out", tmp_path / "no" / "folder.json"))


def test_claims_are_listed_and_chosen_by_status(passkb: Passkb, sample_home: Path) -> None:
    claims = only_json(passkb("--home", sample_home, "claims", "--json")[1])["claims"]
    assert len(claims) >= 8 and all(claim.keys() >= {"note_id", *CLAIM} for claim in claims)
    for status in ("untested", "refuted"):
        chosen = only_json(passkb("--home", sample_home, "claims", "--status", status, "--json")[1])["claims"]
        assert chosen == [claim for claim in claims if claim["status"] == status]
    assert passkb("claims", "--status", "wrong")[0] == 2


def test_rebuild_makes_a_damaged_home_again(passkb: Passkb, small: Path, home: Path) -> None:
    before = passkb("search", "apples", "--json")[1]
    (home / "kb.sqlite").write_bytes(b"noise" * 1000)
    assert "passkb rebuild" in refused(passkb("search", "apples"))
    status, out, _ = passkb("rebuild", "--json")
    assert status == 0 and only_json(out)["added"] == 5
    assert passkb("search", "apples", "--json")[1] == before
    with (home / "kb.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 20)
    assert "kb.sqlite" in (line := refused(passkb("search", "apples"))) and "passkb rebuild" in line
    assert passkb("rebuild")[0] == 0
    (small / "New.md").write_text("# New\n\nText.")
    (home / "chroma" / "chroma.sqlite3").write_bytes(b"noise" * 1000)
    status, out, _ = passkb("sync")
    assert status == 0 and "1 added" in out and "chroma: was damaged and has been rebuilt" in out
    rebuilt = subprocess.run([sys.executable, "-m", "service.cli", "rebuild"], cwd=ROOT, capture_output=True, text=True)
    assert rebuilt.returncode == 0 and "New" in passkb("search", "new text")[1], rebuilt.stderr


def test_doctor_says_what_works_and_what_to_do(passkb: Passkb) -> None:
    status, out, _ = passkb("doctor", "--json")
    checks = {check["name"]: check for check in only_json(out)["checks"]}
    assert status == 0 and checks.keys() == {
        "python", "sqlite", "home", "index", "embedder", "chroma", "model server", "gpu", "transformers", "vllm", "sandbox",
    }  # fmt: skip
    assert all(checks[name]["ok"] for name in ("python", "sqlite", "home", "embedder", "chroma"))
    assert all(check["found"] and (check["ok"] or check["remedy"]) for check in checks.values())


def test_doctor_fails_in_part_when_the_home_can_not_be_used(passkb: Passkb, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, out, _ = passkb("--home", tmp_path / "file", "doctor")
    assert status == 3 and "missing  home" in out and "another folder with --home" in out


def test_serve_keeps_notes_from_other_machines(passkb: Passkb) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::"):
        line = refused(passkb("serve", "--host", host))
        assert host in line and "--auth" in line
    assert "USER:PASSWORD" in refused(passkb("serve", "--host", "0.0.0.0", "--auth", "nobody"))
    assert "invalid port 99999" in refused(passkb("serve", "--port", "99999"))


def test_a_setting_nobody_knows_is_named_with_the_nearest(passkb: Passkb, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    for written, said in (
        ("prt = 1", "there is no setting 'prt', did you mean 'port'"),
        ('port = "x"', "'port' must be int"),
        ("port = true", "'port' must be int"),
        ("port =", "config.toml cannot be read"),
    ):
        (home / "config.toml").write_text(written)
        assert said in refused(passkb("serve"))
    (home / "config.toml").write_text('host = "0.0.0.0"')
    assert "0.0.0.0" in refused(passkb("serve"))
    monkeypatch.setenv("PASSKB_PORT", "seven")
    assert "'port' must be int" in refused(passkb("serve"))


def test_a_home_of_a_newer_version_or_in_the_way_is_refused_by_every_command(
    passkb: Passkb, home: Path, tmp_path: Path
) -> None:
    with Database(home / "kb.sqlite").connection() as connection:
        connection.execute("PRAGMA user_version = 99")
    (tmp_path / "file").touch()
    for command in (
        ["status"],
        ["search", "x"],
        ["ask", "why apples"],
        ["note", "x"],
        ["claims"],
        ["rebuild"],
        ["ingest", "."],
    ):
        assert "newer passkb" in refused(passkb(*command))
        assert "file" in refused(passkb("--home", tmp_path / "file", *command))


def test_the_true_command_prints_json_alone(vault: Vault, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "--home", str(tmp_path / "home")]
    folder = vault(VAULT)
    ran = subprocess.run([*command, "ingest", str(folder), "--json"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0 and only_json(ran.stdout)["added"] == 5, ran.stderr
    ran = subprocess.run([*command, "note", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "") and ran.stderr.startswith("passkb: there is no note 'nothing'")
    ran = subprocess.run([*command, "nonsense"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
