"""What is still to be drawn, and drawing it: an engine samples while a grader judges, in threads of their own.

Knows nothing about where batches are kept or what they mean.
"""

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

_LOOK = 0.1  # seconds between looks at whether to stop
_BATCH_SECONDS, _BATCH_ROWS = 2.0, 20_000
_ROUNDS = 8  # a problem's attempts come in at most so many requests, so that counts grow evenly and grading starts early
_LEAST = 64  # attempts a request, where so many are wanted: vLLM's server draws half as fast in requests of 16
_WAITING = 64  # requests between engine and grader: back-pressure


class Stopped(Exception):
    """Somebody asked the run to stop."""


def requests(
    spec: ExperimentSpec, model: str, problems: Sequence[Problem], done: Iterable[Tally], upto: int, most: int, start: int = 0
) -> list[Request]:
    """The attempts from `start` to `upto` - 1 that `done` lacks, round-robin over the problems, at most `most` a request."""
    attempted: dict[str, set[int]] = {}
    for entry in done:
        attempted.setdefault(entry.problem, set()).update(range(entry.first, entry.first + entry.n))
    size = max(1, min(most, upto - start, max(_LEAST, -(-(upto - start) // _ROUNDS))))
    rounds: dict[int, list[Request]] = {}
    for problem in problems:
        missing = [i for i in range(start, upto) if i not in attempted.get(problem.id, ())]
        for number, (first, n) in enumerate(_stretches(missing, size)):
            seed = seed_of(spec.sampling.seed, model, problem.id, first)
            rounds.setdefault(number, []).append(Request(problem, prompt(spec, model, problem), first, n, seed))
    return [request for number in sorted(rounds) for request in rounds[number]]


def prompt(spec: ExperimentSpec, model: str, problem: Problem) -> str:
    """The problem in the model's template."""
    return spec.models[model].template.replace("{prompt}", problem.prompt)


def unsolved(problems: Sequence[Problem], done: Iterable[Tally], screen: int) -> list[Problem]:
    """Those without a pass among their first `screen` attempts: where screening goes on."""
    solved = {entry.problem for entry in done if entry.c and entry.first < screen}
    return [problem for problem in problems if problem.id not in solved]


def draw(
    engine: Engine, grader: Grader, wanted: Sequence[Request], settings: Settings, stopping: Callable[[], bool]
) -> Iterator[list[tuple[Tally, Judged]]]:
    """Batches of judged requests, every few seconds. Raises Stopped within two seconds of `stopping`, and what the engine
    or the grader raise; what was yielded before stands."""
    if not wanted:
        return
    over = threading.Event()
    drawn: queue.Queue[Any] = queue.Queue(_WAITING)
    judged: queue.Queue[Any] = queue.Queue()
    problems = {request.problem.id: request.problem for request in wanted}
    threads = [
        threading.Thread(target=_draw, args=(engine, wanted, settings, drawn, over), name="sampling", daemon=True),
        threading.Thread(target=_judge, args=(grader, problems, drawn, judged, over), name="grading", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _batches(judged, stopping)
    finally:
        over.set()


def _draw(engine: Engine, wanted: Sequence[Request], settings: Settings, out: queue.Queue[Any], over: threading.Event) -> None:
    try:
        for completions in engine.sample(wanted, settings):
            if not _put(out, completions, over):
                return
        _put(out, None, over)
    except Exception as error:
        _put(out, error, over)


def _judge(
    grader: Grader, problems: Mapping[str, Problem], drawn: queue.Queue[Any], out: queue.Queue[Any], over: threading.Event
) -> None:
    """Takes all that is waiting at once: a grader is quicker with many than with one."""
    while not over.is_set():
        waiting = _taken(drawn)
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


def _taken(drawn: queue.Queue[Any]) -> list[Any]:
    taken: list[Any] = []
    try:
        taken.append(drawn.get(timeout=_LOOK))
        while len(taken) < _WAITING:
            taken.append(drawn.get_nowait())
    except queue.Empty:
        pass
    return taken


def _batches(judged: queue.Queue[Any], stopping: Callable[[], bool]) -> Iterator[list[tuple[Tally, Judged]]]:
    batch: list[tuple[Tally, Judged]] = []
    rows, since = 0, time.monotonic()
    while True:
        if stopping():
            if batch:
                yield batch
            raise Stopped
        try:
            entry = judged.get(timeout=_LOOK)
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
            out.put(entry, timeout=_LOOK)
            return True
        except queue.Full:
            continue
    return False


def _stretches(attempts: Collection[int], size: int) -> Iterator[tuple[int, int]]:
    """(first, how many) of runs without a gap, each at most `size` and within one multiple of it."""
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
