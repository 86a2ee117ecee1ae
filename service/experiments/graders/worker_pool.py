"""A pool of worker processes that answer questions within a limit of CPU time, and are replaced when they hang or die.

A worker is `python -m MODULE SECONDS`, whose main function calls `serve`. Questions and answers are JSON values over pipes.
The limit is a kernel timer on CPU time whose signal kills the process, so it also applies in C code and after this process
has ended. An idle worker exits when its input ends.
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
_CHUNK = 16  # questions sent to a worker at a time
_QUESTIONS_PER_START = 4  # waiting questions for each new worker
_MAX_ANSWERS = 5_000  # after which a worker is replaced, because its libraries may leak
_START_TIMEOUT = 120.0  # seconds
_MAX_FAILED_STARTS = 3
_POLL = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """`value`: the last answer or None. `ended`: "", "timeout", or the reason why it is incomplete."""

    value: Any = None
    ended: str = ""


class Closed(PasskbError):
    """The workers were closed during a question."""


def serve(answer: Callable[[Any], Iterable[Any]], seconds: float) -> None:
    """Runs a worker until its input ends. `answer` yields one or more values for a question, each better than the last; at the
    time limit the last one counts. Its stdout is discarded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def reply(kind: str, value: Any = None) -> None:
        replies.write(json.dumps([kind, value]) + "\n")
        replies.flush()

    reply("ready")
    for line in sys.stdin:
        for question in json.loads(line):
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                for value in answer(question):
                    reply("value", value)
                end = "done", ""
            except Exception as error:
                end = "failed", f"{type(error).__name__}: {error}"[:200].rstrip(": ")
            signal.setitimer(signal.ITIMER_PROF, 0)
            reply(*end)


class Workers:
    """Up to `count` workers, started on demand. `seconds` of CPU time per question; a worker that is silent for `patience`
    seconds counts as hung."""

    def __init__(self, module: str, count: int, seconds: float, patience: float = 0.0) -> None:
        self.count = count
        self._module, self._seconds = module, seconds
        self._patience = patience or 30 + 10 * seconds
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._ask_lock = threading.Lock()
        self._closed = threading.Event()
        self._failed_starts = 0

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return [worker.process.pid for worker in list(self._workers)]

    def ask(self, questions: Sequence[Any]) -> list[Reply]:
        """One reply per question, in order; a second caller waits.

        Raises Closed when another thread closes the workers, and PasskbError when workers don't start."""
        with self._ask_lock:
            replies: list[Reply | None] = [None] * len(questions)
            waiting = deque(range(len(questions)))
            try:
                while waiting or any(worker.pending for worker in self._workers):
                    self._assign(waiting, questions)
                    self._receive(replies)
                    self._reap(replies, waiting)
            finally:
                for worker in [worker for worker in self._workers if worker.pending]:
                    self._end(worker)
            return [reply or Reply(ended="not asked") for reply in replies]

    def close(self) -> None:
        """Kills all workers and waits for their end."""
        self._closed.set()
        for worker in list(self._workers):
            worker.process.kill()
        with self._ask_lock:
            for worker in list(self._workers):
                self._end(worker)

    def _assign(self, waiting: deque[int], questions: Sequence[Any]) -> None:
        """Starts workers and hands out questions."""
        if self._closed.is_set():
            raise Closed("the grader was closed while grading")
        for worker in [worker for worker in self._workers if worker.answered >= _MAX_ANSWERS and not worker.pending]:
            self._end(worker)
        busy = sum(bool(worker.pending) for worker in self._workers)
        needed = min(self.count, busy + -(-len(waiting) // _QUESTIONS_PER_START))
        while len(self._workers) < needed:
            worker = _Worker(_start(self._module, self._seconds))
            self._workers.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        for worker in self._workers:
            if waiting and worker.ready and not worker.pending and worker.process.poll() is None:
                size = max(1, min(_CHUNK, len(waiting) // (2 * len(self._workers))))
                worker.ask([waiting.popleft() for _ in range(size)], questions)

    def _receive(self, replies: list[Reply | None]) -> None:
        for key, _ in self._selector.select(_POLL):
            worker: _Worker = key.data
            for kind, value in worker.read():
                if kind == "ready":
                    worker.ready, self._failed_starts = True, 0
                elif kind == "value":
                    worker.value = value
                else:
                    replies[worker.pending.popleft()] = Reply(worker.value, "" if kind == "done" else str(value))
                    worker.value, worker.answered = None, worker.answered + 1

    def _reap(self, replies: list[Reply | None], waiting: deque[int]) -> None:
        """Removes workers that ended or hang. Their current question gets a reply; their other questions wait again."""
        for worker in list(self._workers):
            limit = self._patience if worker.ready else _START_TIMEOUT
            hangs = bool(worker.pending or not worker.ready) and worker.silent() > limit
            if not hangs and not worker.over:
                continue
            status = self._end(worker)
            if not worker.ready:
                self._failed_starts += 1
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    command = f"{sys.executable} -m {self._module} {self._seconds} </dev/null"
                    raise PasskbError(f"the grader's worker does not start; for the reason run: {command}")
            elif worker.pending:
                out_of_time = hangs or status == -signal.SIGPROF
                replies[worker.pending.popleft()] = Reply(worker.value, "timeout" if out_of_time else _ending(status))
            waiting.extendleft(reversed(worker.pending))
            worker.pending.clear()

    def _end(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.stdout)
        return worker.end()


@dataclass(eq=False, slots=True)
class _Worker:
    """`pending`: the indices of its unanswered questions. `value`: the answer so far to the first of them."""

    process: subprocess.Popen[bytes]
    ready: bool = False
    over: bool = False
    pending: deque[int] = field(default_factory=deque)
    value: Any = None
    answered: int = 0
    _since: float = field(default_factory=time.monotonic)
    _rest: bytes = b""

    @property
    def stdout(self) -> Any:
        return self.process.stdout

    def ask(self, indices: list[int], questions: Sequence[Any]) -> None:
        self.pending.extend(indices)
        self._since = time.monotonic()
        stdin: Any = self.process.stdin
        # The next read detects a worker that has just ended.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps([questions[index] for index in indices]).encode() + b"\n")
            stdin.flush()

    def read(self) -> list[list[Any]]:
        """The complete messages since the last read; sets `over` at the end of its output."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        self.over = not data
        self._since = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def silent(self) -> float:
        return time.monotonic() - self._since

    def end(self) -> int:
        """Kills the worker and returns its exit status."""
        self.process.kill()
        status = self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        return status


def _start(module: str, seconds: float) -> subprocess.Popen[bytes]:
    """-P and PYTHONPATH: modules come from this installation, never from the working folder."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip


def _ending(status: int) -> str:
    return f"the checker was ended by signal {-status}" if status < 0 else f"the checker ended with status {status}"
