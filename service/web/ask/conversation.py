"""The exchanges of each open page, the runs that it watches, and the order of its answers.

The server forgets a conversation when its page closes. The browser stores its own copy (`browser_storage.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from markupsafe import Markup

from service.answering.answer import Answer
from service.answering.retrieve.question_rewrite import Turn
from service.web.ask.run_offers import WatchedRuns

_EMPTY = Markup()
MAX_EXCHANGES = 20  # on one page
_TURN_TIMEOUT = 15.0  # seconds that a question waits for the previous answer to stop


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with its rendered answer. `asked_at` (ISO time) identifies its record in the browser."""

    key: str
    answer: Answer
    html: Markup
    source_articles: Markup
    asked_at: str
    notice: Markup = _EMPTY  # HTML with the result of the last click on Save

    @property
    def question(self) -> str:
        return self.answer.question


class Conversation:
    """A page's exchanges, oldest first. The current one is shown on top. Thread-safe."""

    def __init__(self) -> None:
        self.exchanges: tuple[Exchange, ...] = ()
        self.watched = WatchedRuns()
        self._last_turn = self._last_cancelled = self._last_key = 0
        self._current_question = ""
        self._lock, self._turn_lock = threading.Lock(), threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[Callable[[], bool]]:
        """Cancels the previous turn and waits for its end. Yields a function that says whether this turn is cancelled."""
        with self._lock:
            self._last_turn += 1
            turn = self._last_turn
        acquired = self._turn_lock.acquire(timeout=_TURN_TIMEOUT)
        try:
            yield lambda: turn <= self._last_cancelled or turn != self._last_turn
        finally:
            if acquired:
                self._turn_lock.release()

    def cancel(self) -> None:
        """Cancels the current turn."""
        self._last_cancelled = self._last_turn

    def new_key(self) -> str:
        """A key that no other exchange of the page has."""
        with self._lock:
            self._last_key += 1
            return f"a{self._last_key}"

    @property
    def current(self) -> Exchange | None:
        return next((entry for entry in self.exchanges if entry.question == self._current_question), None)

    @property
    def earlier(self) -> tuple[Exchange, ...]:
        """All exchanges except the current one."""
        return self.without(self._current_question)

    def begin(self, question: str) -> None:
        """Makes `question` the current one, without an answer yet."""
        self._current_question, self.watched = question, WatchedRuns(question)

    def add(self, exchange: Exchange) -> None:
        """Adds the current exchange; it replaces an earlier one with the same question."""
        self._current_question = exchange.question
        self.exchanges = (*self.without(exchange.question), exchange)[-MAX_EXCHANGES:]

    def set_notice(self, key: str, notice: Markup) -> None:
        self.exchanges = tuple(replace(entry, notice=notice) if entry.key == key else entry for entry in self.exchanges)

    def restore(self, older: Sequence[Exchange]) -> None:
        """Adds exchanges from the browser's storage before the newer ones."""
        known = {entry.question for entry in self.exchanges} | {self._current_question}
        self.exchanges = (*(entry for entry in older if entry.question not in known), *self.exchanges)[-MAX_EXCHANGES:]

    def clear_earlier(self) -> None:
        """Removes all exchanges except the current one."""
        self.exchanges = (self.current,) if self.current else ()

    def without(self, question: str) -> tuple[Exchange, ...]:
        return tuple(entry for entry in self.exchanges if entry.question != question)

    def find(self, key: str) -> Exchange | None:
        return next((entry for entry in self.exchanges if entry.key == key), None)

    def history(self, question: str) -> list[Turn]:
        """The other questions and answers, oldest first, to interpret a follow-up question; never cited."""
        return [
            Turn(entry.question, " ".join(statement.text for statement in entry.answer.statements) or entry.answer.reason)
            for entry in self.without(question)
        ]

    def watch(self, watched: WatchedRuns) -> None:
        self.watched = watched

    def mark_reported(self, run_ids: Sequence[str]) -> None:
        """The answer includes the evidence of these runs."""
        self.watched = replace(self.watched, reported=tuple(dict.fromkeys([*self.watched.reported, *run_ids])))


class Conversations:
    """The conversations of all open pages, by Gradio session."""

    def __init__(self) -> None:
        self._open: dict[str, Conversation] = {}
        self._lock = threading.Lock()

    def get(self, session: str | None) -> Conversation:
        with self._lock:
            return self._open.setdefault(session or "", Conversation())

    def close(self, session: str | None) -> None:
        with self._lock:
            conversation = self._open.pop(session or "", None)
        if conversation is not None:
            conversation.cancel()
