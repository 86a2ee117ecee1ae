"""GET /healthz: whether the app can answer questions, without an account and without any content of the notes.

It does not wait in the queue of questions. The state of the index is cached for two seconds.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.log import logger
from service.version import version

PATH = "/healthz"
_CACHE_SECONDS = 2.0
_TIMEOUT = 3.0  # seconds for one check of the index
_log = logger("health")


class HealthCheck:
    """`ready`: returns whether everything that a question needs is loaded."""

    def __init__(self, home: Path, ready: Callable[[], bool]) -> None:
        self._database, self._ready = home / "kb.sqlite", ready
        self._started = time.monotonic()
        self._checked_at, self._last_result = float("-inf"), False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._check: asyncio.Future[bool] | None = None

    async def state(self) -> tuple[int, dict[str, object]]:
        """The HTTP status, 200 or 503, and the JSON body."""
        ready, usable = self._ready(), await self._index_is_usable()
        status = "unusable" if not usable else "ok" if ready else "starting"
        body = {"status": status, "version": version(), "ready": ready, "index": "usable" if usable else "unusable",
                "uptime_s": round(time.monotonic() - self._started, 1)}  # fmt: skip
        return 200 if status == "ok" else 503, body

    async def _index_is_usable(self) -> bool:
        """A check that times out (a hanging disk, for instance) counts as unusable. Runs one check at a time."""
        if time.monotonic() - self._checked_at < _CACHE_SECONDS:
            return self._last_result
        if self._check is None or self._check.done():
            self._check = asyncio.get_running_loop().run_in_executor(self._executor, index_is_usable, self._database)
        try:
            result = await asyncio.wait_for(asyncio.shield(self._check), _TIMEOUT)
        except TimeoutError:
            return False
        if self._last_result and not result:
            _log.error("cannot read the index: run `passkb doctor`, then `passkb rebuild`")
        self._last_result, self._checked_at = result, time.monotonic()
        return result


def index_is_usable(database: Path) -> bool:
    """Whether the index exists and can be read. Creates no files."""
    # In a folder that is not writable SQLite cannot create its lock files, and reads only a database declared immutable.
    mode = "mode=ro" if os.access(database.parent, os.W_OK) else "immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?{mode}", uri=True, timeout=1.0)) as connection:
            connection.execute("SELECT count(*) FROM (SELECT 1 FROM notes LIMIT 1)").fetchone()
            return bool(connection.execute("SELECT count(*) FROM meta").fetchone()[0])
    except sqlite3.Error:
        return False


class Healthz:
    """Middleware that answers GET /healthz."""

    def __init__(self, app: ASGIApp, health: HealthCheck) -> None:
        self.app, self._health = app, health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await JSONResponse({"error": f"send GET {PATH}"}, 405, {"allow": "GET, HEAD"})(scope, receive, send)
        else:
            status, body = await self._health.state()
            await JSONResponse(body, status, {"cache-control": "no-store"})(scope, receive, send)
