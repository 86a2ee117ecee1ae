"""The data types of experiments: problems, completions, judgements. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """A grader's verdict. Only `pass` counts as passed; `timeout` and `error` are unknowns, not failures.

    `truncated`: ended at max_tokens without passing."""

    PASS = "pass"
    FAIL = "fail"
    TIMEOUT = "timeout"
    ERROR = "error"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Problem:
    """One task. `kind` (maths, code, countdown) selects the grader; `gold` has the JSON values that the grader needs.

    A model continues `prompt`, before any template. `stop` strings end a completion.
    """

    id: str
    kind: str
    prompt: str
    gold: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Problems in a fixed order. `sha256` is over their ids, prompts and golds."""

    name: str
    problems: tuple[Problem, ...]
    sha256: str


def problem_set(name: str, problems: Iterable[Problem]) -> ProblemSet:
    """`sha256` is over canonical JSON of `[id, prompt, gold]` for each, in their order."""
    ordered = tuple(problems)
    body = json.dumps([[problem.id, problem.prompt, dict(problem.gold)] for problem in ordered], sort_keys=True)
    return ProblemSet(name, ordered, hashlib.sha256(body.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Completion:
    """One attempt at a problem. `attempt` counts from 0. `finish`: stop or length. `tokens`: generated tokens.

    `logprob`: sum of the log-probabilities (natural log) of its tokens under the sampling distribution, or None."""

    problem_id: str
    attempt: int
    text: str
    tokens: int
    finish: str = "stop"
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A grader's result. `answer` is the canonical name of the answer, "" without one: equal answers have equal names.

    `formatted`: the answer is in the expected place. `reason`: why it does not pass.
    """

    verdict: Verdict
    answer: str = ""
    formatted: bool = True
    reason: str = ""


def seed_of(*parts: object) -> int:
    """A seed in 0..2^31-1 that depends only on these parts."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
