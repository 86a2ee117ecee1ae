"""The worker process: executes queued runs and publishes their evidence notes."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from kb.notes import PasskbError
from kb.processes import is_running
from service.experiments.engines.base import Engine, Settings
from service.experiments.execution import queue
from service.experiments.execution.run import execute
from service.experiments.execution.run_store import Run, Runs, RunStatus
from service.experiments.spec import ModelSpec
from service.experiments.types import ProblemSet
from service.log import logger

_log = logger("worker")


def work(
    home: Path, publish: Callable[[Path, Run], object], *, parent: int = 0, until_idle: bool = False, vllm: str = ""
) -> None:
    """Executes queued runs until a signal, or until the queue is empty with `until_idle` or after process `parent` has ended.

    `publish` writes the evidence note of a succeeded run. Raises PasskbError when the home has another worker.
    """
    stop = threading.Event()
    busy = threading.Lock()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, on_signal)

    def job(run_id: str) -> None:
        with busy:
            execute_run(home, run_id, publish, stop.is_set, vllm)

    queue.serve(home, job, stop, lambda: until_idle or bool(parent and not is_running(parent)))
    if busy.locked():  # the run did not stop in time, and its thread would keep the process alive
        logging.shutdown()
        os._exit(0)


def execute_run(
    home: Path, run_id: str, publish: Callable[[Path, Run], object], stopping: Callable[[], bool], vllm: str = ""
) -> None:
    """Executes a run and publishes its evidence note. Errors go into its run.json; nothing is raised."""
    try:
        run = Runs(home).find(run_id)
    except PasskbError as error:
        _log.warning("%s: the job is dropped", error)
        return
    try:
        if run.state.get("status") == RunStatus.SUCCEEDED and run.state.get("evidence_note_id"):
            return
        _log.info("%s: started", run.id)
        start = time.monotonic()
        status = execute(run, _opener(vllm), stopping)
        if status is RunStatus.SUCCEEDED:
            publish(home, run)
        level = logging.WARNING if status is RunStatus.FAILED else logging.INFO
        reason = f": {run.state['error']}" if run.state.get("error") else ""
        _log.log(level, "%s: %s after %.1f s%s", run.id, status, time.monotonic() - start, reason)
    except Exception as error:  # the worker survives a failing run
        _log.exception("%s: failed", run.id)
        run.release_reserve()
        message = (
            str(error)
            if isinstance(error, PasskbError)
            else f"{type(error).__name__}: {error}: this is a bug in passkb, see worker.log"
        )
        run.update(status=RunStatus.FAILED, error=message)


def _opener(vllm: str) -> Callable[[ModelSpec, Settings, Run, ProblemSet], Engine]:
    from service.experiments.engines.factory import open_engine

    def opened(model: ModelSpec, settings: Settings, run: Run, problems: ProblemSet) -> Engine:
        return open_engine(
            model,
            settings,
            home_or_log_folder=run.folder,
            vllm_python=vllm,
            seed=run.spec.sampling.seed,
            problems=problems.problems,
        )

    return opened
