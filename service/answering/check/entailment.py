"""Grades whether the cited spans support a sentence, without a language model.

`EmbeddedChecker` compares words, numbers, directions, negations and sentence vectors. `python -m bench.run checker` measures
its error rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kb.embedding import Vectors
from service.answering.answer import Support
from service.answering.check.attribution import find_misattribution, find_swapped_word, find_unknown_author
from service.answering.check.clauses import Clause, split_clauses, strip_markup
from service.answering.check.direction import find_negating_prefix, find_negation, find_opposite, find_unmatched_cues
from service.answering.check.numbers import find_missing, find_unsupported_bounds, parse_numbers
from service.answering.check.overlap import Similarity, coverage, find_replacement, find_unknown_names, is_extract
from service.answering.check.roles import find_role_change
from service.answering.check.scope import find_overclaim

# Tuned on the development pairs of `tests/service/answering/pairs.jsonl`.
MIN_CLAUSE_SCORE = 1.0  # coverage + cosine below which a clause is not covered
MIN_SENTENCE_SCORE = 1.4  # coverage + cosine below which a sentence is at most partial
MIN_COSINE = 0.8  # cosine to a span, or all spans, below which a paraphrase cannot be verified


class Reason(StrEnum):
    NONE = ""
    NO_CITATION = "no citation"
    NOT_COVERED = "not covered"
    NUMBER = "missing number"
    DIRECTION = "other direction"
    SUBJECT = "other subject"
    STRONGER = "claims more"
    PARTLY = "only partly covered"
    FAR = "too free to be sure"
    DISPUTED = "the two checks disagree"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`grade`: supported, partial or unsupported. `reason`: why not supported. `detail`: the decisive words or numbers.
    `near`: highest cosine to a span, for a sentence that is not covered."""

    grade: Support
    reason: str = ""
    detail: str = ""
    near: float = field(default=1.0, compare=False)


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and the texts of the spans it cites."""

    sentence: str
    spans: Sequence[str]


class Checker(Protocol):
    """Grades sentences."""

    def check(self, pairs: Sequence[Pair]) -> list[CheckResult]:
        """A grade for each pair, in order."""


@dataclass(frozen=True, slots=True)
class _ParsedPair:
    text: str
    clauses: tuple[Clause, ...]
    spans: tuple[str, ...]
    span: str
    span_clauses: tuple[Clause, ...]


class EmbeddedChecker:
    """`vectors`: texts to unit vectors of shape (len(texts), size); called once per check."""

    def __init__(self, vectors: Callable[[Sequence[str]], Vectors]) -> None:
        self._vectors = vectors

    def check(self, pairs: Sequence[Pair]) -> list[CheckResult]:
        read = [_parse(pair) for pair in pairs]
        likeness = Similarity(self._vectors, [text for entry in read for text in _texts_to_embed(entry)])
        return [self._graded(entry, likeness) for entry in read]

    def _graded(self, pair: _ParsedPair, likeness: Similarity) -> CheckResult:
        if not pair.span_clauses:
            return CheckResult(Support.UNSUPPORTED, Reason.NO_CITATION)
        covered, uncovered = self._split(pair, likeness)
        near = max(likeness(pair.text, span) for span in (pair.span, *pair.spans, *(c.text for c in pair.span_clauses)))
        if not covered:
            return CheckResult(Support.UNSUPPORTED, Reason.NOT_COVERED, pair.text, near)
        contradiction = _find_contradiction(pair, covered, likeness)
        if contradiction is not None:
            return contradiction
        overclaim = find_overclaim(pair.clauses, pair.span_clauses)
        if overclaim:
            return _unsupported(Reason.STRONGER, overclaim)
        if uncovered:
            return _partial(uncovered)
        unmatched = find_unmatched_cues(covered, pair.span_clauses)
        if unmatched:
            return CheckResult(Support.PARTIAL, Reason.PARTLY, ", ".join(unmatched))
        whole = coverage(pair.clauses, pair.span_clauses, likeness)
        if whole + likeness(pair.text, pair.span) < MIN_SENTENCE_SCORE:
            alone = len(pair.clauses) == 1
            return CheckResult(Support.UNSUPPORTED, Reason.NOT_COVERED, pair.text, near) if alone else _partial(pair.clauses)
        if near < MIN_COSINE and not is_extract(pair.clauses, pair.span_clauses):
            return CheckResult(Support.PARTIAL, Reason.FAR, pair.text)
        return CheckResult(Support.SUPPORTED)

    def _split(self, pair: _ParsedPair, likeness: Similarity) -> tuple[list[Clause], list[Clause]]:
        """The clauses covered and not covered by the spans."""
        covered: list[Clause] = []
        uncovered: list[Clause] = []
        targets = [pair.span, *(clause.text for clause in pair.span_clauses)]
        for clause in pair.clauses:
            share = coverage([clause], pair.span_clauses, likeness)
            near = max(likeness(clause.text, target) for target in targets)
            (covered if share + near >= MIN_CLAUSE_SCORE else uncovered).append(clause)
        return covered, uncovered


def _find_contradiction(pair: _ParsedPair, covered: Sequence[Clause], likeness: Similarity) -> CheckResult | None:
    """The first contradiction between the covered clauses and the spans, or None."""
    stated = [number for clause in covered for number in parse_numbers(clause.text)]
    span_numbers = parse_numbers(pair.span)
    absent = find_missing(stated, span_numbers)
    if absent:
        return _unsupported(Reason.NUMBER, ", ".join(f"{number.value:g}" for number in absent))
    spans = pair.span_clauses
    names = (
        ", ".join(find_unknown_names(covered, spans))
        or find_unknown_author(pair.text, pair.span)
        or find_misattribution(covered, spans)
    )
    if names:
        return _unsupported(Reason.SUBJECT, names)
    reversal = (
        find_opposite(covered, spans)
        or find_negation(covered, spans)
        or find_negating_prefix(covered, spans)
        or find_role_change(covered, spans)
    )
    reversal = (
        reversal
        or find_swapped_word(covered, spans)
        or ", ".join(f"{number.value:g}" for number in find_unsupported_bounds(stated, span_numbers))
    )
    if reversal:
        return _unsupported(Reason.DIRECTION, reversal)
    other = find_replacement(covered, pair.span_clauses, likeness)
    return _unsupported(Reason.SUBJECT, other) if other else None


def _partial(uncovered: Sequence[Clause]) -> CheckResult:
    return CheckResult(Support.PARTIAL, Reason.PARTLY, "; ".join(clause.text for clause in uncovered))


def _unsupported(reason: Reason, detail: str) -> CheckResult:
    return CheckResult(Support.UNSUPPORTED, reason, detail)


def _parse(pair: Pair) -> _ParsedPair:
    texts = [strip_markup(span) for span in pair.spans if span.strip()]
    sentence = strip_markup(pair.sentence)
    return _ParsedPair(
        sentence,
        tuple(split_clauses(sentence)),
        tuple(texts),
        " ".join(texts),
        tuple(c for text in texts for c in split_clauses(text)),
    )


def _texts_to_embed(pair: _ParsedPair) -> list[str]:
    """All texts to embed: the sentence, its clauses and words, and those of its spans."""
    if not pair.span_clauses:
        return []
    every = (*pair.clauses, *pair.span_clauses)
    content = [word.text.casefold() for clause in every for word in clause.content]
    return [pair.text, pair.span, *pair.spans, *(clause.text for clause in every), *content]
