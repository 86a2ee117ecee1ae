"""Browser sessions: their signed cookie, their signed-in user, and the pages that belong to them."""

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

_IDLE_TIMEOUT = 24 * 3600.0  # seconds without a request that end a sign-in


class Sessions:
    """Signed-in sessions and their pages (Gradio session hashes), at most `capacity` of each. Thread-safe."""

    def __init__(self, tokens: SessionTokens, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self.tokens = tokens
        self._clock, self._capacity = clock, capacity
        self._signed_in: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, scope: Scope) -> str | None:
        """The session of a request's cookie, or None for a cookie that this process did not sign."""
        return self.tokens.session(HTTPConnection(scope).cookies.get(cookie_name(scope)))

    def sign_in(self, user: str) -> str:
        """Starts a new session for `user`. Never reuses the browser's session, which protects against session fixation."""
        session = self.tokens.new_session()
        with self._lock:
            self._signed_in[session] = (user, self._clock())
            _drop_oldest(self._signed_in, self._capacity)
        return session

    def sign_out(self, session: str | None) -> None:
        with self._lock:
            self._signed_in.pop(session or "", None)

    def user(self, session: str | None) -> str | None:
        """The user who is signed in with a session, or None. A sign-in ends after a day without a request."""
        with self._lock:
            user, used = self._signed_in.get(session or "", (None, 0.0))
            if session is None or user is None:
                return None
            if self._clock() - used > _IDLE_TIMEOUT:
                del self._signed_in[session]
                return None
            self._signed_in[session] = (user, self._clock())
            self._signed_in.move_to_end(session)
            return user

    def refusal(self, request: Any) -> str | None:
        """Why a `gradio.Request` may not start or write anything; None if it may."""
        scope = getattr(getattr(request, "request", None), "scope", None)
        if scope is None:
            return "not a request from a page"
        token = HTTPConnection(scope).headers.get(HEADER)
        refusal = self.tokens.refusal(self.of(scope), token)
        return None if refusal is None else f"{refusal} token"

    def owns(self, session: str, page: str) -> bool:
        """Whether a page belongs to this session. The first session that uses a page owns it."""
        with self._lock:
            owner = self._pages.setdefault(page, session)
            self._pages.move_to_end(page)
            _drop_oldest(self._pages, self._capacity)
        return owner == session


def cookie_name(scope: Scope) -> str:
    """A name per port, because browsers share cookies between the ports of a host."""
    server = scope.get("server")
    return f"passkb-session-{server[1] if server else 0}"


def set_cookie(scope: Scope, value: str, age: int | None = None) -> str:
    """A `Set-Cookie` header: HttpOnly, SameSite=Strict, and Secure over HTTPS. `age`: Max-Age in seconds; 0 deletes it."""
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


def _drop_oldest(entries: OrderedDict[str, Any], capacity: int) -> None:
    while len(entries) > capacity:
        entries.popitem(last=False)
