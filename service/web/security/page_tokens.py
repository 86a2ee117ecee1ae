"""Adds a token to each page, and requires it for every event.

A POST needs the page's session cookie and token; a page's streams need the cookie; static files need neither. Gradio routes
that the app does not use are closed.
"""

from __future__ import annotations

import json
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from markupsafe import Markup
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth.password_check import client_address
from service.web.components.templates import render
from service.web.security.login_page import return_page
from service.web.security.session_token import HEADER, Refusal
from service.web.security.sessions import Sessions, set_cookie
from service.web.security.sign_in import is_foreign_navigation, path_and_query
from service.web.server.gradio_routes import HEARTBEAT, STARTUP, UPLOAD, is_static, is_used
from service.web.server.headers import NONCE
from service.web.server.request_body import read_body, replayed

MAX_BYTES = 16 * 1024 * 1024  # of an event: a page sends the answers stored in its browser
_OPEN = frozenset({STARTUP, "/healthz"})
_SCRIPTS = ("page_token.js", "behaviour.js")
_SCRIPT = re.compile(rb"<script\b", re.IGNORECASE)
_REASONS = {
    Refusal.MISSING: "it has no token; open passkb in a browser",
    Refusal.NO_SESSION: "it has no session of this server; open passkb in a browser",
    Refusal.EXPIRED: "its token has expired; reload the page",
    Refusal.FORGED: "its token belongs to another session or server; reload the page",
}
_OTHER_SESSION = "it uses the page of another session"
log = logging.getLogger("passkb.border")


class PageTokens:
    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        if not is_used(method, path):
            await JSONResponse({"error": f"not found: {path[:200]}"}, 404)(scope, receive, send)
        elif is_static(path) or path in _OPEN or (method == "HEAD" and path == "/"):
            await self.app(scope, receive, send)
        elif path == "/":
            await self._page(scope, receive, send)
        elif method == "POST":
            await self._action(scope, receive, send)
        else:
            await self._stream(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._sessions.of(scope)
        if session is None and is_foreign_navigation(scope):
            await HTMLResponse(return_page(path_and_query(scope)))(scope, receive, send)
            return
        cookie = None
        if session is None:
            session = self._sessions.tokens.new_session()
            cookie = set_cookie(scope, self._sessions.tokens.cookie(session))
        sender = _with_token(send, self._sessions.tokens.token(session), str(scope.get(NONCE, "")), cookie)
        await self.app(scope, receive, sender)

    async def _action(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._sessions.of(scope)
        refusal = self._sessions.tokens.refusal(session, HTTPConnection(scope).headers.get(HEADER))
        if refusal is not None:
            await _refused(scope, _REASONS[refusal])(scope, receive, send)
            return
        assert session is not None
        if scope["path"] == UPLOAD:
            await self.app(scope, receive, send)
            return
        body = await read_body(scope, receive, MAX_BYTES)
        if body is None:
            await JSONResponse({"error": f"the event is too large: the limit is {MAX_BYTES:,} bytes"}, 413)(
                scope, receive, send
            )
            return
        event = _event(body)
        page = event.get("session_hash")
        if not isinstance(page, str) or not 0 < len(page) <= 100:
            await JSONResponse({"error": "the event is not a JSON object with a session_hash"}, 422)(scope, receive, send)
        elif _has_web_address(event.get("data")):
            await JSONResponse({"error": "the event refers to a file by its URL: upload the file"}, 422)(scope, receive, send)
        elif not self._sessions.owns(session, page):
            await _refused(scope, _OTHER_SESSION)(scope, receive, send)
        else:
            await self.app(scope, replayed(body, receive), send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on a page's event stream, heartbeat and configuration."""
        session, page = self._sessions.of(scope), _requested_page(scope)
        if session is None:
            await _refused(scope, _REASONS[Refusal.NO_SESSION])(scope, receive, send)
        elif page and not self._sessions.owns(session, page):
            await _refused(scope, _OTHER_SESSION)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _refused(scope: Scope, reason: str) -> Response:
    log.warning("refused %s %s from %s: %s", scope["method"], scope["path"], client_address(scope), reason)
    body = {"error": f"request refused: {reason}", "detail": f"Request refused: {reason}", "refused": True}
    return JSONResponse(body, 403, {"x-passkb-refused": "1"})


def _event(body: bytes) -> dict[str, Any]:
    """The event as a JSON object; empty for anything else."""
    try:
        event: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _has_web_address(data: Any) -> bool:
    """Whether the event's data contains a file with a web address, which Gradio would download."""
    values = [data]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if str(value.get("path", "")).strip().lower().startswith(("http:", "https:")):
                return True
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return False


def _requested_page(scope: Scope) -> str:
    if str(scope["path"]).startswith(HEARTBEAT):
        return str(scope["path"])[len(HEARTBEAT) :]
    query: str = scope["query_string"].decode("latin-1")
    return parse_qs(query).get("session_hash", [""])[0]


@cache
def _scripts() -> Markup:
    """The app's scripts. They run before Gradio's, so that its first request carries the token."""
    folder = Path(__file__).parents[1] / "static"
    return render("security/scripts.html", scripts=[Markup((folder / name).read_text("utf-8")) for name in _SCRIPTS])


def _with_token(send: Send, token: str, nonce: str, cookie: str | None) -> Send:
    """Inserts the token and the app's scripts into a page, and adds the nonce to each of its scripts."""
    start: Message = {}
    body = bytearray()
    head = Markup('<head><meta name="passkb-token" content="{}">{}').format(token, _scripts()).encode()
    script = Markup('<script nonce="{}"').format(nonce).encode()

    async def rewritten(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        if message["type"] != "http.response.body":
            await send(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body", False):
            return
        headers = MutableHeaders(scope=start)
        page = bytes(body)
        if headers.get("content-type", "").startswith("text/html"):
            page = _SCRIPT.sub(script, page.replace(b"<head>", head, 1))
            headers["content-length"] = str(len(page))
        if cookie is not None:
            headers.append("set-cookie", cookie)
        await send(start)
        await send({"type": "http.response.body", "body": page})

    return rewritten
