"""Passages put into another order by the model that is to write from them, and the idle ones left out; one call.

Optional. Whatever goes wrong, the order that search gave stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.answering.generate.prompts import SCORING, scoring
from service.answering.retrieve.candidates import Candidate
from service.llm.client import ModelError, Stopped
from service.llm.completion import Complete

_IDLE = 2  # of 10: at most this much, and a passage is left out
_KEPT = 3  # passages that stay, however little the model thinks of them
_LINE = re.compile(r"^\W*(\d{1,2})\W+(\d{1,2})(?:\s*/\s*10)?\W*$", re.M)


def rescored(question: str, chosen: Sequence[Candidate], complete: Complete) -> tuple[list[Candidate], str]:
    """The candidates, best first, and why their order is the old one if it is. Raises Stopped."""
    if len(chosen) <= _KEPT:
        return list(chosen), ""
    texts = [(candidate.title, candidate.text) for candidate in chosen]
    try:
        found = scores(complete(SCORING, scoring(question, texts), pattern(len(chosen))), len(chosen))
    except Stopped:
        raise
    except ModelError as error:
        return list(chosen), f"The model did not score the passages ({error}): they stand as the search ordered them."
    if found is None:
        return list(chosen), "The model's scores of the passages could not be read: they stand as the search ordered them."
    order = sorted(range(len(chosen)), key=lambda i: -found[i])
    return [chosen[i] for rank, i in enumerate(order) if rank < _KEPT or found[i] > _IDLE], ""


def scores(completion: str, count: int) -> list[int] | None:
    """A score from 0 to 10 for each of the numbers 1 to `count`; None where one is missing, is told twice, or is none.

    >>> scores("1: 7, 2: 3", 2), scores("1: 7\\n2. 3/10", 2)
    (None, [7, 3])
    """
    found = [(int(number), int(score)) for number, score in _LINE.findall(completion)]
    told = dict(found)
    complete = len(found) == len(told) and told.keys() == set(range(1, count + 1))
    return [told[i] for i in sorted(told)] if complete and max(told.values()) <= 10 else None


def pattern(count: int) -> str:
    """A regular expression for one score a line, numbered from 1 to `count`."""
    return r"\n".join(rf"{number}: (?:10|[0-9])" for number in range(1, count + 1))
