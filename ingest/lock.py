"""The write lock of a home: one process writes at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kb.files import write_atomic
from kb.notes import PasskbError
from kb.os_errors import NO_PERMISSION, NO_ROOM, READ_ONLY, explanation
from kb.store.schema import READ_ONLY_REMEDY

TIMEOUT_S = 600.0
_log = logging.getLogger("passkb")


@contextmanager
def lock_home(home: Path, on_wait: Callable[[str], None] = _log.warning, timeout: float = TIMEOUT_S) -> Iterator[None]:
    """Locks the home for writing. `on_wait` is called once with a message when another process has the lock.

    Raises PasskbError that names the other process after `timeout` seconds, and PasskbError for any OSError in the block. The
    lock of a process that dies is released at once.
    """
    lock, holder = FileLock(home / "writing.lock"), home / "writing.pid"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _acquire(lock, holder, home, on_wait, timeout)
    except OSError as error:
        raise _lock_error(home, error) from error
    try:
        write_atomic(holder, str(os.getpid()), durable=False)
        yield
    except OSError as error:
        raise _lock_error(home, error) from error
    finally:
        lock.release()


def _acquire(lock: FileLock, holder: Path, home: Path, on_wait: Callable[[str], None], timeout: float) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = f"process {_read_pid(holder)}"
        on_wait(f"{name} is writing {home}: waiting until it finishes")
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise PasskbError(f"{name} is still writing {home}: wait until it finishes or stop it, then try again") from None


def _lock_error(home: Path, error: OSError) -> PasskbError:
    """The error for a file in the home that cannot be written, or a file outside that cannot be accessed."""
    name = str(error.filename or home)
    if not Path(name).is_relative_to(home) and not name.endswith(".lock"):
        return PasskbError(f"{name} cannot be used {explanation(error, 'check its permissions and its disk')}")
    if error.errno in NO_ROOM:
        return PasskbError(f"the disk of {home} is full ({error.strerror}): make room and try again; nothing is lost")
    if error.errno in NO_PERMISSION | READ_ONLY:
        return PasskbError(f"{home} is read-only ({error.strerror}): {READ_ONLY_REMEDY}")
    return PasskbError(f"{home} cannot be used {explanation(error, 'choose another folder with --home')}")


def _read_pid(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
