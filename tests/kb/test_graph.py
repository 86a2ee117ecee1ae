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
