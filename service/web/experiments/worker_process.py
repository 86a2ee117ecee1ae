"""Keeps one worker process running while experiments are queued.

A worker needs several hundred MB, and the GPU while it samples. It is started when a run is queued, and stopped when no run has
been queued for three minutes or when the app stops; the next worker resumes an interrupted run.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kb.notes import PasskbError
from service.experiments.execution import control, queue
from service.experiments.execution.run_store import Runs, RunStatus
from service.log import logger, strip_prefix

_log = logger("worker")
PENDING = frozenset((RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED))
_POLL_SECONDS = 1.5
_IDLE_SECONDS = 180.0
_STABLE_SECONDS = 60.0  # a worker that ran this long started successfully
_MAX_BACKOFF = 60.0  # seconds between two starts


class WorkerSupervisor:
    """Starts, watches and stops the worker. `allowed` False: starts none. Thread-safe."""

    def __init__(self, home: Path, *, allowed: bool = True) -> None:
        self._home, self._allowed = home, allowed
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._busy_at = self._retry_at = 0.0
        self._failures, self._problem = 0, ""
        self._pending: tuple[str, ...] = ()
        self._statuses: dict[Path, tuple[int, str, bool]] = {}
        self._retried: set[str] = set()
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker-supervisor", daemon=True)

    @property
    def problem(self) -> str:
        """Why no worker executes the pending runs, and what to do; empty if there is no problem."""
        return self._problem

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of queued, running and interrupted runs, newest first, as of the last poll."""
        return self._pending

    def start(self) -> None:
        """Starts supervising in a thread."""
        self._thread.start()

    def wake(self) -> None:
        """Polls at once, because a run was queued, and resets the back-off."""
        self._failures, self._retry_at = 0, 0.0
        self._wake.set()

    def stop(self) -> None:
        """Stops the worker that this supervisor started, if any. Its run can be resumed."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._stop_worker()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._poll()
            except (PasskbError, OSError) as error:
                if self._problem != (problem := f"cannot start a worker: {error}"):
                    _log.error("%s", problem)
                self._problem = problem
                self._back_off()
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()

    def _poll(self) -> None:
        now, self._pending = time.monotonic(), tuple(self._find_pending())
        pending = set(self._pending)
        if self._process is not None and self._process.poll() is None:
            self._monitor(now, bool(pending))
            return
        if self._process is not None:
            self._record_exit(self._process, now)
        if not pending or queue.has_worker(self._home):
            self._problem = ""
        elif not self._allowed:
            self._problem = "runs are queued, but this app starts no worker: run `passkb worker`"
        elif now >= self._retry_at and not self._stopping.is_set():
            self._retried |= pending
            self._process = control.start_worker(self._home, until_idle=False)
            self._started_at = self._busy_at = now
            _log.info("started worker %d for %d pending runs", self._process.pid, len(pending))

    def _monitor(self, now: float, pending: bool) -> None:
        if now - self._started_at > _STABLE_SECONDS or self._holds_lock():
            self._problem = ""
        if now - self._started_at > _STABLE_SECONDS:
            self._failures = 0
        if pending:
            self._busy_at = now
        elif now - self._busy_at > _IDLE_SECONDS:
            self._stop_worker()

    def _holds_lock(self) -> bool:
        """Whether the worker has locked the home. Reads its pid file, because trying the lock could block the worker."""
        try:
            return self._process is not None and (self._home / "worker.pid").read_text("ascii") == str(self._process.pid)
        except OSError:
            return False

    def _record_exit(self, process: subprocess.Popen[bytes], now: float) -> None:
        self._process = None
        if process.returncode == 0:
            _log.info("worker %d exited", process.pid)
            return
        self._failures += 1
        self._back_off()
        reason = (
            signal_text(process.returncode) or last_log_line(self._home / "worker.log") or f"exit status {process.returncode}"
        )
        self._problem = f"the worker stopped ({reason}). It restarts in {self._retry_at - now:.0f} s"
        _log.error("%s", self._problem)

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + min(_MAX_BACKOFF, 2.0 ** max(1, self._failures))

    def _stop_worker(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(2)

    def _find_pending(self) -> Iterator[str]:
        """The runs that need a worker. A finished run without an evidence note is tried once."""
        for run in Runs(self._home).all():
            try:
                changed = (run.folder / "run.json").stat().st_mtime_ns
                known = self._statuses.get(run.folder)
                if known is None or known[0] != changed:
                    state = run.state
                    lacks_evidence = state["status"] == RunStatus.SUCCEEDED and not state.get("evidence_note_id")
                    known = (changed, str(state["status"]), lacks_evidence and not state.get("imported"))
                    self._statuses[run.folder] = known
            except (PasskbError, OSError, KeyError, TypeError):
                continue
            if known[1] in PENDING or (known[2] and run.id not in self._retried):
                yield run.id


def signal_text(status: int) -> str:
    """The signal of a negative exit status in words; empty for other statuses."""
    if status >= 0:
        return ""
    out_of_memory = -status == signal.SIGKILL
    return f"ended by signal {-status}" + (", probably because the machine ran out of memory" if out_of_memory else "")


def last_log_line(log: Path) -> str:
    """The message of the last line of a worker's log, or an empty string."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4_000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return strip_prefix(lines[-1])[:300] if lines else ""
