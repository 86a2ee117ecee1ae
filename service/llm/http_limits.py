"""Limits on responses of model servers (size, time, compression, redirects), as hooks for httpx clients.

The body is replaced by a stream that stops at the limit and is always valid UTF-8.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

HEADERS = {"Accept-Encoding": "identity"}  # a small compressed response can expand to a large one
MAX_BYTES = "passkb_largest"  # request extension: maximum bytes of the response body
_NOT_STREAMED = ("text/html", "application/json", "application/xhtml+xml", "application/pdf")
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(rb"\r\n?|\n")


class ResponseError(Exception):
    """The response is rejected. The message does not contain the server's name."""


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """Limits in bytes: `error` bodies (truncated), `body` of a response, one `event` of a stream (with at most `lines` lines),
    and the whole `stream`. `streaming`: POST requests must return an event stream.

    Clients must not follow redirects: prompts contain text of notes."""

    error: int = 64 * 1024
    body: int = 64 * 1024**2
    event: int = 2 * 1024**2
    lines: int = 1_000
    stream: int = 256 * 1024**2
    streaming: bool = False

    def apply(self, response: httpx.Response) -> None:
        """Response hook for `httpx.Client`. Raises ResponseError for compressed responses."""
        stream = response.stream
        assert isinstance(stream, httpx.SyncByteStream)
        response.stream = _Limited(stream, self._bounds(response))

    async def apply_async(self, response: httpx.Response) -> None:
        """Response hook for `httpx.AsyncClient`."""
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _AsyncLimited(stream, self._bounds(response))

    def _bounds(self, response: httpx.Response) -> _BodyCounter:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ResponseError(f"it compresses its response as {encoding[:20]!r} without being asked: turn off compression")
        extensions = response.request.extensions
        seconds = float((extensions.get("timeout") or {}).get("read") or 0.0)
        if not response.is_success:
            return _BodyCounter(self.error, seconds, cut=True)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.streaming and response.request.method == "POST":
            if kind in _NOT_STREAMED or kind.startswith(("image/", "audio/", "video/")):
                raise ResponseError(f"it returned {kind[:40]} instead of an event stream: check the URL")
            return _BodyCounter(self.stream, 0.0, self.event, self.lines)
        return _BodyCounter(int(extensions.get(MAX_BYTES, self.body)), seconds)


def redirect_target(response: httpx.Response) -> str:
    """The target of a redirect without credentials and query, for messages. Empty if not a redirect."""
    location = response.headers.get("location", "") if 300 <= response.status_code < 400 else ""
    try:
        parts = urlsplit(str(response.request.url.join(location))) if location else None
    except (httpx.InvalidURL, ValueError):
        return "an invalid URL" if location else ""
    host = f"{parts.hostname}:{parts.port}" if parts and parts.port else parts and parts.hostname
    return f"{parts.scheme}://{host}{parts.path}" if parts else ""


def max_answer_bytes(n: int, tokens: int, prompt: int) -> int:
    """Maximum bytes of `n` completions of `tokens` tokens, with log-probabilities of a prompt of `prompt` tokens."""
    return 16 * 1024**2 + 512 * (n * tokens + prompt)


class _BodyCounter:
    """Counts a body while it is read. `size`: total bytes, beyond which it is `cut` or rejected; `seconds` in total and `event`
    bytes per event, if not 0."""

    def __init__(self, size: int, seconds: float, event: int = 0, lines: int = 0, *, cut: bool = False) -> None:
        self._left, self._event, self._lines, self._cut = size, event, lines, cut
        self._size, self._seconds, self._began = size, seconds, time.monotonic()
        self._in_event = self._lines_in_event = 0
        self._tail = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.full = False

    def passed(self, data: bytes) -> bytes:
        """The accepted part of `data` as valid UTF-8. Raises ResponseError beyond a limit, unless `cut`."""
        if self._seconds and time.monotonic() - self._began > self._seconds:
            self._exceeded(f"its response takes longer than {self._seconds:g} s")
        if len(data) > self._left:
            self._exceeded(f"its response is larger than {_format_size(self._size)}")
            data = data[: self._left]
        self._left -= len(data)
        if self._event:
            self._count_event(data)
        return self._decoder.decode(data).encode()

    def rest(self) -> bytes:
        return self._decoder.decode(b"", final=True).encode()

    def _exceeded(self, reason: str) -> None:
        if not self._cut:
            raise ResponseError(f"{reason}, the limit of passkb")
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
            raise ResponseError(f"one event of its stream is larger than {_format_size(self._event)}, the limit of passkb")
        if self._lines_in_event > self._lines:
            raise ResponseError(f"one event of its stream has more than {self._lines:,} lines, the limit of passkb")


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
