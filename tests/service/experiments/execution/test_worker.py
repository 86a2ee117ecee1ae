"""The worker as a process of its own: queued runs, one after another, killed at random moments, cancelled, resumed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kb.notes import PasskbError
from service.experiments.datasets.loader import load
from service.experiments.execution import control, queue
from service.experiments.execution.run_store import Run, Runs, RunStatus, counts_of
from service.experiments.spec import from_mapping

ROOT = Path(__file__).parents[4]
Worker = Callable[..., subprocess.Popen[bytes]]


def spec(base: str, **changes: Any) -> Any:
    models = {"base": {"model": base, "engine": "scripted"}, "tuned": {"model": "beta:1,1", "engine": "scripted"}}
    return from_mapping({"name": "queued", "problems": {"set": "countdown", "limit": 20}, "models": models,
                         "sampling": {"n": 16, "max_tokens": 64}, **changes})  # fmt: skip


@pytest.fixture
def worker(home: Path) -> Iterator[Worker]:
    """Starts a worker that ends when the queue is empty; those still alive at the test's end are killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "service.cli", "--home", str(home), "worker", *(flags or ("--until-idle",))]
        home.mkdir(parents=True, exist_ok=True)
        with open(home / "worker.log", "ab") as log:
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def counts(run: Run) -> dict[str, dict[str, tuple[int, int]]]:
    return {name: dict(sorted(counts_of(run.tallies(name)).items())) for name in run.spec.models}


def drawn(run: Run) -> int:
    return sum(n for model in counts(run).values() for n, _ in model.values())


def test_killed_again_and_again_the_run_goes_on_by_itself_and_ends_as_if_undisturbed(home: Path, worker: Worker) -> None:
    calm = control.submit(home, spec("beta:0.4,1.2", name="calm")).run
    assert worker().wait(60) == 0 and calm.state["status"] == RunStatus.SUCCEEDED, calm.state
    run = control.submit(home, spec("beta:0.4,1.2;delay=0.01")).run
    dice, kills = random.Random(1), 0
    while not run.state.get("evidence_note_id"):  # also when it was killed between the last batch and the note
        process = worker()
        until(lambda process=process: queue.has_worker(home) or process.poll() is not None)  # type: ignore[misc]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(1.0, 3.0) if kills < 4 else 60)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            assert control.status_of(home, run) is not RunStatus.RUNNING, "a dead worker's run is not called running"
    assert kills >= 2 and control.status_of(home, run) is RunStatus.SUCCEEDED
    assert counts(run) == counts(calm) and drawn(run) == 2 * 20 * 16


def test_runs_wait_for_one_another_and_a_cancelled_one_never_starts(home: Path, worker: Worker) -> None:
    first = control.submit(home, spec("rate:0.5;delay=0.01", name="first")).run
    second = control.submit(home, spec("rate:0.25", name="second")).run
    third = control.submit(home, spec("rate:0.75", name="third")).run
    control.cancel(home, third.id)
    process = worker()
    until(lambda: first.state["status"] == RunStatus.RUNNING)
    assert second.state["status"] == RunStatus.QUEUED
    assert process.wait(90) == 0
    assert [run.state["status"] for run in (first, second, third)] == ["succeeded", "succeeded", "cancelled"]
    assert drawn(third) == 0 and first.state["finished"] <= second.state["started"]


def test_a_running_run_is_cancelled_within_two_seconds_and_resumed(home: Path, worker: Worker) -> None:
    run = control.submit(home, spec("rate:0.5;delay=0.025")).run
    process = worker()
    until(lambda: run.progress.get("done", 0) > 0 and run.state["status"] == RunStatus.RUNNING)
    with pytest.raises(PasskbError, match="is running"):
        control.resume(home, run.id)
    control.cancel(home, run.id)
    until(lambda: run.state["status"] == RunStatus.CANCELLED)
    assert (run.folder / "run.json").stat().st_mtime - (run.folder / "cancel").stat().st_mtime < 2.0
    before = drawn(run)
    assert process.wait(30) == 0 and 0 < before < 2 * 20 * 16
    with pytest.raises(PasskbError, match="nothing to cancel"):
        control.cancel(home, run.id)
    assert control.resume(home, run.id).state["status"] == RunStatus.QUEUED
    assert worker().wait(90) == 0 and run.state["status"] == RunStatus.SUCCEEDED and drawn(run) == 2 * 20 * 16


def test_a_second_worker_says_who_works_already_and_a_terminated_one_leaves_its_run_to_the_next(
    home: Path, worker: Worker
) -> None:
    process = worker("--parent", str(os.getpid()))
    until(lambda: queue.has_worker(home))
    other = subprocess.run(
        [sys.executable, "-m", "service.cli", "--home", str(home), "worker"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert other.returncode == 1 and f"process {process.pid} is already the worker" in other.stderr
    run = control.submit(home, spec("rate:0.5;delay=0.02")).run
    until(lambda: run.progress.get("done", 0) > 0)
    process.terminate()
    assert process.wait(15) == 0
    assert run.state["status"] == RunStatus.INTERRUPTED and drawn(run) > 0
    assert worker().wait(90) == 0 and run.state["status"] == RunStatus.SUCCEEDED


def test_the_same_experiment_is_recognised_and_again_takes_another_seed(home: Path) -> None:
    first = control.submit(home, spec("rate:0.5"))
    same = control.submit(home, spec("rate:0.5", name="by another name"))
    assert first.fresh and not same.fresh and same.run.id == first.run.id
    again = control.submit(home, spec("rate:0.5"), again=True)
    third = control.submit(home, spec("rate:0.5"), again=True)
    assert [run.run.spec.sampling.seed for run in (first, again, third)] == [0, 1, 2]
    control.cancel(home, first.run.id)
    assert control.submit(home, spec("rate:0.5")).fresh, "a cancelled run is no reason not to run it"


def test_what_can_not_be_run_is_refused_before_it_is_queued(home: Path, tmp_path: Path) -> None:
    missing = from_mapping({"problems": {"file": str(tmp_path / "no.jsonl"), "format": "gsm8k"}, "models": {"base": "x"}})
    with pytest.raises(PasskbError, match=r"no\.jsonl"):
        control.submit(home, missing)
    assert Runs(home).all() == [] and not (home / "jobs.sqlite").exists()


def test_a_model_that_is_gone_fails_its_run_with_a_sentence_and_the_next_run_goes_on(
    home: Path, worker: Worker, tmp_path: Path
) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps({problem.id: 0.5 for problem in load(spec("rate:0.5").problems).problems}))
    gone = control.submit(home, spec(str(rates), name="gone")).run
    fine = control.submit(home, spec("rate:0.5", name="fine")).run
    rates.unlink()  # after it was queued
    assert worker().wait(60) == 0
    assert gone.state["status"] == RunStatus.FAILED and "rates.json" in gone.state["error"]
    assert fine.state["status"] == RunStatus.SUCCEEDED
