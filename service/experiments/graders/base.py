"""What a grader is: problems and completions in, judgements out. One for each kind of problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from service.experiments.types import Completion, Judgement, Problem


class Grader(Protocol):
    """Judges in the order given, one judgement an item, and never raises for what a model wrote.

    `close` ends its processes; a closed grader is not used again."""

    def grade(self, items: Sequence[tuple[Problem, Completion]]) -> list[Judgement]: ...

    def close(self) -> None: ...
