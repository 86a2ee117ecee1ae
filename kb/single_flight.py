"""A small cache whose values are computed outside its lock, each by one thread while others that want it wait."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Remembers the `size` values that were used last. Computing one holds up only those who want the same one.

    A database connection that `compute` needs is checked out before `get` is called: whoever waits here may hold the last one.
    """

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._flights: dict[Key, threading.Event] = {}

    def get(self, key: Key, compute: Callable[[], Value]) -> Value:
        """Raises what `compute` raises; whoever waited for it then computes by itself."""
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
