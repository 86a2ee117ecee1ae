"""One process at a time writes a home; another waits, and says for whom."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kb.notes import PasskbError
from kb.os_errors import NO_PERMISSION, NO_ROOM, READ_ONLY, explanation
from kb.store.schema import READ_ONLY_REMEDY

PATIENCE = 600.0
_log = logging.getLogger("passkb")


@contextmanager
def lock_home(home: Path, waiting: Callable[[str], None] = _log.warning, patience: float = PATIENCE) -> Iterator[None]:
    """Holds the home for writing. `waiting` is told, once, who holds it meanwhile.

    Raises PasskbError that names the holder after `patience` seconds, or when the home cannot be written, now or by what is
    done within. A process that dies lets go at once.
    """
    lock, holder = FileLock(home / "writing.lock"), home / "writing.pid"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _acquire(lock, holder, home, waiting, patience)
    except OSError as error:
        raise _refused(home, error) from error
    try:
        holder.write_text(str(os.getpid()), encoding="ascii")
        yield
    except OSError as error:
        raise _refused(home, error) from error
    finally:
        lock.release()


def _acquire(lock: FileLock, holder: Path, home: Path, waiting: Callable[[str], None], patience: float) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = f"process {_read(holder)}"
        waiting(f"{home} is being written by {name}: waiting for it")
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise PasskbError(f"{home} is still being written by {name}: let it finish, or end it, and try again") from None


def _refused(home: Path, error: OSError) -> PasskbError:
    """What to do about a file that could not be written, or, outside the home, not be looked at."""
    name = str(error.filename or home)
    if not Path(name).is_relative_to(home) and not name.endswith(".lock"):
        return PasskbError(f"{name} cannot be used {explanation(error, 'check its permissions and its disk')}")
    if error.errno in NO_ROOM:
        return PasskbError(f"{home} is full ({error.strerror}): make room on its disk and try again, nothing is lost")
    if error.errno in NO_PERMISSION | READ_ONLY:
        return PasskbError(f"{home} is read-only ({error.strerror}): {READ_ONLY_REMEDY}")
    return PasskbError(f"{home} cannot be used {explanation(error, 'choose another folder with --home')}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
