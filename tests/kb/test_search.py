"""Search: words alone find, meaning alone finds, links widen and never disturb, Chroma agrees with the exact pass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingest.chunking import chunk
from kb.knowledge_base import KnowledgeBase
from kb.notes import Hit, Link, LinkType, Note, NoteKind
from kb.store.queries import passage

CAPACITY = {
    "v/sampling": "Reinforcement learning sharpens the sampling distribution of a language model towards right answers.",
    "v/coverage": "Given many attempts, the untuned checkpoint solves problems which its tuned sibling never solves.",
    "v/bread": "Knead the dough, let it rise overnight, and bake the loaf in a hot oven.",
    "v/tides": "The moon's gravity raises the sea twice a day along most coasts.",
    "v/garden": "Tomatoes want sun, water and a stake to climb.",
    "v/serial": "Part number QX-7741B is stored in the third drawer of the workshop.",
    "v/chess": "A knight on the rim is dim, says the old proverb of chess players.",
    "v/trains": "The night train leaves at ten and reaches the border before dawn.",
}


def fill(kb: KnowledgeBase, texts: dict[str, str], links: Sequence[Link] = (), kind: NoteKind = NoteKind.NOTE) -> None:
    notes = [Note(note_id, note_id.rpartition("/")[2], kind, text) for note_id, text in texts.items()]
    kb.embed([passage(note, part) for note in notes for part in chunk(note)])
    with kb.writing() as change:
        for note in notes:
            change.put_note(note, chunk(note))
        change.set_links(links, [])


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.note_id for hit in hits]


def test_words_alone_and_meaning_alone_find_a_note(meaningful: KnowledgeBase) -> None:
    fill(meaningful, CAPACITY)
    assert ids(meaningful.search("QX-7741B")[1])[0] == "v/serial"
    query = "why does the ocean swell"
    assert not meaningful.store.lexical(query, 5)
    assert ids(meaningful.search(query)[1])[0] == "v/tides"


def test_hits_point_at_their_text_best_first(meaningful: KnowledgeBase) -> None:
    long = "\n\n".join(f"# Part {i}\n\n" + f"Sentence {i} on oak trees \U0001f333 and soil. " * 30 for i in range(6))
    fill(meaningful, {**CAPACITY, "v/oaks": long})
    _, hits = meaningful.search("oak trees and soil", 12)
    texts = {note_id: note.text for note_id, note in meaningful.store.notes(ids(hits)).items()}
    assert len(hits) == 12 and hits[0].note_id == "v/oaks"
    assert [hit.text for hit in hits] == [texts[hit.note_id][hit.start : hit.end] for hit in hits]
    assert all(hit.chunk_id.startswith(hit.note_id) for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.chunk_id for hit in hits}) == 12


def test_a_linked_note_in_other_words_is_reached_over_links_alone(meaningful: KnowledgeBase) -> None:
    """The question shares no word and little meaning with the note on bread; the author's link is what leads there."""
    others = {f"v/net{i}": f"A neural network of {i} layers was trained for {i % 7} epochs." for i in range(120)}
    links = [
        Link("v/coverage", "v/bread", LinkType.EXPLAINS, "an analogy"),
        Link("v/sampling", "v/bread", LinkType.SUPPORTS),
    ]
    fill(meaningful, {**CAPACITY, **others}, links)
    query = "Does the untuned checkpoint solve problems that reinforcement learning leaves unsolved?"
    without = meaningful.search(query, 10, widen=False)[1]
    widened = meaningful.search(query, 10)[1]
    assert "v/bread" not in ids(without)
    hit = next(hit for hit in widened if hit.note_id == "v/bread")
    assert hit.via == "links" and hit.text == CAPACITY["v/bread"]
    assert all(hit.via == "text" for hit in without)


def test_where_there_are_no_links_widening_changes_nothing(meaningful: KnowledgeBase) -> None:
    fill(meaningful, CAPACITY)
    for query in ("tuned and untuned models", "bread", "QX-7741B in a drawer", "the of and"):
        assert meaningful.search(query, 10, widen=True)[1] == meaningful.search(query, 10, widen=False)[1]


def test_kinds_left_out_come_back_neither_by_text_nor_by_links(meaningful: KnowledgeBase) -> None:
    fill(meaningful, CAPACITY)
    inquiry = {"v/inquiry": "Knead the dough and bake bread."}
    fill(meaningful, inquiry, [Link("v/inquiry", "v/bread", LinkType.DRAWS_ON)], NoteKind.INQUIRY)
    assert "v/inquiry" in ids(meaningful.search("bake bread dough")[1])
    assert "v/inquiry" not in ids(meaningful.search("bake bread dough", exclude=[NoteKind.INQUIRY])[1])


@pytest.mark.parametrize(
    "odd", ["", " ", "what is the", '"', 'NEAR("', "*", "-", "a AND (", "\U0001f642", "\0", "\udcff", "x" * 20_000]
)
def test_no_query_fails(meaningful: KnowledgeBase, odd: str) -> None:
    assert meaningful.search(odd)[1] == []
    fill(meaningful, CAPACITY)
    assert len(meaningful.search(odd, 3)[1]) == 3


def test_chroma_gives_what_the_exact_pass_gives(meaningful: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(meaningful, CAPACITY, [Link("v/coverage", "v/bread", LinkType.EXPLAINS)])
    queries = ["tuned and untuned models", "QX-7741B", "ocean", "baking", "vegetables in the sun", "board games"]
    exact = [meaningful.search(query, 5)[1] for query in queries]
    assert meaningful.catalogue.vectors is not None
    monkeypatch.setattr("kb.search.EXACT_LIMIT", 0)
    with KnowledgeBase(meaningful.home, meaningful.embedder) as large:
        assert large.catalogue.vectors is None
        for query, expected in zip(queries, exact, strict=True):
            found = large.search(query, 5)[1]
            assert ids(found) == ids(expected), query
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=0.01)
