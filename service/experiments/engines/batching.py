"""Groups waiting attempts into batches, and runs the threads that sample them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.experiments.engines.base import CLOSED, EngineError, Request, Settings
from service.experiments.engines.stream import Channel
from service.experiments.types import Completion


@dataclass(slots=True, eq=False)
class Job:
    """A request in progress. `ids` are the tokens of its prompt. Its completions are delivered together."""

    request: Request
    settings: Settings
    channel: Channel
    ids: list[int]
    done: dict[int, Completion] = field(default_factory=dict)

    def finish(self, index: int, completion: Completion) -> None:
        self.done[index] = completion
        if len(self.done) == self.request.n:
            self.channel.give([self.done[i] for i in range(self.request.n)])


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt: the job's number `index`, counted from 0."""

    job: Job
    index: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of a batch in bytes per cached token and per row. `prompt_tokens`: the most that one prefill reads."""

    per_token: int
    per_row: int
    prompt_tokens: int = 32_768


def batch_size(rows: Sequence[Row], most: int, free: float, need: MemoryUse) -> int:
    """The number of leading rows for one batch, at least one. `rows` are sorted by prompt length.

    A batch uses at most 0.6 of the free memory; caches count twice because they are copied when they grow."""
    prompts, last = 0, None
    for count, row in enumerate(rows[:most]):
        prompts += row.job is not last
        last = row.job
        width = len(row.job.ids) + row.job.settings.max_tokens
        bytes_needed = (count + 1) * (2 * width * need.per_token + need.per_row)
        if count and (bytes_needed > 0.6 * free or prompts * len(row.job.ids) > need.prompt_tokens):
            return count
    return min(len(rows), most)


class Workers:
    """One thread for each stream of an engine. After `close` new streams fail."""

    def __init__(self, draw: Callable[[list[Row], threading.Event], list[Row]]) -> None:
        self._draw, self._lock = draw, threading.Lock()
        self._workers: dict[Channel, Worker] = {}
        self.closed = False

    def add(self, channel: Channel, jobs: Sequence[Job]) -> None:
        with self._lock:
            if self.closed:
                channel.fail(EngineError(CLOSED))
            elif not channel.stopped.is_set():
                if channel not in self._workers:
                    self._workers[channel] = Worker(channel, self._draw)
                self._workers[channel].add(jobs)

    def leave(self, channel: Channel) -> None:
        with self._lock:
            worker = self._workers.pop(channel, None)
        if worker:
            worker.stop()

    def close(self) -> None:
        with self._lock:
            self.closed = True
            channels = list(self._workers)
        for channel in channels:
            channel.fail(EngineError(CLOSED))
            self.leave(channel)


class Worker:
    """The thread of one stream. `draw` completes some rows and returns the others; it returns early when the event is set."""

    def __init__(self, channel: Channel, draw: Callable[[list[Row], threading.Event], list[Row]]) -> None:
        self._channel, self._draw = channel, draw
        self._new_jobs: list[Job] = []
        self._stop, self._changed = threading.Event(), threading.Condition()
        threading.Thread(target=self._run, name="decoding", daemon=True).start()

    def add(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            self._new_jobs.extend(jobs)
            self._changed.notify()

    def stop(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        rows: list[Row] = []
        try:
            while self._wait(rows):
                rows = self._draw(rows, self._stop)
        except BaseException as error:
            self._channel.fail(error)

    def _wait(self, rows: list[Row]) -> bool:
        """Adds new jobs to `rows`; False when the worker should stop."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._stop.is_set() or self._new_jobs or rows))
            rows += [Row(job, index) for job in self._new_jobs for index in range(job.request.n)]
            self._new_jobs.clear()
            return not self._stop.is_set()
