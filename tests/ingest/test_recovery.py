"""What a home lost of what is derived is said and made again; what killed processes left behind is cleaned up."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ingest import pipeline
from ingest.lock import lock_home
from ingest.pipeline import forget, ingest, sync
from ingest.recovery import find_losses, recover
from tests.conftest import Vault
from tests.ingest.processes import finished
from tests.ingest.states import WithHashedWords, whole_state

PAGE = "<html><head><title>Otters {}</title></head><body><p>" + "Otters keep a stone in a pouch. " * 20 + "</p></body></html>"


def lose_database(home: Path) -> None:
    for file in home.glob("kb.sqlite*"):
        file.unlink()


def test_a_vanished_database_is_made_again(home: Path, vault: Vault) -> None:
    folder = vault({"a.md": "# A\n\nHerons stand. See [[B]].", "b.md": "# B\n\nOtters swim.", "p.html": PAGE})
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
        before = whole_state(kb)
    lose_database(home)
    with WithHashedWords(home) as kb:
        assert "was missing or empty, although sources are registered (1)" in find_losses(kb).blocking[0]
        (message,) = recover(kb)
        assert "indexed 3 notes again from the sources" in message
        assert whole_state(kb) == before and not recover(kb)


def test_the_next_ingest_also_reads_what_was_known_before(home: Path, vault: Vault) -> None:
    one, two = vault({"a.md": "Herons."}, "one"), vault({"b.md": "Otters."}, "two")
    with WithHashedWords(home) as kb:
        ingest(kb, [one])
    lose_database(home)
    with WithHashedWords(home) as kb:
        assert ingest(kb, [two]).notes == 2


def test_sources_without_notes_are_not_taken_for_a_loss(home: Path, vault: Vault) -> None:
    with WithHashedWords(home) as kb:
        assert not recover(kb)
        ingest(kb, [vault({"picture.png": b"no note"})])
        recover(kb)
        assert not recover(kb) and not find_losses(kb).messages


def test_a_loss_whose_source_is_away_is_said_again_and_made_good_later(home: Path, vault: Vault, tmp_path: Path) -> None:
    folder = vault({"a.md": "Herons."})
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    lose_database(home)
    folder.rename(tmp_path / "away")
    with WithHashedWords(home) as kb:
        for _ in range(2):
            assert any("is missing" in sentence for sentence in recover(kb))
        (tmp_path / "away").rename(folder)
        assert "1 notes" in recover(kb)[0] and not recover(kb)


def test_while_another_process_writes_the_home_it_is_left_to_it(home: Path, vault: Vault) -> None:
    with WithHashedWords(home) as kb:
        ingest(kb, [vault({"a.md": "Herons."})])
    lose_database(home)
    with WithHashedWords(home) as kb, lock_home(home):
        (message,) = recover(kb)
        assert "Answers are incomplete" in message and str(os.getpid()) in message


def killed_while_forgetting(pipe: Connection, home: Path) -> None:
    """The process ends when the change is kept and before anything is removed."""

    def end(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(pipeline, "remove_orphans", end)  # noqa: B010 - what the pipeline calls once its change is kept
    with WithHashedWords(home) as kb:
        forget(kb, "two")


def test_what_a_killed_forget_left_behind_is_removed_by_the_next_sync(home: Path, vault: Vault) -> None:
    one, two = vault({"a.html": PAGE.format(1)}, "one"), vault({"deep/b.html": PAGE.format(2)}, "two")
    with WithHashedWords(home) as kb:
        ingest(kb, [one, two])
    assert finished(killed_while_forgetting, home) is None
    imported = home / "notes" / "imported"
    assert sorted(path.name for path in imported.rglob("*.md")) == ["a.md", "b.md"]
    (home / "notes" / f".{2**22}-1.part").write_text("half a note")
    (home / ".99999999-1.part").write_text("half a registry")
    with WithHashedWords(home) as kb:
        report = sync(kb)
        assert not report.pending_deletions and not report.failed
        assert [path.relative_to(imported).as_posix() for path in imported.rglob("*")] == ["one", "one/a.md"]
        assert not list(home.rglob("*.part")) and kb.search("otters")[1]


def test_a_note_of_a_source_that_is_away_is_no_orphan(home: Path, vault: Vault, tmp_path: Path) -> None:
    folder = vault({"a.html": PAGE})
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
        folder.rename(tmp_path / "away")
        assert sync(kb).failed
        assert list((home / "notes" / "imported").rglob("*.md"))


@pytest.mark.parametrize("name", ["sources.json", "pages.json"])
def test_a_registry_that_can_not_be_opened_is_not_to_be_deleted(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`delete it and ingest again` would be the worst of remedies when no file handles are left."""
    from ingest.fetched_pages import PageStore
    from ingest.sources import Registry
    from kb.notes import PasskbError

    home.mkdir()
    (home / name).write_text("[]" if name == "sources.json" else "{}")

    def refuse(*_: object, **__: object) -> str:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PasskbError, match="too many open files: raise the limit") as caught:
        _ = Registry(home).all() if name == "sources.json" else PageStore(home).origin(str(home.resolve() / "pages" / "x.html"))
    assert "delete" not in str(caught.value)
