"""Ranks passages with the language model, in one call. On errors the order of the search is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.answering.generate.prompts import SCORING_RULES, scoring_prompt
from service.answering.retrieve.candidates import Candidate
from service.llm.client import ModelError, Stopped
from service.llm.completion import Complete

_MAX_IRRELEVANT = 2  # passages with at most this score (of 10) are removed
_MIN_PASSAGES = 3  # passages that always remain
_LINE = re.compile(r"^\W*(\d{1,2})\W+(\d{1,2})(?:\s*/\s*10)?\W*$", re.M)


def rerank(question: str, chosen: Sequence[Candidate], complete: Complete) -> tuple[list[Candidate], str]:
    """The candidates, best first, and a remark if the ranking failed. Raises Stopped."""
    if len(chosen) <= _MIN_PASSAGES:
        return list(chosen), ""
    texts = [(candidate.title, candidate.text) for candidate in chosen]
    try:
        scores = parse_scores(
            complete(SCORING_RULES, scoring_prompt(question, texts), scores_pattern(len(chosen))), len(chosen)
        )
    except Stopped:
        raise
    except ModelError as error:
        return list(chosen), f"The model did not rank the passages ({error}): they are in the order of the search."
    if scores is None:
        return list(chosen), "The model's ranking of the passages could not be read: they are in the order of the search."
    order = sorted(range(len(chosen)), key=lambda i: -scores[i])
    return [chosen[i] for rank, i in enumerate(order) if rank < _MIN_PASSAGES or scores[i] > _MAX_IRRELEVANT], ""


def parse_scores(completion: str, count: int) -> list[int] | None:
    """The scores (0 to 10) of passages 1 to `count`; None if any is missing, repeated or invalid.

    >>> parse_scores("1: 7, 2: 3", 2), parse_scores("1: 7\\n2. 3/10", 2)
    (None, [7, 3])
    """
    pairs = [(int(number), int(score)) for number, score in _LINE.findall(completion)]
    by_number = dict(pairs)
    is_complete = len(pairs) == len(by_number) and by_number.keys() == set(range(1, count + 1))
    return [by_number[i] for i in sorted(by_number)] if is_complete and max(by_number.values()) <= 10 else None


def scores_pattern(count: int) -> str:
    """A regular expression for one score per line, numbered from 1 to `count`."""
    return r"\n".join(rf"{number}: (?:10|[0-9])" for number in range(1, count + 1))
