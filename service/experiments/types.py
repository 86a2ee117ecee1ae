"""The words of an experiment as data: problems, attempts, verdicts. Standard library only.

Knows nothing about engines, graders, files or statistics; each of those speaks in these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a grader made of a completion. Only `pass` counts as passed; `timeout` and `error` are unknowns, not failures.

    `truncated`: cut off at max_tokens, and not right as it stands."""

    PASS = "pass"
    FAIL = "fail"
    TIMEOUT = "timeout"
    ERROR = "error"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Problem:
    """One task. `kind` (maths, code, countdown) chooses its grader; `gold` is what that grader needs, JSON values only.

    `prompt` is what a model continues, before any template. `stop` ends a completion.
    """

    id: str
    kind: str
    prompt: str
    gold: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Problems in a fixed order. `sha256` is over their ids, prompts and golds; `name` is for people."""

    name: str
    problems: tuple[Problem, ...]
    sha256: str


def problem_set(name: str, problems: Iterable[Problem]) -> ProblemSet:
    """`sha256` is over canonical JSON of `[id, prompt, gold]` for each, in their order."""
    kept = tuple(problems)
    body = json.dumps([[problem.id, problem.prompt, dict(problem.gold)] for problem in kept], sort_keys=True)
    return ProblemSet(name, kept, hashlib.sha256(body.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Completion:
    """One attempt at a problem. `attempt` counts from 0. `finish`: stop or length. `tokens`: generated ones.

    `logprob`: sum of the log-probabilities (natural log) of its tokens under the distribution that was sampled; None when the
    engine does not say."""

    problem_id: str
    attempt: int
    text: str
    tokens: int
    finish: str = "stop"
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """`answer` names the completion's answer up to equivalence, "" when it has none: equal answers, equal strings.

    `formatted`: an answer was found where one belongs. `reason`: for people, why it is not a pass.
    """

    verdict: Verdict
    answer: str = ""
    formatted: bool = True
    reason: str = ""


def seed_of(*parts: object) -> int:
    """A seed in 0..2^31-1 that these parts alone decide, the same on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
