"""Status tells the truth: what is indexed, what failed, what which rule left out, and what waits since the last sync."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.pipeline import ingest, sync
from kb.knowledge_base import KnowledgeBase
from service import output
from service.status import HIDDEN_FILE, HIDDEN_FOLDER, group_by_rule, status, survey
from tests.privileges import permissions_enforced

if TYPE_CHECKING:
    from tests.conftest import Vault

FILES: dict[str, str | bytes] = {
    "good.md": "# Good\n\nA note that can be read.",
    "bad.pdf": b"%PDF-1.4\ntruncated",
    "drafts/one.md": "A draft.",
    "drafts/two.md": "Another draft.",
    "templates/day.md": "A template.",
    ".hidden.md": "A hidden note.",
    ".trash/old.md": "Thrown away.",
    ".trash/older.md": "Thrown away too.",
    ".empty/picture.png": b"no note",
    ".git/HEAD": "ref: refs/heads/main",
    "picture.png": b"not a note",
    ".passkbignore": "# mine\ndrafts/\n",
    ".obsidian/app.json": json.dumps({"userIgnoreFilters": ["templates/"]}),
}


@pytest.fixture
def root(kb: KnowledgeBase, vault: Vault) -> Path:
    folder = vault(FILES)
    ingest(kb, [folder])
    return folder


def only_source(kb: KnowledgeBase, *, files: bool = False) -> dict[str, Any]:
    (source,) = status(kb, files=files)["sources"]
    assert isinstance(source, dict)
    return source


def reasons(entries: list[dict[str, str]], root: Path) -> dict[str, str]:
    return {entry["path"].removeprefix(f"{root}/"): entry["reason"] for entry in entries}


def test_what_failed_and_what_each_rule_left_out(kb: KnowledgeBase, root: Path) -> None:
    source = only_source(kb)
    assert (source["notes"], source["chunks"]) == (1, 1)
    assert list(reasons(source["failed"], root)) == ["bad.pdf"] and reasons(source["failed"], root)["bad.pdf"]
    left_out = reasons(source["skipped"], root)
    assert left_out["drafts/one.md"] == left_out["drafts/two.md"] == "ignored by .passkbignore, line 2: drafts/"
    assert left_out["templates/day.md"] == "ignored by Obsidian's excluded files: templates/"
    assert left_out[".hidden.md"] == HIDDEN_FILE
    assert {path for path, why in left_out.items() if why == HIDDEN_FOLDER} == {".trash/", ".git/", ".obsidian/"}
    assert {entry["path"][-7:-1]: entry["files"] for entry in source["skipped"]}[".trash"] == 2
    assert source["others"] == {".png": 1} and source["waiting"] == []
    assert next(len(entries) for rule, entries in group_by_rule(survey(kb)[0].skipped) if "drafts/" in rule) == 2


def test_what_changed_came_or_went_waits_until_the_next_sync(kb: KnowledgeBase, root: Path, vault: Vault) -> None:
    vault({"second.md": "Second.", "third.md": "Third."})
    sync(kb)
    vault({"new.md": "New.", "good.md": "# Good\n\nChanged by hand.", "bad.pdf": b"%PDF-1.4\ntruncated elsewhere"})
    (root / "second.md").unlink()
    (root / ".passkbignore").write_text("drafts/\nthird.md\n", encoding="utf-8")
    waiting = reasons(only_source(kb)["waiting"], root)
    assert waiting["new.md"] == "new" and waiting["good.md"] == "changed" and waiting["second.md"] == "deleted from the disk"
    assert waiting["third.md"] == "will be removed from the index: ignored by .passkbignore, line 2: third.md"
    assert waiting["bad.pdf"].startswith("changed since it failed: ") and len(waiting) == 5
    text = output.status(status(kb))
    assert "next: run `passkb sync` to read 5 pending files and retry 1 failed files" in text
    sync(kb)
    assert only_source(kb)["waiting"] == []


def test_every_file_has_one_state(kb: KnowledgeBase, root: Path, vault: Vault) -> None:
    vault({"new.md": "New."})
    files = {file["path"].removeprefix(f"{root}/"): file for file in only_source(kb, files=True)["files"]}
    assert files["good.md"] == {
        "path": str(root / "good.md"), "note_id": "vault/good", "state": "indexed", "chunks": 1, "reason": "",
    }  # fmt: skip
    assert [files[name]["state"] for name in ("bad.pdf", "drafts/one.md", "new.md")] == ["failed", "skipped", "waiting"]
    assert all(file["reason"] for file in files.values() if file["state"] != "indexed")
    assert "files" not in only_source(kb)


def test_warnings_are_kept(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"odd.md": b"---\ntitle: [unclosed\n---\nText."})
    report = ingest(kb, [root])
    warnings = only_source(kb)["warnings"]
    assert warnings and [(entry["path"], entry["warning"]) for entry in warnings] == report.warnings


def test_a_source_that_is_not_there_keeps_its_notes_and_says_so(kb: KnowledgeBase, root: Path) -> None:
    root.rename(root.with_name("unmounted"))
    source = only_source(kb)
    assert source["notes"] == 1 and source["waiting"] == []
    assert "mount or restore it" in reasons(source["failed"], root)[str(root)]


def test_rules_that_can_not_be_read_are_a_failure(kb: KnowledgeBase, root: Path) -> None:
    (root / ".passkbignore").write_bytes(b"\xff\xfe\xff")
    assert "passkbignore cannot be read" in reasons(only_source(kb)["failed"], root)[str(root)]


def test_a_folder_that_can_not_be_opened_is_not_gone(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"in/a.md": "A."})
    ingest(kb, [root])
    (root / "in").chmod(0)
    with permissions_enforced():
        source = only_source(kb)
    (root / "in").chmod(0o755)
    assert source["waiting"] == [] and "permissions" in source["failed"][0]["reason"]


def test_a_source_within_a_source_and_single_files_count_once(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"a.md": "A.", "inner/b.md": "B."})
    other = vault({"c.md": "C.", "d.md": "D."}, "other")
    ingest(kb, [root / "inner", root, other / "c.md"])
    assert [(source.name, source.notes, source.waiting) for source in survey(kb)] == [
        ("inner", 1, ()), ("vault", 1, ()), ("other", 1, ()),
    ]  # fmt: skip


def test_the_text_names_reasons_and_is_short_about_rules(kb: KnowledgeBase, root: Path) -> None:
    text = output.status(status(kb, files=True))
    assert f"vault ({root}): 1 notes, 1 chunks, 1 failed, 7 ignored" in text
    assert "  failed: bad.pdf: " in text and "  ignored: drafts/one.md, drafts/two.md: ignored by .passkbignore, line 2" in text
    assert ".trash/ (2)" in text and "other kinds of files: 1 .png" in text and "last sync: " in text
    assert "  indexed  good.md: vault/good, 1 chunks" in text


def test_an_edit_that_keeps_size_and_time_unknown_is_noticed_by_its_bytes(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"a.md": "One."})
    ingest(kb, [root])
    (root / "a.md").write_text("Two.", encoding="utf-8")
    assert reasons(only_source(kb)["waiting"], root) == {"a.md": "changed"}
