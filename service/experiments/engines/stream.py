"""The stream of completions that every engine's `sample` returns; it can be closed from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue

from service.experiments.engines.base import EngineError, Request
from service.experiments.types import Completion


def chunks(requests: Iterable[Request], most: int) -> Iterator[Request]:
    """Splits requests into requests of at most `most` attempts with the same seed."""
    if most < 1:
        raise EngineError(f"requests need at least 1 attempt, not {most}")
    for request in requests:
        for start in range(0, request.n, most):
            yield replace(request, first=request.first + start, n=min(most, request.n - start))


def attempt_seed(request: Request, index: int) -> int:
    """The seed of attempt number `first + index`, independent of how attempts are split into requests."""
    return request.seed + request.first + index


class Channel:
    """The engine's side of a Stream. `stopped` is set when the reader has closed the stream."""

    def __init__(self, on_close: Callable[[Channel], object]) -> None:
        self.stopped = threading.Event()
        self._results: SimpleQueue[tuple[int, list[Completion]] | BaseException | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._in_flight = self._unread = 0
        self._on_close = on_close

    def give(self, completions: list[Completion]) -> None:
        """Delivers all `n` completions of a request."""
        with self._lock:
            self._in_flight -= len(completions)
            self._unread += len(completions)
        self._results.put((len(completions), completions))

    def fail(self, error: BaseException) -> None:
        """Ends the stream with an error, after the completions delivered before."""
        self._results.put(error)

    def sent(self, rows: int) -> None:
        with self._lock:
            self._in_flight += rows

    def room(self, rows: int) -> bool:
        """Whether to send more: fewer than `rows` attempts are in flight and the reader keeps up."""
        return self._in_flight < rows and self._unread < 4 * rows

    def read(self) -> list[Completion] | None:
        """Waits for the next completions; None at the end. Raises the engine's error."""
        with self._lock:
            if not self._in_flight and not self._unread:
                return None
        item = self._results.get()
        if item is None or self.stopped.is_set():
            return None
        if isinstance(item, BaseException):
            raise item
        with self._lock:
            self._unread -= item[0]
        return item[1]

    def stop(self) -> None:
        with self._lock:
            again = self.stopped.is_set()
            self.stopped.set()
        if not again:
            self._results.put(None)
            self._on_close(self)


class Stream(Iterator[list[Completion]]):
    """Sends about `rows` attempts ahead and yields the completions of one request at a time.

    `submit` receives several requests, returns immediately and answers through the channel. `on_close` is called once. The
    reading thread pulls the requests. Any thread can call `close`, also while another one waits for the next completions.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        rows: int,
        submit: Callable[[Sequence[Request], Channel], object],
        on_close: Callable[[Channel], object] = lambda _: None,
    ) -> None:
        self._requests = iter(requests)
        self._rows = rows
        self._submit = submit
        self._channel = Channel(on_close)

    def __next__(self) -> list[Completion]:
        if self._channel.stopped.is_set():
            raise StopIteration
        try:
            self._send_ahead()
            completions = self._channel.read()
        except BaseException:
            self.close()
            raise
        if completions is None:
            self.close()
            raise StopIteration
        return completions

    def close(self) -> None:
        self._channel.stop()

    def __del__(self) -> None:
        if hasattr(self, "_channel"):
            self.close()

    def _send_ahead(self) -> None:
        more: list[Request] = []
        while self._channel.room(self._rows):
            request = next(self._requests, None)
            if request is None:
                break
            if request.n > 0:
                self._channel.sent(request.n)
                more.append(request)
        if more:
            self._submit(more, self._channel)
