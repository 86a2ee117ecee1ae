"""Grades final answers of maths problems with math-verify, gold first, because it is not symmetric.

`find_answer` finds the answer. Identical answers, whole numbers and words are compared exactly in this process; all others in
worker processes, where math-verify runs with a limit of CPU time instead of its own. Undecided answers are not failures: a
timeout is `timeout`, and an answer that math-verify can't parse or fails on is `error`. Decimals equal other forms when rounded
to six places, as in math-verify.

`python -m service.experiments.graders.math SECONDS` runs a worker.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from kb.notes import PasskbError
from service.experiments.datasets.final_answers import (
    DIRECT,
    Answer,
    find_answer,
    first_line,
    name_of,
    number,
    shortened,
    tidy,
    words,
)
from service.experiments.graders.worker_pool import Reply, Workers, serve
from service.experiments.types import Completion, Judgement, Problem, Verdict

SECONDS = 5.0
MOST_CHARACTERS = 1_000
_MODULE = "service.experiments.graders.math"
_REMEMBERED = 200_000
_MOST_WORKERS = 8

Comparison = tuple[Verdict, str, str]
"""The verdict on an answer, the answer's canonical name, and the reason if it does not pass."""


class MathsGrader:
    """`seconds` of CPU time per answer. `workers` processes, by default one per core, at most eight.

    Each pair of gold and answer is graded once. Raises PasskbError when math-verify is not installed."""

    def __init__(self, seconds: float = SECONDS, workers: int = 0) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise PasskbError("grading maths needs math-verify: pip install 'math-verify[antlr4_13_2]>=0.9,<0.10'")
        self.workers = Workers(_MODULE, workers or min(_MOST_WORKERS, len(os.sched_getaffinity(0))), seconds)
        self._seconds = seconds
        self._known: dict[tuple[str, str], Comparison] = {}

    def grade(self, items: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        """Raises PasskbError for a problem without a gold answer, and when the grader is closed."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        answers = [(_gold(problem), *_find_answer(problem, completion)) for problem, completion in items]
        self._compare_all({(gold, answer.text): None for gold, answer, _ in answers if answer})
        return [self._judgement(gold, answer, finish) for gold, answer, finish in answers]

    def close(self) -> None:
        self.workers.close()

    def _judgement(self, gold: str, answer: Answer | None, finish: str) -> Judgement:
        if answer is None:
            verdict, name, reason = Verdict.FAIL, "", "the completion has no answer"
        else:
            verdict, name, reason = self._known[gold, answer.text]
        if finish == "length" and verdict is not Verdict.PASS:
            verdict = Verdict.TRUNCATED
        return Judgement(verdict, name, answer is not None and answer.formatted, reason)

    def _compare_all(self, pairs: dict[tuple[str, str], None]) -> None:
        hard: list[tuple[str, str]] = []
        for gold, answer in pairs:
            if (gold, answer) not in self._known:
                comparison = compare_exactly(gold, answer)
                if comparison:
                    self._known[gold, answer] = comparison
                else:
                    hard.append((gold, answer))
        for pair, reply in zip(hard, self.workers.ask(hard), strict=True):
            self._known[pair] = _read_reply(*pair, reply, self._seconds)


def compare_exactly(gold: str, answer: str) -> Comparison | None:
    """The result of a comparison that needs no algebra, consistent with math-verify; else None."""
    if tidy(gold) == tidy(answer):
        return Verdict.PASS, name_of(gold), ""
    wrong = Verdict.FAIL, name_of(answer), f"{_abbreviated(answer)} is not {_abbreviated(gold)}"
    right, value = number(gold), number(answer)
    if right is not None and value is not None:
        if right == value:
            return Verdict.PASS, name_of(gold), ""
        return wrong if "." not in right + value else None
    right, value = words(gold), words(answer)
    if right and value and (right == value or re.search(r"\\(?:text|mbox|mathrm)", gold)):
        return (Verdict.PASS, name_of(gold), "") if right == value else wrong
    if len(answer) > MOST_CHARACTERS or len(gold) > MOST_CHARACTERS:
        return Verdict.ERROR, name_of(answer), f"answers of more than {MOST_CHARACTERS:,} characters are not compared"
    return None


def _gold(problem: Problem) -> str:
    answer = problem.gold.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        raise PasskbError(f"problem {problem.id} is not a maths problem: its gold needs a text 'answer'")
    return answer


def _find_answer(problem: Problem, completion: Completion) -> tuple[Answer | None, str]:
    """The answer and its finish; a direct answer ends with its line."""
    at_once = problem.prompt.endswith(DIRECT)
    answer = find_answer(completion.text, number_wanted=number(_gold(problem)) is not None, at_once=at_once)
    complete = at_once and "\n" in completion.text.lstrip()
    return answer, "stop" if complete else completion.finish


def _read_reply(gold: str, answer: str, reply: Reply, seconds: float) -> Comparison:
    if reply.value is None:
        if reply.ended == "timeout":
            return Verdict.TIMEOUT, name_of(answer), f"not compared within {seconds:g} s of CPU time: {_abbreviated(answer)}"
        return Verdict.ERROR, name_of(answer), f"math-verify failed on {_abbreviated(answer)}: {reply.ended}"
    outcome, name = reply.value
    if outcome == "right":
        return Verdict.PASS, name_of(gold), ""
    canonical = shortened(name) if name else name_of(answer)
    if outcome == "wrong":
        return Verdict.FAIL, canonical, f"{_abbreviated(answer)} is not {_abbreviated(gold)}"
    unreadable = f"the gold {_abbreviated(gold)}" if outcome == "gold" else _abbreviated(answer)
    return Verdict.ERROR, canonical, f"math-verify can't read {unreadable}"


def _abbreviated(text: str) -> str:
    plain = first_line(text)
    return plain if len(plain) <= 60 else f"{plain[:60]}…"


def _compare(question: list[str]) -> Iterator[tuple[str, str]]:
    """Runs in a worker: (`right`, `wrong`, or the unparsable one of `gold` and `answer`; the answer's name or "")."""
    from math_verify import verify

    gold, answer = question
    right, value = _parsed(gold), _parsed(answer)
    if not right or not value:
        yield ("answer" if right else "gold"), ""
    elif verify(right, value, timeout_seconds=None, raise_on_error=True):
        yield "right", ""
    else:
        yield "wrong", ""
        yield "wrong", _canonical(value[0])


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> list[Any]:
    """The answer as a sympy value in a list of one; an empty list when math-verify can't parse it."""
    from math_verify import LatexExtractionConfig, parse

    latex = [LatexExtractionConfig(boxed_match_priority=0)]
    text = "\\boxed{" + answer.replace("−", "-").strip() + "}"
    values: list[Any] = parse(text, latex, "no_fallback", "first_match", parsing_timeout=None, raise_on_error=True)
    return values


def _canonical(value: Any) -> str:
    """The same name for values that simplify to the same form, for example `1/2`. "" on failure."""
    sympy: Any = importlib.import_module("sympy")
    try:
        plain = value.doit()
        plain = plain.applyfunc(sympy.simplify) if isinstance(plain, sympy.MatrixBase) else sympy.simplify(plain)
        return str(sympy.nsimplify(str(plain), rational=True) if isinstance(plain, sympy.Float) else plain)
    except Exception:
        return ""


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for _ in _compare(["1/2", "\\sqrt{2}"]):  # loads the libraries before the first timed comparison
        pass
    serve(_compare, float(sys.argv[1]))
