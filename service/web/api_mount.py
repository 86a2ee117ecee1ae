"""Mounts REST below /api and the Model Context Protocol at /mcp.

Refuses cross-site requests, requests without a required account, and large bodies. Loads each API on its first request.
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
from service.web.security.same_site import is_cross_site
from service.web.server.request_body import read_body, replayed

MAX_BYTES = 256 * 1024  # of a body
_CHALLENGE = {"www-authenticate": 'Basic realm="passkb", charset="UTF-8"'}


class ApiMount:
    """`authenticator`: checks the credentials of each request; None if passkb is served without accounts."""

    def __init__(self, app: ASGIApp, access: Access, authenticator: Authenticator | None = None) -> None:
        self.app, self._authenticator = app, authenticator
        self._apps = {"api": _LazyApp(lambda: _rest(access)), "mcp": _LazyApp(lambda: _mcp(access))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mounted = self._apps.get((*scope["path"].split("/"), "")[1]) if scope["type"] == "http" else None
        if mounted is None:
            await self.app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        body = await read_body(scope, receive, MAX_BYTES)
        if body is None:
            await _error(413, f"the body is too large: the limit is {MAX_BYTES:,} bytes")(scope, receive, send)
            return
        # Without the keys that Gradio's Starlette app sets, so that FastAPI and the MCP SDK use their own.
        inner = {key: value for key, value in scope.items() if key not in ("app", "router", "endpoint", "path_params")}
        await (await mounted.get())(inner, replayed(body, receive), send)

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        if is_cross_site(scope):
            return _error(403, "cross-site request refused: send no Origin or Sec-Fetch-Site header of another site")
        unauthorized = await self._unauthorized(scope)
        if unauthorized is not None:
            return unauthorized
        if scope["path"].startswith("/mcp") and scope["path"] not in ("/mcp", "/mcp/"):
            return _error(404, "not found: the Model Context Protocol is at /mcp")
        if scope["path"].startswith("/mcp") and scope["method"] != "POST":
            return _error(405, "send POST: this MCP server offers no GET stream", {"allow": "POST"})
        return None

    async def _unauthorized(self, scope: Scope) -> JSONResponse | None:
        """The response to missing or wrong credentials; None for valid ones, or if none are needed."""
        if self._authenticator is None:
            return None
        message = "sign in: send USER:PASSWORD of a passkb account with HTTP Basic or as a bearer token"
        candidates = _credentials(scope)
        if not candidates:
            return _error(401, message, _CHALLENGE)
        attempt = await self._authenticator.attempt(scope, candidates, "MCP" if scope["path"].startswith("/mcp") else "REST")
        if attempt.user is not None:
            return None
        if attempt.retry_after:
            wait = f"too many wrong passwords from this address: wait {attempt.retry_after} s, then try again"
            return _error(429, wait, {"retry-after": str(attempt.retry_after)})
        return _error(401, message, _CHALLENGE)


class _LazyApp:
    """An application that is built, in a thread, on its first request."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._app: ASGIApp | None = None

    async def get(self) -> ASGIApp:
        return await asyncio.to_thread(self._build) if self._app is None else self._app

    def _build(self) -> ASGIApp:
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
    """The possible USER:PASSWORD values of a request: a bearer token as it is, and Base64-decoded."""
    kind, _, rest = HTTPConnection(scope).headers.get("authorization", "").partition(" ")
    value = rest.strip().encode("latin-1")
    if not value or kind.lower() not in ("basic", "bearer"):
        return []
    candidates = [value] if kind.lower() == "bearer" else []
    with contextlib.suppress(binascii.Error):
        candidates.append(base64.b64decode(value, validate=True))
    return candidates


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message, "nearest": []}, status, headers)
