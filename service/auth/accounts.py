"""The accounts that may sign in: read from USER:PASSWORD or a password file, compared in constant time."""

from __future__ import annotations

import hmac
import os
import stat
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from kb.notes import PasskbError

_MAX_BYTES = 64 * 1024  # of a password file


class Accounts:
    """User names and SHA-256 digests of USER:PASSWORD. Passwords are not stored."""

    def __init__(self, accounts: Iterable[tuple[str, str]]) -> None:
        self._digests = {user: _digest(f"{user}:{password}") for user, password in accounts}

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, user: object) -> bool:
        return user in self._digests

    def user(self, credentials: bytes) -> str | None:
        """The user of `credentials` (USER:PASSWORD as UTF-8), or None. Compares with all accounts in constant time."""
        digest = sha256(credentials).digest()
        matches = [user for user, expected in self._digests.items() if hmac.compare_digest(digest, expected)]
        return matches[0] if matches else None


def parse_account(text: str, origin: str) -> tuple[str, str]:
    """Splits USER:PASSWORD at the first colon. Raises PasskbError that names `origin`."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise PasskbError(f"{origin} must have the form USER:PASSWORD")
    return user, password


def read_accounts(path: Path) -> Accounts:
    """Reads a file with one USER:PASSWORD per line. Skips empty lines and lines that start with #.

    Warns on stderr when other users of this machine can read the file. Raises PasskbError for an unusable file.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PasskbError(f"cannot read the password file {path}: {reason}") from error
    if len(content) > _MAX_BYTES:
        raise PasskbError(f"the password file {path} is too large: the limit is {_MAX_BYTES:,} bytes")
    if stat.S_ISREG(mode) and mode & 0o077:
        print(f"passkb: other users can read {path}: run `chmod 600 {path}`", file=sys.stderr, flush=True)
    lines = [(number, line) for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1) if line.strip()]
    entries = [parse_account(line, f"{path}, line {number},") for number, line in lines if not line.startswith("#")]
    if not entries:
        raise PasskbError(f"the password file {path} has no account: add a line USER:PASSWORD")
    if len({user for user, _ in entries}) < len(entries):
        raise PasskbError(f"the password file {path} lists a user twice: keep one line per user")
    return Accounts(entries)


def _digest(account: str) -> bytes:
    return sha256(account.encode()).digest()
