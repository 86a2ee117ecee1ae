"""Browser sessions: the signed cookie that names one, and who is signed in with it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.web.security.session_token import HEADER, SessionTokens

_IDLE = 24 * 3600.0  # seconds without a request that end a sign-in


class Sessions:
    """Signed-in sessions, and the pages (Gradio's session hashes) that belong to a session. Bounded; thread-safe."""

    def __init__(self, tokens: SessionTokens, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self.tokens = tokens
        self._clock, self._capacity = clock, capacity
        self._signed_in: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, scope: Scope) -> str | None:
        """The session that a request's cookie names, if this process signed it."""
        return self.tokens.session(HTTPConnection(scope).cookies.get(cookie_name(scope)))

    def sign_in(self, user: str) -> str:
        """A new session for `user`: never one that the browser brought along."""
        session = self.tokens.new_session()
        with self._lock:
            self._signed_in[session] = (user, self._clock())
            _shorten(self._signed_in, self._capacity)
        return session

    def sign_out(self, session: str | None) -> None:
        with self._lock:
            self._signed_in.pop(session or "", None)

    def user(self, session: str | None) -> str | None:
        """Who is signed in with a session; None for nobody, or after a day without a request."""
        with self._lock:
            user, used = self._signed_in.get(session or "", (None, 0.0))
            if session is None or user is None:
                return None
            if self._clock() - used > _IDLE:
                del self._signed_in[session]
                return None
            self._signed_in[session] = (user, self._clock())
            self._signed_in.move_to_end(session)
            return user

    def refusal(self, request: Any) -> str | None:
        """Why a request of Gradio's, as its handlers see it, may not start or write; None if it may."""
        scope = getattr(getattr(request, "request", None), "scope", None)
        if scope is None:
            return "no request of a page"
        token = HTTPConnection(scope).headers.get(HEADER)
        refusal = self.tokens.refusal(self.of(scope), token)
        return None if refusal is None else f"{refusal} token"

    def owns(self, session: str, page: str) -> bool:
        """Whether a page belongs to this session: it does to the first that names it."""
        with self._lock:
            owner = self._pages.setdefault(page, session)
            self._pages.move_to_end(page)
            _shorten(self._pages, self._capacity)
        return owner == session


def cookie_name(scope: Scope) -> str:
    """One for each port: browsers share cookies between the ports of a machine."""
    server = scope.get("server")
    return f"passkb-session-{server[1] if server else 0}"


def set_cookie(scope: Scope, value: str, age: int | None = None) -> str:
    """The `Set-Cookie` header that gives the browser `value`, and no script and no other site. `age`: 0 takes it back."""
    cookie: SimpleCookie = SimpleCookie()
    name = cookie_name(scope)
    cookie[name] = value
    attributes: dict[str, Any] = {"path": "/", "httponly": True, "samesite": "Strict"}
    if scope.get("scheme") == "https":
        attributes["secure"] = True
    if age is not None:
        attributes["max-age"] = age
    cookie[name].update(attributes)
    return cookie[name].OutputString()


def _shorten(entries: OrderedDict[str, Any], capacity: int) -> None:
    while len(entries) > capacity:
        entries.popitem(last=False)
