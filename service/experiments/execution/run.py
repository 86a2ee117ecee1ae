"""Executes a run: samples the missing attempts, grades and counts them, and scores perplexities.

Executing a stopped, killed or failed run again continues from its stored attempts.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from kb.notes import PasskbError
from service.experiments.datasets.loader import direct_prompt, load
from service.experiments.engines.base import Engine, Settings
from service.experiments.execution.run_store import DIRECT, Run, RunStatus, Tally, counts_of, read_json, write_json
from service.experiments.execution.sampling import Stopped, draw, requests, unsolved
from service.experiments.graders.factory import open_grader
from service.experiments.spec import ExperimentSpec, ModelSpec
from service.experiments.types import Problem, ProblemSet

_SCORED = 4  # correct completions per problem that both models score
_DIRECT_TOKENS = 32
_LOGPROB_STRIDE = 8  # every eighth problem has log-probabilities: enough for the entropy per token
_IN_PROCESS = ("transformers", "scripted")  # other engines need a fifth more time for log-probabilities
_MIN_SHARE_FOR_ETA = 0.02

T = TypeVar("T")
OpenEngine = Callable[[ModelSpec, Settings, Run, ProblemSet], Engine]


def execute(run: Run, open_engine: OpenEngine, stopping: Callable[[], bool] = lambda: False) -> RunStatus:
    """Samples and counts the missing attempts, and returns the run's new status.

    A failed run has an error message with a remedy. All attempts so far are kept."""
    if run.cancel_requested:
        run.update(status=RunStatus.CANCELLED, finished=_now())
        return RunStatus.CANCELLED
    started = time.monotonic()
    before = float(run.state.get("seconds", 0.0))
    run.remove_scratch_files()
    run.update(status=RunStatus.RUNNING, started=run.state.get("started") or _now(), error="")
    try:
        _execute(run, open_engine, lambda: run.cancel_requested or stopping())
        status, error = RunStatus.SUCCEEDED, ""
    except Stopped:
        status, error = (RunStatus.CANCELLED if run.cancel_requested else RunStatus.INTERRUPTED), ""
    except PasskbError as problem:
        status, error = RunStatus.FAILED, str(problem)
    except OSError as problem:
        run.release_reserve()
        status = RunStatus.FAILED
        error = f"{run.folder}: {problem.strerror or problem}: free disk space, then `passkb experiment resume {run.id}`"
    run.update(status=status, error=error, finished=_now(), seconds=round(before + time.monotonic() - started, 2))
    return status


def _execute(run: Run, open_engine: OpenEngine, stopping: Callable[[], bool]) -> None:
    spec = run.spec
    problems = load(spec.problems)
    recorded = run.state.get("problems_sha256")
    if recorded and recorded != problems.sha256:
        raise PasskbError(f"the problems of {run.id} have changed since it started: restore the file, or start a new run")
    run.update(problems_sha256=problems.sha256, n_problems=len(problems.problems))
    counter = _Counter(run, spec, problems)
    for name, model in spec.models.items():
        if counter.remaining(name):
            _sample_model(run, spec, name, model, problems, open_engine, stopping, counter)
    if spec.perplexity and len(spec.models) == 2:
        _score(run, spec, problems, open_engine, stopping)


def settings_of(spec: ExperimentSpec) -> Settings:
    sampling = spec.sampling
    return Settings(sampling.temperature, sampling.top_p, sampling.max_tokens, logprobs=True)


def _sample_model(
    run: Run, spec: ExperimentSpec, name: str, model: ModelSpec, problems: ProblemSet, open_engine: OpenEngine,
    stopping: Callable[[], bool], counter: _Counter,
) -> None:  # fmt: skip
    settings = settings_of(spec)
    counter.report(name, "starting")
    opened = closing(_open(open_engine, model, settings, run, problems, stopping))
    with opened as engine, closing(open_grader(problems)) as grader:
        _record(run, spec, name, engine, settings)

        def sample(label: str, of: Sequence[Problem], settings: Settings, upto: int, start: int = 0) -> None:
            pending = requests(spec, name, of, run.tallies(label), upto, engine.most_per_request, start)
            for batch in draw(engine, grader, pending, settings, stopping):
                run.append(label, batch)
                counter.add(label, [entry for entry, _ in batch])

        screen, n, plain = spec.sampling.screen, spec.sampling.n, replace(settings, logprobs=False)
        if spec.perplexity or engine.name in _IN_PROCESS:
            sample(name, problems.problems[::_LOGPROB_STRIDE], settings, screen or n)
        sample(name, problems.problems, plain, screen or n)
        if screen:
            hard = unsolved(problems.problems, run.tallies(name), screen)
            counter.expect(name, len(hard))
            sample(name, hard, plain, n, screen)
        direct = [_direct(problem) for problem in problems.problems if direct_prompt(problem)]
        if spec.direct and direct:
            sample(name + DIRECT, direct, replace(plain, max_tokens=_DIRECT_TOKENS), spec.direct)


def _direct(problem: Problem) -> Problem:
    return replace(problem, prompt=direct_prompt(problem) or "")


def _open(
    open_engine: OpenEngine, model: ModelSpec, settings: Settings, run: Run, problems: ProblemSet, stopping: Callable[[], bool]
) -> Engine:
    """The started engine; starting can take minutes."""
    return _interruptible(stopping, lambda: open_engine(model, settings, run, problems), lambda engine: engine.close())


def _interruptible(stopping: Callable[[], bool], work: Callable[[], T], discard: Callable[[T], object] = lambda _: None) -> T:
    """The result of `work`, or Stopped without waiting for it; `discard` then gets the late result."""
    results: list[T] = []
    errors: list[Exception] = []

    def do() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)
        if abandoned.is_set() and results:
            discard(results[0])

    abandoned = threading.Event()
    thread = threading.Thread(target=do, name="working", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.1)
        if stopping():
            abandoned.set()
            raise Stopped
    if errors:
        raise errors[0]
    return results[0]


def _record(run: Run, spec: ExperimentSpec, name: str, engine: Engine, settings: Settings) -> None:
    """Records the engine and its effective settings in run.json."""
    requested = {"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens,
             **_requested(spec.models[name])}  # fmt: skip
    effective = dict(engine.effective)
    differs = {key: [value, effective[key]] for key, value in requested.items() if key in effective and effective[key] != value}
    about = {"engine": engine.name, "engine_version": engine.version, "device": engine.device, "asked": requested,
             "effective": effective, "differs": differs}  # fmt: skip
    run.update(environment={**run.state.get("environment", {}), name: about})


def _requested(model: ModelSpec) -> dict[str, Any]:
    """The settings that the model's spec does not leave to the engine."""
    settings = {"dtype": model.dtype, "max_model_len": model.max_model_len}
    return {key: value for key, value in settings.items() if value not in ("auto", 0)}


def _score(run: Run, spec: ExperimentSpec, problems: ProblemSet, open_engine: OpenEngine, stopping: Callable[[], bool]) -> None:
    """Writes scores.json, the correct completions scored by both models: model -> by -> [[problem, logprob, tokens], ...]."""
    path = run.folder / "scores.json"
    scores: dict[str, dict[str, list[list[Any]]]] = read_json(path) if path.exists() else {}
    prompts = {problem.id: problem.prompt for problem in problems.problems}
    chosen: dict[str, list[tuple[str, str]]] = {name: [] for name in spec.models}
    for name in spec.models:
        counts: dict[str, int] = {}
        for row in run.completions(name):
            if row["verdict"] == "pass" and counts.get(row["problem_id"], 0) < _SCORED and row["problem_id"] in prompts:
                counts[row["problem_id"]] = counts.get(row["problem_id"], 0) + 1
                chosen[name].append((row["problem_id"], row["text"]))
    for by, model in spec.models.items():
        if all(by in scores.get(name, {}) for name in spec.models):
            continue
        with closing(_open(open_engine, model, settings_of(spec), run, problems, stopping)) as engine:
            for name, rows in chosen.items():
                pairs = [(model.template.replace("{prompt}", prompts[problem]), text) for problem, text in rows]
                scored = _interruptible(stopping, partial(engine.score, pairs)) if pairs else []
                entries = [[problem, total, tokens] for (problem, _), (total, tokens) in zip(rows, scored, strict=True)]
                scores.setdefault(name, {})[by] = entries
        write_json(path, scores)


class _Counter:
    """Writes progress.json and counts.csv after every batch."""

    def __init__(self, run: Run, spec: ExperimentSpec, problems: ProblemSet) -> None:
        self._run, self._spec, self._ids = run, spec, {problem.id for problem in problems.problems}
        sampling = spec.sampling
        size = len(problems.problems)
        self._controls = spec.direct * sum(direct_prompt(problem) is not None for problem in problems.problems)
        self._total = {name: size * (sampling.screen or sampling.n) for name in spec.models}
        self._tallies: dict[str, list[Tally]] = {name: run.tallies(name) for name in spec.models}
        if sampling.screen:
            for name in spec.models:
                if self._done(name) >= self._total[name]:
                    self.expect(name, len(unsolved(problems.problems, self._tallies[name], sampling.screen)))
        self._start, self._done_at_start = time.monotonic(), sum(self._done(name) for name in spec.models)
        self._run.write_counts({name: counts_of(tallies) for name, tallies in self._tallies.items()})

    def remaining(self, name: str) -> int:
        """The number of missing attempts, with those of the direct control."""
        control = self._controls - sum(entry.n for entry in self._run.tallies(name + DIRECT)) if self._controls else 0
        return max(0, self._total[name] - self._done(name)) + max(0, control)

    def expect(self, name: str, hard: int) -> None:
        """Sets the total for `hard` problems that need all n attempts after screening."""
        sampling = self._spec.sampling
        self._total[name] = len(self._ids) * sampling.screen + hard * (sampling.n - sampling.screen)

    def add(self, label: str, batch: list[Tally]) -> None:
        if label not in self._tallies:
            return
        self._tallies[label] += batch
        self._run.write_counts({name: counts_of(tallies) for name, tallies in self._tallies.items()})
        self.report(label, "sampling")

    def report(self, name: str, doing: str) -> None:
        done, total = sum(map(self._done, self._total)), sum(self._total.values())
        seconds = time.monotonic() - self._start
        rate = (done - self._done_at_start) / seconds if seconds > 0 else 0.0
        tokens = sum(entry.tokens for tallies in self._tallies.values() for entry in tallies)
        # The first few attempts are not representative.
        has_eta = done == total or done - self._done_at_start >= _MIN_SHARE_FOR_ETA * total
        eta = (total - done) / rate if rate > 0 and has_eta else None
        self._run.write_progress(
            done=done, total=total, eta_s=None if eta is None else round(eta, 1), rate=round(rate, 1), tokens=tokens,
            model=name, doing=doing,
        )  # fmt: skip

    def _done(self, name: str) -> int:
        return sum(entry.n for entry in self._tallies[name])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
