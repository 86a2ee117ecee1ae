"""Rows of results that other programs wrote: counts a problem, or attempts with verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.experiments.types import Verdict


@dataclass(frozen=True, slots=True)
class Counted:
    """`c` of `n` attempts at a problem passed; `model` "" where the file does not say."""

    model: str
    problem: str
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt with its verdict; what a layout has no field for is at its default."""

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
class Read:
    """A file's rows. `recorded`: which of verdicts (time-outs and errors apart from failures), truncation, format and tokens
    the layout tells. `warnings`: what was chosen for the reader, in sentences."""

    layout: str
    rows: list[Counted | Attempt]
    recorded: frozenset[str] = frozenset()
    warnings: list[str] = field(default_factory=list)
