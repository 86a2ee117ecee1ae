"""A first-in, first-out queue that limits how many questions run and wait at once.

REST, MCP and the web app share one `Admission` across threads and event loops.
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

RETRY_AFTER = 5  # seconds after which a rejected client may try again
_POLL_SECONDS = 0.25  # seconds between checks for cancellation

P = ParamSpec("P")
T = TypeVar("T")


class Busy(PasskbError):
    """The queue is full: try again later."""


class Cancelled(PasskbError):
    """The caller gave up while waiting."""


class Admission:
    """At most `running` operations at once (0: the number of cores, at least two) and `waiting` in the queue."""

    def __init__(self, running: int = 0, waiting: int = MAX_WAITING) -> None:
        self.running = running or max(2, count_cores())
        self.waiting = waiting
        self._lock = threading.Lock()
        self._active = 0
        self._line: deque[Future[None]] = deque()
        self._threads = ThreadPoolExecutor(self.running, thread_name_prefix="operation")

    @property
    def in_line(self) -> int:
        """The number of waiting operations."""
        with self._lock:
            return len(self._line)

    @property
    def active(self) -> int:
        """The number of running operations."""
        with self._lock:
            return self._active

    @property
    def full(self) -> bool:
        """Whether the next operation would be rejected."""
        with self._lock:
            return self._active >= self.running and len(self._line) >= self.waiting

    def refusal(self) -> Busy:
        """The error for a rejected operation."""
        return Busy(
            f"passkb is busy: {self.running} questions are running and {self.waiting} are waiting; "
            f"try again in {RETRY_AFTER} seconds"
        )

    async def run(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Runs `work` in a thread when its turn comes. Cancelling removes a waiting call; running work is not interrupted.

        Raises Busy if the queue is full, and whatever `work` raises."""
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
        except RuntimeError:  # the interpreter is shutting down
            self._leave()
            raise
        job.add_done_callback(lambda done: self._leave())  # when the work ends, not when the caller gives up
        return await asyncio.wrap_future(job)

    @contextmanager
    def place(self, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Waits for a turn in the current thread and holds it. Do not nest: the inner call would wait for the outer one.

        `is_cancelled`: whether to give up, polled while waiting. Raises Busy or Cancelled."""
        ticket = self._enter()
        try:
            while True:
                with suppress(FutureTimeout):
                    ticket.result(_POLL_SECONDS)
                    break
                if is_cancelled():
                    raise Cancelled("the question was cancelled while waiting")
        except BaseException:
            self._withdraw(ticket)
            raise
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> Future[None]:
        """A future that completes when its holder may run."""
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
        """Passes the slot to the first in the queue, or frees it."""
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
        if not waited:  # it had already been given a slot
            self._leave()


def count_cores() -> int:
    """The number of processor cores available to this process."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
