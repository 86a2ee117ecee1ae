"""The engine interface: prompts and settings in, a stream of completions out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kb.notes import PasskbError
from service.experiments.types import Completion, Problem


class EngineError(PasskbError):
    """The engine can't start or continue; the message says what to do. The run can be resumed."""


CLOSED = "the engine is closed: open it again and resume the run"


@dataclass(frozen=True, slots=True)
class Settings:
    """Sampling settings. `logprobs`: completions have their log-probabilities."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """`n` attempts at one problem, numbered from `first`. The caller has applied the template to `prompt`; the engine applies
    only the chat template, if its model spec has `chat`."""

    problem: Problem
    prompt: str
    first: int
    n: int
    seed: int


class Engine(Protocol):
    """One model, ready to sample.

    `effective` has the settings in effect (dtype, context length, cap on n, ...), `version` the library and its version, and
    `device` the hardware. `most_per_request` is the largest `n` of a Request, `rows` the preferred attempts in flight.

    `sample` yields the completions of one request at a time, in any order. Raises EngineError when the engine can't continue;
    earlier completions remain valid. Closing the iterator aborts requests in flight within two seconds.

    `score` returns for each (prompt, completion text) the sum of the log-probabilities (natural log, at temperature 1) of the
    completion's tokens, and their number.
    """

    name: str
    version: str
    device: str
    most_per_request: int
    rows: int
    effective: Mapping[str, Any]

    def sample(self, requests: Iterable[Request], settings: Settings) -> Iterator[list[Completion]]: ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]: ...

    def close(self) -> None: ...
