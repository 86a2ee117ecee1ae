"""A warm search against the bare cost of embedding its question, at two sizes of vault; exact scan against Chroma."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.data import grow, notes, questions, vault
from bench.figures import Figure, median
from ingest.pipeline import ingest
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from kb.search import CANDIDATES

TIMES = 10
_QUESTIONS = 200
_ROUNDS = 3
_EMBED, _SMALL, _LARGE = "embed", "small", "large"


def measure(scratch: Path) -> list[Figure]:
    """Both vaults share a process and the embedder; for each question, the two things compared come in random order."""
    source = vault()
    grown = scratch / "grown"
    grow(source, grown, TIMES)
    embedder = MiniLM()
    with KnowledgeBase(scratch / "small", embedder) as small, KnowledgeBase(scratch / "large", embedder) as large:
        ingest(small, [source])
        ingest(large, [grown])
        asked = questions(source, _QUESTIONS)
        alone = _interleaved({_EMBED: lambda question: embedder([question]), _SMALL: small.search}, asked)
        took = _interleaved({_SMALL: small.search, _LARGE: large.search}, asked)
        few, many = (
            f"{len(notes(f)):,} notes, {len(kb.catalogue.numbers):,} chunks" for f, kb in ((source, small), (grown, large))
        )
        return [*_figures(alone, took, few, many), *_scans(small, large, few, many, asked)]


def _interleaved(what: dict[str, Callable[[str], object]], asked: list[str]) -> dict[str, list[float]]:
    """Milliseconds, `_ROUNDS` for each question after a round to warm up."""
    draw = random.Random(3)
    took: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(_ROUNDS + 1):
        for question in draw.sample(asked, len(asked)):
            for name in draw.sample(list(what), len(what)):
                began = time.perf_counter()
                what[name](question)
                if turn:
                    took[name].append(1000 * (time.perf_counter() - began))
    return took


def _figures(alone: dict[str, list[float]], took: dict[str, list[float]], few: str, many: str) -> list[Figure]:
    bare, beside = median(alone[_EMBED]), median(alone[_SMALL])
    small, large = median(took[_SMALL]), median(took[_LARGE])
    return [
        Figure("embedding a question and nothing else, ms", _quartiles(alone[_EMBED])),
        Figure(f"search, top 10, ms ({few})", _quartiles(alone[_SMALL])),
        Figure("**search, relative to embedding its question**", f"{beside / bare:.2f}", "at most 1.5", beside <= 1.5 * bare),
        Figure("search of the same vault, by turns with the larger, ms", _quartiles(took[_SMALL])),
        Figure(f"search, top 10, ms ({many})", _quartiles(took[_LARGE])),
        Figure(
            f"**search at {TIMES} times the notes, relative to before**", f"{large / small:.2f}", "under 2", large < 2 * small
        ),
    ]


def _scans(small: KnowledgeBase, large: KnowledgeBase, few: str, many: str, asked: list[str]) -> list[Figure]:
    """The dense list alone: one exact pass over all vectors, and Chroma's approximate query; how alike their lists are."""
    figures = []
    for kb, size in ((small, few), (large, many)):
        vectors = kb.catalogue.vectors
        if vectors is None:
            figures.append(Figure(f"exact scan ({size})", "not kept in memory at this size"))
            continue
        exact, chroma, shared = [], [], []
        for question in asked:
            vector = kb.embedder([question])[0]
            began = time.perf_counter()
            cosines = np.einsum("ij,j->i", vectors, vector)
            best = np.argpartition(cosines, -CANDIDATES)[-CANDIDATES:]
            between = time.perf_counter()
            near = kb.index.nearest(vector, CANDIDATES)
            ended = time.perf_counter()
            exact.append(1000 * (between - began))
            chroma.append(1000 * (ended - between))
            shared.append(len({kb.catalogue.chunk_ids[at] for at in best} & {key for key, _ in near}) / CANDIDATES)
        figures += [
            Figure(f"the {CANDIDATES} nearest chunks by exact scan, ms ({size})", _quartiles(exact)),
            Figure(
                "the same from Chroma, ms; share of the exact list", f"{_quartiles(chroma)}; {sum(shared) / len(shared):.3f}"
            ),
        ]
    return figures


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.2f} (quartiles {low:.2f}, {high:.2f})"
