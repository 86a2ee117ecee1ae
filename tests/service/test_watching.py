"""A running app follows its notes: edits, a burst of new files, deletions, and a vault that is registered meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from service.watching import keep_up
from service.web.indexing import Indexing

if TYPE_CHECKING:
    from tests.conftest import Vault


@pytest.fixture
def watched(kb: KnowledgeBase, vault: Vault) -> Iterator[KnowledgeBase]:
    ingest(kb, [vault({"first.md": "The first note."})])
    stop = threading.Event()
    thread = threading.Thread(target=keep_up, args=(kb, Indexing(), stop))
    thread.start()
    time.sleep(1)
    yield kb
    stop.set()
    thread.join(timeout=15)
    assert not thread.is_alive()


def eventually(holds: Callable[[], bool], seconds: float = 40) -> bool:
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
    for i in range(300):
        (root / "burst" / f"{i}.md").unlink()
    assert eventually(lambda: titles(watched) == {"first"})


def test_a_vault_registered_meanwhile_is_followed_too(watched: KnowledgeBase, vault: Vault) -> None:
    other = vault({"a.md": "A."}, "other")
    ingest(watched, [other])
    time.sleep(7)
    (other / "b.md").write_text("B.", encoding="utf-8")
    assert eventually(lambda: "b" in titles(watched))
