"""Rows of the field's problem files as problems: GSM8K, MATH and their relatives, HumanEval, MBPP. Pure.

A row is a mapping as JSON gives it, with decimals as `decimal.Decimal`, so that an answer keeps its digits. What can't be read
is refused with a sentence that says which fields are accepted. Knows nothing of files, graders or models.
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
"""What ends a function that continues HumanEval's prompt, in the field's use: the next thing at the left margin."""
MBPP_STOPS = ("\nassert ", '\n"""', "\nif __name__", "\nprint(", "\n# Test")
"""What ends a program that answers MBPP's prompt; it may hold several functions and classes."""


def read_row(layout: str, row: Row, otherwise: str) -> Problem:
    """One row in the layout; `otherwise` is the id of a row that has none. Raises PasskbError for what it lacks."""
    return LAYOUTS[layout](row, _id(row, otherwise))


def _gsm8k(row: Row, name: str) -> Problem:
    """`answer` is a worked solution that ends in `#### ` and the answer, or the answer alone."""
    question = _text(row, _QUESTIONS)
    given = _first(row, _ANSWERS, "the final answer after '#### '")
    if isinstance(given, str) and _MARK not in given and number(given) is None:
        raise PasskbError(f"{given!r:.60} has no '#### ' with the final answer behind it, and is no number")
    return _maths(name, question, _after_mark(given))


def _math(row: Row, name: str) -> Problem:
    """The answer has a field of its own, or stands in the last `\\boxed{}` of `solution`."""
    question = _text(row, _QUESTIONS)
    for field in _ANSWERS:
        if _present(row, field):
            return _maths(name, question, _last_boxed(_after_mark(row[field])))
    if not _present(row, "solution"):
        raise PasskbError("has no answer: 'final_answer', 'answer', or a 'solution' with its \\boxed{} is wanted")
    answer = boxed(_text(row, ("solution",)))
    if answer is None:
        raise PasskbError("has no 'answer', and no closed \\boxed{} ends its 'solution'")
    return _maths(name, question, answer)


def _humaneval(row: Row, name: str) -> Problem:
    """`prompt` is the beginning of a function; `test` defines `check(candidate)`."""
    prompt, tests = _text(row, ("prompt",)), _text(row, ("test", "tests"))
    gold = {"tests": tests, "entry_point": _text(row, ("entry_point",)), "prompt": prompt}
    if isinstance(row.get("canonical_solution"), str):
        gold["solution"] = row["canonical_solution"]
    return Problem(name, "code", prompt, gold, HUMANEVAL_STOPS)


def _mbpp(row: Row, name: str) -> Problem:
    """A description and asserts, which are shown, as they name the function. `challenge_test_list` is left out, as usual."""
    description, asserts = _text(row, ("text", "prompt")).strip(), _lines(row, "test_list")
    if not asserts:
        raise PasskbError("has no 'test_list': the asserts that decide")
    setup = [*_lines(row, "test_imports"), *([row["test_setup_code"]] if _present(row, "test_setup_code") else [])]
    solution = row["code"] if isinstance(row.get("code"), str) else ""
    given = row.get("entry_point")
    entry_point = given if isinstance(given, str) and given else _tested_function(asserts, solution)
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
    """An answer as JSON has it (text, number, list of these) as one text; numbers keep their digits. Raises PasskbError."""
    if isinstance(value, list):
        if not value or any(isinstance(entry, list) for entry in value):
            raise PasskbError(f"an answer that is a list has one entry or more, and no lists in it, not {value!r:.60}")
        return ", ".join(map(answer_text, value))
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
            raise PasskbError(f"an answer is a finite number, not {value!s:.60}")
        return number(f"{value:f}") or f"{value:f}"
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise PasskbError(f"an answer is a text, a number or a list of them, not {value!r:.60}")
    return value.strip()


def _maths(name: str, question: str, answer: Any) -> Problem:
    text = answer_text(answer)
    return Problem(name, "maths", question.rstrip() + INSTRUCTION, {"answer": number(text) or text})


def _after_mark(value: Any) -> Any:
    """GSM8K's way: what follows the last `#### `, where there is one."""
    return value.rpartition(_MARK)[2] if isinstance(value, str) and _MARK in value else value


def _last_boxed(value: Any) -> Any:
    """Some files have the whole solution where the answer belongs."""
    content = boxed(value) if isinstance(value, str) else None
    return value if content is None else content


def _tested_function(asserts: Sequence[str], solution: str) -> str:
    """The name of the function that the first assert calls: one that the solution defines, else one that Python lacks."""
    defined = {node.name for node in _parsed(solution).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    nodes = [node for node in ast.walk(_parsed(asserts[0])) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    called = [node.func.id for node in nodes if isinstance(node.func, ast.Name)]
    for name in [*(name for name in called if name in defined), *called]:
        if not hasattr(builtins, name) or name in defined:
            return name
    raise PasskbError(f"its first assert calls no function of its own: {asserts[0]!r:.60}; name it as 'entry_point'")


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PasskbError(f"its code is no Python: {error}") from error


def _id(row: Row, otherwise: str) -> str:
    for field in _IDS:
        if type(row.get(field)) in (str, int) and str(row[field]).strip():
            return str(row[field]).strip()
    return otherwise


def _present(row: Row, field: str) -> bool:
    return row.get(field) not in (None, "", [])


def _first(row: Row, names: Sequence[str], meaning: str) -> Any:
    for field in names:
        if _present(row, field):
            return row[field]
    raise PasskbError(f"has no {' or '.join(map(repr, names))}: {meaning}")


def _text(row: Row, names: Sequence[str]) -> str:
    value = _first(row, names, "a text is wanted there")
    if not isinstance(value, str) or not value.strip():
        raise PasskbError(f"{' or '.join(map(repr, names))} is a text, not {value!r:.60}")
    return value


def _lines(row: Row, field: str) -> list[str]:
    value = row.get(field) or []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise PasskbError(f"{field!r} is a list of lines of code, not {value!r:.60}")
    return value
