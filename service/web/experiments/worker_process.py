"""Keeps one worker process alive while runs wait. Knows nothing about pages, engines or what a run is made of.

No worker is started before a run waits: it holds several hundred MB and, while it samples, the GPU. It is ended when nothing
has waited for some minutes, and with the app; a run that is cut short so is taken up by the next worker.
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
from service.log import logger, message_of

_log = logger("worker")
WAITING = frozenset((RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED))
_LOOK = 1.5  # seconds
_IDLE = 180.0
_SOUND = 60.0  # a worker that lived so long did not die of how it was started
_LONGEST = 60.0  # seconds between two tries


class Working:
    """`allowed` False: starts nothing, and says so while runs wait. Safe to use from several threads."""

    def __init__(self, home: Path, *, allowed: bool = True) -> None:
        self._home, self._allowed = home, allowed
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._busy = self._not_before = 0.0
        self._deaths, self._problem = 0, ""
        self._now: tuple[str, ...] = ()
        self._statuses: dict[Path, tuple[int, str, bool]] = {}
        self._retold: set[str] = set()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="working", daemon=True)

    @property
    def problem(self) -> str:
        """Why nothing works on the runs that wait, and whose move it is; empty while all is well."""
        return self._problem

    @property
    def waiting(self) -> tuple[str, ...]:
        """The runs that wait or go on, newest first, as they were a moment ago."""
        return self._now

    def begin(self) -> None:
        """Looks after the runs from now on, in a thread of its own."""
        self._thread.start()

    def look(self) -> None:
        """Looks at once: a run was queued. Past failures are forgotten."""
        self._deaths, self._not_before = 0, 0.0
        self._wake.set()

    def end(self) -> None:
        """Ends the worker that was started here, if any; its run is kept as far as it is."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._dismiss()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self._look_after()
            except (PasskbError, OSError) as error:
                if self._problem != (problem := f"no worker can be started: {error}"):
                    _log.error("%s", problem)
                self._problem = problem
                self._put_off()
            self._wake.wait(_LOOK)
            self._wake.clear()

    def _look_after(self) -> None:
        now, self._now = time.monotonic(), tuple(self._waiting())
        waiting = set(self._now)
        if self._process is not None and self._process.poll() is None:
            self._keep(now, bool(waiting))
            return
        if self._process is not None:
            self._bury(self._process, now)
        if not waiting or queue.has_worker(self._home):
            self._problem = ""
        elif not self._allowed:
            self._problem = "runs wait, and this app was told to start no worker: `passkb worker` runs them"
        elif now >= self._not_before and not self._stop.is_set():
            self._retold |= waiting
            self._process = control.start_worker(self._home, until_idle=False)
            self._started = self._busy = now
            _log.info("started worker %d: %d runs wait", self._process.pid, len(waiting))

    def _keep(self, now: float, waiting: bool) -> None:
        if now - self._started > _SOUND or self._holds_the_home():
            self._problem = ""
        if now - self._started > _SOUND:
            self._deaths = 0
        if waiting:
            self._busy = now
        elif now - self._busy > _IDLE:
            self._dismiss()

    def _holds_the_home(self) -> bool:
        """Asked of the file it writes then: trying its lock could be in its way."""
        try:
            return self._process is not None and (self._home / "worker.pid").read_text("ascii") == str(self._process.pid)
        except OSError:
            return False

    def _bury(self, process: subprocess.Popen[bytes], now: float) -> None:
        self._process = None
        if process.returncode == 0:
            _log.info("worker %d ended", process.pid)
            return
        self._deaths += 1
        self._put_off()
        words = ended_by(process.returncode) or last_words(self._home / "worker.log") or f"exit status {process.returncode}"
        self._problem = f"the worker ended ({words}); it is started again in {self._not_before - now:.0f} s"
        _log.error("%s", self._problem)

    def _put_off(self) -> None:
        self._not_before = time.monotonic() + min(_LONGEST, 2.0 ** max(1, self._deaths))

    def _dismiss(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(2)

    def _waiting(self) -> Iterator[str]:
        """The runs that a worker is needed for. A run whose evidence was not written yet is tried once."""
        for run in Runs(self._home).all():
            try:
                changed = (run.folder / "run.json").stat().st_mtime_ns
                known = self._statuses.get(run.folder)
                if known is None or known[0] != changed:
                    state = run.state
                    owed = state["status"] == RunStatus.SUCCEEDED and not state.get("evidence_note_id")
                    known = (changed, str(state["status"]), owed and not state.get("imported"))
                    self._statuses[run.folder] = known
            except (PasskbError, OSError, KeyError, TypeError):
                continue
            if known[1] in WAITING or (known[2] and run.id not in self._retold):
                yield run.id


def ended_by(status: int) -> str:
    """Who ended a process whose exit status is negative: a signal, and what that often means."""
    if status >= 0:
        return ""
    killed = -status == signal.SIGKILL
    return f"ended by signal {-status}" + (", which is what a machine short of memory sends" if killed else "")


def last_words(log: Path) -> str:
    """The last line that a worker wrote, or nothing."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4_000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return message_of(lines[-1])[:300] if lines else ""
