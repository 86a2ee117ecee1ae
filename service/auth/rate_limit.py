"""Limits attempts to guess a password: a wait that grows with each wrong one, per client address and per account.

One limiter serves every way to sign in. It knows nothing of HTTP.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

FREE_TRIES = 5  # wrong passwords from one address before it has to wait
LONGEST_WAIT = 300.0  # seconds
_ACCOUNT_TRIES = 20  # wrong passwords for one account, from whatever address, before each further try is delayed
_LONGEST_DELAY = 5.0  # seconds
_FORGOTTEN_AFTER = 3600.0  # seconds without a wrong password
_REMEMBERED = 8  # the newest wrong passwords of an address

log = logging.getLogger("passkb.sign_in")


@dataclass(slots=True)
class _Record:
    failures: int = 0
    latest: float = 0.0
    blocked_until: float = 0.0
    digests: list[bytes] = field(default_factory=list)


class SignInLimiter:
    """Counts wrong passwords. Safe to use from several threads; holds at most `capacity` addresses and as many accounts.

    An address is refused while it waits: after 5 wrong passwords for 1 s, then 2 s, 4 s, up to 5 minutes. An account is never
    refused because of what other addresses tried: each of its tries is only delayed, by 5 s at most, after 20 wrong ones.
    The same wrong password again is no new guess and counts once, so a program with an old password locks nobody out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self._clock, self._capacity = clock, capacity
        self._key = secrets.token_bytes(32)
        self._addresses: OrderedDict[str, _Record] = OrderedDict()
        self._accounts: OrderedDict[str, _Record] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str, credentials: bytes) -> float:
        """Seconds until this address may try these credentials; 0 if now."""
        with self._lock:
            record = self._addresses.get(_network(address))
            if record is None or self._digest(credentials) in record.digests:
                return 0.0
            return max(0.0, record.blocked_until - self._clock())

    def delay(self, user: str) -> float:
        """Seconds to wait before these credentials are compared, because many addresses guess this account's password."""
        with self._lock:
            record = self._accounts.get(user)
            if record is None or self._clock() - record.latest > _FORGOTTEN_AFTER:
                return 0.0
            return min(_LONGEST_DELAY, max(0.0, 0.5 * (record.failures - _ACCOUNT_TRIES)))

    def failed(self, address: str, credentials: bytes, user: str | None, via: str) -> float:
        """Counts a wrong password and logs it; the seconds that the address now has to wait. `user`: an account that exists,
        or None. `via`: where it was tried, for the log."""
        now, digest = self._clock(), self._digest(credentials)
        with self._lock:
            record = self._record(self._addresses, _network(address), now)
            repeated = digest in record.digests
            if not repeated:
                record.digests = [*record.digests, digest][-_REMEMBERED:]
                record.failures += 1
                if user is not None:
                    self._record(self._accounts, user, now).failures += 1
                if record.failures >= FREE_TRIES:
                    record.blocked_until = now + min(LONGEST_WAIT, 2.0 ** min(record.failures - FREE_TRIES, 20))
            wait, failures = max(0.0, record.blocked_until - now), record.failures
        named = f"for {user!r}" if user is not None else "for an unknown user"
        again = "the same again" if repeated else f"number {failures} from there"
        then = f"; the next try is possible in {wait:.0f} s" if wait else ""
        log.warning("wrong password %s from %s (%s), %s%s", named, address, via, again, then)
        return 0.0 if repeated else wait

    def succeeded(self, address: str) -> None:
        """Forgets the wrong passwords of an address that signed in."""
        with self._lock:
            self._addresses.pop(_network(address), None)

    def __len__(self) -> int:
        return max(len(self._addresses), len(self._accounts))

    def _record(self, records: OrderedDict[str, _Record], key: str, now: float) -> _Record:
        record = records.get(key)
        if record is None or now - record.latest > _FORGOTTEN_AFTER:
            record = records[key] = _Record()
        record.latest = now
        records.move_to_end(key)
        while len(records) > self._capacity:
            records.popitem(last=False)
        return record

    def _digest(self, credentials: bytes) -> bytes:
        return hmac.digest(self._key, credentials, "sha256")


def _network(address: str) -> str:
    """The address, or for IPv6 the /64 that one subscriber has to choose from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
