"""The worker supervisor with real processes and the scripted engine: start, stop, failures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.experiments.execution import control, queue
from service.experiments.execution.run_store import Runs, RunStatus
from service.experiments.spec import ExperimentSpec, from_mapping
from service.web.experiments.worker_process import WorkerSupervisor, last_log_line, signal_text

ROOT = Path(__file__).parents[4]


def spec(delay: float = 0.0) -> ExperimentSpec:
    problems = {"set": "countdown", "limit": 6}
    return from_mapping({
        "name": "small", "problems": problems, "models": {"base": {"model": f"rate:0.5;delay={delay}", "engine": "scripted"}},
        "sampling": {"n": 8},
    })  # fmt: skip


def until(true: Callable[[], bool], seconds: float = 40.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


@pytest.fixture
def working(home: Path) -> Iterator[WorkerSupervisor]:
    made = WorkerSupervisor(home)
    yield made
    made.stop()


def test_a_worker_starts_with_the_first_run_and_the_next_one_resumes_it(home: Path, working: WorkerSupervisor) -> None:
    working.start()
    time.sleep(0.3)
    assert not (home / "worker.log").exists()  # nothing waits, so nothing was started
    run = control.submit(home, spec(delay=0.15)).run
    working.wake()
    assert until(lambda: control.status_of(home, run) is RunStatus.RUNNING and run.progress.get("done", 0) > 0)
    assert working.pending == (run.id,) and working.problem == ""
    working.stop()
    assert not queue.has_worker(home)
    assert control.status_of(home, run) is RunStatus.INTERRUPTED and run.tallies("base")
    after = WorkerSupervisor(home)
    after.start()
    try:
        assert until(lambda: bool(run.state.get("evidence_note_id")))
        assert sum(tally.n for tally in run.tallies("base")) == 48
    finally:
        after.stop()


def test_a_supervisor_without_permission_starts_no_worker(home: Path) -> None:
    working = WorkerSupervisor(home, allowed=False)
    control.submit(home, spec())
    working.start()
    assert until(lambda: bool(working.problem))
    assert "run `passkb worker`" in working.problem and not (home / "worker.log").exists()
    working.stop()


def test_a_failing_worker_is_reported_and_restarted(home: Path, working: WorkerSupervisor) -> None:
    run = Runs(home).create(spec())
    (home / "config.toml").write_text("no_such_setting = 1\n")
    working.start()
    assert until(lambda: "no setting 'no_such_setting'" in working.problem)
    assert "restarts in" in working.problem
    (home / "config.toml").unlink()
    queue.enqueue(home, run.id)
    working.wake()
    assert until(lambda: run.state["status"] == RunStatus.SUCCEEDED) and until(lambda: working.problem == "")


def test_last_line_of_a_missing_log(tmp_path: Path) -> None:
    assert last_log_line(tmp_path / "worker.log") == ""
    (tmp_path / "worker.log").write_bytes(b"one\n\xffpasskb: two\n\n")
    assert last_log_line(tmp_path / "worker.log").endswith("two")


def test_the_signal_of_a_killed_worker_is_reported() -> None:
    assert (
        "out of memory" in signal_text(-9)
        and signal_text(-11) == "ended by signal 11"
        and signal_text(1) == signal_text(0) == ""
    )


def test_the_web_process_loads_no_engine() -> None:
    """Also when it plans, imports, draws and publishes: the GPU is the worker's alone."""
    loaded = (
        "import sys, service.web.app; import service.experiments.planning, service.experiments.importers.import_run;"
        "from service.experiments.report import evidence, curve, result;"
        "print([m for m in sys.modules if m in ('torch', 'transformers', 'vllm', 'openai')"
        " or m.startswith('service.experiments.engines.') and m.rpartition('.')[2] not in ('base',)])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, env=os.environ.copy())
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
