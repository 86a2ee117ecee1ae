"""The graph of notes: attention spreads as PageRank says, paths prefer reasons, neighbourhoods keep to their bounds."""

from __future__ import annotations

import io

import networkx as nx
import pytest

from kb.graph import DAMPING, WEIGHTS, NoteGraph, graphml
from kb.notes import Link, LinkType

T = LinkType
LINKS = [
    Link("a", "b", T.SUPPORTS, "first"),
    Link("b", "c", T.MENTIONS),
    Link("c", "a", T.CONTRADICTS),
    Link("c", "a", T.CITES),
    Link("d", "c", T.EVIDENCE_FOR),
    Link("d", "e", T.DRAWS_ON),
    Link("e", "f", T.RELATED),
    Link("f", "g", T.MENTIONS),
    Link("b", "e", T.QUALIFIES),
    Link("g", "nowhere", T.SUPPORTS),
]
GRAPH = NoteGraph("abcdefgz", LINKS)


def test_attention_spreads_as_personalised_pagerank() -> None:
    """Against networkx: what PageRank gives a note, less what the restart itself puts there."""
    seeds = {"a": 3.0, "g": 1.0, "unknown": 5.0}
    restart = {"a": 0.75, "g": 0.25}
    reference: nx.Graph[str] = nx.Graph()
    for link in GRAPH.links:
        before = reference.get_edge_data(link.source, link.target, {"weight": 0.0})["weight"]
        reference.add_edge(link.source, link.target, weight=before + WEIGHTS[link.type])
    ranks = nx.pagerank(reference, alpha=DAMPING, personalization=restart, tol=1e-12)
    expected = {note: rank - (1 - DAMPING) * restart.get(note, 0.0) for note, rank in ranks.items()}
    spread = GRAPH.personalized_pagerank(seeds)
    assert spread == pytest.approx(expected, abs=2**-8)
    assert sorted(spread, key=spread.__getitem__) == sorted(expected, key=expected.__getitem__)
    assert sum(spread.values()) <= DAMPING + 1e-9


def test_without_links_nothing_spreads() -> None:
    assert NoteGraph("abc", []).personalized_pagerank({"a": 1.0}) == {}
    assert GRAPH.personalized_pagerank({"z": 1.0}) == {} and GRAPH.personalized_pagerank({}) == {}


def test_a_path_prefers_reasons_over_mentions_and_tells_the_direction() -> None:
    links = [Link("a", "b", T.MENTIONS), Link("a", "m", T.SUPPORTS, "because"), Link("b", "m", T.EXTENDS)]
    steps = NoteGraph("abm", links).path("a", "b")
    assert steps is not None
    assert [(step.link.source, step.link.target, step.forward) for step in steps] == [("a", "m", True), ("b", "m", False)]
    assert steps[0].link.why == "because"
    assert GRAPH.path("a", "z") is None and GRAPH.path("a", "nowhere") is None and GRAPH.path("a", "a") == []


def test_a_neighbourhood_keeps_to_its_depth_and_limit() -> None:
    near = GRAPH.neighbourhood("a", 1)
    assert dict(near.distances) == {"a": 0, "b": 1, "c": 1}
    assert {(link.source, link.target) for link in near.links} == {("a", "b"), ("b", "c"), ("c", "a")}
    few = GRAPH.neighbourhood("a", 9, limit=4)
    assert len(few.distances) == 4 and next(iter(few.distances)) == "a"
    assert GRAPH.neighbourhood("unknown", 2).distances == {}
    assert GRAPH.neighbourhood("z", 2).distances == {"z": 0}


def test_a_drawing_puts_every_note_in_the_unit_square_the_same_every_time() -> None:
    for centre in ("a", "z"):
        near = GRAPH.neighbourhood(centre, 9)
        places = GRAPH.layout(centre, near)
        assert places.keys() == near.distances.keys() and places == GRAPH.layout(centre, near)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in places.values())


def test_components_are_what_links_join_in_either_direction() -> None:
    links = [Link(a, b, T.SUPPORTS) for a, b in ("ab", "cb", "de")]
    assert NoteGraph("abcdef", links).components() == [set("abc"), set("de"), set("f")]


def test_graphml_survives_text_that_xml_can_not_hold() -> None:
    title = 'A < B & "C" \x00\x0b\ufffe \U0001f642'
    text = graphml([("a", title, "note"), ("b", "B", "stub")], [Link("a", "b", T.SUPPORTS, f"why {title}")])
    read = nx.read_graphml(io.BytesIO(text.encode()))
    assert read.nodes["a"]["title"] == 'A < B & "C"  \U0001f642'
    assert next(iter(read.edges(data=True)))[2]["type"] == "supports"


def test_pagerank_by_hand() -> None:
    """`a` passes 2/3 of its rank to `b` (weight 1) and 1/3 to `c` (0.5); both pass all of theirs back.

    With damping 1/2 the rank of `a` is 1, 1/2, 3/4, 5/8, 11/16, 21/32 after 0 to 5 rounds, because x[n] = 1/2 + x[n - 2] / 4.
    In the sixth, 1/2 * 21/32 arrives at `b` and `c` together, and at `a` half of what was there before, 1/2 * 11/32.
    """
    graph = NoteGraph("abc", [Link("a", "b", T.SUPPORTS), Link("a", "c", T.CITES)])
    expected = {"a": 11 / 64, "b": 21 / 64 * 2 / 3, "c": 21 / 64 / 3}
    assert graph.personalized_pagerank({"a": 7.0}) == pytest.approx(expected, abs=1e-12)
    assert graph.personalized_pagerank({"a": 7.0}, limit=1) == pytest.approx({"b": 7 / 32}, abs=1e-12)


def test_the_weight_of_each_link_type() -> None:
    """In a star each leaf gets its link's share of the 8.5 in all: with the centre's 21/32 (as above), weight / 8.5 * 21/64."""
    weights = {
        T.EVIDENCE_FOR: 1.5, T.SUPPORTS: 1.0, T.CONTRADICTS: 1.0, T.QUALIFIES: 1.0, T.EXTENDS: 1.0, T.EXPLAINS: 1.0,
        T.DRAWS_ON: 0.75, T.CITES: 0.5, T.RELATED: 0.5, T.MENTIONS: 0.25,
    }  # fmt: skip
    assert set(weights) == set(LinkType) and sum(weights.values()) == 8.5
    graph = NoteGraph(["centre", *LinkType], [Link("centre", kind, kind) for kind in LinkType])
    shares = graph.personalized_pagerank({"centre": 1.0})
    assert {kind: shares[kind] for kind in weights} == pytest.approx(
        {kind: weight / 8.5 * 21 / 64 for kind, weight in weights.items()}, abs=1e-12
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_path_shows_the_strongest_of_several_links(order: tuple[int, ...]) -> None:
    """Weights 0.25, 1 and 0.75: whatever their order and direction, the path shows the second."""
    links = [Link("a", "b", T.MENTIONS), Link("b", "a", T.QUALIFIES, "only here"), Link("a", "b", T.DRAWS_ON)]
    (step,) = NoteGraph("ab", [links[i] for i in order]).path("a", "b") or []
    assert step.link.type is T.QUALIFIES and step.link.why == "only here" and not step.forward


@pytest.mark.parametrize(
    ("direct", "steps"),
    [
        (T.MENTIONS, 2),  # 1 / 0.25 = 4 against 2 * 1 / 0.75 = 2.67
        (T.RELATED, 1),  # 1 / 0.5 = 2
        (T.EVIDENCE_FOR, 1),
    ],
)
def test_a_link_costs_the_inverse_of_its_weight(direct: LinkType, steps: int) -> None:
    links = [Link("a", "b", direct), Link("a", "m", T.DRAWS_ON), Link("m", "b", T.DRAWS_ON)]
    assert len(NoteGraph("abm", links).path("a", "b") or []) == steps
