"""Files that are replaced in one step: whoever reads, and whatever fails, sees the old content or the new one, whole."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_PART = ".part"


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replaces the content of `path`, and makes its folder where there is none. Text is written as UTF-8.

    With `durable` the file and its folder have reached the disk when this returns, so that a power failure undoes nothing;
    leave it out for what can be made again. Raises OSError; the old content stands then, and no scratch file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.parent / f".{os.getpid()}-{secrets.token_hex(4)}{_PART}"
    try:
        with open(scratch, "xb") as file:
            file.write(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(scratch)):
            error.filename, error.filename2 = str(path), None  # nobody knows the scratch file
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were made, changed or removed in `folder` have reached the disk when this returns."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_scratch_files(folder: Path) -> None:
    """Removes what killed processes left of their writing, in `folder` itself; of living processes nothing."""
    for path in folder.glob(f".*{_PART}"):
        pid = path.name.lstrip(".").partition("-")[0]
        if not (pid.isdigit() and _is_alive(int(pid))):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
