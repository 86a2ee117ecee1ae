"""Requires a signed-in session if passkb is served with accounts; answers /login and /logout."""

from __future__ import annotations

import re
import threading
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.password_check import Authenticator
from service.web.components.formatting import count
from service.web.security.login_page import login_page, return_page
from service.web.security.sessions import Sessions, set_cookie
from service.web.server.gradio_routes import STARTUP
from service.web.server.request_body import read_body

OPEN = frozenset({"/login", "/healthz"})  # need no account
PROGRAMS = re.compile(r"/(api|mcp)(/.*)?")  # api_mount checks their credentials with each request
_MAX_BYTES = 8 * 1024  # of a form
_WRONG = "The user name or the password is wrong."


class SignIn:
    """Passes on requests of signed-in sessions; all requests if `authenticator` is None. `launched`: set once the app runs."""

    def __init__(
        self, app: ASGIApp, sessions: Sessions, authenticator: Authenticator | None, launched: threading.Event
    ) -> None:
        self.app, self._sessions, self._authenticator, self._launched = app, sessions, authenticator, launched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # the app uses none
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["path"] == "/login":
            await (await self._login(scope, receive))(scope, receive, send)
        elif scope["path"] == "/logout" and self._authenticator is not None:
            await self._logout(scope)(scope, receive, send)
        elif self._may_pass(scope):
            await self.app(scope, receive, send)
        else:
            await _refused(scope)(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        path = scope["path"]
        if self._authenticator is None or path in OPEN or PROGRAMS.fullmatch(path):
            return True
        if path == STARTUP and not self._launched.is_set():  # `Blocks.launch` requests it
            return True
        return self._sessions.user(self._sessions.of(scope)) is not None

    async def _login(self, scope: Scope, receive: Receive) -> Response:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        target = _safe_target(query.get("next", ["/"])[0])
        if self._authenticator is None:
            return RedirectResponse("/", 303)
        if scope["method"] in ("GET", "HEAD"):
            signed_in = self._sessions.user(self._sessions.of(scope)) is not None
            return RedirectResponse(target, 303) if signed_in else HTMLResponse(login_page(target))
        if scope["method"] != "POST":
            return Response("Send the sign-in form with POST.", 405, {"allow": "GET, HEAD, POST"})
        body = await read_body(scope, receive, _MAX_BYTES)
        if body is None:
            return Response(f"The form is too large: the limit is {_MAX_BYTES:,} bytes.", 413)
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        user, password, target = (form.get(name, [default])[0] for name, default in _FIELDS)
        return await self._attempt(scope, user.strip(), password, _safe_target(target))

    async def _attempt(self, scope: Scope, user: str, password: str, target: str) -> Response:
        assert self._authenticator is not None
        attempt = await self._authenticator.attempt(scope, [f"{user}:{password}".encode("utf-8", "replace")], "sign-in page")
        if attempt.user is not None:
            self._sessions.sign_out(self._sessions.of(scope))
            cookie = self._sessions.tokens.cookie(self._sessions.sign_in(attempt.user))
            return RedirectResponse(target, 303, {"set-cookie": set_cookie(scope, cookie)})
        if attempt.retry_after:
            alert = f"Too many wrong passwords. Wait {count(attempt.retry_after, 'second')}, then try again."
            return HTMLResponse(login_page(target, user[:200], alert), 429, {"retry-after": str(attempt.retry_after)})
        return HTMLResponse(login_page(target, user[:200], _WRONG), 401)

    def _logout(self, scope: Scope) -> Response:
        if scope["method"] != "POST":
            return Response("Use the Sign out button of the page.", 405, {"allow": "POST"})
        self._sessions.sign_out(self._sessions.of(scope))
        return RedirectResponse("/login", 303, {"set-cookie": set_cookie(scope, "", 0)})


_FIELDS = (("username", ""), ("password", ""), ("next", "/"))


def _refused(scope: Scope) -> Response:
    headers = HTTPConnection(scope).headers
    is_page = scope["path"] == "/" or "text/html" in headers.get("accept", "")
    if scope["method"] not in ("GET", "HEAD") or not is_page:
        return JSONResponse({"error": "sign in first: open /login in a browser"}, 401, {"x-passkb-refused": "1"})
    target = path_and_query(scope)
    if is_foreign_navigation(scope):
        return HTMLResponse(return_page(target))
    return RedirectResponse("/login" if target == "/" else f"/login?next={quote(target, safe='')}", 303)


def is_foreign_navigation(scope: Scope) -> bool:
    """Whether the user followed a link on another site; the browser then withholds the SameSite=Strict cookie."""
    headers = HTTPConnection(scope).headers
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate"


def path_and_query(scope: Scope) -> str:
    """The percent-encoded path with its query string."""
    query = scope["query_string"].decode("latin-1")
    return quote(scope["path"], safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")


def _safe_target(target: str) -> str:
    """`target` if it is a path of this site other than /login and /logout, else `/`."""
    parts = urlsplit(target.replace("\\", "/"))
    bad = parts.scheme or parts.netloc or not target.startswith("/") or target.startswith(("//", "/\\", "/login", "/logout"))
    return "/" if bad or any(ord(character) < 32 for character in target) else target
