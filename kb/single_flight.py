"""A small cache that computes each value once: other threads that need the same value wait for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Keeps the `size` most recently used values. Computing one blocks only threads that need the same one.

    Check out a database connection that `compute` needs before calling `get`: a waiting thread may hold the last one.
    """

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._flights: dict[Key, threading.Event] = {}

    def get(self, key: Key, compute: Callable[[], Value]) -> Value:
        """The value for `key`. Raises what `compute` raises; a waiting thread then computes the value itself."""
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                flight = self._flights.get(key)
                if flight is None:
                    ended = self._flights[key] = threading.Event()
                    break
            flight.wait()
        try:
            value = compute()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self._size:
                    self._values.popitem(last=False)
            return value
        finally:
            with self._lock:
                del self._flights[key]
            ended.set()
