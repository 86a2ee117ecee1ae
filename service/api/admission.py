"""A queue for questions: so many run at once, so many wait in line, and whoever comes after them is told to come back.

Two threads that answer at once already use the machine's cores; more of them only take the interpreter from each other. One
`Admission` is shared by REST, MCP and the web app, whatever thread or event loop they run in. Waiting is first come, first
served; who gives up leaves the line. Knows nothing about what is run.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from kb.notes import PasskbError
from service.config import MAX_WAITING

RETRY_AFTER = 5  # seconds after which a client that was turned away may ask again
_POLL_SECONDS = 0.25  # seconds between two looks at whether a waiting thread is still wanted

P = ParamSpec("P")
T = TypeVar("T")


class Busy(PasskbError):
    """As much is going on as may be at once: ask again in a moment."""


class Cancelled(PasskbError):
    """Whoever asked has left before it was their turn."""


class Admission:
    """At most `running` operations at once (0: as many as there are cores, at least two) and `waiting` in line."""

    def __init__(self, running: int = 0, waiting: int = MAX_WAITING) -> None:
        self.running = running or max(2, count_cores())
        self.waiting = waiting
        self._lock = threading.Lock()
        self._active = 0
        self._line: deque[Future[None]] = deque()
        self._threads = ThreadPoolExecutor(self.running, thread_name_prefix="operation")

    @property
    def in_line(self) -> int:
        """How many wait now."""
        with self._lock:
            return len(self._line)

    @property
    def active(self) -> int:
        """How many run now."""
        with self._lock:
            return self._active

    @property
    def full(self) -> bool:
        """Whether the next one would be turned away."""
        with self._lock:
            return self._active >= self.running and len(self._line) >= self.waiting

    def refusal(self) -> Busy:
        """What the one that is turned away is told."""
        return Busy(
            f"passkb is busy: {self.running} questions are being answered and {self.waiting} wait already; "
            f"try again in {RETRY_AFTER} seconds"
        )

    async def run(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Runs `work` in a thread when it is its turn. A cancelled call leaves the line; work that runs is not interrupted.

        Raises Busy when the line is full, and whatever `work` raises."""
        ticket = self._enter()
        try:
            if not ticket.done():
                await asyncio.wrap_future(ticket)
        except asyncio.CancelledError:
            self._withdraw(ticket)
            raise
        context = contextvars.copy_context()
        try:
            job = self._threads.submit(lambda: context.run(work, *arguments, **options))
        except RuntimeError:  # the interpreter is ending
            self._leave()
            raise
        job.add_done_callback(lambda done: self._leave())  # not when the caller leaves: the core is still busy then
        return await asyncio.wrap_future(job)

    @contextmanager
    def place(self, left: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """The same for a thread: waits for its turn, and holds it. A place within a place would wait for itself.

        `left` is asked while waiting: whether nobody waits for the result any more. Raises Busy or Abandoned."""
        ticket = self._enter()
        try:
            while True:
                with suppress(FutureTimeout):
                    ticket.result(_POLL_SECONDS)
                    break
                if left():
                    raise Cancelled("the question was given up before its turn came")
        except BaseException:
            self._withdraw(ticket)
            raise
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> Future[None]:
        """A ticket that is done once its holder may run."""
        ticket: Future[None] = Future()
        with self._lock:
            if self._active < self.running:
                self._active += 1
                ticket.set_result(None)
            elif len(self._line) < self.waiting:
                self._line.append(ticket)
            else:
                raise self.refusal()
        return ticket

    def _leave(self) -> None:
        """Gives the place to the first in line, or back."""
        with self._lock:
            while self._line:
                ticket = self._line.popleft()
                if ticket.set_running_or_notify_cancel():
                    ticket.set_result(None)
                    return
            self._active -= 1

    def _withdraw(self, ticket: Future[None]) -> None:
        with self._lock:
            waited = ticket.cancel()
            if waited:
                with suppress(ValueError):
                    self._line.remove(ticket)
        if not waited:  # its turn had just come
            self._leave()


def count_cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
