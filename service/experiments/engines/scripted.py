"""The scripted engine: no model at all, but completions with known pass rates, for dry runs and tests.

`ModelSpec.model` is a rule, then options after semicolons:

    rate:0.4            every problem's attempts are right with probability 0.4
    beta:0.3,1          each problem has a rate of its own, drawn from Beta(0.3, 1) by its id
    rates.json, .csv    problem id -> rate; a CSV has the columns problem_id,rate
    ;delay=0.01         seconds that an attempt takes
    ;truncate=0.1       that share of attempts is cut off at max_tokens before any answer, right ones among them
    ;die_after=100      the engine dies once it made so many attempts since it was opened

The seed, the rule, the problem's id and the attempt's number decide an attempt, and nothing else: not the requests it came in,
nor the options delay and die_after. Temperature and top-p change nothing. A right completion is one that the problem's grader
judges right; where its gold doesn't let one be written, every attempt is wrong. Log-probabilities are made up, and always the
same. Whatever shows an engine's name says `scripted`.
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

_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Script:
    """A model string, read. `rates` is empty unless the rule is a file."""

    rule: str
    kind: str
    numbers: tuple[float, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    delay: float = 0.0
    truncate: float = 0.0
    die_after: int = 0

    def rate(self, problem: str) -> float:
        """The probability that an attempt is right, before truncation. Raises EngineError for a problem without one."""
        if self.kind == "rate":
            return self.numbers[0]
        if self.kind == "beta":
            return float(betaincinv(self.numbers[0], self.numbers[1], _uniform("rate", self.rule, problem)))
        if problem not in self.rates:
            raise EngineError(f"{self.rule} has no rate for problem {problem!r}: add a line for it")
        return self.rates[problem]


def read_script(model: str) -> Script:
    """Raises EngineError that says what is wrong with the model string, or with the file it names."""
    rule, *options = (part.strip() for part in model.split(";"))
    given = dict(option.partition("=")[::2] for option in options if option)
    if unknown := set(given) - {"delay", "truncate", "die_after"}:
        raise EngineError(f"{model!r}: there is no option {min(unknown)!r}; known are delay, truncate and die_after")
    numbers = {name: _number(value, f"{model!r}, {name}") for name, value in given.items()}
    truncate = numbers.get("truncate", 0.0)
    if truncate > 1:
        raise EngineError(f"{model!r}: truncate is a share from 0 to 1")
    delay, die_after = numbers.get("delay", 0.0), int(numbers.get("die_after", 0))
    kind, colon, rest = rule.partition(":")
    if colon and kind in ("rate", "beta"):
        values = tuple(_number(value, repr(model)) for value in rest.split(","))
        right = len(values) == 1 and values[0] <= 1 if kind == "rate" else len(values) == 2 and min(values) > 0
        if not right:
            raise EngineError(f"{model!r}: write rate:P with P from 0 to 1, or beta:A,B with both above 0")
        return Script(rule, kind, values, {}, delay, truncate, die_after)
    return Script(rule, "file", (), _read_rates(rule), delay, truncate, die_after)


class ScriptedEngine:
    """Raises EngineError for a model string that can't be read, or a problem that its file has no rate for."""

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
        """Each request is made when it is asked for."""

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
            return channel.fail(EngineError(f"the scripted engine died after {self._made} attempts, as told: resume the run"))
        ends = time.monotonic() + script.delay * request.n
        while (left := ends - time.monotonic()) > 0 and not channel.stopped.is_set() and not self._closed.is_set():
            self._closed.wait(min(left, _LOOK))
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
    """A completion that the problem's grader passes, "" where none is known."""
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
    """A completion in the right form that no grader passes; a few different ones."""
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
    """From 0 to 1, both excluded."""
    return (seed_of(*parts) + 0.5) / 2**31


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise EngineError(f"{where}: {text!r} is no number from 0 up")
    return value


def _read_rates(name: str) -> dict[str, float]:
    path = Path(name).expanduser()
    known = "a scripted model is rate:P, beta:A,B, or a .json or .csv file of problem ids and rates"
    if path.suffix not in (".json", ".csv"):
        raise EngineError(f"{name!r} is no script: {known}")
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text) if path.suffix == ".json" else _csv(text)
        rates = {str(key): float(value) for key, value in dict(entries).items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineError(f"{path} can't be read as rates ({type(error).__name__}: {error}): {known}") from error
    if bad := [key for key, rate in rates.items() if not 0 <= rate <= 1]:
        raise EngineError(f"{path}: the rate of {bad[0]!r} is not from 0 to 1")
    return rates


def _csv(text: str) -> list[tuple[str, str]]:
    return [(row["problem_id"], row["rate"]) for row in csv.DictReader(text.splitlines())]
