"""The middleware around the Gradio app, outermost first."""

from __future__ import annotations

import threading

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from service.api.operations import Access
from service.auth.accounts import Accounts
from service.auth.password_check import Authenticator
from service.web.api_mount import ApiMount
from service.web.experiments.downloads import Downloads
from service.web.security.page_tokens import PageTokens
from service.web.security.same_site import SameSite
from service.web.security.session_token import SessionTokens
from service.web.security.sessions import Sessions
from service.web.security.sign_in import SignIn
from service.web.server.headers import SecurityHeaders
from service.web.server.health import HealthCheck, Healthz
from service.web.server.request_log import RequestLog
from service.web.server.uploads import UploadLimit

_LOCAL_HOSTS = ["127.0.0.1", "localhost", "[::1]"]  # in a Host header
_LOOPBACK = ["127.0.0.1", "localhost", "::1"]


def middleware_stack(
    host: str,
    access: Access,
    accounts: Accounts | None = None,
    sessions: Sessions | None = None,
    launched: threading.Event | None = None,
    health: HealthCheck | None = None,
) -> list[Middleware]:
    """Served on loopback, the app accepts only local host names, which prevents DNS rebinding.

    `accounts`: None if no sign-in is required. `launched`: set once the app runs. `health`: answers /healthz."""
    trusted_hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_HOSTS)] if host in _LOOPBACK else []
    healthz = [Middleware(Healthz, health=health)] if health else []
    authenticator = Authenticator(accounts) if accounts else None
    sessions = sessions or Sessions(SessionTokens())
    return [
        Middleware(RequestLog),
        *trusted_hosts,
        Middleware(SecurityHeaders),
        *healthz,
        Middleware(ApiMount, access=access, authenticator=authenticator),
        Middleware(SameSite),
        Middleware(SignIn, sessions=sessions, authenticator=authenticator, launched=launched or threading.Event()),
        Middleware(Downloads, home=access.kb.home),
        Middleware(PageTokens, sessions=sessions),
        Middleware(UploadLimit),
    ]
