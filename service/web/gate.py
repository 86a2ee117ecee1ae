"""Where other programs come in: REST below /api, the Model Context Protocol at /mcp.

Who may come in is decided here: nobody from another site's page, nobody without the account where there is one, and nothing too
large. What is behind is loaded when it is first asked for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import threading
from collections.abc import Callable
from hashlib import sha256

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.programs.operations import Access
from service.web.downloads import from_elsewhere

LARGEST = 256 * 1024  # bytes of a body
_PROMPT = {"www-authenticate": 'Basic realm="passkb", charset="UTF-8"'}


class Gate:
    """`account`: user and password that are asked for, if any. Passes on whatever is not for programs."""

    def __init__(self, app: ASGIApp, access: Access, account: tuple[str, str] | None = None) -> None:
        self.app = app
        self._account = _digest(":".join(account).encode()) if account else None
        self._rooms = {"api": _Room(lambda: _rest(access)), "mcp": _Room(lambda: _mcp(access))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        room = self._rooms.get((*scope["path"].split("/"), "")[1]) if scope["type"] == "http" else None
        if room is None:
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        body = await _body(scope, receive)
        if body is None:
            await _told(413, f"the body is too large: send at most {LARGEST:,} bytes")(scope, receive, send)
            return
        # Only what FastAPI and the SDK are to see of the app around them.
        inner = {key: value for key, value in scope.items() if key not in ("app", "router", "endpoint", "path_params")}
        await (await room.opened())(inner, _again(body, receive), _unkept(send))

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if from_elsewhere(scope):
            return _told(403, "this request came from a page of another site: programs send no Origin or Sec-Fetch-Site of one")
        if self._account is not None and not _signed(scope, self._account):
            words = "sign in: send the USER:PASSWORD that passkb is served with, by HTTP basic or as a bearer token"
            return _told(401, words, _PROMPT)
        if scope["path"].startswith("/mcp") and scope["path"] not in ("/mcp", "/mcp/"):
            return _told(404, "there is nothing here: the Model Context Protocol is at /mcp")
        if scope["path"].startswith("/mcp") and scope["method"] != "POST":
            return _told(405, "the Model Context Protocol takes POST here; nothing is streamed to a GET", {"allow": "POST"})
        return None


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
    from service.programs.rest import rest

    return rest(access)


def _mcp(access: Access) -> ASGIApp:
    from service.programs.tools import OverHttp

    return OverHttp(access)


def _signed(scope: Scope, account: bytes) -> bool:
    """Whether the request names the account: compared as digests, in a time that tells nothing."""
    kind, _, rest = HTTPConnection(scope).headers.get("authorization", "").partition(" ")
    given = rest.strip().encode("latin-1")
    candidates = [given] if kind.lower() == "bearer" else []
    if kind.lower() in ("basic", "bearer"):
        with contextlib.suppress(binascii.Error):
            candidates.append(base64.b64decode(given, validate=True))
    return any([hmac.compare_digest(_digest(candidate), account) for candidate in candidates])


def _digest(account: bytes) -> bytes:
    return sha256(account).digest()


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None where it is too large, which a stated length tells before it is read."""
    stated = HTTPConnection(scope).headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > LARGEST:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > LARGEST:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _unkept(send: Send) -> Send:
    """Answers are nobody's to keep: notes change, and shared caches are no place for them."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sent


def _told(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": words, "nearest": []}, status, headers)
