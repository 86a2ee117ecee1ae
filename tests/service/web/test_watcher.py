"""The watcher: edits, bursts of new files, deletions, sources that appear and disappear."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from watchfiles import Change

from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from service.web.indexing_progress import Indexing
from service.web.watcher import change_filter, watch_sources
from tests.ingest.states import fresh_state, whole_state

if TYPE_CHECKING:
    from tests.conftest import Vault


CHECK_SECONDS = 0.4  # seconds


@pytest.fixture
def watched(kb: KnowledgeBase, vault: Vault) -> Iterator[KnowledgeBase]:
    ingest(kb, [vault({"first.md": "The first note."})])
    stop = threading.Event()
    indexing = Indexing()
    thread = threading.Thread(target=watch_sources, args=(kb, indexing, stop, CHECK_SECONDS))
    thread.start()
    assert eventually(lambda: indexing.ended is not None)  # watching has begun
    yield kb
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def eventually(holds: Callable[[], bool], seconds: float = 90) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.1)
    return False


def titles(kb: KnowledgeBase) -> set[str]:
    return {title for _, title, _, _ in kb.store.titles()}


def test_edits_bursts_and_deletions_are_followed(watched: KnowledgeBase, vault: Vault) -> None:
    root = vault({f"burst/{i}.md": f"Note number {i}." for i in range(300)} | {"first.md": "Edited by hand."})
    assert eventually(lambda: len(titles(watched)) == 301)
    note = watched.store.note("vault/first")
    assert note is not None and note.text == "Edited by hand."
    for i in range(100):
        (root / "burst" / f"{i}.md").unlink()
    assert eventually(lambda: len(titles(watched)) == 201)


def test_a_burst_of_changes_ends_in_the_state_of_a_fresh_home(watched: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    root = vault({f"{i % 5}/{i}.md": f"# Note {i}\n\nOf otters. See [[{i + 1}]]." for i in range(400)})
    chance = random.Random(7)
    for i in range(600):
        file = root / str(i % 5) / f"{chance.randrange(400)}.md"
        if i % 6 == 0 and i < 500:
            file.unlink(missing_ok=True)
        elif i % 6 == 1 and file.exists():
            file.rename(file.with_name(f"moved {i}.md"))
        else:
            file.write_text(f"Changed in step {i}. See [[{i}]].")
    (root / "2").rename(root / "moved as a whole")
    (root / "3").rename(tmp_path / "moved out")
    fresh = fresh_state(tmp_path / "fresh", root)
    assert eventually(lambda: len(fresh["files"]) == len(watched.store.files()))
    assert eventually(lambda: whole_state(watched) == fresh)


def test_a_failed_sync_does_not_stop_the_watcher(watched: KnowledgeBase, vault: Vault) -> None:
    registry = watched.home / "sources.json"
    content = registry.read_bytes()
    registry.write_text("{")
    vault({"second.md": "The second note."})
    time.sleep(3 * CHECK_SECONDS)
    registry.write_bytes(content)
    assert eventually(lambda: titles(watched) == {"first", "second"})


def test_changed_ignore_rules_are_applied(watched: KnowledgeBase, vault: Vault) -> None:
    root = vault({"drafts/a.md": "A.", "templates/b.md": "B."})
    assert eventually(lambda: titles(watched) == {"first", "a", "b"})
    vault({".passkbignore": "drafts/\n"})
    assert eventually(lambda: titles(watched) == {"first", "b"})
    vault({".obsidian/app.json": '{"userIgnoreFilters": ["templates/"]}'})
    assert eventually(lambda: titles(watched) == {"first"})
    (root / ".passkbignore").unlink()
    assert eventually(lambda: titles(watched) == {"first", "a"})


@pytest.mark.parametrize(
    ("path", "change", "relevant"),
    [
        ("a.md", Change.modified, True), ("b/c/a.PDF", Change.added, True), ("a.md", Change.deleted, True),
        ("node_modules/a.md", Change.modified, True), ("gone", Change.deleted, True), ("a.png", Change.modified, False),
        (".git/objects/ab", Change.added, False), (".trash/a.md", Change.modified, False), (".a.md", Change.modified, False),
        ("b/.passkbignore", Change.modified, False), (".passkbignore", Change.deleted, True),
        (".obsidian/app.json", Change.added, True), (".obsidian/workspace.json", Change.modified, False),
    ],
)  # fmt: skip
def test_change_filter(path: str, change: Change, relevant: bool, tmp_path: Path) -> None:
    """For any location of the source: also below a hidden folder, or a folder with an ignored name."""
    for place in ("vault", ".venv/vault", ".git/node_modules/__pycache__"):
        is_relevant = change_filter([tmp_path / place, tmp_path / "other.md"])
        assert is_relevant(change, str(tmp_path / place / path)) is relevant
    assert is_relevant(change, str(tmp_path / "other.md"))


def test_a_vault_that_disappears_and_returns_keeps_its_notes(watched: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    root = vault({f"{i}.md": f"Note {i}." for i in range(6)})
    assert eventually(lambda: len(titles(watched)) == 7)
    root.rename(tmp_path / "unplugged")
    root.mkdir()
    time.sleep(4 * CHECK_SECONDS)
    assert len(titles(watched)) == 7
    root.rmdir()
    (tmp_path / "unplugged").rename(root)
    (root / "back.md").write_text("Back.")
    assert eventually(lambda: "back" in titles(watched))
    (root / "later.md").write_text("Later.")
    assert eventually(lambda: "later" in titles(watched))


def test_a_newly_registered_vault_is_watched(watched: KnowledgeBase, vault: Vault) -> None:
    other = vault({"a.md": "A."}, "other")
    ingest(watched, [other])
    time.sleep(4 * CHECK_SECONDS)
    (other / "b.md").write_text("B.", encoding="utf-8")
    assert eventually(lambda: "b" in titles(watched))
