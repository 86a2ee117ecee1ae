"""A bounded pool of SQLite connections.

A thread checks out a connection for the duration of a `with` block; nested blocks share it. Returned connections stay open,
because opening one costs more than most queries. To avoid deadlocks, take a connection before any lock that other threads hold
while they wait for a connection.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

DEFAULT_SIZE = 8
TIMEOUT_S = 60.0  # seconds


class PoolExhausted(Exception):
    """No connection became available in time."""


@dataclass(slots=True)
class _Checkout:
    """One thread's connection. `identity`: of the file that it reads; `epoch`: of the pool when it was opened."""

    connection: sqlite3.Connection
    identity: Hashable
    epoch: int
    depth: int = 1


class ConnectionPool:
    """Up to `size` connections, opened by `connect`. `identity` identifies the file that they should read: a connection to
    another file is closed and replaced.

    Thread-safe. After a fork the child opens its own connections.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], identity: Callable[[], Hashable], size: int = DEFAULT_SIZE
    ) -> None:
        self._connect, self._identity, self._size = connect, identity, size
        self._initialize()

    def _initialize(self) -> None:
        self._changed = threading.Condition()
        self._local = threading.local()
        self._idle: list[_Checkout] = []  # used last in, first out, so that few callers use few connections
        self._in_use = 0
        self._queue: deque[object] = deque()  # of waiting threads, in order of arrival
        self._epoch = 0
        self._process = os.getpid()

    @property
    def is_nested(self) -> bool:
        """Whether this thread has a connection checked out."""
        return self._current() is not None

    @contextmanager
    def connection(self, timeout: float = TIMEOUT_S) -> Iterator[sqlite3.Connection]:
        """This thread's connection. Raises PoolExhausted after `timeout` seconds, and what `connect` raises."""
        checkout = self._current()
        if checkout is None:
            checkout = self._check_out(timeout)
            self._local.checkout = checkout
        else:
            checkout.depth += 1
        try:
            yield checkout.connection
        finally:
            checkout.depth -= 1
            if not checkout.depth:
                self._release(checkout)

    def close(self) -> None:
        """Closes idle connections now and connections in use when they are returned. The pool stays usable."""
        with self._changed:
            self._epoch += 1
            idle, self._idle = self._idle, []
        for entry in idle:
            entry.connection.close()

    def _current(self) -> _Checkout | None:
        if os.getpid() != self._process:
            self._reset_after_fork()
        checkout: _Checkout | None = getattr(self._local, "checkout", None)
        return checkout if checkout is not None and checkout.depth else None  # a generator may have finished in another thread

    def _check_out(self, timeout: float) -> _Checkout:
        with self._changed:
            if self._in_use >= self._size or self._queue:
                self._wait(timeout)
            self._in_use += 1
        try:
            return self._open_or_reuse()
        except BaseException:
            self._release_slot()
            raise

    def _wait(self, timeout: float) -> None:
        """Waits for this thread's turn. The caller holds `_changed`."""
        deadline, ticket = time.monotonic() + timeout, object()
        self._queue.append(ticket)
        try:
            while self._in_use >= self._size or self._queue[0] is not ticket:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise PoolExhausted(f"all {self._size} connections have been in use for {timeout:g} s")
                self._changed.wait(remaining)
        finally:
            self._queue.remove(ticket)
            self._changed.notify_all()

    def _open_or_reuse(self) -> _Checkout:
        identity = self._identity()
        stale: list[_Checkout] = []
        with self._changed:
            epoch, reusable = self._epoch, None
            while self._idle and reusable is None:
                entry = self._idle.pop()
                if entry.identity == identity:
                    reusable = entry
                else:  # the other idle connections may read the same old file
                    stale += [entry, *(other for other in self._idle if other.identity != identity)]
                    self._idle = [other for other in self._idle if other.identity == identity]
        for entry in stale:
            entry.connection.close()
        if reusable is not None:
            reusable.depth = 1
            return reusable
        connection = self._connect()
        return _Checkout(connection, self._identity(), epoch)

    def _release(self, entry: _Checkout) -> None:
        if getattr(self._local, "checkout", None) is entry:
            self._local.checkout = None
        if entry.connection.in_transaction:  # interrupted
            with suppress(sqlite3.Error):
                entry.connection.rollback()
        with self._changed:
            is_current = entry.epoch == self._epoch
            if is_current:
                self._idle.append(entry)
        if not is_current:
            entry.connection.close()
        self._release_slot()

    def _release_slot(self) -> None:
        with self._changed:
            self._in_use -= 1
            if self._queue:
                self._changed.notify_all()

    def _reset_after_fork(self) -> None:
        """Called in a child process, which must neither use nor close its parent's connections."""
        idle = self._idle
        self._initialize()
        self._parents_connections = idle  # a reference keeps them from being closed
