"""Uploaded files: a private temporary folder per process, with a limit on its total size."""

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

from kb.processes import is_running
from service.web.server.gradio_routes import UPLOAD

MAX_UPLOAD = 200 * 1024 * 1024  # bytes of one request
MAX_TOTAL = 1024 * 1024 * 1024  # bytes of all uploads; the oldest are deleted first
_NAME = re.compile(r"passkb-uploads-(\d+)-.+")


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """Makes a folder that only this user can read the place of Gradio's uploads. Removes folders of dead processes."""
    for old in Path(tempfile.gettempdir()).glob("passkb-uploads-*"):
        match = _NAME.fullmatch(old.name)
        if match and not is_running(int(match[1])) and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
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


def make_room(folder: Path, total: int, min_age: float = 60.0) -> bool:
    """Deletes the oldest files of `folder` until the rest has at most `total` bytes. Returns whether that succeeded.

    Skips files that changed in the last `min_age` seconds: they may still be uploading."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.is_file():
                files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - total
    for modified, size, path in sorted(files, key=lambda file: file[0]):
        if excess <= 0 or modified > time.time() - min_age:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= size
    return excess <= 0


class UploadLimit:
    """Refuses uploads above `max_upload` bytes, or for which there is no room within `max_total` bytes."""

    def __init__(self, app: ASGIApp, max_upload: int = MAX_UPLOAD, max_total: int = MAX_TOTAL) -> None:
        self.app, self._max_upload, self._max_total = app, max_upload, max_total
        self._in_progress = 0  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != UPLOAD:
            await self.app(scope, receive, send)
            return
        length = HTTPConnection(scope).headers.get("content-length", "")
        size = int(length) if length.isdecimal() else -1
        if size < 0:
            await PlainTextResponse("the upload has no Content-Length", 411)(scope, receive, send)
            return
        if size > self._max_upload:
            message = f"the upload exceeds the limit of {self._max_upload // 2**20} MB: import fewer files at once"
            await PlainTextResponse(message, 413)(scope, receive, send)
            return
        folder, available = os.environ.get("GRADIO_TEMP_DIR"), self._max_total - self._in_progress - size
        if available < 0 or (folder is not None and not await asyncio.to_thread(make_room, Path(folder), available)):
            message = "too many uploads at once: try again in a minute"
            await PlainTextResponse(message, 503, {"retry-after": "60"})(scope, receive, send)
            return
        self._in_progress += size
        try:
            await self.app(scope, receive, send)
        finally:
            self._in_progress -= size
