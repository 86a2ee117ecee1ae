"""Checks the passwords in requests to the sign-in page, REST and MCP, with one shared rate limiter."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.types import Scope

from service.auth.accounts import Accounts
from service.auth.rate_limit import SignInLimiter


@dataclass(frozen=True, slots=True)
class Attempt:
    """`user`: the authenticated user, or None. `retry_after`: seconds until the address may try again, 0 for now."""

    user: str | None = None
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks passwords and counts failures. Shared by the sign-in page, REST and MCP."""

    accounts: Accounts
    limiter: SignInLimiter = field(default_factory=SignInLimiter)

    async def attempt(self, scope: Scope, candidates: Sequence[bytes], via: str) -> Attempt:
        """Compares `candidates`, possible decodings of one USER:PASSWORD, with the accounts. Logs a failure with `via`."""
        address = client_address(scope)
        wait = self.limiter.wait(address, candidates[0])
        if wait > 0:
            return Attempt(retry_after=math.ceil(wait))
        known = self._known_user(candidates)
        if known is not None and (delay := self.limiter.delay(known)) > 0:
            await asyncio.sleep(delay)
        matches = [user for candidate in candidates if (user := self.accounts.user(candidate)) is not None]
        if matches:
            self.limiter.succeeded(address)
            return Attempt(matches[0])
        return Attempt(retry_after=math.ceil(self.limiter.failed(address, candidates[0], known, via)))

    def _known_user(self, candidates: Sequence[bytes]) -> str | None:
        names = [candidate.partition(b":")[0].decode("utf-8", "replace") for candidate in candidates]
        return next((name for name in names if name in self.accounts), None)


def client_address(scope: Scope) -> str:
    """The address that a request came from, as the server sees it."""
    client = scope.get("client")
    return str(client[0]) if client else "an unknown address"
