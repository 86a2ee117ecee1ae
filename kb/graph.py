"""The typed graph of notes: neighbourhoods, paths, components, personalized PageRank (the only networkx import)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from kb.notes import Link, LinkType

# Relative weight of a link of each type in PageRank and path search.
WEIGHTS: Mapping[LinkType, float] = {
    LinkType.EVIDENCE_FOR: 1.5,
    LinkType.SUPPORTS: 1.0,
    LinkType.CONTRADICTS: 1.0,
    LinkType.QUALIFIES: 1.0,
    LinkType.EXTENDS: 1.0,
    LinkType.EXPLAINS: 1.0,
    LinkType.DRAWS_ON: 0.75,
    LinkType.CITES: 0.5,
    LinkType.RELATED: 0.5,
    LinkType.MENTIONS: 0.25,
}
DAMPING = 0.5
_ITERATIONS = 6
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Step:
    """One link of a path. `forward`: the path follows the link's direction."""

    link: Link
    forward: bool


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The notes around a note with their distance in links, nearest first, and all links among them."""

    distances: Mapping[str, int]
    links: tuple[Link, ...]


class NoteGraph:
    def __init__(self, note_ids: Iterable[str], links: Iterable[Link]) -> None:
        self.note_ids = list(note_ids)
        self._row = {note_id: row for row, note_id in enumerate(self.note_ids)}
        self.links = [link for link in links if link.source in self._row and link.target in self._row]

    def neighbourhood(self, centre: str, depth: int, limit: int = 60) -> Neighbourhood:
        """Up to `limit` notes at most `depth` links away, in either direction; at equal distance the better connected first."""
        undirected = self._strongest
        if centre not in undirected:
            return Neighbourhood({}, ())
        distances = nx.single_source_shortest_path_length(undirected, centre, cutoff=depth)
        ranked = sorted(distances, key=lambda note_id: (distances[note_id], -undirected.degree(note_id), note_id))[:limit]
        return Neighbourhood({note_id: distances[note_id] for note_id in ranked}, tuple(self.links_among(ranked)))

    def links_among(self, note_ids: Collection[str]) -> list[Link]:
        """The links with both ends in `note_ids`."""
        selected = set(note_ids)
        return [link for link in self.links if link.source in selected and link.target in selected]

    def path(self, start: str, end: str) -> list[Step] | None:
        """The path of lowest cost between two notes, over links in either direction; None when there is none.

        A link costs 1 / weight, so two steps over supporting links beat one over a mention.
        """
        graph = self._strongest
        if start not in graph or end not in graph or not nx.has_path(graph, start, end):
            return None
        route = nx.dijkstra_path(graph, start, end, weight="cost")
        steps = [(graph.edges[pair]["link"], pair[0]) for pair in pairwise(route)]
        return [Step(link, link.source == source) for link, source in steps]

    def components(self) -> list[set[str]]:
        """Connected components, ignoring the direction of links, largest first; an unlinked note is a component too."""
        groups = [set(group) for group in nx.connected_components(self._strongest)]
        return sorted(groups, key=lambda group: (-len(group), min(group)))

    def layout(self, centre: str, neighbourhood: Neighbourhood) -> dict[str, tuple[float, float]]:
        """Positions in the unit square for drawing; deterministic for a given neighbourhood."""
        graph: nx.Graph[str] = nx.Graph()
        graph.add_nodes_from(neighbourhood.distances)
        graph.add_edges_from((link.source, link.target) for link in neighbourhood.links)
        rings = [[n for n, d in neighbourhood.distances.items() if d == ring] for ring in range(4)]
        start = nx.shell_layout(graph, [ring for ring in rings if ring])
        layout = nx.spring_layout(graph, pos=start, fixed=[centre], seed=0, k=1.6 / max(1, len(graph)) ** 0.5, iterations=60)
        points = np.array([layout[note_id] for note_id in neighbourhood.distances])
        low, high = points.min(axis=0), points.max(axis=0)
        unit = (points - low) / np.maximum(high - low, 1e-9)
        return {note_id: (float(x), float(y)) for note_id, (x, y) in zip(neighbourhood.distances, unit, strict=True)}

    def personalized_pagerank(self, seeds: Mapping[str, float], limit: int | None = None) -> dict[str, float]:
        """Personalized PageRank from `seeds` without the restart mass: for each note, the share that arrives over links.

        Damping 0.5, links followed in both directions with the weights above, `_ITERATIONS` power iterations (error < 2^-6).
        The shares sum to at most 0.5. Notes that no link reaches are omitted. `limit`: only that many, the largest.
        """
        restart = np.zeros(len(self.note_ids))
        for note_id, weight in seeds.items():
            if note_id in self._row:
                restart[self._row[note_id]] = weight
        if not self.links or restart.sum() <= 0:
            return {}
        restart /= restart.sum()
        rank, arrived = restart, restart
        for _ in range(_ITERATIONS):
            arrived = DAMPING * (self._transition @ rank)
            rank = (1 - DAMPING) * restart + arrived
        reached = np.flatnonzero(arrived > 1e-4)
        if limit is not None and len(reached) > limit:
            reached = reached[np.argpartition(arrived[reached], -limit)[-limit:]]
        return {self.note_ids[row]: share for row, share in zip(reached.tolist(), arrived[reached].tolist(), strict=True)}

    @cached_property
    def _transition(self) -> csr_array:
        """Column-stochastic over linked notes: entry (i, j) is the share that note j passes to note i. Shape (notes, notes)."""
        rows = np.array([self._row[link.source] for link in self.links])
        columns = np.array([self._row[link.target] for link in self.links])
        weights = np.array([WEIGHTS[link.type] for link in self.links])
        size = (len(self.note_ids), len(self.note_ids))
        both = (np.concatenate([weights, weights]), (np.concatenate([rows, columns]), np.concatenate([columns, rows])))
        matrix = csr_array(both, shape=size)
        totals = np.asarray(matrix.sum(axis=0)).ravel()
        matrix.data /= totals[matrix.indices]
        return matrix

    @cached_property
    def _strongest(self) -> nx.Graph[str]:
        """The undirected graph with the strongest link of each pair of notes."""
        graph: nx.Graph[str] = nx.Graph()
        graph.add_nodes_from(self.note_ids)
        for link in sorted(self.links, key=lambda link: WEIGHTS[link.type]):
            weight = WEIGHTS[link.type]
            graph.add_edge(link.source, link.target, link=link, weight=weight, cost=1.0 / weight)
        return graph


def graphml(notes: Sequence[tuple[str, str, str]], links: Iterable[Link]) -> str:
    """The graph as GraphML, for tools such as Gephi. notes: (id, title, kind)."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for note_id, title, kind in notes:
        graph.add_node(note_id, title=_xml(title), kind=kind)
    for link in links:
        graph.add_edge(link.source, link.target, type=str(link.type), why=_xml(link.why), origin=str(link.origin))
    return "\n".join(nx.generate_graphml(graph))


def _xml(text: str) -> str:
    """The text without the characters that XML 1.0 excludes."""
    return _NOT_XML.sub("", text)
