"""What a measurement gives: named figures, some with a budget. Knows nothing about how they were measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of a table. `holds` says whether the budget was met; None where there is no budget."""

    what: str
    measured: str
    budget: str = ""
    holds: bool | None = None


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, with the least and the greatest value."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table."""
    rows = ["| what | measured | budget | holds |", "|---|---|---|---|"]
    words = {True: "yes", False: "**no**", None: ""}
    return "\n".join([*rows, *(f"| {f.what} | {f.measured} | {f.budget} | {words[f.holds]} |" for f in figures)])
