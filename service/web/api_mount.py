"""Where other programs come in: REST below /api, the Model Context Protocol at /mcp.

Who may come in is decided here: nobody from another site's page, nobody without the account where there is one, and nothing too
large. What is behind is loaded when it is first asked for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import threading
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.operations import Access
from service.auth.password_check import Authenticator
from service.web.experiments.downloads import from_elsewhere
from service.web.server.request_body import read_body, replayed

LARGEST = 256 * 1024  # bytes of a body
_PROMPT = {"www-authenticate": 'Basic realm="passkb", charset="UTF-8"'}


class Gate:
    """`authenticator`: checks the account that is asked for, if any. Passes on whatever is not for programs."""

    def __init__(self, app: ASGIApp, access: Access, authenticator: Authenticator | None = None) -> None:
        self.app, self._authenticator = app, authenticator
        self._rooms = {"api": _Room(lambda: _rest(access)), "mcp": _Room(lambda: _mcp(access))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        room = self._rooms.get((*scope["path"].split("/"), "")[1]) if scope["type"] == "http" else None
        if room is None:
            await self.app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        body = await read_body(scope, receive, LARGEST)
        if body is None:
            await _told(413, f"the body is too large: send at most {LARGEST:,} bytes")(scope, receive, send)
            return
        # Only what FastAPI and the SDK are to see of the app around them.
        inner = {key: value for key, value in scope.items() if key not in ("app", "router", "endpoint", "path_params")}
        await (await room.opened())(inner, replayed(body, receive), send)

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        if from_elsewhere(scope):
            return _told(403, "this request came from a page of another site: programs send no Origin or Sec-Fetch-Site of one")
        unknown = await self._unknown(scope)
        if unknown is not None:
            return unknown
        if scope["path"].startswith("/mcp") and scope["path"] not in ("/mcp", "/mcp/"):
            return _told(404, "there is nothing here: the Model Context Protocol is at /mcp")
        if scope["path"].startswith("/mcp") and scope["method"] != "POST":
            return _told(405, "the Model Context Protocol takes POST here; nothing is streamed to a GET", {"allow": "POST"})
        return None

    async def _unknown(self, scope: Scope) -> JSONResponse | None:
        """Why a request may not pass that brings no account, or a wrong one."""
        if self._authenticator is None:
            return None
        words = "sign in: send the USER:PASSWORD that passkb is served with, by HTTP basic or as a bearer token"
        candidates = _credentials(scope)
        if not candidates:
            return _told(401, words, _PROMPT)
        attempt = await self._authenticator.attempt(scope, candidates, "MCP" if scope["path"].startswith("/mcp") else "REST")
        if attempt.user is not None:
            return None
        if attempt.retry_after:
            words = f"too many wrong passwords from this address: wait {attempt.retry_after} s, then send the right one"
            return _told(429, words, {"retry-after": str(attempt.retry_after)})
        return _told(401, words, _PROMPT)


class _Room:
    """An application that is made, in a thread, when it is first asked for."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._app: ASGIApp | None = None

    async def opened(self) -> ASGIApp:
        return await asyncio.to_thread(self._made) if self._app is None else self._app

    def _made(self) -> ASGIApp:
        with self._lock:
            if self._app is None:
                self._app = self._make()
            return self._app


def _rest(access: Access) -> ASGIApp:
    from service.api.rest import make_app

    return make_app(access)


def _mcp(access: Access) -> ASGIApp:
    from service.api.mcp import HttpEndpoint

    return HttpEndpoint(access)


def _credentials(scope: Scope) -> list[bytes]:
    """Readings of the `USER:PASSWORD` that a request carries: as it stands in a bearer token, and decoded."""
    kind, _, rest = HTTPConnection(scope).headers.get("authorization", "").partition(" ")
    value = rest.strip().encode("latin-1")
    if not value or kind.lower() not in ("basic", "bearer"):
        return []
    candidates = [value] if kind.lower() == "bearer" else []
    with contextlib.suppress(binascii.Error):
        candidates.append(base64.b64decode(value, validate=True))
    return candidates


def _told(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": words, "nearest": []}, status, headers)
