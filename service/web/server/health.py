"""/healthz: whether a served app can answer, for probes and monitors. Needs no account, and says nothing about notes or files.

It is answered beside the queue of questions, from a look at the index that is a few seconds old at most.
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
_FRESH = 2.0  # seconds that a look at the index stays good
_PATIENCE = 3.0  # seconds that a look may take
_log = logger("health")


class HealthCheck:
    """What is known of an app's health. `ready`: whether everything that a question needs has been loaded."""

    def __init__(self, home: Path, ready: Callable[[], bool]) -> None:
        self._database, self._ready = home / "kb.sqlite", ready
        self._began = time.monotonic()
        self._looked, self._usable = float("-inf"), False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._looking: asyncio.Future[bool] | None = None

    async def state(self) -> tuple[int, dict[str, object]]:
        """The status to answer with, 200 or 503, and what is to be said."""
        ready, usable = self._ready(), await self._index_usable()
        words = "unusable" if not usable else "ok" if ready else "starting"
        said = {"status": words, "version": version(), "ready": ready, "index": "usable" if usable else "unusable",
                "uptime_s": round(time.monotonic() - self._began, 1)}  # fmt: skip
        return 200 if words == "ok" else 503, said

    async def _index_usable(self) -> bool:
        """A look that does not come back, because a disk hangs for instance, counts as unusable; only one is under way."""
        if time.monotonic() - self._looked < _FRESH:
            return self._usable
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(self._thread, usable, self._database)
        try:
            found = await asyncio.wait_for(asyncio.shield(self._looking), _PATIENCE)
        except TimeoutError:
            return False
        if self._usable and not found:
            _log.error("the index can not be read: `passkb doctor` and `passkb rebuild` help")
        self._usable, self._looked = found, time.monotonic()
        return found


def usable(database: Path) -> bool:
    """Whether an index is there and can be read. Opens nothing that is not there."""
    # Where SQLite may write no files of its own, it reads a file only when it is told that nobody else writes it either.
    how = "mode=ro" if os.access(database.parent, os.W_OK) else "immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?{how}", uri=True, timeout=1.0)) as connection:
            connection.execute("SELECT count(*) FROM (SELECT 1 FROM notes LIMIT 1)").fetchone()
            return bool(connection.execute("SELECT count(*) FROM meta").fetchone()[0])
    except sqlite3.Error:
        return False


class Healthz:
    """Answers GET /healthz, and passes everything else on."""

    def __init__(self, app: ASGIApp, health: HealthCheck) -> None:
        self.app, self._health = app, health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await JSONResponse({"error": f"{PATH} takes GET"}, 405, {"allow": "GET, HEAD"})(scope, receive, send)
        else:
            status, said = await self._health.state()
            await JSONResponse(said, status, {"cache-control": "no-store"})(scope, receive, send)
