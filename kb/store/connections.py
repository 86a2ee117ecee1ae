"""A bounded pool of SQLite connections. Knows nothing about tables.

A thread checks a connection out for as long as a `with` block lasts; blocks inside it share that connection. It goes back when
the block ends, so threads may come and go. Connections that are given back stay open: opening one costs more than most queries.

Take a connection before you wait for a lock that others hold while they wait for a connection; never the other way round.
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

SIZE = 8
PATIENCE = 60.0  # seconds


class PoolExhausted(Exception):
    """No connection became free in time."""


@dataclass(slots=True)
class _Checkout:
    """One thread's connection. `identity`: of the file that it reads; `era`: the pool's when it was opened."""

    connection: sqlite3.Connection
    identity: Hashable
    era: int
    depth: int = 1


class ConnectionPool:
    """At most `size` connections, made by `connect`. `identity` names the file they should read: one that reads another is
    closed and a new one takes its place.

    Safe to use from several threads; after a fork the child opens its own.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], identity: Callable[[], Hashable], size: int = SIZE) -> None:
        self._connect, self._identity, self._size = connect, identity, size
        self._start()

    def _start(self) -> None:
        self._free = threading.Condition()
        self._local = threading.local()
        self._idle: list[_Checkout] = []  # the latest last: few callers use few connections
        self._out = 0
        self._queue: deque[object] = deque()  # of those who wait, in the order they came
        self._era = 0
        self._process = os.getpid()

    @property
    def is_nested(self) -> bool:
        """Whether this thread has a connection checked out."""
        return self._current() is not None

    @contextmanager
    def connection(self, patience: float = PATIENCE) -> Iterator[sqlite3.Connection]:
        """This thread's connection. Raises PoolExhausted after `patience` seconds, and what `connect` raises."""
        held = self._current()
        if held is None:
            held = self._check_out(patience)
            self._local.held = held
        else:
            held.depth += 1
        try:
            yield held.connection
        finally:
            held.depth -= 1
            if not held.depth:
                self._give_back(held)

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it is given back. The pool can be used again."""
        with self._free:
            self._era += 1
            idle, self._idle = self._idle, []
        for entry in idle:
            entry.connection.close()

    def _current(self) -> _Checkout | None:
        if os.getpid() != self._process:
            self._forsake()
        held: _Checkout | None = getattr(self._local, "held", None)
        return held if held is not None and held.depth else None  # a generator may have ended in another thread

    def _check_out(self, patience: float) -> _Checkout:
        with self._free:
            if self._out >= self._size or self._queue:
                self._wait(patience)
            self._out += 1
        try:
            return self._usable()
        except BaseException:
            self._make_room()
            raise

    def _wait(self, patience: float) -> None:
        """Until it is this thread's turn; `_free` is held."""
        deadline, ticket = time.monotonic() + patience, object()
        self._queue.append(ticket)
        try:
            while self._out >= self._size or self._queue[0] is not ticket:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PoolExhausted(f"all {self._size} connections have been in use for {patience:g} s")
                self._free.wait(left)
        finally:
            self._queue.remove(ticket)
            self._free.notify_all()

    def _usable(self) -> _Checkout:
        identity = self._identity()
        stale: list[_Checkout] = []
        with self._free:
            era, found = self._era, None
            while self._idle and found is None:
                entry = self._idle.pop()
                if entry.identity == identity:
                    found = entry
                else:  # then the others read that file too
                    stale += [entry, *(other for other in self._idle if other.identity != identity)]
                    self._idle = [other for other in self._idle if other.identity == identity]
        for entry in stale:
            entry.connection.close()
        if found is not None:
            found.depth = 1
            return found
        connection = self._connect()
        return _Checkout(connection, self._identity(), era)

    def _give_back(self, entry: _Checkout) -> None:
        if getattr(self._local, "held", None) is entry:
            self._local.held = None
        if entry.connection.in_transaction:  # cut short: the next user begins anew
            with suppress(sqlite3.Error):
                entry.connection.rollback()
        with self._free:
            keep = entry.era == self._era
            if keep:
                self._idle.append(entry)
        if not keep:
            entry.connection.close()
        self._make_room()

    def _make_room(self) -> None:
        with self._free:
            self._out -= 1
            if self._queue:
                self._free.notify_all()

    def _forsake(self) -> None:
        """In a child process: the parent's connections are not to be used, nor closed, here."""
        forsaken = self._idle
        self._start()
        self._forsaken = forsaken  # kept, for a connection that nobody holds is closed
