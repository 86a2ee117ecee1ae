"""Atomic file writes: readers see either the old content or the complete new content."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from kb.processes import is_running

_SUFFIX = ".part"


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replaces the content of `path`, creating its folder if needed. Text is written as UTF-8.

    With `durable` the file and its folder are on disk when this returns, so that they survive a power failure; pass False for
    files that can be derived again. A device or pipe, such as /dev/stdout, is written to and not replaced. Raises OSError, and
    then leaves the old content and no scratch file.
    """
    content = data if isinstance(data, bytes) else data.encode("utf-8", "replace")
    if path.exists() and not (path.is_file() or path.is_dir()):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.parent / f".{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    try:
        with open(scratch, "xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(scratch)):
            error.filename, error.filename2 = str(path), None  # users do not know the scratch file
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes to disk the names created, changed or removed in `folder`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_scratch_files(folder: Path) -> None:
    """Removes the scratch files of processes that no longer run, in `folder` itself."""
    for path in folder.glob(f".*{_SUFFIX}"):
        pid = path.name.lstrip(".").partition("-")[0]
        if not (pid.isdigit() and is_running(int(pid))):
            path.unlink(missing_ok=True)
