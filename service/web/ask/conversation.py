"""What one open page has asked: its exchanges, the runs it watches, and whose turn it is to answer.

Nothing of it is kept by the server once the page is closed; the browser keeps its own record (`records.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.answering.answer import Answer
from service.answering.retrieve.question_rewrite import Turn
from service.web.ask.run_offers import Watched

KEPT = 20  # exchanges on one page
_PATIENCE = 15.0  # seconds that a question waits for the one before it to end


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question that was answered on this page, as it is shown. `at` (ISO) names its record in the browser."""

    key: str
    answer: Answer
    html: str
    opened: str
    at: str
    told: str = ""  # what came of a click on Keep

    @property
    def question(self) -> str:
        return self.answer.question

    @property
    def shown(self) -> str:
        return f"{self.html}{self.told}"


class Conversation:
    """One page's exchanges, oldest first; one of them may be the answer on `top`. Safe to use from several threads."""

    def __init__(self) -> None:
        self.exchanges: tuple[Exchange, ...] = ()
        self.watched = Watched()
        self._last = 0  # the newest turn
        self._ended = 0  # the newest turn that was told to end
        self._keys = 0
        self._top = ""  # the question of the answer on top
        self._guard, self._floor = threading.Lock(), threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[Callable[[], bool]]:
        """The turn of a new question: the one before it is told to end, and waited for. Gives what says whether to end."""
        with self._guard:
            self._last += 1
            mine = self._last
        held = self._floor.acquire(timeout=_PATIENCE)
        try:
            yield lambda: mine <= self._ended or mine != self._last
        finally:
            if held:
                self._floor.release()

    def end(self) -> None:
        """Tells whatever is being written to come to its end."""
        self._ended = self._last

    def new_key(self) -> str:
        """A name for an exchange that no other on this page has."""
        with self._guard:
            self._keys += 1
            return f"a{self._keys}"

    @property
    def top(self) -> Exchange | None:
        return next((entry for entry in self.exchanges if entry.question == self._top), None)

    @property
    def earlier(self) -> tuple[Exchange, ...]:
        """What stands below: all but the answer on top, or but what is being asked."""
        return self.before(self._top)

    def ask(self, question: str) -> None:
        """Nothing is on top until it is answered."""
        self._top, self.watched = question, Watched(question)

    def add(self, exchange: Exchange) -> None:
        """As the newest and on top; it takes the place of one that asked the same."""
        self._top = exchange.question
        others = [entry for entry in self.exchanges if entry.question != exchange.question]
        self.exchanges = (*others, exchange)[-KEPT:]

    def amend(self, exchange: Exchange, told: str) -> None:
        """Something to be told below an exchange."""
        self.exchanges = tuple(
            replace(entry, told=told) if entry.key == exchange.key else entry for entry in self.exchanges
        )  # fmt: skip

    def restore(self, older: Sequence[Exchange]) -> None:
        """Exchanges that the browser remembers, before those that were made since."""
        known = {entry.question for entry in self.exchanges} | {self._top}
        self.exchanges = (*(entry for entry in older if entry.question not in known), *self.exchanges)[-KEPT:]

    def forget(self) -> None:
        """All but the answer on top."""
        self.exchanges = (self.top,) if self.top else ()

    def before(self, question: str) -> tuple[Exchange, ...]:
        return tuple(entry for entry in self.exchanges if entry.question != question)

    def found(self, key: str) -> Exchange | None:
        return next((entry for entry in self.exchanges if entry.key == key), None)

    def turns(self, question: str) -> list[Turn]:
        """What was asked and answered before, oldest first, for understanding a follow-up; never cited."""
        return [
            Turn(entry.question, " ".join(statement.text for statement in entry.answer.statements) or entry.answer.reason)
            for entry in self.before(question)
        ]

    def watch(self, watched: Watched) -> None:
        self.watched = watched

    def told(self, run_ids: Sequence[str]) -> None:
        self.watched = replace(self.watched, told=tuple(dict.fromkeys([*self.watched.told, *run_ids])))


class Conversations:
    """The conversations of all open pages, by the page's session."""

    def __init__(self) -> None:
        self._open: dict[str, Conversation] = {}
        self._lock = threading.Lock()

    def of(self, session: str | None) -> Conversation:
        with self._lock:
            return self._open.setdefault(session or "", Conversation())

    def close(self, session: str | None) -> None:
        with self._lock:
            gone = self._open.pop(session or "", None)
        if gone is not None:
            gone.end()
