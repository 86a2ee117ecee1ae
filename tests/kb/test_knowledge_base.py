"""A home as a whole: store, vector index and graph stay in step, whatever was cut short."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.chunking import chunk
from kb.embedding import HashedWords, Vectors
from kb.knowledge_base import KnowledgeBase
from kb.notes import Link, LinkType, Note, NoteKind, PasskbError
from kb.store.queries import passage


def note(note_id: str, text: str, title: str = "", kind: NoteKind = NoteKind.NOTE) -> Note:
    return Note(note_id, title or note_id, kind, text, aliases=(f"alias of {note_id}",))


def put(kb: KnowledgeBase, *notes: Note, links: Sequence[Link] = (), drop: str = "", index: bool = True) -> None:
    """One change; with `index` false the process ends, as it were, before the vector index hears of it."""
    kb.embed([passage(entry, part) for entry in notes for part in chunk(entry)])
    with kb.writing() if index else kb.store.writing() as change:
        change.delete_note(drop)
        for entry in notes:
            change.put_note(entry, chunk(entry))
        change.set_links(links, [])


def matches(kb: KnowledgeBase, query: str) -> list[str]:
    return [hit.note_id for hit in kb.search(query)[1]]


def test_put_replace_and_delete_reach_words_vectors_and_chroma_alike(kb: KnowledgeBase) -> None:
    put(kb, note("a", "apples and pears"), note("b", "beans and lentils"))
    assert kb.index.count() == 2 and matches(kb, "apples")[0] == "a"
    put(kb, note("a", "# One\n\n" + "quinces " * 150 + "\n\n# Two\n\n" + "medlars " * 150))
    assert kb.index.count() == len(kb.catalogue.chunk_ids) == 3 and not kb.store.lexical("apples", 5)
    put(kb, drop="a")
    assert kb.index.count() == 1 and matches(kb, "quinces medlars") == ["b"]
    near = kb.index.nearest(kb.embedder(["beans"])[0], 10)
    assert [chunk_id for chunk_id, _ in near] == ["b@0"]


def test_an_index_step_that_never_ran_is_made_up_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ended between the store's change and Chroma's; a search that needs Chroma finds both in step."""
    with KnowledgeBase(home, HashedWords()) as kb:
        put(kb, note("old", "apples and pears"), note("kept", "beans and lentils"))
        put(kb, note("new", "quinces and medlars"), drop="old", index=False)
        assert kb.index.count() == 2 and len(kb.store.outbox()) == 2
    monkeypatch.setattr("kb.search.EXACT_LIMIT", 0)
    with KnowledgeBase(home, HashedWords()) as kb:
        assert set(matches(kb, "quinces")) == {"new", "kept"}
        near = kb.index.nearest(kb.embedder(["quinces and medlars"])[0], 10)
        assert {chunk_id for chunk_id, _ in near} == {"new@0", "kept@0"}
        assert kb.store.outbox() == []


def test_what_changes_while_the_index_is_brought_in_step_is_not_forgotten(home: Path) -> None:
    with KnowledgeBase(home, HashedWords()) as kb:
        put(kb, note("a", "apples"), note("c", "cherries"), index=False)
        pending = kb.store.outbox()
        put(kb, note("a", "quinces"), note("b", "beans"), drop="c", index=False)
        kb.store.clear_outbox(pending)
        assert {chunk_id for chunk_id, _ in kb.store.outbox()} == {"a@0", "b@0", "c@0"}
        kb.sync_index()
        near = dict(kb.index.nearest(kb.embedder(["a\nquinces"])[0], 10))
        assert near.keys() == {"a@0", "b@0"} and near["a@0"] > 0.999


def test_a_note_is_meant_by_id_title_or_alias_if_only_one_bears_it(kb: KnowledgeBase) -> None:
    twins = [note(f"v/twin-{i}", "text", "Twin") for i in (1, 2)]
    put(kb, note("v/pass-at-k", "text", "What pass@k measures"), *twins)
    assert kb.find("v/pass-at-k") == kb.find("What pass@k measures") == kb.find("Alias of v/pass-at-k") == "v/pass-at-k"
    with pytest.raises(PasskbError, match=r"2 notes are called 'Twin'.*v/twin-1, v/twin-2"):
        kb.find("Twin")
    with pytest.raises(PasskbError, match="no note 'pass@k measure'; did you mean 'What pass@k measures'"):
        kb.find("pass@k measure")
    for unknown in ("", "zebra", "\udcff", "\0", "%' OR 1=1 --"):
        with pytest.raises(PasskbError, match="there is no note"):
            kb.find(unknown)


def test_a_note_is_seen_with_all_that_stands_around_it(meaningful: KnowledgeBase) -> None:
    kb = meaningful
    notes = [
        note("bread", "Knead the dough and bake the loaf."),
        note("cake", "Beat the eggs and bake the cake."),
        note("moon", "The moon circles the earth."),
        note("asked", "What is baking?", kind=NoteKind.INQUIRY),
    ]
    links = [
        Link("cake", "bread", LinkType.CONTRADICTS, "eggs"),
        Link("asked", "bread", LinkType.DRAWS_ON),
        Link("bread", "moon", LinkType.RELATED),
    ]
    put(kb, *notes, links=links)
    view = kb.view("bread", similar=2)
    assert view.note.text.startswith("Knead") and [link.target for link in view.links] == ["moon"]
    assert [(link.source, link.why) for link in view.backlinks] == [("cake", "eggs"), ("asked", "")]
    assert view.inquiries == ("asked",) and len(view.similar) == 2
    nearness = dict(kb.similar("bread"))
    assert nearness["cake"] > nearness["moon"] and "bread" not in nearness
    with pytest.raises(PasskbError, match="there is no note 'gone'"):
        kb.view("gone")


def test_searches_in_threads_go_on_while_one_thread_writes(kb: KnowledgeBase) -> None:
    put(kb, *(note(f"n{i}", f"apples of sort {i}") for i in range(20)))
    done, faults = threading.Event(), list[BaseException]()

    def read() -> None:
        while not done.is_set():
            try:
                hits = kb.search("apples", 5)[1]
                assert len(hits) == 5 and all("apples" in hit.text for hit in hits)
                kb.view(hits[0].note_id)
            except BaseException as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(30):
        put(kb, note(f"m{i}", f"more apples {i}"), links=[Link(f"m{i}", "n0", LinkType.MENTIONS)])
    done.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(kb.catalogue.chunk_ids) == 50 == kb.index.count()


def test_a_home_that_can_not_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PasskbError, match=r"file/home/kb\.sqlite cannot be used"):
        KnowledgeBase(tmp_path / "file" / "home", HashedWords())


class Held(HashedWords):
    """Waits within texts that begin with `slow` until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if any(text.startswith("slow") for text in texts):
            self.begun.set()
            assert self.go_on.wait(60)
        return super().__call__(texts)


def test_searches_go_on_while_texts_are_embedded(home: Path) -> None:
    locked = Held()
    with KnowledgeBase(home, locked) as kb:
        put(kb, note("a", "apples and pears"))
        made: list[Vectors] = []
        thread = threading.Thread(target=lambda: made.append(kb.sentence_vectors(["slow one", "quick one"])))
        thread.start()
        assert locked.begun.wait(60)
        beside: list[str] = []
        search = threading.Thread(target=lambda: beside.extend(matches(kb, "apples")))
        search.start()
        search.join(30)
        ended = not search.is_alive()
        locked.go_on.set()
        thread.join()
        search.join()
        assert ended and beside == ["a"]
        assert (made[0] == locked(["slow one", "quick one"])).all() and made[0].shape == (2, locked.size)


def test_walks_that_infer_links_hold_up_no_search(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: object) -> list[Link]:
        begun.set()
        assert go_on.wait(60)
        return []

    monkeypatch.setattr("kb.knowledge_base.infer_links", slow)
    with KnowledgeBase(home, HashedWords()) as kb:
        put(kb, note("a", "apples and pears"), note("b", "beans"))
        walk = threading.Thread(target=lambda: kb.neighbourhood("a"))
        walk.start()
        assert begun.wait(60)
        beside: list[str] = []
        search = threading.Thread(target=lambda: beside.extend(matches(kb, "apples")))
        search.start()
        search.join(30)
        ended = not search.is_alive()
        go_on.set()
        walk.join()
        search.join()
        assert ended and beside[0] == "a"


def test_the_latest_sentences_are_remembered_and_no_more(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kb.knowledge_base._MAX_SENTENCE_VECTORS", 4)
    texts = [f"text {i}" for i in range(10)]
    for part in (texts[:3], texts[2:5], texts, texts[:1], []):
        assert (kb.sentence_vectors(part) == kb.embedder(part)).all()
        assert len(kb._sentence_vectors) <= 4
