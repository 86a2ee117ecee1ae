"""Cancels an HTTP request from another thread, so that the server stops working on it.

The libraries keep unread streams in reference cycles, so dropping a stream does not close its connection.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet


class OpenResponses:
    """The response that each thread is reading. `opened` is a response hook for an httpx client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakKeyDictionary[threading.Thread, Any] = WeakKeyDictionary()
        self._unwanted: WeakSet[threading.Thread] = WeakSet()

    def opened(self, response: Any) -> None:
        """Called in the reading thread when the headers arrive."""
        with self._lock:
            own = threading.current_thread()
            self._open[own] = response
            unwanted = own in self._unwanted
        if unwanted:
            _shut_down(response)

    def done(self) -> None:
        """Called in the reading thread after the response."""
        with self._lock:
            self._open.pop(threading.current_thread(), None)

    def hang_up(self, thread: threading.Thread) -> None:
        """Cancels the current or next response of a thread."""
        with self._lock:
            self._unwanted.add(thread)
            response = self._open.get(thread)
            if response is not None:
                _shut_down(response)


def _shut_down(response: Any) -> None:
    """Shuts down the socket, which wakes the reading thread; closing would wait for it."""
    stream = response.extensions.get("network_stream")
    if stream is None or response.is_closed:  # its connection may be in use again
        return
    with suppress(OSError):
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
