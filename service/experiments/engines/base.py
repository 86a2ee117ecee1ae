"""What an engine is: prompts and settings in, completions out, streamed as they finish.

An engine knows nothing about graders, runs or statistics. Each is a file of its own beside this one, imported when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kb.notes import PasskbError
from service.experiments.types import Completion, Problem


class EngineError(PasskbError):
    """The engine can't start or go on; the message says whose move it is. The run stays resumable."""


CLOSED = "the engine is closed: open it again and resume the run"


@dataclass(frozen=True, slots=True)
class Settings:
    """How attempts are drawn. `logprobs`: completions carry theirs."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """`n` attempts at one problem, numbered from `first`. `prompt` is final: any template was applied by the engine's caller,
    except a chat template, which the engine applies when it was opened to (`chat`)."""

    problem: Problem
    prompt: str
    first: int
    n: int
    seed: int


class Engine(Protocol):
    """One model, ready to sample. `effective` holds what is really in force (dtype, context length, cap on n, ...).

    `version` names the library and its version, `device` the hardware, for the record. `most_per_request` is the largest `n`
    that one Request may have. `rows` is how many attempts it likes to have in flight.

    `sample` yields one request's completions at a time, in any order; what is not consumed need not be made. Raises
    EngineError when the engine can not go on; what was yielded stands. Closing the iterator abandons what is in flight,
    within two seconds.

    `score` gives for each (prompt, completion text) the sum of log-probabilities (natural log, at temperature 1) of the
    completion's tokens, and how many those are.
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
