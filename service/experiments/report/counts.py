"""Converts a run's tallies to the counts for statistics. A problem counts once it has the attempts that every problem gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.experiments.execution.run_store import Tally
from service.experiments.statistics.estimators import Counts


@dataclass(frozen=True, slots=True)
class Totals:
    """One problem's attempts and passes `n` and `c`, and `first`, the passes among the first `screen` attempts.

    `even`: tallies of the attempts that every problem gets; all of them without screening."""

    problem: str
    n: int
    c: int
    first: int
    even: tuple[Tally, ...]


def totals(tallies: Iterable[Tally], screen: int) -> list[Totals]:
    """Totals by problem, sorted by id; with screening only problems that have `screen` attempts."""
    by_problem: dict[str, list[Tally]] = {}
    for entry in tallies:
        by_problem.setdefault(entry.problem, []).append(entry)
    out = []
    for problem, entries in sorted(by_problem.items()):
        even = tuple(entry for entry in entries if not screen or entry.first < screen)
        if sum(entry.n for entry in even) >= max(1, screen):
            n, c = sum(entry.n for entry in entries), sum(entry.c for entry in entries)
            out.append(Totals(problem, n, c, sum(entry.c for entry in even), even))
    return out


def counts(of: Sequence[Totals], planned: int, screen: int) -> Counts:
    """Shape (problems,), in the order given."""
    n, c, first = (np.array([getattr(entry, name) for entry in of], np.int64) for name in ("n", "c", "first"))
    return Counts(n, c, planned, screen, first if screen else None)


def reached(of: Sequence[Totals], planned: int, screen: int) -> int:
    """The number of attempts that all problems have; a problem that passed screening counts as complete."""
    return min((entry.n for entry in of if not (screen and entry.first)), default=planned)


def only(of: Sequence[Totals], problems: Collection[str]) -> list[Totals]:
    return [entry for entry in of if entry.problem in problems]


def even_counts(of: Sequence[Totals]) -> Counts:
    """Counts of the attempts that every problem gets, for estimators that need a fixed number of attempts."""
    n, c = (np.array([sum(getattr(t, name) for t in entry.even) for entry in of], np.int64) for name in ("n", "c"))
    return Counts(n, c, int(n.min(initial=0)))
