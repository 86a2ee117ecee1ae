"""The vector index is counted, not trusted: what it lost is said, made again by the next change, and never searched."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ingest.pipeline import ingest, sync
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.store.queries import Store
from tests.conftest import Vault

NOTES = {f"{i}.md": f"# Note {i}\n\nOtters keep stone {i} beside pebble {i % 7}." for i in range(1100)}


def remove_all(chroma: Path) -> None:
    shutil.rmtree(chroma)


def remove_segment(chroma: Path) -> None:
    """Chroma itself would open it and find fewer."""
    for folder in chroma.glob("*/"):
        shutil.rmtree(folder)


def remove_file(chroma: Path) -> None:
    next(chroma.rglob("data_level0.bin")).unlink()


def remove_table_rows(chroma: Path) -> None:
    with closing(sqlite3.connect(chroma / "chroma.sqlite3")) as connection:
        connection.execute("DELETE FROM embeddings WHERE id % 3 = 0")
        connection.commit()


def make_empty(chroma: Path) -> None:
    shutil.rmtree(chroma)
    chroma.mkdir()


DAMAGES = [remove_all, remove_segment, remove_file, remove_table_rows, make_empty]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed")
    (folder / "vault").mkdir()
    for name, text in NOTES.items():
        (folder / "vault" / name).write_text(text)
    with KnowledgeBase(folder / "home", HashedWords()) as kb:
        ingest(kb, [folder / "vault"])
    return folder / "home"


@pytest.fixture
def large(indexed: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is searched by the index, as those with many passages are."""
    shutil.copytree(indexed, home)
    monkeypatch.setattr("kb.search.EXACT_LIMIT", 0)
    return home


def ranked(kb: KnowledgeBase, query: str) -> list[str]:
    return [hit.note_id for hit in kb.search(query, 10)[1]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_index_changes_no_answer_and_is_made_again(
    damage: Callable[[Path], None], large: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with KnowledgeBase(large, HashedWords()) as kb:
        with monkeypatch.context() as small:
            small.setattr("kb.search.EXACT_LIMIT", 40_000)
            with KnowledgeBase(large, HashedWords()) as exact:
                expected = ranked(exact, "stone 17 pebble")
        assert not kb.index_sync.problem() and not kb.index_sync.find_damage()
    damage(large / "chroma")
    with KnowledgeBase(large, HashedWords()) as kb:
        assert kb.index_sync.find_damage()
        assert ranked(kb, "stone 17 pebble") == expected
        assert "the vector index is not used" in caplog.text
        report = sync(kb)
        assert report.warnings == [(str(large / "chroma"), "was damaged and has been rebuilt")]
        assert not report.embedded and not kb.index_sync.find_damage() and not kb.index_sync.problem()
        assert kb.index.count() == len(kb.catalogue.chunk_ids)
        assert not sync(kb).warnings


def test_damage_while_a_home_is_open_is_noticed_by_the_next_search(large: Path) -> None:
    with KnowledgeBase(large, HashedWords()) as kb:
        before = ranked(kb, "stone 17 pebble")
        remove_all(large / "chroma")
        assert set(ranked(kb, "stone 17 pebble")) & set(before)
        assert kb.index_sync.problem()


def test_a_search_does_not_wait_for_the_index_to_be_written(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    with KnowledgeBase(large, HashedWords()) as kb:
        upsert = kb.index.upsert

        def slow(*arguments: object) -> None:
            begun.set()
            assert go_on.wait(60)
            upsert(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(kb.index, "upsert", slow)
        remove_all(large / "chroma")
        writer = threading.Thread(target=lambda: sync(kb))
        writer.start()
        assert begun.wait(60)
        results: list[str] = []
        search = threading.Thread(target=lambda: results.extend(ranked(kb, "stone 17 pebble")))
        search.start()
        search.join(30)
        ended = not search.is_alive()
        go_on.set()
        writer.join()
        search.join()
        assert ended and results and not kb.index_sync.problem()


def test_a_home_of_before_gets_its_manifest_with_the_next_sync(large: Path) -> None:
    """Homes that 0.2 wrote have none: a search does without their index until a sync has made it again."""
    store = Store(large / "kb.sqlite")
    store.set_meta("index_manifest", "")
    with KnowledgeBase(large, HashedWords()) as kb:
        assert kb.index_sync.problem() and ranked(kb, "stone 17 pebble")
        assert not sync(kb).warnings and not kb.index_sync.problem()
        manifest = json.loads(store.meta("index_manifest"))
        assert manifest["embedder"] == "hashed-words" and any(name.endswith("header.bin") for name in manifest["files"])


def test_vectors_that_are_missing_are_made_again(home: Path, vault: Vault) -> None:
    folder = vault({f"{i}.md": f"# {i}\n\nOtters keep stone {i}." for i in range(6)})
    with KnowledgeBase(home, HashedWords()) as kb:
        ingest(kb, [folder])
        with kb.store.database.writing() as connection:
            connection.execute("DELETE FROM vectors")
        assert len(kb.store.chunks_without_vector(kb.embedder.name)) == 6
        sync(kb)
        assert not kb.store.chunks_without_vector(kb.embedder.name)
        vector, hits = kb.search("stone 3", 1)
        assert hits[0].note_id == "vault/3" and kb.index.nearest(vector, 1)[0][1] > 0.3
        assert not sync(kb).warnings and not kb.index_sync.find_damage()
