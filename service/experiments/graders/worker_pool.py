"""Processes that answer questions, each within a limit of processor time. One that hangs or dies is replaced, and costs the one
answer it was at.

A worker is `python -m MODULE SECONDS`, whose main calls `serve`. Questions and answers are JSON values, over its pipes. The
limit is a kernel timer on processor time with its deadly default action: it holds in C code, on a machine that is busy with
other things, and when this process is gone. An idle worker ends when its input does, so none outlives this process by more
than the limit.

Knows nothing about what is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kb.notes import PasskbError

_ROOT = Path(__file__).resolve().parents[3]
_MEMORY = 4 << 30  # bytes of address space a worker
_CHUNK = 16  # questions a worker is given at a time
_WORTH_A_START = 4  # questions waiting for each worker that is started
_RECYCLED = 5_000  # answers after which a worker is replaced: what it works with may leak
_STARTING = 120.0  # seconds a worker may take until it is ready
_FALSE_STARTS = 3
_LOOK = 0.2  # seconds between looks at the clock and at whether to close


@dataclass(frozen=True, slots=True)
class Reply:
    """`value`: the last thing said in answer, None if nothing was. `ended`: "", "timeout", or why no more came."""

    value: Any = None
    ended: str = ""


class Closed(PasskbError):
    """The workers were closed while they were asked."""


def serve(answer: Callable[[Any], Iterable[Any]], seconds: float) -> None:
    """A worker's life: `answer` gives one or more values to a question, each better than the one before; the last one said when
    the limit strikes stands. Returns when its input ends. Prints of `answer` go nowhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(kind: str, value: Any = None) -> None:
        replies.write(json.dumps([kind, value]) + "\n")
        replies.flush()

    say("ready")
    for line in sys.stdin:
        for question in json.loads(line):
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                for value in answer(question):
                    say("value", value)
                end = "done", ""
            except Exception as error:
                end = "failed", f"{type(error).__name__}: {error}"[:200].rstrip(": ")
            signal.setitimer(signal.ITIMER_PROF, 0)
            say(*end)


class Workers:
    """Up to `count` workers, started as they are needed. `seconds`: of processor time a question; `patience`: of any time,
    after which a worker that says nothing counts as hung."""

    def __init__(self, module: str, count: int, seconds: float, patience: float = 0.0) -> None:
        self.count = count
        self._module, self._seconds = module, seconds
        self._patience = patience or 30 + 10 * seconds
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._false_starts = 0

    @property
    def pids(self) -> list[int]:
        """The processes there are now."""
        return [worker.process.pid for worker in list(self._workers)]

    def ask(self, questions: Sequence[Any]) -> list[Reply]:
        """One reply a question, in their order; one caller at a time, a second one waits.

        Raises Closed when they are closed meanwhile, from another thread, and PasskbError when workers don't start."""
        with self._turn:
            replies: list[Reply | None] = [None] * len(questions)
            waiting = deque(range(len(questions)))
            try:
                while waiting or any(worker.asked for worker in self._workers):
                    self._give(waiting, questions)
                    self._listen(replies)
                    self._bury(replies, waiting)
            finally:
                for worker in [worker for worker in self._workers if worker.asked]:
                    self._end(worker)
            return [reply or Reply(ended="it was not asked") for reply in replies]

    def close(self) -> None:
        """Ends all of them, whatever they are at, and waits until they are gone."""
        self._closed.set()
        for worker in list(self._workers):
            worker.process.kill()
        with self._turn:
            for worker in list(self._workers):
                self._end(worker)

    def _give(self, waiting: deque[int], questions: Sequence[Any]) -> None:
        """Starts workers and hands out questions."""
        if self._closed.is_set():
            raise Closed("the grader was closed while it was judging: nothing more is to be done")
        for worker in [worker for worker in self._workers if worker.answered >= _RECYCLED and not worker.asked]:
            self._end(worker)
        busy = sum(bool(worker.asked) for worker in self._workers)
        wanted = min(self.count, busy + -(-len(waiting) // _WORTH_A_START))
        while len(self._workers) < wanted:
            worker = _Worker(_start(self._module, self._seconds))
            self._workers.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        for worker in self._workers:
            if waiting and worker.ready and not worker.asked and worker.process.poll() is None:
                size = max(1, min(_CHUNK, len(waiting) // (2 * len(self._workers))))
                worker.ask([waiting.popleft() for _ in range(size)], questions)

    def _listen(self, replies: list[Reply | None]) -> None:
        for key, _ in self._selector.select(_LOOK):
            worker: _Worker = key.data
            for kind, value in worker.heard():
                if kind == "ready":
                    worker.ready, self._false_starts = True, 0
                elif kind == "value":
                    worker.said = value
                else:
                    replies[worker.asked.popleft()] = Reply(worker.said, "" if kind == "done" else str(value))
                    worker.said, worker.answered = None, worker.answered + 1

    def _bury(self, replies: list[Reply | None], waiting: deque[int]) -> None:
        """Takes leave of workers that ended or hang. The question one was at has its reply; its others wait again."""
        for worker in list(self._workers):
            hangs = bool(worker.asked or not worker.ready) and worker.silent() > (self._patience if worker.ready else _STARTING)
            if not hangs and not worker.over:
                continue
            status = self._end(worker)
            if not worker.ready:
                self._false_starts += 1
                if self._false_starts >= _FALSE_STARTS:
                    command = f"{sys.executable} -m {self._module} {self._seconds} </dev/null"
                    raise PasskbError(f"the grader's worker does not start; see what it says to: {command}")
            elif worker.asked:
                out_of_time = hangs or status == -signal.SIGPROF
                replies[worker.asked.popleft()] = Reply(worker.said, "timeout" if out_of_time else _ending(status))
            waiting.extendleft(reversed(worker.asked))
            worker.asked.clear()

    def _end(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.stdout)
        return worker.end()


@dataclass(eq=False, slots=True)
class _Worker:
    """`asked`: the questions it was given and has not answered, by their index. `said`: in answer to the first of them."""

    process: subprocess.Popen[bytes]
    ready: bool = False
    over: bool = False
    asked: deque[int] = field(default_factory=deque)
    said: Any = None
    answered: int = 0
    _since: float = field(default_factory=time.monotonic)
    _rest: bytes = b""

    @property
    def stdout(self) -> Any:
        return self.process.stdout

    def ask(self, indices: list[int], questions: Sequence[Any]) -> None:
        self.asked.extend(indices)
        self._since = time.monotonic()
        stdin: Any = self.process.stdin
        # A worker that has just ended shows when it is listened to.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps([questions[index] for index in indices]).encode() + b"\n")
            stdin.flush()

    def heard(self) -> list[list[Any]]:
        """The whole lines that it said since; notes when it ended."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        self.over = not data
        self._since = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def silent(self) -> float:
        return time.monotonic() - self._since

    def end(self) -> int:
        """Its exit status, once it is gone."""
        self.process.kill()
        status = self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        return status


def _start(module: str, seconds: float) -> subprocess.Popen[bytes]:
    """-P and PYTHONPATH: modules come from where this one came from, and never from the working folder."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip


def _ending(status: int) -> str:
    return f"the checker was ended by signal {-status}" if status < 0 else f"the checker ended with status {status}"
