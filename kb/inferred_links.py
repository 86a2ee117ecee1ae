"""Links nobody wrote: one from each island of notes to the note outside it that is most alike.

They are derived on reading and kept nowhere, so they can't go stale; searches and answers don't follow them. Knows nothing
about where vectors and links come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kb.embedding import Vectors
from kb.graph import NoteGraph
from kb.notes import Link, LinkType, Origin

MIN_COSINE = 0.5  # cosine of mean chunk vectors; below it, two notes on one desk are no nearer than any other two
_AT_ONCE = 512


def infer_links(graph: NoteGraph, row_of: Mapping[str, int], note_ids: Sequence[str], means: Vectors) -> list[Link]:
    """One `related` link a component of `graph` but the largest, in the order of the components.

    means: shape (notes, size), unit vectors; `row_of` gives a note's row there and `note_ids` the row's note. Components
    whose notes have no text, or nothing alike outside, get none.
    """
    components = graph.components()
    found: dict[int, tuple[float, str, str]] = {}
    island_of = {note_id: number for number, members in enumerate(components[1:], 1) for note_id in members}
    islands = np.array([island_of.get(note_id, 0) for note_id in note_ids])
    rows = np.array([row_of[n] for number in range(1, len(components)) for n in sorted(components[number]) if n in row_of], int)
    for start in range(0, len(rows), _AT_ONCE):
        block = rows[start : start + _AT_ONCE]
        nearness = means[block] @ means.T
        nearness[islands[block][:, None] == islands[None, :]] = -1.0
        best = nearness.argmax(axis=1)
        for row, other, cosine in zip(block.tolist(), best.tolist(), nearness.max(axis=1).tolist(), strict=True):
            island = int(islands[row])
            if cosine >= MIN_COSINE and cosine > found.get(island, (0.0,))[0]:
                found[island] = (cosine, note_ids[row], note_ids[other])
    return [
        Link(source, target, LinkType.RELATED, f"inferred: the most alike of those no link joins it to (cosine {cosine:.2f})",
             Origin.INFERRED)
        for _, (cosine, source, target) in sorted(found.items())
    ]  # fmt: skip
