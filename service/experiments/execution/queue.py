"""The durable queue of runs: DBOS over `jobs.sqlite` in the home.

A job is the id of a run. The next worker resumes the jobs of a killed worker.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from kb.notes import PasskbError

_QUEUES = ("local", "remote")  # one run at a time on this machine's device, and one on remote model servers
_POLL = 0.3  # seconds
_GRACE = 5  # seconds that a job has to write its batch after a signal
_VERSION = "1"  # of the job format; DBOS ignores jobs of other versions
logging.getLogger("dbos").setLevel(logging.ERROR)


def enqueue(home: Path, run_id: str, *, remote: bool = False) -> None:
    """Queues a run. Raises PasskbError when the home can't be written."""
    from dbos import DBOS, DBOSClient

    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "jobs.sqlite").exists():
            DBOS.migrate(system_database_url=_url(home))
        client = DBOSClient(system_database_url=_url(home))
        try:
            job = f"{run_id}#{time.time_ns()}"
            queue = _QUEUES[1] if remote else _QUEUES[0]
            client.enqueue(
                {"queue_name": queue, "workflow_name": "execute", "workflow_id": job, "app_version": _VERSION}, run_id
            )
        finally:
            client.destroy()
    except PasskbError:
        raise
    except Exception as error:  # SQLAlchemy and DBOS raise many types
        raise PasskbError(
            f"{home / 'jobs.sqlite'} cannot be written ({_first_line(error)}): make room, or delete it; runs are kept"
        ) from error


def has_worker(home: Path) -> bool:
    """Whether this home has a running worker."""
    lock = _lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


class _Interrupted(BaseException):
    """Leaves a job pending: DBOS records an outcome for an Exception only, and the next worker resumes jobs without one."""


def serve(home: Path, execute: Callable[[str], None], stop: threading.Event, idle: Callable[[], bool] = lambda: False) -> None:
    """Executes queued jobs until `stop` is set, or the queue is empty and `idle` returns true.

    A job that runs when `stop` is set has `_GRACE` seconds to return, and stays pending for the next worker. Raises PasskbError
    when the home has another worker.
    """
    from dbos import DBOS

    home.mkdir(parents=True, exist_ok=True)
    lock = _lock(home)
    try:
        lock.acquire(timeout=1)  # `has_worker` acquires it briefly
    except Timeout:
        holder = (home / "worker.pid").read_text("ascii") if (home / "worker.pid").exists() else "unknown"
        raise PasskbError(f"process {holder} is already the worker of {home}: a home has one worker") from None
    (home / "worker.pid").write_text(str(os.getpid()), encoding="ascii")
    DBOS(config={"name": "passkb", "system_database_url": _url(home), "application_version": _VERSION, "executor_id": "worker",
                 "log_level": "ERROR", "enable_otlp": False})  # fmt: skip

    @DBOS.workflow(name="execute")
    def job(run_id: str) -> None:
        execute(run_id)
        if stop.is_set():
            raise _Interrupted

    DBOS.launch()
    for name in _QUEUES:
        DBOS.register_queue(name, concurrency=1, polling_interval_sec=_POLL)
    try:
        while not stop.wait(_POLL):
            if idle() and not DBOS.list_workflows(status=["ENQUEUED", "PENDING"], limit=1):
                break
    finally:
        DBOS.destroy(workflow_completion_timeout_sec=_GRACE if stop.is_set() else 0)
        lock.release()


def _lock(home: Path) -> FileLock:
    return FileLock(home / "worker.lock")


def _url(home: Path) -> str:
    return f"sqlite:///{home.absolute() / 'jobs.sqlite'}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
