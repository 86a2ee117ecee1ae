"""Which waiting attempts go into one batch, and the threads that draw batch after batch.

Knows nothing about tensors: what draws a batch is given to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.experiments.engines.base import CLOSED, EngineError, Request, Settings
from service.experiments.engines.stream import Channel
from service.experiments.types import Completion


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way. `ids`: its prompt's tokens. Its completions are given when the last of them is there."""

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
class Need:
    """What a batch takes, in bytes: of a token that is kept, of a row whatever its length. `prompt_tokens`: read at once."""

    of_token: int
    of_row: int
    prompt_tokens: int = 32_768


def fitting(rows: Sequence[Row], most: int, free: float, need: Need) -> int:
    """How many of these rows, from the first, go into one batch that is as wide as its longest prompt; at least one.

    The rows come sorted by length of prompt. Of the free memory 0.6 is used, and a cache is counted twice, as it is copied
    when it grows."""
    prompts, last = 0, None
    for many, row in enumerate(rows[:most]):
        prompts += row.job is not last
        last = row.job
        width = len(row.job.ids) + row.job.settings.max_tokens
        bytes_needed = (many + 1) * (2 * width * need.of_token + need.of_row)
        if many and (bytes_needed > 0.6 * free or prompts * len(row.job.ids) > need.prompt_tokens):
            return many
    return min(len(rows), most)


class Workers:
    """The threads of an engine's streams, one each. Who has left gets no other, and once closed nobody is let in."""

    def __init__(self, draw: Callable[[list[Row], threading.Event], list[Row]]) -> None:
        self._draw, self._door = draw, threading.Lock()
        self._inside: dict[Channel, Worker] = {}
        self.closed = False

    def add(self, channel: Channel, jobs: Sequence[Job]) -> None:
        with self._door:
            if self.closed:
                channel.fail(EngineError(CLOSED))
            elif not channel.stopped.is_set():
                if channel not in self._inside:
                    self._inside[channel] = Worker(channel, self._draw)
                self._inside[channel].add(jobs)

    def leave(self, channel: Channel) -> None:
        with self._door:
            worker = self._inside.pop(channel, None)
        if worker:
            worker.stop()

    def close(self) -> None:
        with self._door:
            self.closed = True
            inside = list(self._inside)
        for channel in inside:
            channel.fail(EngineError(CLOSED))
            self.leave(channel)


class Worker:
    """One stream's thread. `draw` completes some of the rows it is given, and gives back the others; it leaves early when the
    event is set."""

    def __init__(self, channel: Channel, draw: Callable[[list[Row], threading.Event], list[Row]]) -> None:
        self._channel, self._draw = channel, draw
        self._sent: list[Job] = []
        self._stop, self._news = threading.Event(), threading.Condition()
        threading.Thread(target=self._run, name="decoding", daemon=True).start()

    def add(self, jobs: Sequence[Job]) -> None:
        with self._news:
            self._sent.extend(jobs)
            self._news.notify()

    def stop(self) -> None:
        self._stop.set()
        with self._news:
            self._news.notify()

    def _run(self) -> None:
        rows: list[Row] = []
        try:
            while self._wait(rows):
                rows = self._draw(rows, self._stop)
        except BaseException as error:
            self._channel.fail(error)

    def _wait(self, rows: list[Row]) -> bool:
        """Adds what was sent meanwhile; False when it is time to stop."""
        with self._news:
            self._news.wait_for(lambda: bool(self._stop.is_set() or self._sent or rows))
            rows += [Row(job, index) for job in self._sent for index in range(job.request.n)]
            self._sent.clear()
            return not self._stop.is_set()
