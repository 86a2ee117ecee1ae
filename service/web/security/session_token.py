"""Tokens that bind an event of the page to the browser session that the page was loaded in.

A session is a random id in a signed cookie. A page token is an expiry and a MAC over it and the session, embedded in the page.
The key is random and dies with the process. Nothing is stored for sessions that never signed in.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from enum import StrEnum

LIFETIME = 12 * 3600.0  # seconds that a page token is good for; a page that is open longer fetches another
HEADER = "x-passkb-token"


class Refusal(StrEnum):
    """Why a token is not accepted."""

    MISSING = "missing"
    NO_SESSION = "no session"
    EXPIRED = "expired"
    FORGED = "forged"


class SessionTokens:
    """Signs and checks session cookies and page tokens with a key of its own."""

    def __init__(self, clock: Callable[[], float] = time.time, lifetime: float = LIFETIME) -> None:
        self._key = secrets.token_bytes(32)
        self._clock, self._lifetime = clock, lifetime

    def new_session(self) -> str:
        return secrets.token_urlsafe(24)

    def cookie(self, session: str) -> str:
        """The value of the cookie for `session`."""
        return f"{session}.{self._mac('cookie', session)}"

    def session(self, cookie: str | None) -> str | None:
        """The session that a cookie of ours names, or None."""
        session, dot, mac = (cookie or "").partition(".")
        return session if dot and hmac.compare_digest(mac.encode(), self._mac("cookie", session).encode()) else None

    def token(self, session: str) -> str:
        """A page token for `session`, good for `lifetime` seconds."""
        expiry = int(self._clock() + self._lifetime)
        return f"{expiry}.{self._mac('token', session, str(expiry))}"

    def refusal(self, session: str | None, token: str | None) -> Refusal | None:
        """Why this token does not speak for this session; None if it does."""
        if session is None:
            return Refusal.NO_SESSION
        if not token:
            return Refusal.MISSING
        expiry, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("token", session, expiry).encode()):
            return Refusal.FORGED
        return Refusal.EXPIRED if float(expiry) < self._clock() else None

    def _mac(self, *parts: str) -> str:
        """Over parts that a NUL separates; none of ours contains one."""
        digest = hmac.digest(self._key, "\0".join(parts).encode(), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")
