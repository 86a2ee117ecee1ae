"""Limits password guessing: a wait per client address and a delay per account, both growing with each failure."""

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

FREE_ATTEMPTS = 5  # wrong passwords from one address before it has to wait
MAX_WAIT = 300.0  # seconds
_FREE_ACCOUNT_ATTEMPTS = 20  # wrong passwords for one account, from any address, before attempts are delayed
_MAX_DELAY = 5.0  # seconds
_RESET_AFTER = 3600.0  # seconds without a wrong password
_MAX_DIGESTS = 8  # recent wrong passwords stored per address

log = logging.getLogger("passkb.sign_in")


@dataclass(slots=True)
class _Record:
    failures: int = 0
    latest: float = 0.0
    blocked_until: float = 0.0
    digests: list[bytes] = field(default_factory=list)


class SignInLimiter:
    """Counts wrong passwords. Thread-safe. Stores at most `capacity` addresses and `capacity` accounts.

    After 5 wrong passwords an address must wait 1 s, then 2 s, 4 s, up to 5 minutes. An account is never blocked: after 20
    wrong passwords its attempts are delayed by at most 5 s, so that other addresses cannot lock out its owner.
    A repeated wrong password counts once, so that a program with an outdated password does not block its address.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self._clock, self._capacity = clock, capacity
        self._key = secrets.token_bytes(32)
        self._addresses: OrderedDict[str, _Record] = OrderedDict()
        self._accounts: OrderedDict[str, _Record] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str, credentials: bytes) -> float:
        """Seconds until this address may try these credentials; 0 for now."""
        with self._lock:
            record = self._addresses.get(_network(address))
            if record is None or self._digest(credentials) in record.digests:
                return 0.0
            return max(0.0, record.blocked_until - self._clock())

    def delay(self, user: str) -> float:
        """Seconds to wait before comparing a password of `user`; above 0 after many failures from any address."""
        with self._lock:
            record = self._accounts.get(user)
            if record is None or self._clock() - record.latest > _RESET_AFTER:
                return 0.0
            return min(_MAX_DELAY, max(0.0, 0.5 * (record.failures - _FREE_ACCOUNT_ATTEMPTS)))

    def failed(self, address: str, credentials: bytes, user: str | None, via: str) -> float:
        """Records and logs a wrong password. Returns the seconds that the address has to wait.

        `user`: an existing account, or None. `via`: the interface used, for the log."""
        now, digest = self._clock(), self._digest(credentials)
        with self._lock:
            record = self._record(self._addresses, _network(address), now)
            repeated = digest in record.digests
            if not repeated:
                record.digests = [*record.digests, digest][-_MAX_DIGESTS:]
                record.failures += 1
                if user is not None:
                    self._record(self._accounts, user, now).failures += 1
                if record.failures >= FREE_ATTEMPTS:
                    record.blocked_until = now + min(MAX_WAIT, 2.0 ** min(record.failures - FREE_ATTEMPTS, 20))
            wait, failures = max(0.0, record.blocked_until - now), record.failures
        account = repr(user) if user is not None else "an unknown user"
        attempt = "repeated" if repeated else f"attempt {failures}"
        next_attempt = f"; next attempt allowed in {wait:.0f} s" if wait else ""
        log.warning("wrong password for %s from %s (%s), %s%s", account, address, via, attempt, next_attempt)
        return 0.0 if repeated else wait

    def succeeded(self, address: str) -> None:
        """Clears the failures of an address after a successful sign-in."""
        with self._lock:
            self._addresses.pop(_network(address), None)

    def __len__(self) -> int:
        return max(len(self._addresses), len(self._accounts))

    def _record(self, records: OrderedDict[str, _Record], key: str, now: float) -> _Record:
        record = records.get(key)
        if record is None or now - record.latest > _RESET_AFTER:
            record = records[key] = _Record()
        record.latest = now
        records.move_to_end(key)
        while len(records) > self._capacity:
            records.popitem(last=False)
        return record

    def _digest(self, credentials: bytes) -> bytes:
        return hmac.digest(self._key, credentials, "sha256")


def _network(address: str) -> str:
    """The IPv4 address, or the /64 network of an IPv6 address (one subscriber)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
