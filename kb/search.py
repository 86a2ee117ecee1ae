"""Search: fuses lexical and dense results, then widens them along typed links. Uses no language model.

Fusion averages the min-max normalized scores of both lists (on SciFact, nDCG@10 0.729 against 0.717 for reciprocal rank
fusion). Notes whose title or alias the question contains are raised. Widening then raises the notes that a personalized
PageRank from the best five reaches over typed links, and from the best two over unlinked mentions, never above those. The
weights of names and mentions were chosen on the MuSiQue questions of `bench/retrieval.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from kb.embedding import Embedder, Vectors
from kb.graph import NoteGraph
from kb.mentions import NameIndex, is_one_word
from kb.notes import Hit
from kb.store.queries import Store
from kb.vector_index import VectorIndex

CANDIDATES = 100
# Up to this many chunks, comparing all vectors is exact and faster than an HNSW query in Chroma (see `make bench`).
EXACT_LIMIT = 40_000
# The score of a note's j-th best chunk (from 0) is multiplied by 0.9^j, so that one note does not fill the list.
SAME_NOTE_DECAY = 0.9
_SEED_NOTES = 5
_WIDENED_NOTES = 8
_MAX_REACHED = 48
_LINK_WEIGHT = 0.2
_MENTION_SEEDS, _MENTION_WEIGHT = 2, 0.5
_RARE_CHUNKS, _RARE_SHARE = 3, 0.02  # a single word that identifies a note occurs in at most so many chunks
_NAME_WEIGHT = 0.4  # of a note whose title or alias the question contains; a fused score is at most 1


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a search needs of every chunk, in memory, by position. Valid for one generation of the store."""

    generation: int
    numbers: NDArray[np.int64]
    chunk_ids: Sequence[str]
    note_of: NDArray[np.int64]
    note_ids: Sequence[str]
    kinds: Sequence[str]
    row_of: Mapping[str, int]
    vectors: Vectors | None

    @classmethod
    def load(cls, store: Store, embedder: Embedder, *, exact: bool = False) -> Catalogue:
        """`exact`: loads the vectors of all chunks, whatever their number."""
        generation = store.generation
        rows = store.chunk_rows()
        kinds = {note_id: kind for _, _, note_id, kind in rows}
        row_of = {note_id: row for row, note_id in enumerate(kinds)}
        vectors = None
        if exact or len(rows) <= EXACT_LIMIT:
            numbers, stored = store.chunk_vectors(embedder.name, embedder.size)
            if len(numbers) == len(rows):
                vectors = stored
            else:
                vectors = np.zeros((len(rows), embedder.size), np.float32)
                vectors[np.searchsorted([row[0] for row in rows], numbers)] = stored
        return cls(
            generation,
            np.array([row[0] for row in rows], np.int64),
            [row[1] for row in rows],
            np.array([row_of[row[2]] for row in rows], np.int64),
            list(kinds),
            list(kinds.values()),
            row_of,
            vectors,
        )


@dataclass(frozen=True, slots=True)
class Paths:
    """What widening follows: authors' links, and notes that name each other without a link."""

    links: NoteGraph
    mentions: NoteGraph


class Retriever:
    def __init__(self, store: Store, index: VectorIndex, embedder: Embedder) -> None:
        self.store, self.index, self.embedder = store, index, embedder
        self._executor = ThreadPoolExecutor(1, "embedding")

    def close(self) -> None:
        """Ends its thread. The retriever cannot be used afterwards."""
        self._executor.shutdown(wait=False)

    def search(
        self,
        catalogue: Catalogue,
        paths: Paths | None,
        names: NameIndex,
        query: str,
        limit: int,
        exclude: Collection[str] = (),
    ) -> tuple[Vectors, list[Hit]]:
        """The question's vector and at most `limit` hits, best first. `paths` None: no widening. `names`: of all notes.
        `exclude`: kinds to omit."""
        embedded = self._executor.submit(self.embedder, [query])  # embedding and SQLite both release the interpreter lock
        lexical = self._positions(catalogue, self.store.lexical(query, CANDIDATES))
        vector = embedded.result()[0]
        dense, cosines = self._dense(catalogue, vector)
        if exclude:
            dense, lexical = _without_kinds(catalogue, dense, exclude), _without_kinds(catalogue, lexical, exclude)
        fused = _fuse(_normalize(dense), _normalize(lexical))
        scored = _apply_note_decay(catalogue, fused)
        for row in self._named_rows(catalogue, names, query):
            if catalogue.kinds[row] not in exclude:
                self._raise_named(catalogue, scored, row, vector, cosines)
        via: set[int] = set()
        if paths is not None and scored:
            for graph, seeds, weight in (
                (paths.links, _SEED_NOTES, _LINK_WEIGHT),
                (paths.mentions, _MENTION_SEEDS, _MENTION_WEIGHT),
            ):
                scored, linked = _widen(catalogue, graph, scored, seeds, weight)
                threshold = nlargest(limit, scored.values())[-1] if len(scored) >= limit else -1.0
                for row, boost in linked.items():
                    if boost > threshold:
                        position = self._best_chunk(catalogue, row, vector, cosines)
                        scored[position] = boost
                        via.add(position)
        best = sorted(scored, key=lambda position: (-scored[position], position))[:limit]
        ranked = [(position, scored[position], "links" if position in via else "text") for position in best]
        return vector, self._hits(catalogue, ranked)

    def _named_rows(self, catalogue: Catalogue, names: NameIndex, query: str) -> list[int]:
        """The notes that the question names, without single words that are frequent in the notes."""
        most = max(_RARE_CHUNKS, _RARE_SHARE * len(catalogue.numbers))
        named = {
            note_id
            for note_id, name in names.named_in(query)
            if not is_one_word(name) or self.store.document_frequency(name) <= most
        }
        return sorted(catalogue.row_of[note_id] for note_id in named if note_id in catalogue.row_of)

    def _raise_named(
        self, catalogue: Catalogue, scored: dict[int, float], row: int, vector: Vectors, cosines: Vectors | None
    ) -> None:
        """Raises the best chunk of a note that the question names."""
        own = [position for position in np.flatnonzero(catalogue.note_of == row).tolist() if position in scored]
        best = max(own, key=lambda position: scored[position]) if own else self._best_chunk(catalogue, row, vector, cosines)
        scored[best] = scored.get(best, 0.0) + _NAME_WEIGHT

    def _dense(self, catalogue: Catalogue, vector: Vectors) -> tuple[dict[int, float], Vectors | None]:
        if catalogue.vectors is None:
            positions = {chunk_id: position for position, chunk_id in enumerate(catalogue.chunk_ids)}
            near = self.index.nearest(vector, CANDIDATES)
            return {positions[key]: cosine for key, cosine in near if key in positions}, None
        # Not `@`: BLAS threads keep spinning after a product and take cores from the embedder.
        cosines: Vectors = np.einsum("ij,j->i", catalogue.vectors, vector)
        many = len(cosines) > CANDIDATES
        best = np.argpartition(cosines, -CANDIDATES)[-CANDIDATES:] if many else np.arange(len(cosines))
        return dict(zip(best.tolist(), cosines[best].tolist(), strict=True)), cosines

    def _best_chunk(self, catalogue: Catalogue, row: int, vector: Vectors, cosines: Vectors | None) -> int:
        """The position of the note's chunk that is nearest to the question. `row`: of the note."""
        positions = np.flatnonzero(catalogue.note_of == row).tolist()
        if cosines is None:
            keys = [catalogue.chunk_ids[position] for position in positions]
            stored_ids, vectors = self.store.vectors_of(self.embedder.name, self.embedder.size, keys)
            nearness = dict(zip(stored_ids, vectors @ vector, strict=True))
            return int(max(positions, key=lambda position: nearness.get(catalogue.chunk_ids[position], -1.0)))
        return int(positions[np.argmax(cosines[positions])])

    def _positions(self, catalogue: Catalogue, rows: list[tuple[int, float]]) -> dict[int, float]:
        """Chunk numbers to positions, without chunks added after the catalogue was loaded."""
        if not rows or not len(catalogue.numbers):
            return {}
        numbers = np.array([number for number, _ in rows], np.int64)
        positions = np.searchsorted(catalogue.numbers, numbers).clip(max=len(catalogue.numbers) - 1)
        known = (catalogue.numbers[positions] == numbers).tolist()
        return {position: score for position, (_, score), ok in zip(positions.tolist(), rows, known, strict=True) if ok}

    def _hits(self, catalogue: Catalogue, ranked: Sequence[tuple[int, float, str]]) -> list[Hit]:
        rows = self.store.chunks([int(catalogue.numbers[position]) for position, _, _ in ranked])
        hits = []
        for position, score, via in ranked:
            row = rows.get(int(catalogue.numbers[position]))
            if row is not None:
                chunk, title, text = row
                hits.append(Hit(chunk.note_id, title, chunk.id, chunk.start, chunk.end, text, round(score, 6), via))
        return hits


def _normalize(scores: Mapping[int, float]) -> dict[int, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    span = high - low
    return {position: (score - low) / span if span > 0 else 1.0 for position, score in scores.items()}


def _without_kinds(catalogue: Catalogue, scores: Mapping[int, float], exclude: Collection[str]) -> dict[int, float]:
    excluded = {row for row, kind in enumerate(catalogue.kinds) if kind in exclude}
    return {position: score for position, score in scores.items() if int(catalogue.note_of[position]) not in excluded}


def _fuse(dense: Mapping[int, float], lexical: Mapping[int, float]) -> dict[int, float]:
    fused = {position: score / 2 for position, score in dense.items()}
    for position, score in lexical.items():
        fused[position] = fused.get(position, 0.0) + score / 2
    return fused


def _apply_note_decay(catalogue: Catalogue, fused: Mapping[int, float]) -> dict[int, float]:
    rank_in_note: defaultdict[int, int] = defaultdict(int)
    out = {}
    order = sorted(fused, key=lambda position: (-fused[position], position))
    for position, note in zip(order, catalogue.note_of[order].tolist(), strict=True):
        out[position] = fused[position] * SAME_NOTE_DECAY ** rank_in_note[note]
        rank_in_note[note] += 1
    return out


def _widen(
    catalogue: Catalogue, graph: NoteGraph, scored: dict[int, float], seed_notes: int, weight: float
) -> tuple[dict[int, float], dict[int, float]]:
    """The scores with link shares added to each note's best chunk, and (row, score) of notes that only links reach.

    PageRank starts from the best notes, weighted by the square of their scores. These keep their scores, and no other note
    rises above them.
    """
    best_of: dict[int, int] = {}
    order = sorted(scored, key=lambda position: -scored[position])
    for position, note in zip(order, catalogue.note_of[order].tolist(), strict=True):
        best_of.setdefault(note, position)
    best = list(best_of.items())[:seed_notes]
    seeds = {catalogue.note_ids[row]: scored[position] ** 2 for row, position in best}
    ceiling = scored[best[-1][1]]
    shares = {
        note_id: share for note_id, share in graph.personalized_pagerank(seeds, _MAX_REACHED).items() if note_id not in seeds
    }
    largest = max(shares.values(), default=0.0)
    boosts = {catalogue.row_of[n]: weight * share / largest for n, share in shares.items() if n in catalogue.row_of}
    linked: dict[int, float] = {}
    for row, boost in sorted(boosts.items(), key=lambda entry: -entry[1]):
        if row in best_of:
            position = best_of[row]
            below = ceiling - 1e-6 * (1 - scored[position])  # among notes that reach the ceiling, the better match first
            scored[position] = max(scored[position], min(scored[position] + boost, below))
        elif len(linked) < _WIDENED_NOTES:
            linked[row] = min(boost, ceiling - 1e-6)
    return scored, linked
