"""Grades programs by running the problem's tests in sandboxes.

The gold of a problem has `tests` (a `check(candidate)` function or asserts), `entry_point`, and `prompt`, the code that the
completion continues ("" when the completion is a whole program).
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from service.experiments.sandbox import Case, Examiner, Limits, Outcome, SandboxUnavailable, available
from service.experiments.types import Completion, Judgement, Problem, Verdict

_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S | re.I)
_VERDICTS = {
    "pass": Verdict.PASS,
    "fail": Verdict.FAIL,
    "timeout": Verdict.TIMEOUT,
    "tests": Verdict.ERROR,
    "lost": Verdict.ERROR,
}


class CodeGrader:
    """Grades `workers` programs at a time, by default one per core, each in its own pair of sandboxes.

    Raises SandboxUnavailable."""

    def __init__(self, limits: Limits | None = None, workers: int = 0) -> None:
        holds, remedy = available()
        if not holds:
            raise SandboxUnavailable(remedy)
        self.limits = limits or Limits()
        cores = sorted(os.sched_getaffinity(0))
        count = workers or len(cores)
        # The processes of one program take turns, so pinning them to one core avoids wake-ups between cores. Fewer workers
        # than cores are not pinned.
        self._cores = itertools.cycle([{core} for core in cores] if count >= len(cores) else [set(cores)])
        self._own = threading.local()
        self._examiners: list[Examiner] = []
        # A sandbox ends with the thread that opened it; these threads live until close.
        self._pool = ThreadPoolExecutor(count, "code-grading")

    def grade(self, items: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        return list(self._pool.map(self._judge, items))

    def close(self) -> None:
        """Aborts running gradings; `grade` then raises CancelledError in its thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for examiner in self._examiners:
            examiner.abandon()
        self._pool.shutdown()
        while self._examiners:
            self._examiners.pop().close()

    def _judge(self, item: tuple[Problem, Completion]) -> Judgement:
        problem, completion = item
        prefix, entry_point = str(problem.gold.get("prompt", "")), str(problem.gold["entry_point"])
        code = extract(completion.text, prefix, entry_point)
        if not code.strip():
            return Judgement(_unless_cut(Verdict.FAIL, completion), formatted=False, reason="the completion has no code")
        case = Case(assemble(prefix, code, entry_point), str(problem.gold["tests"]), entry_point, prefix)
        return judgement(self._examiner().examine(case), completion)

    def _examiner(self) -> Examiner:
        examiner: Examiner | None = getattr(self._own, "examiner", None)
        if examiner is None:
            # This thread's core, and that of the sandboxes it starts.
            os.sched_setaffinity(0, next(self._cores))
            examiner = self._own.examiner = Examiner(self.limits)
            self._examiners.append(examiner)
        return examiner


def judgement(outcome: Outcome, completion: Completion) -> Judgement:
    """A truncated completion that does not pass is `truncated`."""
    verdict = _unless_cut(_VERDICTS[outcome.kind], completion)
    return Judgement(verdict, outcome.shape, outcome.defined, outcome.reason)


def _unless_cut(verdict: Verdict, completion: Completion) -> Verdict:
    cut = completion.finish == "length" and verdict in (Verdict.FAIL, Verdict.TIMEOUT)
    return Verdict.TRUNCATED if cut else verdict


def extract(text: str, prefix: str, entry_point: str) -> str:
    """The code in a completion: the last fenced block that defines the entry point, else the last fenced block, else all text.

    A completion that continues code and only closes a fence is code up to the fence."""
    blocks = [match[1] for match in _FENCE.finditer(text)]
    if not blocks:
        return text
    whole = [block for block in blocks if defines(block, entry_point)]
    before = text[: text.index("```")]
    if prefix and before.strip() and not whole and before[:1] in " \t\n":
        return before
    return (whole or blocks)[-1]


def assemble(prefix: str, code: str, entry_point: str) -> str:
    """The whole program. Code that defines the entry point anew follows a prefix that leaves it unfinished, if need be."""
    if defines(code, entry_point) and prefix.rstrip().endswith(":"):
        return f"{prefix.rstrip()}\n    pass\n{code}"
    return prefix + code


def defines(code: str, entry_point: str) -> bool:
    return (
        re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(entry_point)}\b|^{re.escape(entry_point)}\s*=", code, re.M)
        is not None
    )
