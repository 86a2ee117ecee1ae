"""Executing a run, from wherever it stands to its end: sample, grade, keep, count; then what is made of the counts.

Knows nothing about queues and processes. A run that was stopped, killed or failed is executed again the same way: what is kept
is not drawn again.
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

_SCORED = 4  # correct completions a problem that are scored under both models
_DIRECT_TOKENS = 32
_WITH_LOGPROBS = 8  # one problem in so many has log-probabilities: enough for an entropy a token
_IN_PROCESS = ("transformers", "scripted")  # over HTTP they cost a fifth, and are asked for only with `perplexity`
_TELLING = 0.02

T = TypeVar("T")
OpenEngine = Callable[[ModelSpec, Settings, Run, ProblemSet], Engine]


def execute(run: Run, open_engine: OpenEngine, stopping: Callable[[], bool] = lambda: False) -> RunStatus:
    """Draws what is missing and counts it. The run's status afterwards: succeeded, failed or cancelled; its error, if any,
    says what to do, and the counts made so far stand in any case."""
    if run.cancelled:
        run.note(status=RunStatus.CANCELLED, finished=_now())
        return RunStatus.CANCELLED
    started = time.monotonic()
    before = float(run.state.get("seconds", 0.0))
    run.remove_scratch_files()
    run.note(status=RunStatus.RUNNING, started=run.state.get("started") or _now(), error="")
    try:
        _execute(run, open_engine, lambda: run.cancelled or stopping())
        status, error = RunStatus.SUCCEEDED, ""
    except Stopped:
        status, error = (RunStatus.CANCELLED if run.cancelled else RunStatus.INTERRUPTED), ""
    except PasskbError as problem:
        status, error = RunStatus.FAILED, str(problem)
    except OSError as problem:
        run.make_room()
        status = RunStatus.FAILED
        error = f"{run.folder}: {problem.strerror or problem}: make room or mend it, then `passkb experiment resume {run.id}`"
    run.note(status=status, error=error, finished=_now(), seconds=round(before + time.monotonic() - started, 2))
    return status


def _execute(run: Run, open_engine: OpenEngine, stopping: Callable[[], bool]) -> None:
    spec = run.spec
    problems = load(spec.problems)
    known = run.state.get("problems_sha256")
    if known and known != problems.sha256:
        raise PasskbError(f"the problems of {run.id} are not the ones it began with: put the file back, or start a new run")
    run.note(problems_sha256=problems.sha256, n_problems=len(problems.problems))
    counter = _Counter(run, spec, problems)
    for name, model in spec.models.items():
        if counter.left(name):
            _one_model(run, spec, name, model, problems, open_engine, stopping, counter)
    if spec.perplexity and len(spec.models) == 2:
        _score(run, spec, problems, open_engine, stopping)


def settings_of(spec: ExperimentSpec) -> Settings:
    sampling = spec.sampling
    return Settings(sampling.temperature, sampling.top_p, sampling.max_tokens, logprobs=True)


def _one_model(
    run: Run, spec: ExperimentSpec, name: str, model: ModelSpec, problems: ProblemSet, open_engine: OpenEngine,
    stopping: Callable[[], bool], counter: _Counter,
) -> None:  # fmt: skip
    settings = settings_of(spec)
    counter.say(name, "starting")
    opened = closing(_opened(open_engine, model, settings, run, problems, stopping))
    with opened as engine, closing(open_grader(problems)) as grader:
        _record(run, spec, name, engine, settings)

        def drawn(label: str, of: Sequence[Problem], settings: Settings, upto: int, start: int = 0) -> None:
            wanted = requests(spec, name, of, run.tallies(label), upto, engine.most_per_request, start)
            for batch in draw(engine, grader, wanted, settings, stopping):
                run.append(label, batch)
                counter.add(label, [entry for entry, _ in batch])

        screen, n, silent = spec.sampling.screen, spec.sampling.n, replace(settings, logprobs=False)
        if spec.perplexity or engine.name in _IN_PROCESS:
            drawn(name, problems.problems[::_WITH_LOGPROBS], settings, screen or n)
        drawn(name, problems.problems, silent, screen or n)
        if screen:
            hard = unsolved(problems.problems, run.tallies(name), screen)
            counter.expect(name, len(hard))
            drawn(name, hard, silent, n, screen)
        direct = [_direct(problem) for problem in problems.problems if direct_prompt(problem)]
        if spec.direct and direct:
            drawn(name + DIRECT, direct, replace(silent, max_tokens=_DIRECT_TOKENS), spec.direct)


def _direct(problem: Problem) -> Problem:
    return replace(problem, prompt=direct_prompt(problem) or "")


def _opened(
    open_engine: OpenEngine, model: ModelSpec, settings: Settings, run: Run, problems: ProblemSet, stopping: Callable[[], bool]
) -> Engine:
    """The engine, once it has started, which can take minutes."""
    return _unless(stopping, lambda: open_engine(model, settings, run, problems), lambda engine: engine.close())


def _unless(stopping: Callable[[], bool], work: Callable[[], T], too_late: Callable[[T], object] = lambda _: None) -> T:
    """What `work` gives. A stop doesn't wait for it: `too_late` gets what comes after one."""
    out: list[T] = []
    faults: list[Exception] = []

    def do() -> None:
        try:
            out.append(work())
        except Exception as error:
            faults.append(error)
        if gone.is_set() and out:
            too_late(out[0])

    gone = threading.Event()
    thread = threading.Thread(target=do, name="working", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.1)
        if stopping():
            gone.set()
            raise Stopped
    if faults:
        raise faults[0]
    return out[0]


def _record(run: Run, spec: ExperimentSpec, name: str, engine: Engine, settings: Settings) -> None:
    """Which engine runs the model with which settings in force, for the evidence note."""
    asked = {"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens,
             **_wanted(spec.models[name])}  # fmt: skip
    effective = dict(engine.effective)
    differs = {key: [value, effective[key]] for key, value in asked.items() if key in effective and effective[key] != value}
    about = {"engine": engine.name, "engine_version": engine.version, "device": engine.device, "asked": asked,
             "effective": effective, "differs": differs}  # fmt: skip
    run.note(environment={**run.state.get("environment", {}), name: about})


def _wanted(model: ModelSpec) -> dict[str, Any]:
    """What the model's spec asks for, where it asks for anything."""
    given = {"dtype": model.dtype, "max_model_len": model.max_model_len}
    return {key: value for key, value in given.items() if value not in ("auto", 0)}


def _score(run: Run, spec: ExperimentSpec, problems: ProblemSet, open_engine: OpenEngine, stopping: Callable[[], bool]) -> None:
    """scores.json: each model's correct completions under both models: model -> by -> [[problem, logprob, tokens], ...]."""
    path = run.folder / "scores.json"
    scores: dict[str, dict[str, list[list[Any]]]] = read_json(path) if path.exists() else {}
    prompts = {problem.id: problem.prompt for problem in problems.problems}
    chosen: dict[str, list[tuple[str, str]]] = {name: [] for name in spec.models}
    for name in spec.models:
        taken: dict[str, int] = {}
        for row in run.completions(name):
            if row["verdict"] == "pass" and taken.get(row["problem_id"], 0) < _SCORED and row["problem_id"] in prompts:
                taken[row["problem_id"]] = taken.get(row["problem_id"], 0) + 1
                chosen[name].append((row["problem_id"], row["text"]))
    for by, model in spec.models.items():
        if all(by in scores.get(name, {}) for name in spec.models):
            continue
        with closing(_opened(open_engine, model, settings_of(spec), run, problems, stopping)) as engine:
            for name, rows in chosen.items():
                pairs = [(model.template.replace("{prompt}", prompts[problem]), text) for problem, text in rows]
                found = _unless(stopping, partial(engine.score, pairs)) if pairs else []
                entries = [[problem, total, tokens] for (problem, _), (total, tokens) in zip(rows, found, strict=True)]
                scores.setdefault(name, {})[by] = entries
        write_json(path, scores)


class _Counter:
    """Progress and counts.csv, brought up to date with every batch."""

    def __init__(self, run: Run, spec: ExperimentSpec, problems: ProblemSet) -> None:
        self._run, self._spec, self._ids = run, spec, {problem.id for problem in problems.problems}
        sampling = spec.sampling
        size = len(problems.problems)
        self._controls = spec.direct * sum(direct_prompt(problem) is not None for problem in problems.problems)
        self._total = {name: size * (sampling.screen or sampling.n) for name in spec.models}
        self._kept: dict[str, list[Tally]] = {name: run.tallies(name) for name in spec.models}
        if sampling.screen:
            for name in spec.models:
                if self._done(name) >= self._total[name]:
                    self.expect(name, len(unsolved(problems.problems, self._kept[name], sampling.screen)))
        self._since, self._at_first = time.monotonic(), sum(self._done(name) for name in spec.models)
        self._run.write_counts({name: counts_of(kept) for name, kept in self._kept.items()})

    def left(self, name: str) -> int:
        """Attempts still to be drawn, those of the control among them."""
        control = self._controls - sum(entry.n for entry in self._run.tallies(name + DIRECT)) if self._controls else 0
        return max(0, self._total[name] - self._done(name)) + max(0, control)

    def expect(self, name: str, hard: int) -> None:
        """Screening goes on at `hard` problems."""
        sampling = self._spec.sampling
        self._total[name] = len(self._ids) * sampling.screen + hard * (sampling.n - sampling.screen)

    def add(self, label: str, batch: list[Tally]) -> None:
        if label not in self._kept:
            return
        self._kept[label] += batch
        self._run.write_counts({name: counts_of(kept) for name, kept in self._kept.items()})
        self.say(label, "sampling")

    def say(self, name: str, doing: str) -> None:
        done, total = sum(map(self._done, self._total)), sum(self._total.values())
        seconds = time.monotonic() - self._since
        rate = (done - self._at_first) / seconds if seconds > 0 else 0.0
        tokens = sum(entry.tokens for kept in self._kept.values() for entry in kept)
        telling = done == total or done - self._at_first >= _TELLING * total  # the first few say nothing about the rest
        eta = (total - done) / rate if rate > 0 and telling else None
        self._run.show_progress(
            done=done, total=total, eta_s=None if eta is None else round(eta, 1), rate=round(rate, 1), tokens=tokens,
            model=name, doing=doing,
        )  # fmt: skip

    def _done(self, name: str) -> int:
        return sum(entry.n for entry in self._kept[name])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
