"""The durable queue of runs (DBOS over `jobs.sqlite` in the home; the only dbos import).

A job is a run's id in a queue. A job whose worker was killed is taken up again when the next worker starts. What a run is and
how it is executed is none of this module's business.
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

_QUEUES = ("local", "remote")  # one run at a time on this machine's device; runs on other machines' servers beside it
_LOOK = 0.3  # seconds
_VERSION = "1"  # of what a job is; DBOS leaves the jobs of another version alone
logging.getLogger("dbos").setLevel(logging.ERROR)


def enqueue(home: Path, run_id: str, *, remote: bool = False) -> None:
    """Puts a run into the queue; one that is resumed comes in again. Raises PasskbError when the home can't be written."""
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
    except Exception as error:  # SQLAlchemy's and DBOS's own, of many kinds
        raise PasskbError(
            f"{home / 'jobs.sqlite'} can not be written ({_first(error)}): make room, or delete it; runs stay"
        ) from error


def working(home: Path) -> bool:
    """Whether a worker holds this home."""
    lock = _lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def serve(home: Path, execute: Callable[[str], None], stop: threading.Event, idle: Callable[[], bool] = lambda: False) -> None:
    """Works through the queue until `stop` is set, or nothing is left to do and `idle` says to go then.

    A job that `execute` leaves because of `stop` stays pending: call `leave` then. Raises PasskbError when another worker
    holds the home.
    """
    from dbos import DBOS

    home.mkdir(parents=True, exist_ok=True)
    lock = _lock(home)
    try:
        lock.acquire(timeout=1)  # `working` holds it for an instant
    except Timeout:
        holder = (home / "worker.pid").read_text("ascii") if (home / "worker.pid").exists() else "unknown"
        raise PasskbError(f"process {holder} already works on the runs of {home}: one worker a home is enough") from None
    (home / "worker.pid").write_text(str(os.getpid()), encoding="ascii")
    running = threading.Semaphore(0)
    DBOS(config={"name": "passkb", "system_database_url": _url(home), "application_version": _VERSION, "executor_id": "worker",
                 "log_level": "ERROR", "enable_otlp": False})  # fmt: skip

    @DBOS.workflow(name="execute")
    def job(run_id: str) -> None:
        running.release()
        try:
            execute(run_id)
            while stop.is_set():  # a job cut short must not end: it is pending, and taken up by the next worker
                time.sleep(_LOOK)
        finally:
            running.acquire(blocking=False)

    DBOS.launch()
    for name in _QUEUES:
        DBOS.register_queue(name, concurrency=1, polling_interval_sec=_LOOK)
    try:
        while not stop.wait(_LOOK):
            if idle() and not DBOS.list_workflows(status=["ENQUEUED", "PENDING"], limit=1):
                break
    finally:
        if not stop.is_set():
            DBOS.destroy()
        lock.release()


def leave() -> None:
    """Ends the process at once; pending jobs stay pending."""
    logging.shutdown()
    os._exit(0)


def _lock(home: Path) -> FileLock:
    return FileLock(home / "worker.lock")


def _url(home: Path) -> str:
    return f"sqlite:///{home.absolute() / 'jobs.sqlite'}"


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
