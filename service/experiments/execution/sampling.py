"""Lists the missing attempts of a run and samples them: the engine samples in one thread, the grader grades in another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from service.experiments.engines.base import Engine, Request, Settings
from service.experiments.execution.run_store import Judged, Tally, tally
from service.experiments.graders.base import Grader
from service.experiments.spec import ExperimentSpec
from service.experiments.types import Completion, Problem, seed_of

_POLL = 0.1  # seconds between checks of `stopping`
_BATCH_SECONDS, _BATCH_ROWS = 2.0, 20_000
_ROUNDS = 8  # requests per problem at most, so that counts grow evenly and grading starts early
_MIN_REQUEST = 64  # attempts, if there are that many: vLLM's server is half as fast with requests of 16
_MAX_PENDING = 64  # requests between engine and grader (back-pressure)


class Stopped(Exception):
    """The run was asked to stop."""


def requests(
    spec: ExperimentSpec, model: str, problems: Sequence[Problem], done: Iterable[Tally], upto: int, most: int, start: int = 0
) -> list[Request]:
    """The attempts from `start` to `upto` - 1 that `done` lacks, round-robin over the problems, at most `most` per request."""
    attempted: dict[str, set[int]] = {}
    for entry in done:
        attempted.setdefault(entry.problem, set()).update(range(entry.first, entry.first + entry.n))
    size = max(1, min(most, upto - start, max(_MIN_REQUEST, -(-(upto - start) // _ROUNDS))))
    rounds: dict[int, list[Request]] = {}
    for problem in problems:
        missing = [i for i in range(start, upto) if i not in attempted.get(problem.id, ())]
        for number, (first, n) in enumerate(_ranges(missing, size)):
            seed = seed_of(spec.sampling.seed, model, problem.id, first)
            rounds.setdefault(number, []).append(Request(problem, prompt(spec, model, problem), first, n, seed))
    return [request for number in sorted(rounds) for request in rounds[number]]


def prompt(spec: ExperimentSpec, model: str, problem: Problem) -> str:
    """The problem in the model's template."""
    return spec.models[model].template.replace("{prompt}", problem.prompt)


def unsolved(problems: Sequence[Problem], done: Iterable[Tally], screen: int) -> list[Problem]:
    """The problems without a pass among their first `screen` attempts."""
    solved = {entry.problem for entry in done if entry.c and entry.first < screen}
    return [problem for problem in problems if problem.id not in solved]


def draw(
    engine: Engine, grader: Grader, pending: Sequence[Request], settings: Settings, stopping: Callable[[], bool]
) -> Iterator[list[tuple[Tally, Judged]]]:
    """Batches of graded requests, every few seconds. Raises Stopped within two seconds of `stopping`, and errors of the
    engine and the grader; batches yielded before remain valid."""
    if not pending:
        return
    over = threading.Event()
    sampled: queue.Queue[Any] = queue.Queue(_MAX_PENDING)
    graded: queue.Queue[Any] = queue.Queue()
    problems = {request.problem.id: request.problem for request in pending}
    threads = [
        threading.Thread(target=_sample, args=(engine, pending, settings, sampled, over), name="sampling", daemon=True),
        threading.Thread(target=_grade, args=(grader, problems, sampled, graded, over), name="grading", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _batches(graded, stopping)
    finally:
        over.set()


def _sample(
    engine: Engine, pending: Sequence[Request], settings: Settings, out: queue.Queue[Any], over: threading.Event
) -> None:
    try:
        for completions in engine.sample(pending, settings):
            if not _put(out, completions, over):
                return
        _put(out, None, over)
    except Exception as error:
        _put(out, error, over)


def _grade(
    grader: Grader, problems: Mapping[str, Problem], sampled: queue.Queue[Any], out: queue.Queue[Any], over: threading.Event
) -> None:
    """Grades everything that is waiting at once, because graders are faster in bulk."""
    while not over.is_set():
        waiting = _take(sampled)
        lists = [cast(list[Completion], entry) for entry in waiting if isinstance(entry, list)]
        try:
            flat = [completion for completions in lists for completion in completions]
            judgements = iter(grader.grade([(problems[completion.problem_id], completion) for completion in flat]))
            for completions in lists:
                pairs = [(completion, next(judgements)) for completion in sorted(completions, key=lambda c: c.attempt)]
                out.put((tally(completions[0].problem_id, pairs[0][0].attempt, pairs), pairs))
        except Exception as error:
            out.put(error)
            return
        for entry in waiting:
            if not isinstance(entry, list):
                out.put(entry)
                return


def _take(sampled: queue.Queue[Any]) -> list[Any]:
    taken: list[Any] = []
    try:
        taken.append(sampled.get(timeout=_POLL))
        while len(taken) < _MAX_PENDING:
            taken.append(sampled.get_nowait())
    except queue.Empty:
        pass
    return taken


def _batches(graded: queue.Queue[Any], stopping: Callable[[], bool]) -> Iterator[list[tuple[Tally, Judged]]]:
    batch: list[tuple[Tally, Judged]] = []
    rows, since = 0, time.monotonic()
    while True:
        if stopping():
            if batch:
                yield batch
            raise Stopped
        try:
            entry = graded.get(timeout=_POLL)
        except queue.Empty:
            entry = ()
        if isinstance(entry, Exception) or entry is None:
            if batch:
                yield batch
            if entry is None:
                return
            raise entry
        if entry:
            batch.append(entry)
            rows += entry[0].n
        if batch and (rows >= _BATCH_ROWS or time.monotonic() - since >= _BATCH_SECONDS):
            yield batch
            batch, rows, since = [], 0, time.monotonic()


def _put(out: queue.Queue[Any], entry: Any, over: threading.Event) -> bool:
    while not over.is_set():
        try:
            out.put(entry, timeout=_POLL)
            return True
        except queue.Full:
            continue
    return False


def _ranges(attempts: Collection[int], size: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the contiguous ranges, each at most `size` long and within one multiple of it."""
    first, n = -1, 0
    for i in sorted(attempts):
        if n and i == first + n and n < size and i % size:
            n += 1
            continue
        if n:
            yield first, n
        first, n = i, 1
    if n:
        yield first, n
