"""Remedies for operating-system errors, in the wording that all messages share."""

from __future__ import annotations

import errno
import os
from pathlib import Path

TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS})
NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM})


def remedy(error: OSError, default: str) -> str:
    """The remedy for `error`. `default`: the remedy when the file itself is at fault, not the machine.

    >>> remedy(OSError(errno.EMFILE, "Too many open files"), "delete it")
    'too many open files: raise the limit with `ulimit -n`, or restart passkb'
    >>> remedy(OSError(errno.EISDIR, "Is a directory"), "delete it")
    'delete it'
    """
    if error.errno in TOO_MANY_FILES:
        return "too many open files: raise the limit with `ulimit -n`, or restart passkb"
    if error.errno in NO_ROOM:
        return "make room on its disk and try again"
    if error.errno in READ_ONLY:
        return "its disk is mounted read-only: mount it writable, or choose another folder with --home"
    if error.errno in NO_PERMISSION:
        return "check its permissions and its folder's permissions"
    if error.errno == errno.EIO:
        return "check its disk, and try again"
    return default


def explanation(error: Exception, default: str) -> str:
    """The cause of a failed read or write in parentheses, then the remedy: `(No space left on device): make room …`."""
    if isinstance(error, OSError):
        return f"({error.strerror or error}): {remedy(error, default)}"
    return f"({error}): {default}"


def is_writable(folder: Path) -> bool:
    """Whether files can be created in an existing folder, by its permissions and its file system."""
    return os.access(folder, os.W_OK | os.X_OK)


def open_failure(path: Path) -> OSError | None:
    """Why `path` cannot be opened or created, for libraries that do not report it; None when it can. Creates no file."""
    try:
        if path.exists():
            os.close(os.open(path, os.O_RDONLY))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return error
    try:
        status = os.fstatvfs(folder)
    finally:
        os.close(folder)
    if status.f_flag & os.ST_RDONLY:
        return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    if status.f_bavail == 0 and status.f_blocks:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if not is_writable(path.parent) or (path.exists() and not os.access(path, os.W_OK)):
        return OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return None
