"""Signed session cookies, and page tokens that bind a page's events to its browser session (CSRF protection).

A session is a random id in a signed cookie. A page token is an expiry time and a MAC over it and the session.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from enum import StrEnum

LIFETIME = 12 * 3600.0  # seconds that a page token is valid; a page that stays open longer fetches a new one
HEADER = "x-passkb-token"


class Refusal(StrEnum):
    """Why a token is rejected."""

    MISSING = "missing"
    NO_SESSION = "no session"
    EXPIRED = "expired"
    FORGED = "forged"


class SessionTokens:
    """Signs and verifies session cookies and page tokens with a random key that lives as long as the process."""

    def __init__(self, clock: Callable[[], float] = time.time, lifetime: float = LIFETIME) -> None:
        self._key = secrets.token_bytes(32)
        self._clock, self._lifetime = clock, lifetime

    def new_session(self) -> str:
        return secrets.token_urlsafe(24)

    def cookie(self, session: str) -> str:
        """The cookie value for `session`."""
        return f"{session}.{self._mac('cookie', session)}"

    def session(self, cookie: str | None) -> str | None:
        """The session of a cookie value, or None if the signature is wrong."""
        session, dot, mac = (cookie or "").partition(".")
        return session if dot and hmac.compare_digest(mac.encode(), self._mac("cookie", session).encode()) else None

    def token(self, session: str) -> str:
        """A page token for `session`, valid for `lifetime` seconds."""
        expiry = int(self._clock() + self._lifetime)
        return f"{expiry}.{self._mac('token', session, str(expiry))}"

    def refusal(self, session: str | None, token: str | None) -> Refusal | None:
        """Why this token is not valid for this session; None if it is."""
        if session is None:
            return Refusal.NO_SESSION
        if not token:
            return Refusal.MISSING
        expiry, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("token", session, expiry).encode()):
            return Refusal.FORGED
        return Refusal.EXPIRED if float(expiry) < self._clock() else None

    def _mac(self, *parts: str) -> str:
        """HMAC-SHA256 over the parts, separated by NUL, which no part contains."""
        digest = hmac.digest(self._key, "\0".join(parts).encode(), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")
