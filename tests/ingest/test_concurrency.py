"""Several at one home: what one writes or rebuilds the others see, whole; and none reads anything torn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.pipeline import ingest, rebuild, sync
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from service.answering.extractive import ask
from tests.ingest.processes import finished, opened_and_closed, rebuilt_while_open, start, versions_written
from tests.ingest.states import WithHashedWords, fresh_state, whole_state

if TYPE_CHECKING:
    from tests.conftest import Vault


def test_many_processes_may_make_a_home_at_once(home: Path) -> None:
    running = [start(opened_and_closed, home) for _ in range(6)]
    assert [pipe.recv() for _, pipe in running] == [True] * 6
    for process, _ in running:
        process.join()


def test_readers_see_the_old_or_the_new_and_nothing_between(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault({f"{i}.md": f"# {i}\n\nOtters keep word0 in a pouch. See [[0]].\n" for i in range(12)})
    ingest(kb, [folder])
    process, pipe = start(versions_written, kb.home, folder, 8)
    states: set[str] = set()
    looked = 0
    while process.is_alive():
        hits = kb.search("otters pouch", 12, widen=False)[1]
        words = {hit.text.split("keep ")[1].split()[0] for hit in hits}
        answer = ask(kb, "What do otters keep in a pouch?")
        quotes = [citation.quote for statement in answer.statements for citation in statement.citations]
        assert len(hits) == 12 and len(words) == 1, "a search found two states"
        assert all(quote.startswith("Otters keep word") and quote.endswith("in a pouch.") for quote in quotes), quotes
        assert len(set(quotes)) <= 1, "an answer quoted two states"
        with kb.store.reading():
            assert len(kb.store.links()) == 11
        states |= words
        looked += 1
    pipe.close()
    assert looked >= 5 and len(states) >= 3 and "word7" in kb.search("otters pouch", 1)[1][0].text


@pytest.mark.parametrize("damage", [False, True])
def test_an_open_home_goes_on_with_what_another_rebuilt(home: Path, vault: Vault, tmp_path: Path, damage: bool) -> None:
    folder = vault({"a.md": "Otters keep stones.", "b.md": "Herons wait. [[a]]"})
    with WithHashedWords(home) as one, WithHashedWords(home) as other:
        ingest(one, [folder])
        assert "stones" in other.search("otters", 1)[1][0].text
        vault({"a.md": "Otters keep urchins.", "c.md": "Gravel. [[a]]"})
        if damage:
            (home / "kb.sqlite").unlink()
            (home / "kb.sqlite").write_bytes(b"noise " * 9000)
        assert rebuild(home, WithHashedWords).added == 3
        for opened in (one, other):
            assert "urchins" in opened.search("otters", 1)[1][0].text and not opened.store.lexical("stones", 3)
            assert len(opened.neighbourhood("vault/a").links) == 2 and opened.index.count() == 3
        vault({"c.md": "Granite. [[b]]"})
        assert sync(other).updated == 1 and "Granite" in one.search("granite", 1)[1][0].text
        assert whole_state(one) == whole_state(other) == fresh_state(tmp_path / "fresh", folder)


def test_another_process_sees_what_was_rebuilt_also_in_chroma(home: Path, vault: Vault) -> None:
    folder = vault({f"{i}.md": f"Otters keep stones {i}." for i in range(9)})
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    process, pipe = start(rebuilt_while_open, home, "urchins herons")
    _, _, near, number = pipe.recv()
    assert not near and number == 9
    vault({"new.md": "Urchins, herons."})
    rebuild(home, WithHashedWords)
    pipe.send("go on")
    texts, chunk_id, near, number = pipe.recv()
    assert texts == ["Urchins, herons."] and chunk_id.startswith("vault/new") and near and number == 10
    pipe.send("done")
    process.join()


def test_a_home_whose_database_was_deleted_under_it_starts_again(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    folder = vault({"a.md": "Otters keep stones.", "b.md": "Herons wait. [[a]]"})
    ingest(kb, [folder])
    for name in ("kb.sqlite", "kb.sqlite-wal", "kb.sqlite-shm"):
        (kb.home / name).unlink(missing_ok=True)
    assert kb.search("otters", 1)[1] == []
    assert sync(kb).added == 2
    assert whole_state(kb) == fresh_state(tmp_path / "fresh", folder)
    assert finished(opened_and_closed, kb.home)


def test_chroma_follows_a_database_that_was_made_anew(home: Path, vault: Vault) -> None:
    folder = vault({"a.md": "Otters keep stones.", "b.md": "Herons wait."})
    with KnowledgeBase(home, HashedWords()) as kb:
        ingest(kb, [folder])
    (home / "kb.sqlite").unlink()
    (folder / "a.md").unlink()
    with KnowledgeBase(home, HashedWords()) as kb:
        sync(kb)
        assert kb.index.ids() == list(kb.catalogue.chunk_ids) == ["vault/b@0"]
