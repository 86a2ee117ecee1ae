"""Judges final answers of maths problems by math-verify, the gold first: it is not symmetric.

The answer is what `find_answer` finds; the last box counts, and nothing else that a completion says. Answers written alike,
whole numbers and words are judged here and now, exactly; all others in worker processes, where math-verify parses and compares
them with its own time limits off and a limit of processor time on (`workers`). What could not be settled is unknown, not wrong:
out of time is `timeout`; an answer that math-verify can't read, or fails over, is `error`. For decimals against other forms
math-verify's rule holds: equal when rounded to six places.

As `python -m service.experiments.graders.math SECONDS`, this module is such a worker. Knows nothing of engines or runs.
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

Ruling = tuple[Verdict, str, str]
"""A verdict on an answer, the answer's name, and why it isn't a pass."""


class MathsGrader:
    """`seconds`: of processor time an answer. `workers`: processes, by default one a core, and at most eight.

    An answer to the same gold is judged once. Raises PasskbError where math-verify is not installed."""

    def __init__(self, seconds: float = SECONDS, workers: int = 0) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise PasskbError("maths is graded by math-verify: pip install 'math-verify[antlr4_13_2]>=0.9,<0.10'")
        self.workers = Workers(_MODULE, workers or min(_MOST_WORKERS, len(os.sched_getaffinity(0))), seconds)
        self._seconds = seconds
        self._known: dict[tuple[str, str], Ruling] = {}

    def grade(self, items: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        """Raises PasskbError for a problem without a gold answer, and when the grader is closed meanwhile."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        asked = [(_gold(problem), *_found(problem, completion)) for problem, completion in items]
        self._settle({(gold, answer.text): None for gold, answer, _ in asked if answer})
        return [self._judgement(gold, answer, finish) for gold, answer, finish in asked]

    def close(self) -> None:
        self.workers.close()

    def _judgement(self, gold: str, answer: Answer | None, finish: str) -> Judgement:
        if answer is None:
            verdict, name, reason = Verdict.FAIL, "", "there is no answer in it"
        else:
            verdict, name, reason = self._known[gold, answer.text]
        if finish == "length" and verdict is not Verdict.PASS:
            verdict = Verdict.TRUNCATED
        return Judgement(verdict, name, answer is not None and answer.formatted, reason)

    def _settle(self, pairs: dict[tuple[str, str], None]) -> None:
        hard: list[tuple[str, str]] = []
        for gold, answer in pairs:
            if (gold, answer) not in self._known:
                ruling = judge_at_once(gold, answer)
                if ruling:
                    self._known[gold, answer] = ruling
                else:
                    hard.append((gold, answer))
        for pair, reply in zip(hard, self.workers.ask(hard), strict=True):
            self._known[pair] = _ruling(*pair, reply, self._seconds)


def judge_at_once(gold: str, answer: str) -> Ruling | None:
    """The verdict where it needs no algebra, in agreement with math-verify; None where it does."""
    if tidy(gold) == tidy(answer):
        return Verdict.PASS, name_of(gold), ""
    wrong = Verdict.FAIL, name_of(answer), f"{_shown(answer)} is not {_shown(gold)}"
    right, given = number(gold), number(answer)
    if right is not None and given is not None:
        if right == given:
            return Verdict.PASS, name_of(gold), ""
        return wrong if "." not in right + given else None
    meant, said = words(gold), words(answer)
    if meant and said and (meant == said or re.search(r"\\(?:text|mbox|mathrm)", gold)):
        return (Verdict.PASS, name_of(gold), "") if meant == said else wrong
    if len(answer) > MOST_CHARACTERS or len(gold) > MOST_CHARACTERS:
        return Verdict.ERROR, name_of(answer), f"an answer of more than {MOST_CHARACTERS:,} characters is not judged"
    return None


def _gold(problem: Problem) -> str:
    answer = problem.gold.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        raise PasskbError(f"problem {problem.id} is no maths problem: its gold wants an 'answer', a text")
    return answer


def _found(problem: Problem, completion: Completion) -> tuple[Answer | None, str]:
    """The answer, and how it ended: one that was asked for at once ends with its line."""
    at_once = problem.prompt.endswith(DIRECT)
    answer = find_answer(completion.text, number_wanted=number(_gold(problem)) is not None, at_once=at_once)
    whole = at_once and "\n" in completion.text.lstrip()
    return answer, "stop" if whole else completion.finish


def _ruling(gold: str, answer: str, reply: Reply, seconds: float) -> Ruling:
    if reply.value is None:
        if reply.ended == "timeout":
            return Verdict.TIMEOUT, name_of(answer), f"not compared within {seconds:g} s of processor time: {_shown(answer)}"
        return Verdict.ERROR, name_of(answer), f"math-verify failed over {_shown(answer)}: {reply.ended}"
    said, name = reply.value
    if said == "right":
        return Verdict.PASS, name_of(gold), ""
    called = shortened(name) if name else name_of(answer)
    if said == "wrong":
        return Verdict.FAIL, called, f"{_shown(answer)} is not {_shown(gold)}"
    return Verdict.ERROR, called, f"math-verify can't read {'the gold ' + _shown(gold) if said == 'gold' else _shown(answer)}"


def _shown(text: str) -> str:
    plain = first_line(text)
    return plain if len(plain) <= 60 else f"{plain[:60]}…"


def _compare(question: list[str]) -> Iterator[tuple[str, str]]:
    """In a worker: (right, wrong, or gold or answer for what can't be read; the answer's name as far as it is known)."""
    from math_verify import verify

    gold, answer = question
    right, given = _parsed(gold), _parsed(answer)
    if not right or not given:
        yield ("answer" if right else "gold"), ""
    elif verify(right, given, timeout_seconds=None, raise_on_error=True):
        yield "right", ""
    else:
        yield "wrong", ""
        yield "wrong", _canonical(given[0])


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> list[Any]:
    """The answer's value as sympy has it, in a list of one; an empty list where math-verify can't read it."""
    from math_verify import LatexExtractionConfig, parse

    latex = [LatexExtractionConfig(boxed_match_priority=0)]
    text = "\\boxed{" + answer.replace("−", "-").strip() + "}"
    found: list[Any] = parse(text, latex, "no_fallback", "first_match", parsing_timeout=None, raise_on_error=True)
    return found


def _canonical(value: Any) -> str:
    """One name for values that are equal as far as simplifying shows; `1/2` for a half in any spelling. "" where it fails."""
    sympy: Any = importlib.import_module("sympy")
    try:
        plain = value.doit()
        plain = plain.applyfunc(sympy.simplify) if isinstance(plain, sympy.MatrixBase) else sympy.simplify(plain)
        return str(sympy.nsimplify(str(plain), rational=True) if isinstance(plain, sympy.Float) else plain)
    except Exception:
        return ""


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for _ in _compare(["1/2", "\\sqrt{2}"]):  # loads what a comparison needs, so that no answer's time is spent on it
        pass
    serve(_compare, float(sys.argv[1]))
