"""Finds the final answer in a text by its form, and normalizes simple answers. Used for gold answers and completions.

`graders.math` compares answers that need algebra.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction

INSTRUCTION = "\nReason step by step, and put the final answer in \\boxed{}.\n"
"""The zero-shot instruction after the text of a maths problem, the same for every model."""
DIRECT = "\nAnswer with the final answer only, no reasoning.\nAnswer:"
"""The instruction for an answer without reasoning, a control for guessing."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_GRADE_SCHOOL = "####"
_ANSWER_LABEL = re.compile(r"\banswer(?:\s+is\b|(?:\s+is)?\s*:)", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_WRAPPINGS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"))
_SPACING = re.compile(r"~|(?<!\\)\\(?:[!,;:> ]|(?:q?quad|left|right|displaystyle)(?![a-zA-Z]))")
_GAPS = re.compile(r"\s+(?=[^\w\\])|(?<=[^\w\\])\s+|\s+(?=\\)")
_CURRENCY = r"(?:\\\$|[$£€¥₹])?"
_WHOLE = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(rf"([-+]?){_CURRENCY}([-+]?)({_WHOLE})?(?:\.([0-9]*))?")
_NUMBERS = re.compile(
    rf"(?:(?<![\w)}}\]])[-−])?{_CURRENCY}(?:(?<=[$£€¥₹])[-−])?(?:{_WHOLE}(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
    r"(?:\s?/\s?[0-9]+(?!\.?[0-9]))?"
)
_THOUSANDS = re.compile(r"\{,\}|(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))")
_LISTED = re.compile(r",\s")
_WORDS = re.compile(r"[(\"']?([A-Za-z][A-Za-z.,'-]*(?: [A-Za-z.,'-]+)*)[)\"']?[.]?")
_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf)\s*\{([^{}\\]*)\}")
_LONGEST_NAME, _LONGEST_WHOLE = 200, 300
_LONGEST_LINE = 2_000  # finding formulas takes quadratic time


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as written. `formatted`: it is in the expected place."""

    text: str
    formatted: bool = True


def find_answer(text: str, *, number_wanted: bool, at_once: bool = False) -> Answer | None:
    """The answer in a completion, or None. Takes linear time.

    The answer is the content of the last `\\boxed{}`, which must be closed. Without a box the answer is not formatted, and is
    the text after the last `####` on its line; else, with `number_wanted`, the last number; else the last formula after the
    last "answer is" or "answer:" on its line, or the rest of that line. `at_once`: the prompt ended in `DIRECT`, so the
    formatted answer is the first line.
    """
    if at_once:
        line = first_line(text)
        answer = boxed(line) or (last_number(line) if number_wanted else None) or _line_answer(line)
        return Answer(answer) if answer else None
    if (content := boxed(text)) is not None:
        return Answer(content) if content.strip() else None
    _, marker, rest = text.rpartition(_GRADE_SCHOOL)
    if marker and (answer := _line_answer(first_line(rest))):
        return Answer(answer, formatted=False)
    if number_wanted:
        answer = last_number(text)
    else:
        ends = [match.end() for match in _ANSWER_LABEL.finditer(text)]
        answer = _line_answer(first_line(text[ends[-1] :])) if ends else ""
    return Answer(answer, formatted=False) if answer else None


def first_line(text: str) -> str:
    """The first non-blank line, or ""."""
    return text.strip().partition("\n")[0].strip()


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{}` or `\\fbox{}`; None without one or when the last is not closed."""
    start = None
    for match in _BOX.finditer(text):
        start = match.end()
    if start is None:
        return None
    depth, at = 1, start
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 1
        elif sign in "{}":
            depth += 1 if sign == "{" else -1
            if depth == 0:
                return text[start:at]
        at += 1
    return None


def last_number(text: str) -> str:
    """The last number as written (`-3`, `$1,200.50`, `3/4`), or ""."""
    last = ""
    for match in _NUMBERS.finditer(text):
        last = match[0]
    return last


def tidy(text: str) -> str:
    """The text without LaTeX delimiters, spacing commands and a final full stop."""
    text = _SPACING.sub(" ", text.replace("−", "-").replace("\\!", "")).strip().removesuffix(".").rstrip()
    for opening, closing in _WRAPPINGS:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    return _GAPS.sub("", " ".join(text.split())).removesuffix(".").rstrip()


def number(text: str) -> str | None:
    """A plain number (sign, digits, thousands separators, decimals, a currency sign) in canonical form, of any length:
    `-$1,200.50` is `-1200.5`. None for anything else."""
    match = _NUMBER.fullmatch(tidy(_THOUSANDS.sub(",", text)))
    if _LISTED.search(text) or not match or (match[1] and match[2]) or not (match[3] or match[4]):
        return None
    whole, decimals = (match[3] or "").replace(",", "").lstrip("0") or "0", (match[4] or "").rstrip("0")
    digits = f"{whole}.{decimals}" if decimals else whole
    return f"-{digits}" if "-" in (match[1], match[2]) and digits != "0" else digits


def words(text: str) -> str | None:
    """An answer in words (`\\text{Monday}`, `no solution`, `(B)`) in canonical form; None for anything else.

    A single letter counts only in `\\text{}` or brackets, because it could be a variable."""
    plain = tidy(text)
    unwrapped = " ".join(_TEXT.sub(r" \1 ", plain).split())
    match = _WORDS.fullmatch(unwrapped)
    if not match or (len(match[1]) < 2 and unwrapped == plain == match[1]):
        return None
    return match[1].rstrip(".,").casefold()


def name_of(text: str) -> str:
    """The `Judgement.answer` of an answer that is compared without algebra."""
    plain = number(text)
    if plain is not None:
        return shortened(str(Fraction(plain)) if len(plain) <= _LONGEST_WHOLE else plain)
    return shortened(words(text) or tidy(text))


def shortened(name: str) -> str:
    """A long name as its beginning and a hash of the whole, so that different names stay distinct."""
    safe = name.encode("utf-8", "replace").decode()
    if len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[: _LONGEST_NAME // 2]}… {hashlib.sha256(safe.encode()).hexdigest()[:16]}"


def _line_answer(line: str) -> str:
    line = line[:_LONGEST_LINE]
    formulas = [next(filter(None, match.groups())) for match in _FORMULA.finditer(line)]
    return formulas[-1] if formulas else line.strip(" \t:*")
