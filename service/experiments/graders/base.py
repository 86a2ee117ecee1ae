"""The grader interface: problems and completions in, judgements out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from service.experiments.types import Completion, Judgement, Problem


class Grader(Protocol):
    """Returns one judgement per item, in order, and never raises for the content of a completion.

    `close` ends its processes; a closed grader cannot be used again."""

    def grade(self, items: Sequence[tuple[Problem, Completion]]) -> list[Judgement]: ...

    def close(self) -> None: ...
