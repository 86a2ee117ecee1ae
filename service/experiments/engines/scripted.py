"""The scripted engine: completions with preset pass rates and no model, for dry runs and tests.

`ModelSpec.model` is a rule, then options after semicolons:

    rate:0.4            every attempt passes with probability 0.4
    beta:0.3,1          each problem has its own rate, sampled from Beta(0.3, 1) by its id
    rates.json, .csv    problem id -> rate; a CSV has the columns problem_id,rate
    ;delay=0.01         seconds per attempt
    ;truncate=0.1       this share of attempts is truncated at max_tokens before the answer
    ;die_after=100      the engine fails after this many attempts

An attempt depends only on the seed, the rule, the problem's id and the attempt's number. Temperature and top-p have no
effect. A passing completion satisfies the problem's grader; if none can be generated, every attempt fails. Log-probabilities
are deterministic and arbitrary.
"""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from scipy.special import betaincinv

from kb.notes import PasskbError
from service.experiments.engines.base import CLOSED, EngineError, Request, Settings
from service.experiments.engines.stream import Channel, Stream
from service.experiments.types import Completion, Problem, seed_of

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Script:
    """A parsed model string. `rates` is empty unless the rule is a file."""

    rule: str
    kind: str
    numbers: tuple[float, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    delay: float = 0.0
    truncate: float = 0.0
    die_after: int = 0

    def rate(self, problem: str) -> float:
        """The pass rate before truncation. Raises EngineError for a problem without a rate."""
        if self.kind == "rate":
            return self.numbers[0]
        if self.kind == "beta":
            return float(betaincinv(self.numbers[0], self.numbers[1], _uniform("rate", self.rule, problem)))
        if problem not in self.rates:
            raise EngineError(f"{self.rule} has no rate for problem {problem!r}: add a line for it")
        return self.rates[problem]


def read_script(model: str) -> Script:
    """Parses a model string. Raises EngineError for an invalid string or file."""
    rule, *options = (part.strip() for part in model.split(";"))
    values_by_option = dict(option.partition("=")[::2] for option in options if option)
    if unknown := set(values_by_option) - {"delay", "truncate", "die_after"}:
        raise EngineError(f"{model!r}: unknown option {min(unknown)!r}: use delay, truncate or die_after")
    numbers = {name: _number(value, f"{model!r}, {name}") for name, value in values_by_option.items()}
    truncate = numbers.get("truncate", 0.0)
    if truncate > 1:
        raise EngineError(f"{model!r}: truncate must be from 0 to 1")
    delay, die_after = numbers.get("delay", 0.0), int(numbers.get("die_after", 0))
    kind, colon, rest = rule.partition(":")
    if colon and kind in ("rate", "beta"):
        values = tuple(_number(value, repr(model)) for value in rest.split(","))
        valid = len(values) == 1 and values[0] <= 1 if kind == "rate" else len(values) == 2 and min(values) > 0
        if not valid:
            raise EngineError(f"{model!r}: write rate:P with P from 0 to 1, or beta:A,B with both greater than 0")
        return Script(rule, kind, values, {}, delay, truncate, die_after)
    return Script(rule, "file", (), _read_rates(rule), delay, truncate, die_after)


class ScriptedEngine:
    """Raises EngineError for an invalid model string, or a problem without a rate in its file."""

    name = "scripted"
    version = "scripted"
    device = "none: nothing is sampled"
    most_per_request = 256
    rows = 1024

    def __init__(self, model: str, seed: int, problems: Sequence[Problem] = ()) -> None:
        self._script, self._seed = read_script(model), seed
        for problem in problems:
            self._script.rate(problem.id)
        self._made, self._closed = 0, Event()
        self.effective: Mapping[str, Any] = {"model": model, "scripted": "pass rates by rule, no model", "tokens": "made up"}

    def sample(self, requests: Iterable[Request], settings: Settings) -> Stream:
        """Generates each request on demand."""

        def submit(more: Sequence[Request], channel: Channel) -> None:
            for request in more:
                self._make(request, settings, channel)

        return Stream(requests, 1, submit)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        rule = self._script.rule
        return [
            (-tokens * (0.1 + _uniform("score", rule, prompt, text)), tokens)
            for prompt, text in pairs
            for tokens in [len(text.split())]
        ]

    def close(self) -> None:
        self._closed.set()

    def _make(self, request: Request, settings: Settings, channel: Channel) -> None:
        script = self._script
        if script.die_after and self._made + request.n > script.die_after:
            return channel.fail(
                EngineError(f"the scripted engine stopped after {self._made} attempts (die_after): resume the run")
            )
        ends = time.monotonic() + script.delay * request.n
        while (left := ends - time.monotonic()) > 0 and not channel.stopped.is_set() and not self._closed.is_set():
            self._closed.wait(min(left, _POLL))
        if self._closed.is_set():
            return channel.fail(EngineError(CLOSED))
        self._made += request.n
        rate = script.rate(request.problem.id)
        channel.give([self._attempt(request.problem, request.first + i, rate, settings) for i in range(request.n)])

    def _attempt(self, problem: Problem, attempt: int, rate: float, settings: Settings) -> Completion:
        parts = (self._seed, self._script.rule, problem.id, attempt)
        right = seed_of(*parts) / 2**31 < rate
        choice = random.Random(seed_of("text", *parts))
        if _uniform("truncate", *parts) < self._script.truncate:
            text, tokens, finish = "Let us see what can be made of this, step by step, and", settings.max_tokens, "length"
        else:
            text = (_right(problem, choice) if right else "") or _wrong(problem, choice)
            tokens, finish = max(1, min(len(text.split()) + 1, settings.max_tokens)), "stop"
        logprob = -tokens * (0.1 + _uniform("logprob", *parts)) if settings.logprobs else None
        return Completion(problem.id, attempt, text, tokens, finish, logprob)


def _right(problem: Problem, choice: random.Random) -> str:
    """A passing completion, or ""."""
    gold = problem.gold
    if problem.kind == "countdown":
        from service.experiments.datasets.countdown import solve_at_random, write_derivation

        try:
            return " " + write_derivation(solve_at_random(gold["numbers"], gold["target"], choice))
        except PasskbError:
            return ""
    if problem.kind == "maths" and gold.get("answer"):
        return f" The answer is \\boxed{{{gold['answer']}}}."
    return str(gold.get("solution") or "")


def _wrong(problem: Problem, choice: random.Random) -> str:
    """One of a few well-formed failing completions."""
    slip = choice.randint(1, 9)
    if problem.kind == "countdown":
        first, second = [*problem.gold["numbers"], 0][:2]
        return f" {first} + {second} = {first + second + slip}"
    if problem.kind == "maths":
        return f" The answer is \\boxed{{{_another(str(problem.gold.get('answer', '')), slip)}}}."
    return f"    raise NotImplementedError({slip})\n"


def _another(gold: str, slip: int) -> str:
    try:
        return str(int(gold.replace(",", "")) + slip)
    except ValueError:
        return f"-1000{slip}.5"


def _uniform(*parts: object) -> float:
    """A number between 0 and 1, both excluded."""
    return (seed_of(*parts) + 0.5) / 2**31


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise EngineError(f"{where}: {text!r} is not a number from 0 up")
    return value


def _read_rates(name: str) -> dict[str, float]:
    path = Path(name).expanduser()
    usage = "a scripted model is rate:P, beta:A,B, or a .json or .csv file of problem ids and rates"
    if path.suffix not in (".json", ".csv"):
        raise EngineError(f"{name!r} is not a script: {usage}")
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text) if path.suffix == ".json" else _csv(text)
        rates = {str(key): float(value) for key, value in dict(entries).items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineError(f"{path} can't be read as rates ({type(error).__name__}: {error}): {usage}") from error
    if bad := [key for key, rate in rates.items() if not 0 <= rate <= 1]:
        raise EngineError(f"{path}: the rate of {bad[0]!r} must be from 0 to 1")
    return rates


def _csv(text: str) -> list[tuple[str, str]]:
    return [(row["problem_id"], row["rate"]) for row in csv.DictReader(text.splitlines())]
