"""A line of the log for each request: method, path, status, milliseconds, bytes. Never the text of a query or of a body."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.log import logger

_log = logger("request")
_LONGEST = 200  # characters of a path
_NOT_SENT = 499  # the client left before its answer began
# Files of the page and probes: many, and all alike.
_ROUTINE = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/healthz", "/theme.css", "/favicon.ico")


class RequestLog:
    """Logs at info, what is routine at debug. Goes outermost, so that it sees what the others refuse."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        level = logging.DEBUG if scope.get("path", "").startswith(_ROUTINE) else logging.INFO
        if scope["type"] != "http" or not _log.isEnabledFor(level):
            await self.app(scope, receive, send)
            return
        status, sent, began = _NOT_SENT, 0, time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except Exception:
            status = 500 if status == _NOT_SENT else status
            raise
        finally:
            took = 1000 * (time.perf_counter() - began)
            _log.log(level, "%s %s %d %.0f ms %d bytes", scope["method"], path_of(scope), status, took, sent)


def path_of(scope: Scope) -> str:
    """The path as it was sent, percent-encoded, on one line and of a bearable length."""
    raw = (scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace") or scope["path"]
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in raw)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
