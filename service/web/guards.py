"""What stands before the app, outermost first: whose names are answered to, what a page may fetch, who may ask."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.programs.operations import Access
from service.web.downloads import Downloads, SameSite
from service.web.gate import Gate
from service.web.health import HealthCheck, Healthz
from service.web.request_log import RequestLog

_LOCAL = ["127.0.0.1", "localhost", "[::1]"]
_BOUND = ["127.0.0.1", "localhost", "::1"]
# Gradio's own front end needs inline code and eval; nothing may be fetched from, or sent to, another machine.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; object-src 'none'; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)


def guards(
    host: str, access: Access, account: tuple[str, str] | None = None, health: HealthCheck | None = None
) -> list[Middleware]:
    """On this machine alone, only its own names are answered to: a foreign page can not rebind its name to the app."""
    local = [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL)] if host in _BOUND else []
    probes = [Middleware(Healthz, health=health)] if health else []
    programs = Middleware(Gate, access=access, account=account)
    own = [Middleware(SameSite), Middleware(Downloads, home=access.kb.home)]
    return [Middleware(RequestLog), *local, Middleware(_Policy), *probes, programs, *own]


class _Policy:
    """Adds the content security policy to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)
