"""Ingest and sync on real folders: what changed and only that, nothing lost, nothing stopped by one bad file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.changes import plan_changes
from ingest.pipeline import ingest, rebuild, sync
from ingest.report import IngestReport
from ingest.sources import Registry
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.store.queries import Store
from kb.store.schema import VERSION
from tests.privileges import permissions_enforced

if TYPE_CHECKING:
    from tests.conftest import Vault

ROOT = Path(__file__).parents[2]
NOTES = {
    "One.md": "# One\n\nAbout apples. [[Two]] and [[Missing note]].\n",
    "Two.md": "---\naliases: [Second]\n---\n# Two\n\nAbout pears.\n\nsupports:: [[One]] because both are fruit\n",
    "sub/Three.md": "# Three\n\nAbout plums, see [one](../One.md) and [[Second]].\n",
}


def counts(report: IngestReport) -> dict[str, int]:
    names = ("added", "updated", "moved", "unchanged", "deleted")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def state(kb: KnowledgeBase) -> dict[str, Any]:
    """Everything known, in an order of its own."""
    ids = sorted(row[0] for row in kb.store.titles())
    return {
        "notes": [kb.store.note(note_id) for note_id in ids],
        "links": sorted(map(repr, kb.store.links())),
        "unresolved": sorted(map(repr, kb.store.unresolved())),
        "chunks": sorted(row[1:] for row in kb.store.chunk_rows()),
        "indexed": kb.index.count(),
        "apples": [(hit.chunk_id, hit.score) for hit in kb.search("apples and pears")[1]],
    }


def test_add_edit_and_delete_change_only_what_changed(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(NOTES)
    first = ingest(kb, [folder])
    assert counts(first) == {"added": 3} and first.notes == 3 and first.stubs == 1 and first.embedded == 3
    before, generation = state(kb), kb.store.generation
    for again in (ingest(kb, [folder]), sync(kb)):
        assert counts(again) == {"unchanged": 3} and again.embedded == 0
    assert state(kb) == before and kb.store.generation == generation

    vault({"Two.md": "# Two\n\nAbout pears and quinces.\n", "Four.md": "# Four\n\nNew.\n"})
    edited = sync(kb)
    assert counts(edited) == {"added": 1, "updated": 1, "unchanged": 2} and edited.embedded == 2
    assert "quinces" in kb.search("quinces")[1][0].text
    assert not kb.store.links("vault/two") and ("vault/sub/three", "Second") in edited.dangling

    (folder / "One.md").unlink()
    assert counts(sync(kb)) == {"deleted": 1, "unchanged": 3}
    assert kb.store.note("vault/one") is None and not kb.store.lexical("apples", 5)
    vault(NOTES)
    assert counts(sync(kb)) == {"added": 1, "updated": 1, "unchanged": 2}
    (folder / "Four.md").unlink()
    sync(kb)
    assert state(kb) == before


def test_a_renamed_file_has_moved_and_is_not_embedded_again(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(NOTES)
    ingest(kb, [folder])
    (folder / "deep").mkdir()
    (folder / "One.md").rename(folder / "deep" / "Uno.md")
    report = sync(kb)
    assert counts(report) == {"moved": 1, "unchanged": 2} and report.embedded == 0
    assert kb.store.note("vault/one") is None
    moved = kb.store.note("vault/deep/uno")
    assert moved is not None and moved.title == "One"
    assert "vault/deep/uno" in [link.target for link in kb.store.links("vault/two")]
    (folder / "Two.md").rename(folder / "two.md")
    assert counts(sync(kb)) == {"moved": 1, "unchanged": 2}
    assert kb.store.note("vault/two") is not None


def test_one_bad_file_stops_nothing_and_is_named(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(
        {**NOTES, "nul.md": b"text \0 and more", "image.md": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
         "half.md": "---\ntitle: [never closed\n# Half\n\nKept.", "claims.md": "---\nclaims:\n  - id: x\n---\nKept too.",
         "directory.md/Inside.md": "# Inside\n\nRead.", "empty.md": "", "latin.md": "# Caf\xe9\n".encode("latin-1")}
    )  # fmt: skip
    os.mkfifo(folder / "pipe.md")
    os.symlink("loop.md", folder / "loop.md")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.md")).write_text("x")
    report = ingest(kb, [folder, folder / "no-such.md"])
    reasons = {Path(path).name: reason for path, reason in report.failed}
    assert reasons.keys() == {"nul.md", "image.md", "no-such.md"}
    assert reasons["nul.md"].startswith("not a text file") and "no such file" in reasons["no-such.md"]
    assert {Path(path).name[:3] for path, _ in report.skipped} == {"pip", "loo", "bad"}
    assert report.added == report.notes == 8 and report.embedded == 7
    assert {Path(path).name for path, _ in report.warnings} >= {"half.md", "claims.md", "latin.md"}
    assert [note for note in kb.store.ids_by_name("Inside")] == ["vault/directory-md/inside"]
    again = sync(kb)
    assert {Path(path).name for path, _ in again.failed} == {"nul.md", "image.md"} and counts(again) == {"unchanged": 8}


ODD = (
    "claims: [{id: c, text: One.}, {id: c, text: Two.}, {text: Three.}, 7, {id: [x], text: {}}]",
    "claims: [{id: c, text: One., test: {k: .nan, when: 2024-02-31, big: 99999999999999999999999}}]",
    "title: [a, b]\naliases: {x: y}\ntags: 7\nkind: stub",
    'title: "\\u0000\\u0085\\u2028"\naliases: ["", " ", null, "\\U0001f642", "\\U0001f642", "\\ud800"]',
    "kind: evidence\nstatus: .inf\ndate: 2024-01-01\nlinks: [{to: '[[Odd 0]]', type: evidence_for}, {to: 5}, x]",
    "links: {to: '[[Odd 1]]', type: loves}\nsupports: [[[Odd 2]]]\ncontradicts: '[[]]'",
    "links: [{to: '[[Odd 0#c]]', type: evidence_for, why: [x]}]\nkind: evidence\nstatus: refuted",
    "? [complex, key]\n: value\n1: 2\ntrue: false",
)


def test_odd_front_matter_stops_nothing(kb: KnowledgeBase, vault: Vault) -> None:
    report = ingest(kb, [vault({f"Odd {i}.md": f"---\n{odd}\n---\nBody {i}.\n" for i, odd in enumerate(ODD)})])
    assert not report.failed and report.added == len(ODD)
    for i in range(len(ODD)):
        stored = kb.store.note(f"vault/odd-{i}")
        assert stored is not None and stored.text == f"Body {i}.\n" and stored.title
    assert any(claim.status == "refuted" for claim in kb.store.claims("vault/odd-0"))
    json.dumps(report.to_json(), allow_nan=False)


def test_a_file_without_permission_is_named_and_read_once_it_may_be(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(NOTES)
    (folder / "One.md").chmod(0)
    with permissions_enforced():
        report = ingest(kb, [folder])
    assert counts(report) == {"added": 2} and "check its permissions" in report.failed[0][1]
    (folder / "One.md").chmod(0o600)
    assert counts(sync(kb)) == {"added": 1, "unchanged": 2}


def test_a_note_that_stops_being_readable_is_taken_out_and_comes_back(kb: KnowledgeBase, vault: Vault) -> None:
    vault(NOTES)
    ingest(kb, [vault({})])
    vault({"One.md": b"\0\0\0"})
    report = sync(kb)
    assert counts(report) == {"deleted": 1, "unchanged": 2} and len(report.failed) == 1
    assert kb.store.note("vault/one") is None and not kb.store.lexical("apples", 5)
    assert ("vault/two", "One") in report.dangling
    vault({"One.md": NOTES["One.md"]})
    assert counts(sync(kb)) == {"added": 1, "unchanged": 2}
    assert kb.store.note("vault/one") is not None


def test_a_file_that_failed_is_named_again_and_read_again_only_once_it_changed(
    kb: KnowledgeBase, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every sync would go through all scanned PDFs of a vault; what failed for another reason is tried each time."""
    monkeypatch.setattr("ingest.changes._TICK_NS", 0)  # as if the files were of yesterday
    files: dict[str, str | bytes] = {
        "bad.md": b"\0 no text",
        "scan.pdf": b"%PDF-1.4\n%%EOF",
        "page.html": "<p>Otters keep stones.</p>",
    }
    folder = vault({**NOTES, **files})
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "ingest.readers.html.reader", None)
        failed = ingest(kb, [folder]).failed
    assert [Path(path).name for path, _ in failed] == ["bad.md", "page.html", "scan.pdf"]
    assert "is not installed" in failed[1][1]
    plan = plan_changes(kb, Registry(kb.home).all(), IngestReport())
    assert [Path(entry.file.path).name for entry in plan.reread] == ["page.html"]
    report = sync(kb)
    assert sorted(report.failed) == [failed[0], failed[2]] and counts(report) == {"added": 1, "unchanged": 3}
    (folder / "bad.md").write_text("Text after all.")
    assert counts(report := sync(kb)) == {"added": 1, "unchanged": 4} and report.failed == [failed[2]]


def test_a_vault_that_vanished_loses_nothing(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    ingest(kb, [vault(NOTES), vault({"x.md": "# X\n\nOther."}, "other")])
    before = state(kb)
    (tmp_path / "vault").rename(tmp_path / "unplugged")
    report = sync(kb)
    assert counts(report) == {"unchanged": 1} and "is missing" in report.failed[0][1]
    assert state(kb) == before
    with pytest.raises(PasskbError, match="is missing"):
        rebuild(kb.home, _WithHashedWords)
    assert state(kb) == before
    (tmp_path / "unplugged").rename(tmp_path / "vault")
    assert counts(sync(kb)) == {"unchanged": 4}


def test_a_dry_run_tells_and_writes_nothing(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(NOTES)
    ingest(kb, [folder])
    before, generation = state(kb), kb.store.generation
    (folder / "One.md").unlink()
    vault({"Two.md": "# Two\n\nEdited.", "New.md": "# New"})
    report = sync(kb, dry_run=True)
    assert counts(report) == {"added": 1, "updated": 1, "unchanged": 1, "deleted": 1}
    assert state(kb) == before and kb.store.generation == generation
    assert counts(sync(kb)) == counts(report)


def test_files_of_one_folder_may_be_ingested_one_by_one(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault({"a b.md": "# A\n\nFirst.", "A-B.md": "# B\n\nSecond.", "c.md": "# C\n\nThird."})
    for i, name in enumerate(("a b.md", "A-B.md", "c.md"), 1):
        report = ingest(kb, [folder / name])
        assert counts(report) == {"added": 1} and report.notes == i
    assert counts(sync(kb)) == {"unchanged": 3}
    assert counts(ingest(kb, [folder])) == {"unchanged": 3}
    (folder / "c.md").unlink()
    assert counts(sync(kb)) == {"deleted": 1, "unchanged": 2}


def test_a_folder_and_a_folder_above_it_hold_each_note_once(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(NOTES)
    assert counts(ingest(kb, [folder / "sub"])) == {"added": 1}
    report = ingest(kb, [folder])
    assert counts(report) == {"added": 2, "unchanged": 1} and report.notes == 3
    assert counts(sync(kb)) == {"unchanged": 3}
    assert kb.store.ids_by_name("Three") == ["sub/three"]
    (folder / "sub" / "Three.md").unlink()
    assert counts(sync(kb)) == {"deleted": 1, "unchanged": 2}


def test_vaults_of_one_name_stay_apart_and_may_link_across(kb: KnowledgeBase, vault: Vault) -> None:
    one = vault({"a.md": "# Alpha\n\nTo [[Beta]] and [[here-2/b]]."}, "x/here")
    two = vault({"a.md": "# Another\n\nText.", "b.md": "# Beta\n\nBack to [[Alpha]]."}, "y/here")
    report = ingest(kb, [one, two])
    assert report.added == 3 and not report.dangling
    assert {(link.source, link.target) for link in kb.store.links()} == {("here/a", "here-2/b"), ("here-2/b", "here/a")}


def test_a_stub_gives_way_to_its_note_and_the_backlinks_stay(kb: KnowledgeBase, vault: Vault) -> None:
    vault(NOTES)
    report = ingest(kb, [vault({})])
    assert report.dangling == [("vault/one", "Missing note")] and report.stubs == 1
    (stub,) = kb.store.ids_by_name("missing note")
    assert [link.source for link in kb.view(stub).backlinks] == ["vault/one"]
    vault({"Missing note.md": "# Found\n\nNow written."})
    report = sync(kb)
    assert report.dangling == [] and report.stubs == 0 and kb.store.note(stub) is None
    assert [link.source for link in kb.view("vault/missing-note").backlinks] == ["vault/one"]


def test_what_is_ambiguous_is_reported_and_not_guessed(kb: KnowledgeBase, vault: Vault) -> None:
    report = ingest(kb, [vault({"a/Index.md": "# A", "b/Index.md": "# B", "From.md": "To [[Index]]."})])
    assert report.ambiguous == [("vault/from", "Index", ("vault/a/index", "vault/b/index"))]
    assert kb.store.links("vault/from") == []
    assert report.to_json()["ambiguous"][0] == {
        "from": "vault/from", "target": "Index", "candidates": ["vault/a/index", "vault/b/index"],
    }  # fmt: skip


class _WithHashedWords(KnowledgeBase):
    def __init__(self, home: Path) -> None:
        super().__init__(home, HashedWords())


def test_a_rebuild_gives_the_same_again_even_from_a_damaged_file(home: Path, vault: Vault) -> None:
    vault({**NOTES, "One copy.md": NOTES["One.md"], "one-copy.md": "# Like-named"})
    with _WithHashedWords(home) as kb:
        ingest(kb, [vault({})])
        before = state(kb)
    for damage in ("none", "noise", "gone"):
        if damage == "noise":
            (home / "kb.sqlite").write_bytes(b"noise " * 5000)
            shutil.rmtree(home / "chroma")
        elif damage == "gone":
            (home / "kb.sqlite").unlink()
        assert rebuild(home, _WithHashedWords).added == 5
        with _WithHashedWords(home) as kb:
            assert state(kb) == before, damage


def test_a_rebuild_does_not_destroy_what_is_not_its_own(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    for statement in (f"PRAGMA user_version = {VERSION + 1}", "CREATE TABLE somebody_elses (x)"):
        (home / "kb.sqlite").unlink(missing_ok=True)
        with sqlite3.connect(home / "kb.sqlite") as connection:
            connection.execute(statement)
        with pytest.raises(PasskbError, match=r"newer passkb|not a passkb database"):
            rebuild(home, _WithHashedWords)
        with sqlite3.connect(home / "kb.sqlite") as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert version == VERSION + 1 or tables == [("somebody_elses",)]
    (tmp_path / "file").touch()
    with pytest.raises(PasskbError, match="cannot be used"):
        rebuild(tmp_path / "file", _WithHashedWords)


def _many(vault: Vault) -> Path:
    sentence = "A sentence on the coverage of base models, and another on [[Note {}]]. "
    texts = (f"# Note {i}\n\nUnique word{i}. " + sentence.format(i * 7 % 70) * 6 for i in range(60))
    return vault({f"Note {i}.md": text for i, text in enumerate(texts)})


def _rows_of(home: Path, table: str) -> int:
    if not (home / "kb.sqlite").exists():
        return 0
    with Store(home / "kb.sqlite").database.connection() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_an_ingest_that_is_killed_loses_nothing(vault: Vault, tmp_path: Path) -> None:
    """Killed once its source is registered, once vectors are kept, and once notes are, before Chroma is in step."""
    folder = _many(vault)
    reached: dict[str, Callable[[Path], bool]] = {
        "registered": lambda home: (home / "sources.json").exists(),
        "vectors": lambda home: _rows_of(home, "vectors") > 0,
        "notes": lambda home: _rows_of(home, "notes") > 0,
    }
    with KnowledgeBase(tmp_path / "undisturbed") as other:
        ingest(other, [folder])
        whole = state(other)
    for stage, there in reached.items():
        home = tmp_path / stage
        command = [sys.executable, "-m", "service.cli", "--home", str(home), "ingest", str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not there(home):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with KnowledgeBase(home) as kb:
            sync(kb)
            assert state(kb) == whole, stage
            assert kb.index.count() == len(kb.catalogue.chunk_ids) >= 60
            assert kb.store.outbox() == []
