"""Rows of imported results: counts per problem, or graded attempts."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.experiments.types import Verdict


@dataclass(frozen=True, slots=True)
class ProblemCounts:
    """`c` of `n` attempts at a problem passed; `model` is empty when the file has none."""

    model: str
    problem: str
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt with its verdict; missing fields have their defaults."""

    model: str
    problem: str
    verdict: Verdict
    text: str = ""
    answer: str = ""
    tokens: int = 0
    finish: str = "stop"
    formatted: bool = True
    reason: str = ""
    logprob: float | None = None


@dataclass(slots=True)
class ImportedFile:
    """The rows of a file. `recorded`: which of `verdicts` (timeouts and errors distinct from failures), `truncation`, `format`
    and `tokens` the layout has. `warnings`: sentences about how the file was interpreted."""

    layout: str
    rows: list[ProblemCounts | Attempt]
    recorded: frozenset[str] = frozenset()
    warnings: list[str] = field(default_factory=list)
