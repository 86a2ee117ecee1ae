"""Submits, cancels and resumes runs, and starts the worker process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from kb.notes import PasskbError
from service.experiments.datasets.loader import load
from service.experiments.execution import queue
from service.experiments.execution.run_store import ENDED, Run, Runs, RunStatus
from service.experiments.preflight import preflight
from service.experiments.spec import ExperimentSpec, Prediction
from service.log import child_options as log_options
from service.log import strip_prefix


@dataclass(frozen=True, slots=True)
class Submitted:
    """`fresh` is False when `run` already existed."""

    run: Run
    fresh: bool


def submit(home: Path, spec: ExperimentSpec, *, again: bool = False) -> Submitted:
    """Queues a run of `spec`, with local paths made absolute.

    A spec that already has a run, neither failed nor cancelled, returns that run; `again` repeats it with the next free seed.
    Raises PasskbError or SpecError for a spec that can't be run, NotReady for obstacles on this machine."""
    spec = _resolved(spec)
    runs = Runs(home)
    problems = load(spec.problems)
    while existing := [run for run in runs.like(spec) if status_of(home, run) not in (RunStatus.FAILED, RunStatus.CANCELLED)]:
        same = [run for run in existing if run.state.get("problems_sha256", problems.sha256) == problems.sha256]
        if same and not again:
            return Submitted(same[0], fresh=False)
        if not same:
            break
        spec = replace(spec, sampling=replace(spec.sampling, seed=spec.sampling.seed + 1))
    preflight(home, spec, problems)
    run = runs.create(spec, problems_sha256=problems.sha256, n_problems=len(problems.problems))
    queue.enqueue(home, run.id, remote=_remote(spec))
    return Submitted(run, fresh=True)


def cancel(home: Path, run_id: str) -> Run:
    """Cancels a run; a running one stops within two seconds. Raises PasskbError for a run that has ended."""
    run = Runs(home).find(run_id)
    status = status_of(home, run)
    if status in ENDED:
        raise PasskbError(f"{run.id} has ended ({status}): there is nothing to cancel")
    run.request_cancel()
    if status in (RunStatus.QUEUED, RunStatus.INTERRUPTED):
        run.update(status=RunStatus.CANCELLED)
    return run


def resume(home: Path, run_id: str) -> Run:
    """Queues a failed, cancelled or interrupted run, which keeps its attempts. Raises PasskbError for other runs."""
    run = Runs(home).find(run_id)
    status = status_of(home, run)
    if status in (RunStatus.SUCCEEDED, RunStatus.RUNNING, RunStatus.QUEUED):
        hint = ": `experiment run SPEC --again` repeats it with a new seed" if status is RunStatus.SUCCEEDED else ""
        raise PasskbError(f"{run.id} is {status}{hint}")
    preflight(home, run.spec, load(run.spec.problems))
    run.clear_cancel()
    run.update(status=RunStatus.QUEUED, error="")
    queue.enqueue(home, run.id, remote=_remote(run.spec))
    return run


def status_of(home: Path, run: Run) -> RunStatus:
    """The run's status; `interrupted` when it was running and no worker is alive."""
    status = RunStatus(run.state["status"])
    return RunStatus.INTERRUPTED if status is RunStatus.RUNNING and not queue.has_worker(home) else status


def start_worker(home: Path, *, until_idle: bool) -> subprocess.Popen[bytes]:
    """Starts a worker process that logs to worker.log in the home.

    It exits when the queue is empty, without `until_idle` only after this process has ended."""
    flag = ["--until-idle"] if until_idle else ["--parent", str(os.getpid())]
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "worker.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", "--home", str(home), *log_options(), "worker", *flag],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def wait_for_worker(home: Path, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Waits until the worker has its lock. Raises PasskbError with its last log line when it exits instead."""
    deadline = time.monotonic() + seconds
    while not queue.has_worker(home):
        if process.poll() is not None and process.returncode:
            log_lines = (home / "worker.log").read_text("utf-8", "replace").strip().splitlines()
            raise PasskbError(
                f"the worker exited: {strip_prefix(log_lines[-1]) if log_lines else f'exit status {process.returncode}'}"
            )
        if process.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _resolved(spec: ExperimentSpec) -> ExperimentSpec:
    """The spec with absolute paths, and a prediction when it compares two models."""
    models = {
        name: model if model.named_by_server else replace(model, model=_absolute(model.model))
        for name, model in spec.models.items()
    }
    problems = replace(spec.problems, file=_absolute(spec.problems.file) if spec.problems.file else "")
    prediction = spec.prediction or (Prediction() if len(models) == 2 else None)
    return replace(spec, models=models, problems=problems, prediction=prediction)


def _absolute(name: str) -> str:
    """An existing path made absolute; other names unchanged."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def _remote(spec: ExperimentSpec) -> bool:
    return all(model.engine == "openai" for model in spec.models.values())
