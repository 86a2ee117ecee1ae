"""Weights, scores and order of suggested links, computed by hand.

mention: 0.75 · max(0.2, 1 - ln(1 + f) / ln(2 + N)), with f of N chunks containing the name; halved for an uncertain single word
similar: 0.8 · (cosine - 0.5) / 0.5, from a cosine of 0.55
neighbours: 0.6 · w / (w + 1.5), with w = Σ 1 / ln(number of neighbours) over at least two shared neighbours
score: 1 - ∏ (1 - weight), from 0.12
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from math import log
from pathlib import Path

import pytest

from ingest.pipeline import ingest
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from service.suggestions.ranking import Suggestion, suggest_links

MakeVault = Callable[[Mapping[str, str]], KnowledgeBase]
FILLER = {"Bread": "Dough rises overnight."}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeVault]:
    """Makes a home from titles and texts, one chunk each. Similar texts give no signal unless a test says so."""
    with ExitStack() as stack:

        def make(notes: Mapping[str, str]) -> KnowledgeBase:
            monkeypatch.setattr(KnowledgeBase, "similar", lambda kb, note_id, limit=8: [])
            (tmp_path / "v").mkdir()
            for title, text in notes.items():
                (tmp_path / "v" / f"{title}.md").write_text(text, "utf-8")
            kb = stack.enter_context(KnowledgeBase(tmp_path / "home", HashedWords()))
            ingest(kb, [tmp_path / "v"])
            assert len(kb.catalogue.numbers) == len(notes)
            return kb

        yield make


def weights(entries: list[Suggestion]) -> dict[str, list[tuple[str, float]]]:
    return {entry.other: [(signal.kind, signal.weight) for signal in entry.signals] for entry in entries}


def test_a_mention_weighs_more_the_fewer_chunks_contain_the_name(make: MakeVault) -> None:
    kb = make({"Green river": "It is long.", "Trip": "We saw the Green river.", "Rare": "---\naliases: [blue lake]\n---\nDeep.",
               "Swim": "A blue lake is cold.", **FILLER, "Jam": "Fruit.", "Tea": "Leaves."})  # fmt: skip
    assert weights(suggest_links(kb, "v/trip")) == {"v/green-river": [("mention", 0.375)]}  # 1 - ln 3 / ln 9 = 0.5
    assert weights(suggest_links(kb, "v/swim")) == {"v/rare": [("mention", 0.5134)]}  # 1 - ln 2 / ln 9 = 0.684535
    (entry,) = suggest_links(kb, "v/green-river")
    assert (entry.source, entry.target, entry.other, entry.score) == ("v/trip", "v/green-river", "v/trip", 0.375)


def test_a_name_in_all_chunks_keeps_a_fifth_of_the_weight(make: MakeVault) -> None:
    trips = {f"Trip {i}": "We saw the Green river." for i in range(6)}
    kb = make({"Green river": "It is long.", **trips})  # 1 - ln 8 / ln 9 = 0.054
    assert weights(suggest_links(kb, "v/green-river")) == {f"v/trip-{i}": [("mention", 0.15)] for i in range(6)}


def test_a_single_word_counts_half_at_the_start_of_a_sentence_and_in_other_letters(make: MakeVault) -> None:
    kb = make({"Otters": "a", "Herons": "b", "Beavers": "c", "Middle": "We saw Otters.", "Start": "Herons fish.",
               "Letters": "We saw beavers.", **FILLER})  # fmt: skip
    assert weights(suggest_links(kb, "v/middle")) == {"v/otters": [("mention", 0.375)]}
    assert weights(suggest_links(kb, "v/start")) == {"v/herons": [("mention", 0.1875)]}
    assert weights(suggest_links(kb, "v/letters")) == {"v/beavers": [("mention", 0.1875)]}


@pytest.mark.parametrize(("mentions", "suggested"), [(4, 4), (5, 0)])
def test_a_single_word_in_more_than_five_chunks_is_no_mention(make: MakeVault, mentions: int, suggested: int) -> None:
    kb = make({"Otters": "They swim.", **{f"Trip {i}": "We saw Otters there." for i in range(mentions)}, **FILLER})
    assert len(suggest_links(kb, "v/otters")) == suggested == len(suggest_links(kb, "v/trip-0")) * mentions


def test_shared_neighbours_with_few_neighbours_weigh_more(make: MakeVault) -> None:
    kb = make({"A": "a", "B": "b", "C": "c", "D": "d", "Small hub": "[[A]] [[B]]", "Big hub": "[[A]] [[B]] [[C]]",
               "Other hub": "[[A]] [[C]] [[D]] [[B]]"})  # fmt: skip
    b, c = 1 / log(2) + 1 / log(3) + 1 / log(4), 1 / log(3) + 1 / log(4)
    assert (round(0.6 * b / (b + 1.5), 4), round(0.6 * c / (c + 1.5), 4)) == (0.4032, 0.3126)
    found = suggest_links(kb, "v/a")
    assert weights(found) == {"v/b": [("neighbours", 0.4032)], "v/c": [("neighbours", 0.3126)]}  # d shares one hub only
    assert [entry.why for entry in found] == [
        "3 notes are linked to both: “Small hub”, “Big hub”, “Other hub”",
        "2 notes are linked to both: “Big hub”, “Other hub”",
    ]
    assert (found[0].source, found[0].target) == ("v/a", "v/b")


def test_at_most_three_shared_neighbours_are_named(make: MakeVault) -> None:
    kb = make({"A": "a", "B": "b", **{f"Hub {i}": "[[A]] [[B]]" for i in range(5)}})
    assert suggest_links(kb, "v/a")[0].why == "5 notes are linked to both: “Hub 0”, “Hub 1”, “Hub 2” and 2 more"


def test_similarity_counts_from_a_cosine_of_0_55(make: MakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = make({title: "x" for title in "ABCDEF"})
    asked: list[int] = []

    def similar(kb: KnowledgeBase, note_id: str, limit: int = 8) -> list[tuple[str, float]]:
        asked.append(limit)
        return [("v/b", 1.0), ("v/c", 0.75), ("v/d", 0.575), ("v/e", 0.57), ("v/f", 0.5499)]

    monkeypatch.setattr(KnowledgeBase, "similar", similar)
    found = suggest_links(kb, "v/a")
    assert weights(found) == {"v/b": [("similar", 0.8)], "v/c": [("similar", 0.4)], "v/d": [("similar", 0.12)]}  # e: 0.112
    assert [entry.score for entry in found] == [0.8, 0.4, 0.12] and asked == [24]
    assert found[1].why == "similar text (cosine 0.75)"


def test_signals_add_up_and_the_strongest_comes_first(make: MakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = make({"Green river": "It is long.", "Trip": "We saw the Green river.", "Zoo": "x", "Abc": "y", **FILLER,
               "Jam": "Fruit.", "Tea": "Leaves."})  # fmt: skip
    near = [("v/zoo", 0.75), ("v/abc", 0.75), ("v/green-river", 0.75), ("v/jam", 0.9), ("v/tea", 0.57), ("v/bread", 0.5)]
    monkeypatch.setattr(KnowledgeBase, "similar", lambda kb, note_id, limit=8: near)
    found = suggest_links(kb, "v/trip")
    # 1 - (1 - 0.4) · (1 - 0.375) = 0.625 is less than 0.64 for jam; equal scores are in the order of their ids
    assert [(entry.other, entry.score) for entry in found] == [
        ("v/jam", 0.64), ("v/green-river", 0.625), ("v/abc", 0.4), ("v/zoo", 0.4)]  # fmt: skip
    assert [(s.kind, s.weight) for s in found[1].signals] == [("similar", 0.4), ("mention", 0.375)]
    assert found[1].why == "similar text (cosine 0.75)"
    assert [entry.other for entry in suggest_links(kb, "v/trip", 2)] == ["v/jam", "v/green-river"]
    # A weak signal counts together with another: 1 - (1 - 0.112) · (1 - 0.375) = 0.445
    monkeypatch.setattr(KnowledgeBase, "similar", lambda kb, note_id, limit=8: [("v/green-river", 0.5499)])
    assert weights(suggest_links(kb, "v/trip")) == {"v/green-river": [("mention", 0.375)]}
    monkeypatch.setattr(KnowledgeBase, "similar", lambda kb, note_id, limit=8: [("v/green-river", 0.57)])
    (entry,) = suggest_links(kb, "v/trip")
    assert (
        entry.score == 0.445 and [s.kind for s in entry.signals] == ["mention", "similar"] and entry.why.startswith("this note")
    )


def test_at_most_eight_are_suggested(make: MakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    kb = make({title: "x" for title in "ABCDEFGHIJ"})
    monkeypatch.setattr(KnowledgeBase, "similar", lambda kb, note_id, limit=8: [(f"v/{c}", 0.9) for c in "jihgfedcb"])
    assert [entry.other for entry in suggest_links(kb, "v/a")] == [f"v/{c}" for c in "bcdefghi"]


def test_two_notes_that_mention_each_other_get_one_suggestion(make: MakeVault) -> None:
    kb = make({"Green river": "It is near the Blue lake.", "Blue lake": "The Green river feeds it.", **FILLER, "Jam": "Fruit.",
               "Tea": "Leaves.", "Ink": "Black.", "Oak": "Tall."})  # fmt: skip
    for here, there in (("v/green-river", "v/blue-lake"), ("v/blue-lake", "v/green-river")):
        (entry,) = suggest_links(kb, here)
        assert (entry.source, entry.target) == (here, there)
        assert (entry.score, [s.weight for s in entry.signals]) == (0.6094, [0.375, 0.375])  # 1 - 0.625²
