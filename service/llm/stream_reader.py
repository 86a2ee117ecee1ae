"""Reads a stream in a separate thread, so that the consumer can apply timeouts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from service.llm.http_cancel import OpenResponses

T = TypeVar("T")


class StreamReader(Generic[T]):
    """`queue` receives the items, and the exception that ended the stream, if any. Set `ended` after the last item, so that
    the connection can be reused."""

    def __init__(self, items: Callable[[], Iterator[T]], lines: OpenResponses) -> None:
        self.queue: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()
        self.ended = False
        self._cancelled, self._responses = threading.Event(), lines
        self._thread = threading.Thread(target=self._read, args=(items,), name="model-stream", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled.set()
        if not self.ended:
            self._responses.hang_up(self._thread)

    def _read(self, items: Callable[[], Iterator[T]]) -> None:
        try:
            for item in items():
                if self._cancelled.is_set():
                    return
                self.queue.put(item)
        except Exception as error:
            self.queue.put(error)
        finally:
            self._responses.done()
