"""Bounds on what a model's server may answer: size, compression, redirects, encoding. Hooks for httpx clients.

Knows nothing about prompts or completions. A response is looked at when its headers have come; its body is replaced by one that
stops at a limit and is valid UTF-8 whatever was sent.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

HEADERS = {"Accept-Encoding": "identity"}  # compressed, a small answer can be a large one
MAX_BYTES = "passkb_largest"  # a request's extension: bytes that the body of its answer may have
_NOT_STREAMED = ("text/html", "application/json", "application/xhtml+xml", "application/pdf")
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(rb"\r\n?|\n")


class ResponseError(Exception):
    """The server answered with something that is not read. The message says what, without the server's name."""


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """Bytes: `error`, after which the body of an error is cut; `body` of an answer; `event` of one event of a stream, which has
    at most `lines` lines; `stream` of all events. `streaming`: what is posted is answered by a stream of events.

    The clients must not follow redirects: the request that would be repeated elsewhere holds text of notes."""

    error: int = 64 * 1024
    body: int = 64 * 1024**2
    event: int = 2 * 1024**2
    lines: int = 1_000
    stream: int = 256 * 1024**2
    streaming: bool = False

    def apply(self, response: httpx.Response) -> None:
        """A hook for the responses of `httpx.Client`. Raises ResponseError for one that is compressed."""
        stream = response.stream
        assert isinstance(stream, httpx.SyncByteStream)
        response.stream = _Limited(stream, self._bounds(response))

    async def apply_async(self, response: httpx.Response) -> None:
        """The same for `httpx.AsyncClient`."""
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _AsyncLimited(stream, self._bounds(response))

    def _bounds(self, response: httpx.Response) -> _BodyCounter:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ResponseError(f"it compresses its answer as {encoding[:20]!r}, unasked: turn compression off")
        extensions = response.request.extensions
        seconds = float((extensions.get("timeout") or {}).get("read") or 0.0)
        if not response.is_success:
            return _BodyCounter(self.error, seconds, cut=True)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.streaming and response.request.method == "POST":
            if kind in _NOT_STREAMED or kind.startswith(("image/", "audio/", "video/")):
                raise ResponseError(f"it answers with {kind[:40]}, not with a stream of events: check the address")
            return _BodyCounter(self.stream, 0.0, self.event, self.lines)
        return _BodyCounter(int(extensions.get(MAX_BYTES, self.body)), seconds)


def redirect_target(response: httpx.Response) -> str:
    """Where a response of status 3xx points, without a user's name or query: fit for a message. Empty for any other."""
    location = response.headers.get("location", "") if 300 <= response.status_code < 400 else ""
    try:
        parts = urlsplit(str(response.request.url.join(location))) if location else None
    except (httpx.InvalidURL, ValueError):
        return "somewhere that is no address" if location else ""
    host = f"{parts.hostname}:{parts.port}" if parts and parts.port else parts and parts.hostname
    return f"{parts.scheme}://{host}{parts.path}" if parts else ""


def max_answer_bytes(n: int, tokens: int, prompt: int) -> int:
    """Bytes that `n` completions of `tokens` tokens at most may take, and log-probabilities of a prompt of `prompt` tokens."""
    return 16 * 1024**2 + 512 * (n * tokens + prompt)


class _BodyCounter:
    """Counts a body while it passes. `size`: bytes in all, beyond which it is `cut` or refused; `seconds` for all of it and
    `event` bytes for one event, where not 0."""

    def __init__(self, size: int, seconds: float, event: int = 0, lines: int = 0, *, cut: bool = False) -> None:
        self._left, self._event, self._lines, self._cut = size, event, lines, cut
        self._size, self._seconds, self._began = size, seconds, time.monotonic()
        self._in_event = self._lines_in_event = 0
        self._tail = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.full = False

    def passed(self, data: bytes) -> bytes:
        """What of `data` is to be read, as valid UTF-8. Raises ResponseError beyond a limit, unless the body is cut there."""
        if self._seconds and time.monotonic() - self._began > self._seconds:
            self._exceeded(f"its answer takes longer than {self._seconds:g} s")
        if len(data) > self._left:
            self._exceeded(f"its answer is larger than {_format_size(self._size)}")
            data = data[: self._left]
        self._left -= len(data)
        if self._event:
            self._count_event(data)
        return self._decoder.decode(data).encode()

    def rest(self) -> bytes:
        return self._decoder.decode(b"", final=True).encode()

    def _exceeded(self, reason: str) -> None:
        if not self._cut:
            raise ResponseError(f"{reason}, more than passkb reads")
        self.full = True

    def _count_event(self, data: bytes) -> None:
        seen = self._tail + data
        start = 0
        for blank in _BLANK_LINE.finditer(seen):
            start = blank.end()
        if start:
            self._in_event, self._lines_in_event = len(seen) - start, 0
        else:
            self._in_event += len(data)
        self._lines_in_event += len(_LINE_END.findall(seen, max(start, len(self._tail))))
        self._tail = seen[max(start, len(seen) - 3) :]
        if self._in_event > self._event:
            raise ResponseError(f"one event of its stream is larger than {_format_size(self._event)}, more than passkb reads")
        if self._lines_in_event > self._lines:
            raise ResponseError(f"one event of its stream has more than {self._lines:,} lines, more than passkb reads")


def _format_size(size: int) -> str:
    return f"{size / 1024**2:g} MB" if size >= 1024**2 else f"{size / 1024:g} kB"


class _Limited(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, bounds: _BodyCounter) -> None:
        self._stream, self._bounds = stream, bounds

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            yield self._bounds.passed(data)
            if self._bounds.full:
                break
        yield self._bounds.rest()

    def close(self) -> None:
        self._stream.close()


class _AsyncLimited(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, bounds: _BodyCounter) -> None:
        self._stream, self._bounds = stream, bounds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            yield self._bounds.passed(data)
            if self._bounds.full:
                break
        yield self._bounds.rest()

    async def aclose(self) -> None:
        await self._stream.aclose()
