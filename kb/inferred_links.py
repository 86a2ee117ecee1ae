"""Inferred links: one from each disconnected group of notes to the most similar note outside it.

They are computed on reading and never stored. Searches and answers do not follow them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kb.embedding import Vectors
from kb.graph import NoteGraph
from kb.notes import Link, LinkType, Origin

MIN_COSINE = 0.5  # of mean chunk vectors; two notes of one collection reach lower values by chance
_BATCH = 512


def infer_links(graph: NoteGraph, row_of: Mapping[str, int], note_ids: Sequence[str], means: Vectors) -> list[Link]:
    """One `related` link for each component of `graph` but the largest, in the order of the components.

    means: unit vectors, shape (notes, size); `row_of` maps a note to its row and `note_ids` a row to its note. A component gets
    no link when its notes have no text or no similar note lies outside it.
    """
    components = graph.components()
    best_links: dict[int, tuple[float, str, str]] = {}
    island_of = {note_id: number for number, members in enumerate(components[1:], 1) for note_id in members}
    islands = np.array([island_of.get(note_id, 0) for note_id in note_ids])
    rows = np.array([row_of[n] for number in range(1, len(components)) for n in sorted(components[number]) if n in row_of], int)
    for start in range(0, len(rows), _BATCH):
        block = rows[start : start + _BATCH]
        nearness = means[block] @ means.T
        nearness[islands[block][:, None] == islands[None, :]] = -1.0
        nearest = nearness.argmax(axis=1)
        for row, other, cosine in zip(block.tolist(), nearest.tolist(), nearness.max(axis=1).tolist(), strict=True):
            island = int(islands[row])
            if cosine >= MIN_COSINE and cosine > best_links.get(island, (0.0,))[0]:
                best_links[island] = (cosine, note_ids[row], note_ids[other])
    return [
        Link(
            source, target, LinkType.RELATED, f"inferred: most similar unconnected note (cosine {cosine:.2f})", Origin.INFERRED
        )
        for _, (cosine, source, target) in sorted(best_links.items())
    ]
