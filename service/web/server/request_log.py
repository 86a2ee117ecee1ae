"""Logs a line per request: method, path, status, milliseconds, bytes. Never logs query strings or bodies."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.log import logger

_log = logger("request")
_MAX_PATH = 200  # characters
_CLIENT_CLOSED = 499  # nginx's status for a client that disconnected before the response started
_ROUTINE = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/healthz", "/theme.css", "/favicon.ico")


class RequestLog:
    """Logs routine requests (static files, probes) at debug, others at info. Outermost, to log refused requests too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        level = logging.DEBUG if scope.get("path", "").startswith(_ROUTINE) else logging.INFO
        if scope["type"] != "http" or not _log.isEnabledFor(level):
            await self.app(scope, receive, send)
            return
        status, sent, started = _CLIENT_CLOSED, 0, time.perf_counter()

        async def send_counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        except Exception:
            status = 500 if status == _CLIENT_CLOSED else status
            raise
        finally:
            duration = 1000 * (time.perf_counter() - started)
            _log.log(level, "%s %s %d %.0f ms %d bytes", scope["method"], _log_path(scope), status, duration, sent)


def _log_path(scope: Scope) -> str:
    """The percent-encoded path as printable ASCII, shortened."""
    raw = (scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace") or scope["path"]
    path = "".join(c if c.isascii() and c.isprintable() else "?" for c in raw)
    return path if len(path) <= _MAX_PATH else f"{path[:_MAX_PATH]}…"
