"""Executing runs: whatever interrupts one, it ends with the counts of an undisturbed run; nothing that was drawn is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.experiments.engines.base import Engine, EngineError, Settings
from service.experiments.engines.factory import open_engine
from service.experiments.execution.run import execute
from service.experiments.execution.run_store import DIRECT, Run, Runs, RunStatus, counts_of, read_json
from service.experiments.spec import ModelSpec, from_mapping
from service.experiments.types import Completion, ProblemSet
from tests.privileges import OWN_MOUNTS

ROOT = Path(__file__).parents[4]


def spec_of(base: str = "beta:0.4,1.2", tuned: str = "beta:1,1", **changes: Any) -> dict[str, Any]:
    return {
        "name": "scripted",
        "problems": {"set": "countdown", "limit": 12},
        "models": {"base": {"model": base, "engine": "scripted"}, "tuned": {"model": tuned, "engine": "scripted"}},
        "sampling": {"n": 24, "max_tokens": 64},
        **changes,
    }


def scripted(model: ModelSpec, settings: Settings, run: Run, problems: ProblemSet) -> Engine:
    return open_engine(model, settings, home_or_log_folder=run.folder, seed=run.spec.sampling.seed, problems=problems.problems)


@pytest.fixture
def make(home: Path) -> Callable[..., Run]:
    def made(**changes: Any) -> Run:
        return Runs(home).create(from_mapping(spec_of(**changes)))

    return made


def counts(run: Run) -> dict[str, dict[str, tuple[int, int]]]:
    return {name: dict(sorted(counts_of(run.tallies(name)).items())) for name in run.spec.models}


def test_a_run_draws_all_attempts_of_all_models_and_records_what_made_them(make: Callable[..., Run]) -> None:
    run = make()
    assert execute(run, scripted) is RunStatus.SUCCEEDED, run.state
    assert {n for model in counts(run).values() for n, _ in model.values()} == {24}
    assert all(len(model) == 12 for model in counts(run).values())
    assert 0 < sum(c for _, c in counts(run)["base"].values()) < 12 * 24
    state, progress = run.state, run.progress
    assert state["environment"]["tuned"]["engine"] == "scripted" and len(state["problems_sha256"]) == 64
    assert (progress["done"], progress["total"]) == (576, 576) and progress["tokens"] > 0
    lines = (run.folder / "counts.csv").read_text().splitlines()
    assert lines[0] == "model,problem_id,n,c" and len(lines) == 25


def test_a_run_of_the_same_seed_has_the_same_counts_and_of_another_seed_others(make: Callable[..., Run]) -> None:
    first, again = make(name="first"), make(name="again")
    other = make(name="other", sampling={"n": 24, "max_tokens": 64, "seed": 1})
    for run in (first, again, other):
        execute(run, scripted)
    assert counts(first) == counts(again) != counts(other)


def test_stopped_again_and_again_it_ends_where_an_undisturbed_run_does(make: Callable[..., Run]) -> None:
    whole = make(name="whole")
    execute(whole, scripted)
    dice, stops = random.Random(0), 0
    slow = {"base": {"model": "beta:0.4,1.2;delay=0.002", "engine": "scripted"},
            "tuned": {"model": "beta:1,1;delay=0.002", "engine": "scripted"}}  # fmt: skip
    run = make(name="stopped", models=slow)
    while True:
        until = time.monotonic() + dice.uniform(0.02, 0.4)
        status = execute(run, scripted, lambda until=until: time.monotonic() > until)  # type: ignore[misc]
        if status is RunStatus.SUCCEEDED:
            break
        assert status is RunStatus.INTERRUPTED, run.state
        stops += 1
    assert stops >= 2
    assert counts(run) == counts(whole)


def test_an_engine_that_dies_leaves_a_run_that_can_go_on(make: Callable[..., Run]) -> None:
    whole, run = make(name="whole"), make(name="dying", base="beta:0.4,1.2;die_after=100")
    execute(whole, scripted)
    tried = 0
    while execute(run, scripted) is RunStatus.FAILED:
        assert "die" in run.state["error"] and counts_of(run.tallies("base"))
        tried += 1
        assert tried < 20
    assert tried >= 2 and counts(run) == counts(whole) and run.state["error"] == ""


def test_cancelling_takes_effect_within_two_seconds_and_resuming_goes_on(make: Callable[..., Run]) -> None:
    run, began = make(base="rate:0.5;delay=0.01"), time.monotonic()

    def cancel_soon() -> bool:
        if time.monotonic() - began > 1.0:
            run.request_cancel()
        return False

    assert execute(run, scripted, cancel_soon) is RunStatus.CANCELLED
    assert time.monotonic() - began < 3.0
    drawn = sum(n for n, _ in counts_of(run.tallies("base")).values())
    assert 0 < drawn < 12 * 24, "what was drawn stays"
    assert execute(run, scripted) is RunStatus.CANCELLED, "until somebody resumes it"


def test_screening_spends_attempts_only_where_nothing_passed_yet(make: Callable[..., Run]) -> None:
    run = make(sampling={"n": 24, "max_tokens": 64, "screen": 6}, base="beta:0.3,2", tuned="beta:0.3,1")
    execute(run, scripted)
    for name in run.spec.models:
        solved = {entry.problem for entry in run.tallies(name) if entry.c and entry.first < 6}
        assert {problem: n for problem, (n, _) in counts(run)[name].items()} == {
            problem: 6 if problem in solved else 24 for problem in counts(run)[name]
        }
        assert 0 < len(solved) < 12
    assert run.progress["done"] == run.progress["total"]
    assert execute(run, scripted) is RunStatus.SUCCEEDED and run.progress["done"] == run.progress["total"]


def test_both_models_score_both_models_correct_completions(make: Callable[..., Run]) -> None:
    run = make(perplexity=True)
    execute(run, scripted)
    scores = read_json(run.folder / "scores.json")
    assert scores.keys() == {"base", "tuned"} and all(by.keys() == {"base", "tuned"} for by in scores.values())
    for name, by in scores.items():
        solved = {problem for problem, (_, c) in counts(run)[name].items() if c}
        assert {problem for problem, _, _ in by["base"]} == solved
        assert [row[0] for row in by["base"]] == [row[0] for row in by["tuned"]]
        assert all(logprob < 0 and tokens > 0 for _, logprob, tokens in by["base"])


def test_the_control_asks_for_the_answer_at_once_where_that_means_something(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text('{"question": "1+1?", "answer": "so #### 2"}\n{"question": "2+3?", "answer": "so #### 5"}\n')
    spec = spec_of(problems={"file": str(path), "format": "gsm8k"}, direct=4, sampling={"n": 8, "max_tokens": 64})
    run = Runs(home).create(from_mapping(spec))
    assert execute(run, scripted) is RunStatus.SUCCEEDED, run.state
    assert [n for n, _ in counts_of(run.tallies("base" + DIRECT)).values()] == [4, 4]


def test_problems_that_changed_meanwhile_are_not_mixed_into_a_run(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text('{"question": "1+1?", "answer": "#### 2"}\n')
    spec = spec_of(problems={"file": str(path), "format": "gsm8k"}, sampling={"n": 2, "max_tokens": 64})
    run = Runs(home).create(from_mapping(spec))
    assert execute(run, scripted) is RunStatus.SUCCEEDED
    path.write_text('{"question": "1+2?", "answer": "#### 3"}\n')
    assert execute(run, scripted) is RunStatus.FAILED and "have changed since it started" in run.state["error"]
    assert sum(n for n, _ in counts_of(run.tallies("base")).values()) == 2, "counts already there stay"


class _Refusing:
    """Stands for an engine that starts and then can't make anything."""

    name, version, device, most_per_request, rows = "none", "0", "none", 8, 8
    effective: Mapping[str, Any] = {"temperature": 0.5}

    def __init__(self) -> None:
        self.closed = False

    def sample(self, requests: Any, settings: Settings) -> Iterator[list[Completion]]:
        raise EngineError("the GPU is in use: free it and resume")

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        return []

    def close(self) -> None:
        self.closed = True


def test_an_engine_is_closed_whatever_happens_and_its_words_reach_the_person(make: Callable[..., Run]) -> None:
    run, engine = make(), _Refusing()
    assert execute(run, lambda *_: engine) is RunStatus.FAILED
    assert engine.closed and run.state["error"] == "the GPU is in use: free it and resume"
    assert run.state["environment"]["base"]["differs"] == {"temperature": [1.0, 0.5]}, "asked is not what is in force"


class _Scoring(_Refusing):
    """Draws as the scripted engine does, and scores for as long as it is open."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.scoring, self.gone = engine, threading.Event(), threading.Event()

    def sample(self, requests: Any, settings: Settings) -> Iterator[list[Completion]]:
        return self.engine.sample(requests, settings)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        self.scoring.set()
        self.gone.wait(60)
        raise EngineError("the engine is closed")

    def close(self) -> None:
        self.gone.set()


def test_cancelling_does_not_wait_for_scoring_which_is_done_again_on_resuming(make: Callable[..., Run]) -> None:
    run, opened = make(perplexity=True), []

    def scoring(*of: Any) -> Engine:
        opened.append(_Scoring(scripted(*of)))
        return opened[-1]

    def cancel_while_scoring() -> bool:
        if any(engine.scoring.is_set() for engine in opened):
            run.request_cancel()
        return False

    assert execute(run, scoring, cancel_while_scoring) is RunStatus.CANCELLED
    assert len(opened) == 3 and opened[-1].gone.is_set() and not (run.folder / "scores.json").exists()
    run.clear_cancel()
    assert execute(run, scripted) is RunStatus.SUCCEEDED and (run.folder / "scores.json").exists()


_FULL = """
import subprocess, sys
from pathlib import Path
from service.experiments.execution.run import execute
from service.experiments.execution.run_store import Runs, counts_of
from service.experiments.spec import from_mapping
from tests.service.experiments.execution.test_run import scripted, spec_of
home = Path(sys.argv[1])
home.mkdir()
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(home)]).returncode:
    sys.exit("mount: permission denied")
run = Runs(home).create(from_mapping(spec_of(sampling={"n": 600, "max_tokens": 64})))
print(execute(run, scripted), run.state["status"], run.state["error"])
print(sum(n for name in ("base", "tuned") for n, _ in counts_of(run.tallies(name)).values()))
subprocess.run(["mount", "-o", "remount,size=64m", str(home)], check=True)
run.clear_cancel()
print(execute(run, scripted), {n for name in ("base", "tuned") for n, _ in counts_of(run.tallies(name)).values()})
"""


def test_a_full_disk_fails_the_run_with_a_sentence_and_with_room_it_goes_on(home: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, *OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    command = [unshare, *OWN_MOUNTS, sys.executable, "-c", _FULL, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "permission denied" in done.stderr:
        pytest.skip("mounting is not allowed here")
    failed, drawn, resumed = done.stdout.splitlines()
    assert failed.startswith("failed failed ") and "No space left" in failed and "experiment resume" in failed, done
    assert 0 < int(drawn) < 2 * 12 * 600 and resumed == "succeeded {600}"


def test_what_is_finished_starts_no_engine_again_and_a_control_cut_short_is_completed(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(f'{{"question": "{i}+1?", "answer": "#### {i + 1}"}}\n' for i in range(4)))
    spec = spec_of(
        problems={"file": str(path), "format": "gsm8k"}, direct=4, perplexity=True, sampling={"n": 8, "max_tokens": 64}
    )
    run, opened = Runs(home).create(from_mapping(spec)), []

    def counted(*of: Any) -> Engine:
        opened.append(of[0].model)
        return scripted(*of)

    assert execute(run, counted) is RunStatus.SUCCEEDED, run.state
    assert len(opened) == 4, "each model once to sample, once to score"
    assert execute(run, counted) is RunStatus.SUCCEEDED and len(opened) == 4
    for kept in (run.folder / "completions" / "base-direct").iterdir():
        kept.unlink()
    run.append("base" + DIRECT, [])
    assert execute(run, counted) is RunStatus.SUCCEEDED and len(opened) == 5
    assert [n for n, _ in counts_of(run.tallies("base" + DIRECT)).values()] == [4] * 4
