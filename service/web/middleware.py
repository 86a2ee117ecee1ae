"""What stands before the app, outermost first: whose names are answered to, who may ask, what may act, what a page may load."""

from __future__ import annotations

import threading

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from service.api.operations import Access
from service.auth.accounts import Accounts
from service.auth.password_check import Authenticator
from service.web.api_mount import Gate
from service.web.experiments.downloads import Downloads, SameSite
from service.web.security.page_tokens import PageTokens
from service.web.security.session_token import SessionTokens
from service.web.security.sessions import Sessions
from service.web.security.sign_in import SignIn
from service.web.server.headers import SecurityHeaders
from service.web.server.health import HealthCheck, Healthz
from service.web.server.request_log import RequestLog
from service.web.server.uploads import UploadLimit

_LOCAL = ["127.0.0.1", "localhost", "[::1]"]
_BOUND = ["127.0.0.1", "localhost", "::1"]


def guards(
    host: str,
    access: Access,
    accounts: Accounts | None = None,
    sessions: Sessions | None = None,
    launched: threading.Event | None = None,
    health: HealthCheck | None = None,
) -> list[Middleware]:
    """On this machine alone, only its own names are answered to: a foreign page can not rebind its name to the app.

    `accounts`: who may sign in; None where nobody needs to. `launched`: set once the app is up. `health`: answers /healthz."""
    local = [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL)] if host in _BOUND else []
    probes = [Middleware(Healthz, health=health)] if health else []
    authenticator = Authenticator(accounts) if accounts else None
    kept = sessions or Sessions(SessionTokens())
    return [
        Middleware(RequestLog),
        *local,
        Middleware(SecurityHeaders),
        *probes,
        Middleware(Gate, access=access, authenticator=authenticator),
        Middleware(SameSite),
        Middleware(SignIn, sessions=kept, authenticator=authenticator, launched=launched or threading.Event()),
        Middleware(Downloads, home=access.kb.home),
        Middleware(PageTokens, sessions=kept),
        Middleware(UploadLimit),
    ]
