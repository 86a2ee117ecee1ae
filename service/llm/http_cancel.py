"""Ends a request that nobody waits for any more, at once and from another thread, so that its server stops working on it.

Leaving a stream of the libraries unread does not: they hold it in reference cycles, and until those are collected the server
writes on to its end. Knows httpx's responses by their interface only.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet


class OpenResponses:
    """The response that each thread is reading. `opened` is a hook for an httpx client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakKeyDictionary[threading.Thread, Any] = WeakKeyDictionary()
        self._unwanted: WeakSet[threading.Thread] = WeakSet()

    def opened(self, response: Any) -> None:
        """Called in the thread that reads the response, when its headers have come."""
        with self._lock:
            own = threading.current_thread()
            self._open[own] = response
            unwanted = own in self._unwanted
        if unwanted:
            _shut_down(response)

    def done(self) -> None:
        """Called in the thread that has read its response."""
        with self._lock:
            self._open.pop(threading.current_thread(), None)

    def hang_up(self, thread: threading.Thread) -> None:
        """Ends what that thread is reading, or is going to read."""
        with self._lock:
            self._unwanted.add(thread)
            response = self._open.get(thread)
            if response is not None:
                _shut_down(response)


def _shut_down(response: Any) -> None:
    """Closing would wait for the thread that reads; shutting the socket wakes it."""
    stream = response.extensions.get("network_stream")
    if stream is None or response.is_closed:  # its connection may already serve another request
        return
    with suppress(OSError):
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
