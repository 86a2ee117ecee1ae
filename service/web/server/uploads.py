"""Files that a page uploads: in a private folder of this process, bounded in size together, and removed with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.web.server.gradio_routes import UPLOAD

LARGEST_UPLOAD = 200 * 1024 * 1024  # bytes of one request
LARGEST_TOTAL = 1024 * 1024 * 1024  # bytes that all uploads together keep; the oldest give way
_NAME = re.compile(r"passkb-uploads-(\d+)-.+")


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """A folder that only this user can read, where Gradio keeps uploads while the context lasts. Folders of processes that
    died are removed."""
    for left in Path(tempfile.gettempdir()).glob("passkb-uploads-*"):
        match = _NAME.fullmatch(left.name)
        if match and not _is_alive(int(match[1])) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"passkb-uploads-{os.getpid()}-"))
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def make_room(folder: Path, total: int, spare: float = 60.0) -> bool:
    """Removes the oldest files of `folder` until the rest has at most `total` bytes; none that changed in the last `spare`
    seconds, which may still be written. Whether there is room then."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.is_file():
                files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - total
    for modified, size, path in sorted(files, key=lambda file: file[0]):
        if excess <= 0 or modified > time.time() - spare:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= size
    return excess <= 0


class UploadLimit:
    """Refuses an upload that is too large, or for which there is no room."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_UPLOAD, total: int = LARGEST_TOTAL) -> None:
        self.app, self._largest, self._total = app, largest, total
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != UPLOAD:
            await self.app(scope, receive, send)
            return
        stated = HTTPConnection(scope).headers.get("content-length", "")
        size = int(stated) if stated.isdecimal() else -1
        if size < 0:
            await PlainTextResponse("an upload has to state its length", 411)(scope, receive, send)
            return
        if size > self._largest:
            words = f"an upload may have {self._largest // 2**20} MB at most: import the files in several steps"
            await PlainTextResponse(words, 413)(scope, receive, send)
            return
        folder, left = os.environ.get("GRADIO_TEMP_DIR"), self._total - self._under_way - size
        if left < 0 or (folder is not None and not await asyncio.to_thread(make_room, Path(folder), left)):
            words = "too many uploads at once: try again in a minute"
            await PlainTextResponse(words, 503, {"retry-after": "60"})(scope, receive, send)
            return
        self._under_way += size
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way -= size


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
