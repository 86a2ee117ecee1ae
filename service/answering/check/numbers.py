"""Parses and compares the numbers in a text: digits, words, thousands, k/M/B, percent, powers and ratios.

Digits inside names (GPT-4, AIME24, pass@1) are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen".split(),
        range(20),
        strict=True,
    )
)
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9}
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_WORDS = "|".join((*_UNITS, *_TENS, *_SCALES))
_NUMBER = re.compile(
    rf"""(?P<power>(?:(?P<factor>\d+(?:\.\d+)?)\s*(?:\\cdot|\\times|×|·|\*)\s*)?10\s*\^\s*\{{?(?P<exponent>[-−]?\d+)\}}?)
    |(?<![\w@.])(?<![A-Za-z]-)(?P<digits>(?=\.?\d){_DIGITS})(?P<e>e[-+]?\d+)?
      (?:(?P<suffix>[kKMB])(?!\w)|[\s-]?(?P<scale>hundred|thousand|million|billion)\b)?(?![A-Za-z_])
    |\b(?P<fold>\d+|[a-z]+?)-?fold\b
    |\b(?P<words>(?:(?:{_WORDS})(?:[\s-]+(?:and\s+)?(?=(?:{_WORDS})\b))?)+)\b""",
    re.X | re.I,
)
_UNIT = re.compile(r"\s*-?(?:(?P<percent>%|\\%|per\s?cent(?!age)\b)|(?P<point>(?:percentage[\s-])?points?\b))", re.I)
_RATIO = re.compile(r"\s+(?:in|out of)\s+(?:an?\s+)?$", re.I)
_VAGUE = re.compile(r"(?:several|many|few|some|of|the|or)\s+$", re.I)
_ABOUT = re.compile(r"(?:about|around|roughly|nearly|almost|some|approximately|close to|near(?: to)?|~|≈)\s*\$?$", re.I)
_BOUND = re.compile(
    r"(?<!no )(?:(?P<more>more than|over|exceeding|above)|(?:less than|fewer than|under|below))\s+(?:an?\s+)?\$?$", re.I
)
_BOUND_TOLERANCE = 0.1  # relative tolerance of a bound: “under 4” for 3.8


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number at `text[start:end]`. `unit`: `percent`, `point` or empty. `about`: approximate. `bound`: 1 for “more than”,
    -1 for “less than”."""

    value: float
    unit: str
    start: int
    end: int
    about: bool = False
    bound: int = 0


def parse_numbers(text: str) -> list[Numeral]:
    """The numbers of a text in order. Ignores “one” and vague amounts (several hundred); “1 in 1,000” is 0.001."""
    matches = [(m, value) for m in _NUMBER.finditer(text) if (value := _value(m)) is not None]
    out: list[Numeral] = []
    skip = False
    for i, (m, value) in enumerate(matches):
        if skip:
            skip = False
            continue
        following = matches[i + 1] if i + 1 < len(matches) else None
        if following and following[1] >= 2 and value >= 1 and _RATIO.match(text[m.end() : following[0].start()]):
            out.append(Numeral(value / following[1], "", m.start(), following[0].end()))
            skip = True
        elif not _is_no_count(text, m, value):
            unit = _UNIT.match(text, m.end())
            name = "" if unit is None else "percent" if unit["percent"] else "point"
            out.append(
                Numeral(value, name, m.start(), m.end(), bool(_ABOUT.search(text, 0, m.start())), _bound(text, m.start()))
            )
    return out


def find_missing(stated: Sequence[Numeral], available: Sequence[Numeral]) -> list[Numeral]:
    """The stated numbers that are not available; 99.9 % equals 0.999, and “about 29” equals 28.8."""
    return [number for number in stated if not any(_is_equal(number, other) for other in available)]


def find_unsupported_bounds(stated: Sequence[Numeral], available: Sequence[Numeral]) -> list[Numeral]:
    """The stated numbers with a bound (“more than 7”) that the available numbers lack or contradict."""
    return [
        number
        for number in stated
        if number.bound
        and (same := [g for g in available if _is_equal(number, g)])
        and not any(g.bound == number.bound or g.value != number.value for g in same)
    ]


def _bound(text: str, start: int) -> int:
    m = _BOUND.search(text, 0, start)
    return 0 if m is None else 1 if m["more"] else -1


def _is_equal(stated: Numeral, available: Numeral) -> bool:
    if {stated.unit, available.unit} == {"percent", "point"}:
        return False
    scales = (1.0, 0.01, 100.0) if (stated.unit == "percent") != (available.unit == "percent") else (1.0,)
    return any(_is_close(stated, available.value * scale) for scale in scales)


def _is_close(stated: Numeral, value: float) -> bool:
    if math.isclose(stated.value, value, rel_tol=1e-12, abs_tol=0.0):
        return True
    if stated.bound:
        return 0 < stated.bound * (value - stated.value) <= _BOUND_TOLERANCE * abs(value)
    return stated.about and stated.value >= 10 and stated.value == round(value)


def _is_no_count(text: str, m: re.Match[str], value: float) -> bool:
    """Whether a number word is not a count, such as “one” as a pronoun or “several hundred”."""
    if m["words"] is None:
        return False
    if m["words"].lower() == "two" and text[: m.start()].rstrip().lower().endswith(("the", "these", "those")):
        return True
    return m["words"].lower() == "one" or (m["words"].lower() in _SCALES and bool(_VAGUE.search(text, 0, m.start())))


def _value(m: re.Match[str]) -> float | None:
    if m["power"]:
        return float(m["factor"] or 1) * 10.0 ** int(m["exponent"].replace("−", "-"))
    if m["digits"]:
        value = float(m["digits"].replace(",", "") + (m["e"] or ""))
        return value * _SUFFIXES.get((m["suffix"] or "").lower(), 1.0) * _SCALES.get((m["scale"] or "").lower(), 1.0)
    if m["fold"]:
        fold = m["fold"].lower()
        return float(fold) if fold.isdigit() else _parse_words([fold]) or None
    return _parse_words(re.split(r"[\s-]+", m["words"].lower().strip(" -"))) if m["words"] else None


def _parse_words(words: Sequence[str]) -> float:
    """`two hundred and five` -> 205."""
    total = current = 0.0
    for word in words:
        if word in _SCALES:
            current = max(current, 1.0) * _SCALES[word]
            if _SCALES[word] >= 1e3:
                total, current = total + current, 0.0
        else:
            current += _UNITS.get(word, _TENS.get(word, 0))
    return total + current
