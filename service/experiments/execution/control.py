"""Runs as people handle them: submit, cancel, resume, list. What the command line and the web app call; starts no engine."""

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
from service.log import message_of
from service.log import options as log_options


@dataclass(frozen=True, slots=True)
class Submitted:
    """`fresh` False: the same experiment was run, or is waiting, already, and `run` is that one."""

    run: Run
    fresh: bool


def submit(home: Path, spec: ExperimentSpec, *, again: bool = False) -> Submitted:
    """Queues a run of `spec`, with local paths made absolute. The same spec gives the run it already has, unless it failed or
    was cancelled; `again` repeats it with the next free seed. Raises PasskbError or SpecError when it can't be run,
    NotReady for what stands in its way on this machine."""
    spec = _settled(spec)
    runs = Runs(home)
    problems = load(spec.problems)
    while like := [run for run in runs.like(spec) if status_of(home, run) not in (RunStatus.FAILED, RunStatus.CANCELLED)]:
        same = [run for run in like if run.state.get("problems_sha256", problems.sha256) == problems.sha256]
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
    """Asks a run to stop; a running one does within two seconds. Raises PasskbError for one that has ended."""
    run = Runs(home).find(run_id)
    status = status_of(home, run)
    if status in ENDED:
        raise PasskbError(f"{run.id} has already {status}: there is nothing to cancel")
    run.ask_to_stop()
    if status in (RunStatus.QUEUED, RunStatus.INTERRUPTED):
        run.note(status=RunStatus.CANCELLED)
    return run


def resume(home: Path, run_id: str) -> Run:
    """Queues a run that failed, was cancelled or was interrupted; what it has drawn is kept. Raises PasskbError otherwise."""
    run = Runs(home).find(run_id)
    status = status_of(home, run)
    if status in (RunStatus.SUCCEEDED, RunStatus.RUNNING, RunStatus.QUEUED):
        hint = ": `experiment run SPEC --again` repeats it with a new seed" if status is RunStatus.SUCCEEDED else ""
        raise PasskbError(f"{run.id} is {status}{hint}")
    preflight(home, run.spec, load(run.spec.problems))
    run.go_on()
    run.note(status=RunStatus.QUEUED, error="")
    queue.enqueue(home, run.id, remote=_remote(run.spec))
    return run


def status_of(home: Path, run: Run) -> RunStatus:
    """A run that says it is running while no worker lives was interrupted: the next worker takes it up."""
    status = RunStatus(run.state["status"])
    return RunStatus.INTERRUPTED if status is RunStatus.RUNNING and not queue.working(home) else status


def start_worker(home: Path, *, until_idle: bool) -> subprocess.Popen[bytes]:
    """A worker process for this home: until the queue is empty, or as long as this process lives (and the queue isn't empty).
    What it says goes to worker.log in the home."""
    flag = ["--until-idle"] if until_idle else ["--parent", str(os.getpid())]
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "worker.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", "--home", str(home), *log_options(), "worker", *flag],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def wait_for_worker(home: Path, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Until the worker holds the home. Raises PasskbError with its last words when it ends instead."""
    deadline = time.monotonic() + seconds
    while not queue.working(home):
        if process.poll() is not None and process.returncode:
            words = (home / "worker.log").read_text("utf-8", "replace").strip().splitlines()
            raise PasskbError(f"the worker ended: {message_of(words[-1]) if words else f'exit status {process.returncode}'}")
        if process.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _settled(spec: ExperimentSpec) -> ExperimentSpec:
    """As it is run: folders and files by their absolute paths, and a prediction wherever two models are compared."""
    models = {
        name: model if model.named_by_server else replace(model, model=_absolute(model.model))
        for name, model in spec.models.items()
    }
    problems = replace(spec.problems, file=_absolute(spec.problems.file) if spec.problems.file else "")
    prediction = spec.prediction or (Prediction() if len(models) == 2 else None)
    return replace(spec, models=models, problems=problems, prediction=prediction)


def _absolute(name: str) -> str:
    """A path that is there, made absolute; else as it was: a hub's name, or something an engine will refuse by name."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def _remote(spec: ExperimentSpec) -> bool:
    return all(model.engine == "openai" for model in spec.models.values())
