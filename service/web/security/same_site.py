"""Refuses requests that a browser sends on behalf of another site."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_SAFE_METHODS = ("GET", "HEAD")


class SameSite:
    """Refuses cross-site requests, except for links that a user follows. Requests without browser headers pass."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_cross_site(scope) and not _is_navigation(scope):
            await PlainTextResponse("cross-site request refused", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_navigation(scope: Scope) -> bool:
    """Whether the user followed a link. Browsers without Sec-Fetch headers send no Origin with a navigation either."""
    return scope["method"] in _SAFE_METHODS and HTTPConnection(scope).headers.get("sec-fetch-mode") == "navigate"


def is_cross_site(scope: Scope) -> bool:
    """Whether a page of another site caused the request, by its Sec-Fetch-Site or Origin header."""
    headers = HTTPConnection(scope).headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    return bool(origin) and urlsplit(origin).netloc != headers.get("host")
