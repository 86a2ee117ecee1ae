"""An exact verifier for Countdown: parses a derivation and computes it with fractions, without evaluating code.

A derivation is one or more equalities, `3 + 7 = 10 , 10 * 12 = 120`, separated by commas, semicolons or line ends. The left
side is an expression of whole numbers, `+ - * /` and brackets; the right side is its value, a whole number, which a single
equality may omit. An expression uses up available numbers (the latest result before an equal given number), and its value
becomes available. A derivation passes when every equality is true, every given number is used exactly once, and only the
target remains. Values within an expression can be negative and fractional.

The form decides where the derivation is, never its correctness: the last `<answer>` element, else the last `\\boxed{}`, else
the text after the last `answer:`, else the whole text; in the last two cases all of it if it is a derivation, else one line,
the first after `answer:` or the last of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from kb.notes import PasskbError
from service.experiments.types import Completion, Judgement, Problem, Verdict

MOST_CHARACTERS = 2_000
MOST_TOKENS = 200
MOST_DIGITS = 9
MOST_DEPTH = 40

_TAGGED = re.compile(r"<answer>([^<]*)</answer>", re.IGNORECASE)
_BOXED = "\\boxed{"
_LABEL = re.compile(r"\banswer(?: is)?(?:\*\*)? ?:(?:\*\*)?", re.IGNORECASE)
_WRAPPINGS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_LATEX = ((r"\times", "*"), (r"\cdot", "*"), (r"\div", "/"), (r"\left", ""), (r"\right", ""))
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-"})
_TOKEN = re.compile(r"[ \t\r]*(0|[1-9][0-9]*|[-+*/()=])[ \t\r]*")


class _Unreadable(Exception):
    """The text is not a derivation; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class _Expression:
    """A number, when `operator` is "", or two expressions with the operator between them."""

    operator: str = ""
    number: int = 0
    operands: tuple[_Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class _Equality:
    left: _Expression
    claimed: int | None
    written: str


@dataclass(frozen=True, slots=True)
class _Form:
    """The normal form of an expression: a sum of terms minus others, or (`operator` "*") a product of factors over others."""

    operator: str
    up: tuple[str, ...]
    down: tuple[str, ...] = ()

    def __str__(self) -> str:
        back = " - " if self.operator == "+" else " / "
        return f" {self.operator} ".join(self.up) + "".join(back + term for term in self.down)


@dataclass(frozen=True, slots=True)
class _Value:
    """An available value with its derivation."""

    value: Fraction
    form: _Form
    is_input: bool = False


def verify(numbers: Sequence[int], target: int, text: str, finish: str = "stop") -> Judgement:
    """Grades one completion; never raises for `text`. A failing completion with the `finish` "length" is `truncated`.

    `answer` is the derivation in a normal form that flattens sums and products and sorts their terms: `(7 + 3) - 2` equals
    `7 - 2 + 3`, but `4 * (3 + 2)` differs from `4 * 3 + 4 * 2`. For an invalid equality it is the derivation as written.
    `formatted`: the text has a derivation.
    """
    wrong = Verdict.TRUNCATED if finish == "length" else Verdict.FAIL
    try:
        equalities = _find(text)
    except _Unreadable as error:
        return Judgement(wrong, "", False, str(error))
    broken, left = _compute(numbers, equalities)
    results = [value for value in left if not value.is_input]
    if broken or len(results) != 1:
        written = " , ".join(equality.written for equality in equalities)
        return Judgement(wrong, written, True, broken or f"the result {results[0].value} is not used")
    end, unused = results[0], [value.value for value in left if value.is_input]
    if unused:
        return Judgement(wrong, str(end.form), True, f"the number {unused[0]} is not used")
    if end.value != target:
        return Judgement(wrong, str(end.form), True, f"the result is {_abbreviated(end.value)}, not {target}")
    return Judgement(Verdict.PASS, str(end.form))


class CountdownGrader:
    """Grades in the caller's thread; a verification takes about 50 microseconds."""

    def grade(self, items: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        """Raises PasskbError for a gold without numbers and target."""
        return [verify(*_gold(problem), completion.text, completion.finish) for problem, completion in items]

    def close(self) -> None:
        """Nothing to end."""


def _gold(problem: Problem) -> tuple[list[int], int]:
    numbers, target = problem.gold.get("numbers"), problem.gold.get("target")
    if not isinstance(numbers, list) or not numbers or any(type(number) is not int for number in [*numbers, target]):
        raise PasskbError(f"problem {problem.id} is not a Countdown problem: its gold needs 'numbers' and 'target'")
    return numbers, int(problem.gold["target"])


def _find(text: str) -> list[_Equality]:
    """The derivation in its expected place. Raises _Unreadable."""
    tagged, boxed, labels = _TAGGED.findall(text), text.rfind(_BOXED), list(_LABEL.finditer(text))
    if tagged:
        return _derivation(tagged[-1])
    if boxed >= 0:
        return _derivation(_braced(text[boxed + len(_BOXED) :]))
    place = text[labels[-1].end() :] if labels else text
    try:
        return _derivation(place)
    except _Unreadable:
        lines = [line for line in place.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return _derivation(lines[0 if labels else -1])


def _braced(text: str) -> str:
    """The text up to the closing brace."""
    depth = 1
    for at, sign in enumerate(text[:MOST_CHARACTERS]):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[:at]
    raise _Unreadable("its \\boxed{ is not closed")


def _derivation(text: str) -> list[_Equality]:
    text = text.strip(" \t\r\n")
    if len(text) > MOST_CHARACTERS:
        raise _Unreadable(f"the answer has more than {MOST_CHARACTERS:,} characters")
    parts = [part for part in re.split(r"[,;\n]", _plain(text)) if part.strip()]
    if not parts:
        raise _Unreadable("there is no answer")
    equalities = [_equality(part) for part in parts]
    if len(equalities) > 1 and any(equality.claimed is None for equality in equalities):
        raise _Unreadable("one of several expressions has no result")
    return equalities


def _plain(text: str) -> str:
    """The text without markup around it, with ASCII operators."""
    text = text.removesuffix(".").rstrip()
    for opening, closing in _WRAPPINGS:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)]
    for written, sign in _LATEX:
        text = text.replace(written, sign)
    return text.translate(_SIGNS)


def _equality(text: str) -> _Equality:
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(tokens) == MOST_TOKENS:
            raise _Unreadable(f"not a derivation from {text[at : at + 20].strip()!r} on")
        tokens.append(match[1])
        at = match.end()
    sides = tokens.count("=")
    cut = tokens.index("=") if sides else len(tokens)
    right = tokens[cut + 1 :]
    if sides > 1 or (sides and not (len(right) == 1 and right[0].isdecimal())):
        raise _Unreadable("an equality needs one '=' and a whole number on its right")
    left = _Reader(tokens[:cut]).read()
    if not left.operator:
        raise _Unreadable("a number alone is not a derivation")
    return _Equality(left, _whole(right[0]) if sides else None, " ".join(tokens))


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _Unreadable(f"a number has more than {MOST_DIGITS} digits")
    return int(digits)


class _Reader:
    """Tokens as an expression, by recursive descent: `*` and `/` before `+` and `-`, each from left to right."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0

    def read(self) -> _Expression:
        expression = self.chain(("+", "-"))
        if self.next():
            raise _Unreadable(f"expected an operator, not {self.next()!r}")
        return expression

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def chain(self, signs: tuple[str, str]) -> _Expression:
        expression = self.operand(signs)
        while self.next() in signs:
            operator = self.next()
            self.at += 1
            expression = _Expression(operator, operands=(expression, self.operand(signs)))
        return expression

    def operand(self, signs: tuple[str, str]) -> _Expression:
        return self.chain(("*", "/")) if "+" in signs else self.factor()

    def factor(self) -> _Expression:
        token = self.next()
        self.at += 1
        if token.isdecimal():
            return _Expression(number=_whole(token))
        if token != "(" or self.depth == MOST_DEPTH:
            raise _Unreadable(f"expected a number, not {token or 'the end'!r}")
        self.depth += 1
        expression = self.chain(("+", "-"))
        self.depth -= 1
        if self.next() != ")":
            raise _Unreadable("a bracket is not closed")
        self.at += 1
        return expression


def _compute(numbers: Sequence[int], equalities: Sequence[_Equality]) -> tuple[str, list[_Value]]:
    """The error or "", and the remaining values."""
    available = [_Value(Fraction(number), _Form("+", (str(number),)), is_input=True) for number in numbers]
    for equality in equalities:
        try:
            value = _value(equality.left, available)
        except ZeroDivisionError:
            return "it divides by zero", available
        except LookupError as error:
            return str(error.args[0]), available
        if equality.claimed is not None and value.value != equality.claimed:
            return f"{equality.written} is not true", available
        available.append(value)
    return "", available


def _value(expression: _Expression, available: list[_Value]) -> _Value:
    """Takes numbers from `available`. Raises LookupError for a missing number, and ZeroDivisionError."""
    if not expression.operator:
        for at in range(len(available) - 1, -1, -1):
            if available[at].value == expression.number:
                return available.pop(at)
        raise LookupError(f"{expression.number} is not available")
    left, right = (_value(operand, available) for operand in expression.operands)
    apply = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__, "/": Fraction.__truediv__}
    return _Value(apply[expression.operator](left.value, right.value), _joined(expression.operator, left.form, right.form))


def _joined(operator: str, left: _Form, right: _Form) -> _Form:
    kind = "+" if operator in "+-" else "*"
    (up, down), (more, less) = _terms(left, kind), _terms(right, kind)
    if operator in "-/":
        more, less = less, more
    return _Form(kind, tuple(sorted(up + more)), tuple(sorted(down + less)))


def _terms(form: _Form, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The terms of a form within a sum ("+") or a product ("*")."""
    if form.operator == kind or (len(form.up) == 1 and not form.down):
        return form.up, form.down
    return (str(form) if kind == "+" else f"({form})",), ()


def _abbreviated(value: Fraction) -> str:
    text = str(value)
    return text if len(text) <= 20 else "another number"
