"""Search: words alone find, meaning alone finds, links widen and never disturb, Chroma agrees with the exact pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ingest.chunking import chunk
from kb.embedding import Vectors
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
            hits = large.search(query, 5)[1]
            assert ids(hits) == ids(expected), query
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=0.01)


class ByAngle:
    """A text that contains `cos X` gets a vector at that cosine to every question."""

    name, size = "by-angle", 2

    def __call__(self, texts: Sequence[str]) -> Vectors:
        matches = [re.search(r"cos ([\d.]+\d)", text) for text in texts]
        cosines = [float(match[1]) if match else 1.0 for match in matches]
        return np.array([[cosine, (1 - cosine**2) ** 0.5] for cosine in cosines], np.float32)


@pytest.fixture
def by_angle(home: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(home, ByAngle()) as kb:
        yield kb


def scores(kb: KnowledgeBase, query: str) -> dict[str, float]:
    return {hit.chunk_id.removeprefix("v/"): hit.score for hit in kb.search(query, 20)[1]}


def test_fusion_weighs_both_lists_equally(by_angle: KnowledgeBase) -> None:
    """Cosines 1, 0.8 and 0.5 become 1, 0.6 and 0; the one note with the word becomes 1; each list counts half."""
    fill(by_angle, {"v/a": "Apples, cos 1.0", "v/b": "Beans, cos 0.8", "v/c": "Quinces, cos 0.5"})
    assert scores(by_angle, "zeppelin") == pytest.approx({"a@0": 0.5, "b@0": 0.3, "c@0": 0.0}, abs=1e-5)
    assert scores(by_angle, "quinces") == pytest.approx({"a@0": 0.5, "b@0": 0.3, "c@0": 0.5}, abs=1e-5)
    assert scores(by_angle, "beans") == pytest.approx({"a@0": 0.5, "b@0": 0.8, "c@0": 0.0}, abs=1e-5)


def test_further_chunks_of_a_note_count_less(by_angle: KnowledgeBase) -> None:
    """Cosines 1, 0.8, 0.6, 0.5 become 1, 0.6, 0.2, 0, halved 0.5, 0.3, 0.1, 0; in one note they count 1, 0.9 and 0.81 times."""
    filler = "so it goes on " * 30
    sections = "\n\n".join(f"# Part\n\ncos {cosine} {filler}" for cosine in ("0.6", "1.0", "0.8"))
    fill(by_angle, {"v/a": sections, "v/b": "cos 0.5"})
    expected = {"a@1": 0.5, "a@2": 0.3 * 0.9, "a@0": 0.1 * 0.81, "b@0": 0.0}
    assert scores(by_angle, "zeppelin") == pytest.approx(expected, abs=1e-5)


FIVE = {f"v/{name}": f"cos {cosine}" for name, cosine in zip("abcde", (1.0, 0.9, 0.8, 0.7, 0.6), strict=True)}


def test_links_add_a_fifth_to_what_they_reach_most(by_angle: KnowledgeBase) -> None:
    """Cosines 1 to 0 give 0.5, 0.45, … 0.3 to the five seeds, 0 to the others. `a` passes 0.8 to `f`, 0.2 to `g`: they get
    0.2 and a quarter of that. The seeds keep their scores."""
    links = [
        Link("v/a", "v/f", LinkType.SUPPORTS),
        Link("v/a", "v/g", LinkType.MENTIONS),
        Link("v/c", "v/b", LinkType.SUPPORTS),
    ]
    fill(by_angle, {**FIVE, "v/f": "cos 0.0", "v/g": "cos 0.0"}, links)
    expected = {"a@0": 0.5, "b@0": 0.45, "c@0": 0.4, "d@0": 0.35, "e@0": 0.3, "f@0": 0.2, "g@0": 0.05}
    assert scores(by_angle, "zeppelin") == pytest.approx(expected, abs=1e-5)


def test_seeds_count_by_the_square_of_their_scores(by_angle: KnowledgeBase) -> None:
    """`f` hangs on `a` (0.5), `g` on `b` (0.45): attention 0.25 to 0.2025, so `g` gets 0.81 of a fifth."""
    links = [Link("v/a", "v/f", LinkType.SUPPORTS), Link("v/b", "v/g", LinkType.SUPPORTS)]
    fill(by_angle, {**FIVE, "v/f": "cos 0.0", "v/g": "cos 0.0"}, links)
    assert scores(by_angle, "zeppelin")["f@0"] == pytest.approx(0.2, abs=1e-5)
    assert scores(by_angle, "zeppelin")["g@0"] == pytest.approx(0.162, abs=1e-5)


def test_links_raise_nothing_above_the_seeds(by_angle: KnowledgeBase) -> None:
    """`f` has 0.25 by itself, and 0.45 with its links: it stops at the fifth seed's 0.3."""
    fill(by_angle, {**FIVE, "v/f": "cos 0.5", "v/z": "cos 0.0"}, [Link("v/a", "v/f", LinkType.SUPPORTS)])
    assert scores(by_angle, "zeppelin")["f@0"] == pytest.approx(0.3, abs=1e-5)


def test_mentions_without_links_add_a_half_from_two_seeds(by_angle: KnowledgeBase) -> None:
    """Seeds are `a` (0.5) and `b` (0.45), by the square of their scores. `f` hangs on `a` and would get a half: it stops below
    `b`. `g` hangs on `b` and gets 0.2025 / 0.25 of a half. `h` hangs on `c`, which is no seed."""
    fill(by_angle, {**FIVE, "v/f": "cos 0.0", "v/g": "cos 0.0", "v/h": "cos 0.0"})
    with by_angle.writing() as change:
        change.set_mentions({"v/a": [("v/f", "F")], "v/b": [("v/g", "G")], "v/c": [("v/h", "H")]})
    found = scores(by_angle, "zeppelin")
    assert (found["a@0"], found["b@0"]) == pytest.approx((0.5, 0.45), abs=1e-5)
    assert (found["f@0"], found["g@0"]) == pytest.approx((0.45, 0.405), abs=1e-5) and found["f@0"] < found["b@0"]
    assert found.get("h@0", 0.0) == pytest.approx(0.0, abs=1e-5)
    assert not by_angle.store.links() and not by_angle.graph_without(()).links


def test_a_note_that_the_question_names_gets_four_tenths(by_angle: KnowledgeBase) -> None:
    notes = [Note("v/named", "Zeppelin tours", text="cos 0.0"), *(Note(i, i[2:], text=text) for i, text in FIVE.items())]
    by_angle.embed([passage(note, part) for note in notes for part in chunk(note)])
    with by_angle.writing() as change:
        for note in notes:
            change.put_note(note, chunk(note))
    named, unnamed = (scores(by_angle, question) for question in ("about zeppelin TOURS", "about tours of zeppelins"))
    assert named["named@0"] == pytest.approx(unnamed["named@0"] + 0.4, abs=1e-5)
