"""Converts rows of problem files to problems: GSM8K, MATH and similar formats, HumanEval, MBPP.

A row is a JSON object with decimals as `decimal.Decimal`, so that answers keep their digits.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kb.notes import PasskbError
from service.experiments.datasets.final_answers import INSTRUCTION, boxed, number
from service.experiments.types import Problem

Row = Mapping[str, Any]

_IDS = ("task_id", "unique_id", "problem_id", "question_id", "id")
_QUESTIONS = ("problem", "question")
_ANSWERS = ("final_answer", "answer")
_MARK = "####"
_LARGEST_EXPONENT = 400

HUMANEVAL_STOPS = ("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint(")
"""The usual stop strings after a HumanEval function: the next statement at the left margin."""
MBPP_STOPS = ("\nassert ", '\n"""', "\nif __name__", "\nprint(", "\n# Test")
"""Stop strings after an MBPP program, which can have several functions and classes."""


def read_row(layout: str, row: Row, default_id: str) -> Problem:
    """Converts a row; `default_id` is for rows without an id. Raises PasskbError that names a missing field."""
    return LAYOUTS[layout](row, _id(row, default_id))


def _gsm8k(row: Row, name: str) -> Problem:
    """`answer` is a worked solution that ends in `#### ` and the answer, or the answer alone."""
    question = _text(row, _QUESTIONS)
    value = _first(row, _ANSWERS, "the final answer after '#### '")
    if isinstance(value, str) and _MARK not in value and number(value) is None:
        raise PasskbError(f"{value!r:.60} has no final answer after '#### ' and is not a number")
    return _maths(name, question, _after_mark(value))


def _math(row: Row, name: str) -> Problem:
    """The answer is a field, or the last `\\boxed{}` in `solution`."""
    question = _text(row, _QUESTIONS)
    for field in _ANSWERS:
        if _present(row, field):
            return _maths(name, question, _last_boxed(_after_mark(row[field])))
    if not _present(row, "solution"):
        raise PasskbError("has no answer: expected 'final_answer', 'answer', or a 'solution' with \\boxed{}")
    answer = boxed(_text(row, ("solution",)))
    if answer is None:
        raise PasskbError("has no 'answer', and its 'solution' has no closed \\boxed{}")
    return _maths(name, question, answer)


def _humaneval(row: Row, name: str) -> Problem:
    """`prompt` is the beginning of a function; `test` defines `check(candidate)`."""
    prompt, tests = _text(row, ("prompt",)), _text(row, ("test", "tests"))
    gold = {"tests": tests, "entry_point": _text(row, ("entry_point",)), "prompt": prompt}
    if isinstance(row.get("canonical_solution"), str):
        gold["solution"] = row["canonical_solution"]
    return Problem(name, "code", prompt, gold, HUMANEVAL_STOPS)


def _mbpp(row: Row, name: str) -> Problem:
    """The prompt has the description and the asserts, which name the function. `challenge_test_list` is not used."""
    description, asserts = _text(row, ("text", "prompt")).strip(), _lines(row, "test_list")
    if not asserts:
        raise PasskbError("has no 'test_list' with asserts")
    setup = [*_lines(row, "test_imports"), *([row["test_setup_code"]] if _present(row, "test_setup_code") else [])]
    solution = row["code"] if isinstance(row.get("code"), str) else ""
    declared = row.get("entry_point")
    entry_point = declared if isinstance(declared, str) and declared else _tested_function(asserts, solution)
    gold = {"tests": "\n".join([*map(str, setup), *asserts]), "entry_point": entry_point, "prompt": ""}
    if solution:
        gold["solution"] = solution
    prompt = '"""\n' + "\n".join([description, *asserts]) + '\n"""\n'
    return Problem(name, "code", prompt, gold, MBPP_STOPS)


LAYOUTS: Mapping[str, Callable[[Row, str], Problem]] = {
    "humaneval": _humaneval,
    "mbpp": _mbpp,
    "gsm8k": _gsm8k,
    "math": _math,
}


def answer_text(value: Any) -> str:
    """A JSON answer (text, number, or a list of these) as text; numbers keep their digits. Raises PasskbError."""
    if isinstance(value, list):
        if not value or any(isinstance(entry, list) for entry in value):
            raise PasskbError(f"expected an answer or a non-empty flat list of answers, not {value!r:.60}")
        return ", ".join(map(answer_text, value))
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
            raise PasskbError(f"expected a finite number as the answer, not {value!s:.60}")
        return number(f"{value:f}") or f"{value:f}"
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise PasskbError(f"expected a text, a number or a list of them as the answer, not {value!r:.60}")
    return value.strip()


def _maths(name: str, question: str, answer: Any) -> Problem:
    text = answer_text(answer)
    return Problem(name, "maths", question.rstrip() + INSTRUCTION, {"answer": number(text) or text})


def _after_mark(value: Any) -> Any:
    """The text after the last `#### ` (GSM8K), or the whole value."""
    return value.rpartition(_MARK)[2] if isinstance(value, str) and _MARK in value else value


def _last_boxed(value: Any) -> Any:
    """The content of the last box, because some files have the whole solution as the answer."""
    content = boxed(value) if isinstance(value, str) else None
    return value if content is None else content


def _tested_function(asserts: Sequence[str], solution: str) -> str:
    """The function that the first assert calls: one that the solution defines, else one that is not a builtin."""
    defined = {node.name for node in _parsed(solution).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    nodes = [node for node in ast.walk(_parsed(asserts[0])) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    called = [node.func.id for node in nodes if isinstance(node.func, ast.Name)]
    for name in [*(name for name in called if name in defined), *called]:
        if not hasattr(builtins, name) or name in defined:
            return name
    raise PasskbError(f"its first assert calls no function of the problem: {asserts[0]!r:.60}; add 'entry_point'")


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PasskbError(f"its code is not Python: {error}") from error


def _id(row: Row, default_id: str) -> str:
    for field in _IDS:
        if type(row.get(field)) in (str, int) and str(row[field]).strip():
            return str(row[field]).strip()
    return default_id


def _present(row: Row, field: str) -> bool:
    return row.get(field) not in (None, "", [])


def _first(row: Row, names: Sequence[str], meaning: str) -> Any:
    for field in names:
        if _present(row, field):
            return row[field]
    raise PasskbError(f"has no {' or '.join(map(repr, names))}: {meaning}")


def _text(row: Row, names: Sequence[str]) -> str:
    value = _first(row, names, "expected a text")
    if not isinstance(value, str) or not value.strip():
        raise PasskbError(f"{' or '.join(map(repr, names))} must be a text, not {value!r:.60}")
    return value


def _lines(row: Row, field: str) -> list[str]:
    value = row.get(field) or []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise PasskbError(f"{field!r} must be a list of lines of code, not {value!r:.60}")
    return value
