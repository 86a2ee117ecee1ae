"""A home can be moved and copied, also one that passkb 0.2 wrote, with absolute paths of its own folders."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest.app_notes import app_notes_folder, index_app_note
from ingest.pipeline import ingest, rebuild, sync
from ingest.recovery import recover
from ingest.sources import Registry
from kb.files import write_atomic
from kb.store.queries import Store
from tests.conftest import Vault
from tests.ingest.states import WithHashedWords, whole_state

PAGE = "<html><head><title>Otters</title></head><body><p>" + "Otters keep a stone in a pouch. " * 20 + "</p></body></html>"


@pytest.fixture
def lived_in(home: Path, vault: Vault) -> Path:
    """A home with a vault, a page made a note, and two notes of its own."""
    folder = vault({"a.md": "# A\n\nHerons stand.", "page.html": PAGE})
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
        for name in ("one", "two"):
            path = app_notes_folder(home) / "inquiries" / f"{name}.md"
            write_atomic(path, f"---\ntitle: Inquiry {name}\nkind: inquiry\n---\n\nOtters number {name}. See [[A]].\n")
            assert index_app_note(kb, path) == f"notes/inquiries/{name}"
        sync(kb)
    return home


def as_written_by_0_2(home: Path, stood_at: Path) -> None:
    """Absolute paths, and nothing noted about them."""
    registry = home / "sources.json"
    entries = json.loads(registry.read_text())
    for entry in entries:
        entry["path"] = entry["path"] if entry["path"].startswith("/") else f"{stood_at}/{entry['path']}"
    registry.write_text(json.dumps(entries))
    with closing(sqlite3.connect(home / "kb.sqlite")) as connection:
        for table in ("files", "notes"):
            connection.execute(
                f"UPDATE {table} SET path = ? || path WHERE path NOT LIKE '/%' AND path <> ''", (f"{stood_at}/",)
            )
        connection.execute("DELETE FROM meta WHERE key NOT IN ('generation', 'index')")
        connection.commit()


def kept_paths(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "kb.sqlite")) as connection:
        rows = connection.execute("SELECT path FROM files UNION ALL SELECT path FROM notes WHERE path <> ''").fetchall()
    return [row[0] for row in rows]


def test_paths_in_the_home_are_kept_relative_and_used_absolute(lived_in: Path) -> None:
    assert not [path for path in kept_paths(lived_in) if path.startswith(str(lived_in))]
    assert "notes/inquiries/one.md" in kept_paths(lived_in)
    assert {entry["path"] for entry in json.loads((lived_in / "sources.json").read_text())} == {
        "notes", str(lived_in.parent / "vault"),
    }  # fmt: skip
    with WithHashedWords(lived_in) as kb:
        note = kb.store.note("notes/inquiries/one")
        assert note and note.path == str(lived_in / "notes" / "inquiries" / "one.md")
        assert str(lived_in / "notes" / "inquiries" / "one.md") in {record.path for record in kb.store.files()}
        assert Registry(lived_in).all()[1].path == lived_in / "notes"


def test_a_moved_home_goes_on_as_if_nothing_had_happened(lived_in: Path, tmp_path: Path) -> None:
    with WithHashedWords(lived_in) as kb:
        before = whole_state(kb)
    moved = lived_in.rename(tmp_path / "elsewhere")
    with WithHashedWords(moved) as kb:
        report = sync(kb)
        assert not report.failed and not report.pending_deletions and not report.deleted and not report.added
        assert whole_state(kb) == before
    assert not rebuild(moved, WithHashedWords).failed


def test_a_copied_home_shares_nothing_with_the_first(lived_in: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(lived_in, tmp_path / "copy")
    (copied / "notes" / "inquiries" / "one.md").unlink()
    with WithHashedWords(copied) as kb:
        assert sync(kb).deleted == 1
    with WithHashedWords(lived_in) as kb:
        assert sync(kb).unchanged == 4


@pytest.mark.parametrize("moves", [False, True])
def test_a_home_of_0_2_is_understood_where_it_stands_and_where_it_was_moved(
    moves: bool, lived_in: Path, tmp_path: Path
) -> None:
    with WithHashedWords(lived_in) as kb:
        before = whole_state(kb)
    as_written_by_0_2(lived_in, lived_in)
    home = lived_in.rename(tmp_path / "elsewhere") if moves else lived_in
    with WithHashedWords(home) as kb:
        recover(kb)
        report = sync(kb)
        assert not report.failed and not report.pending_deletions and not report.added and not report.deleted
        assert whole_state(kb) == before
    assert not [path for path in kept_paths(home) if str(lived_in) in path]
    assert str(lived_in) + "/" not in (home / "sources.json").read_text()


def test_a_moved_home_of_0_2_can_be_rebuilt_without_its_database(lived_in: Path, tmp_path: Path) -> None:
    """It was refused for ever: its own folders were not where they had been."""
    as_written_by_0_2(lived_in, lived_in)
    home = lived_in.rename(tmp_path / "elsewhere")
    for file in home.glob("kb.sqlite*"):
        file.unlink()
    report = rebuild(home, WithHashedWords)
    assert not report.failed and report.notes == 4


def test_inquiries_that_a_moved_home_of_0_2_has_twice_are_one_again(lived_in: Path, tmp_path: Path) -> None:
    """0.2 registered the folder again, as `notes-2`, and kept what it knew of the place where the home had been."""
    with WithHashedWords(lived_in) as kb:
        before = whole_state(kb)
    home = lived_in.rename(tmp_path / "elsewhere")
    as_written_by_0_2(home, lived_in)
    entries = json.loads((home / "sources.json").read_text())
    (home / "sources.json").write_text(json.dumps([*entries, {"name": "notes-2", "path": f"{home}/notes", "file": False}]))
    with closing(sqlite3.connect(home / "kb.sqlite")) as connection:
        for name in ("one", "two"):
            connection.execute(
                "INSERT INTO files SELECT replace(path, ?, ?), 'notes-2', size, mtime_ns, sha256, "
                "replace(note_id, 'notes/', 'notes-2/'), failure, warnings FROM files WHERE note_id = ?",
                (str(lived_in), str(home), f"notes/inquiries/{name}"),
            )
            connection.execute(
                "INSERT INTO notes SELECT replace(id, 'notes/', 'notes-2/'), title, kind, text, replace(path, ?, ?), "
                "'notes-2', gist, aliases, tags, properties FROM notes WHERE id = ?",
                (str(lived_in), str(home), f"notes/inquiries/{name}"),
            )
        connection.commit()
    with WithHashedWords(home) as kb:
        assert "has moved" in recover(kb)[0]
        after = whole_state(kb)
        assert [source.name for source in Registry(home).all()] == ["vault", "notes"]
        assert [row[0] for row in after["notes"]] == [row[0] for row in before["notes"]]
        assert after["files"] == before["files"] and after["links"] == before["links"]
        assert not recover(kb) and not sync(kb).pending_deletions


def test_a_vault_that_is_not_mounted_is_not_taken_for_a_moved_home(lived_in: Path, tmp_path: Path) -> None:
    as_written_by_0_2(lived_in, lived_in)
    (tmp_path / "vault").rename(tmp_path / "away")
    with WithHashedWords(lived_in) as kb:
        report = sync(kb)
        assert [path for path, _ in report.failed] == [str(tmp_path / "vault")] and not report.deleted
        assert kb.store.note("vault/a")


def test_a_home_named_by_a_link_to_it_is_the_same_home(lived_in: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(lived_in)
    with WithHashedWords(tmp_path / "link") as kb:
        report = sync(kb)
        assert report.unchanged == 4 and not report.added
    assert Store(lived_in / "kb.sqlite").note("notes/inquiries/two")
