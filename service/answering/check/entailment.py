"""Does a sentence say what its spans say? A grade with a reason, for many sentences at once, without a language model.

`Checker` is the contract; `EmbeddedChecker` compares words, numbers, directions, negations and meanings (sentence vectors),
and `judging.ModelJudge` asks a language model, too. It knows nothing about notes or answers, and nothing about the truth: only
whether the spans carry the sentence. What it overlooks is measured by `python -m bench.run checker`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kb.embedding import Vectors
from service.answering.answer import Support
from service.answering.check.attribution import misattributed, strange_authors, swapped
from service.answering.check.clauses import Clause, clauses, readable
from service.answering.check.direction import negated, opposed, undone, unmatched_cues
from service.answering.check.numbers import bounded, missing, numerals
from service.answering.check.overlap import Likeness, coverage, extracted, replaced, strange_names
from service.answering.check.roles import reassigned
from service.answering.check.scope import strengthened

# Chosen on the development pairs of `tests/service/answering/pairs.jsonl`.
CLAUSE = 1.0  # coverage and nearest cosine of a clause, summed: below it the clause is not covered
SENTENCE = 1.4  # coverage and cosine of the whole sentence, summed: below it the sentence is covered in part at most
SURE = 0.8  # cosine of the sentence to a span, or to all of them: below it a true paraphrase can't be told from a false one


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
class Checked:
    """`grade` is supported, partial or unsupported; `reason` why not supported; `detail` the words or numbers that decided;
    `near` the cosine of a sentence that is not covered to the nearest of its spans."""

    grade: Support
    reason: str = ""
    detail: str = ""
    near: float = field(default=1.0, compare=False)


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and the texts of the spans that it cites."""

    sentence: str
    spans: Sequence[str]


class Checker(Protocol):
    """One function."""

    def check(self, pairs: Sequence[Pair]) -> list[Checked]:
        """A grade for each pair, in order."""


@dataclass(frozen=True, slots=True)
class _Read:
    text: str
    clauses: tuple[Clause, ...]
    spans: tuple[str, ...]
    span: str
    span_clauses: tuple[Clause, ...]


class EmbeddedChecker:
    """`vectors`: texts to unit vectors, shape (len(texts), size), as `KnowledgeBase.sentence_vectors`; one call a check."""

    def __init__(self, vectors: Callable[[Sequence[str]], Vectors]) -> None:
        self._vectors = vectors

    def check(self, pairs: Sequence[Pair]) -> list[Checked]:
        read = [_read(pair) for pair in pairs]
        likeness = Likeness(self._vectors, [text for entry in read for text in _texts(entry)])
        return [self._graded(entry, likeness) for entry in read]

    def _graded(self, pair: _Read, likeness: Likeness) -> Checked:
        if not pair.span_clauses:
            return Checked(Support.UNSUPPORTED, Reason.NO_CITATION)
        covered, open_ = self._split(pair, likeness)
        near = max(likeness(pair.text, span) for span in (pair.span, *pair.spans, *(c.text for c in pair.span_clauses)))
        if not covered:
            return Checked(Support.UNSUPPORTED, Reason.NOT_COVERED, pair.text, near)
        contradiction = _contradiction(pair, covered, likeness)
        if contradiction is not None:
            return contradiction
        more = strengthened(pair.clauses, pair.span_clauses)
        if more:
            return _refused(Reason.STRONGER, more)
        if open_:
            return _partly(open_)
        drawn = unmatched_cues(covered, pair.span_clauses)
        if drawn:
            return Checked(Support.PARTIAL, Reason.PARTLY, ", ".join(drawn))
        whole = coverage(pair.clauses, pair.span_clauses, likeness)
        if whole + likeness(pair.text, pair.span) < SENTENCE:
            alone = len(pair.clauses) == 1
            return Checked(Support.UNSUPPORTED, Reason.NOT_COVERED, pair.text, near) if alone else _partly(pair.clauses)
        if near < SURE and not extracted(pair.clauses, pair.span_clauses):
            return Checked(Support.PARTIAL, Reason.FAR, pair.text)
        return Checked(Support.SUPPORTED)

    def _split(self, pair: _Read, likeness: Likeness) -> tuple[list[Clause], list[Clause]]:
        """The clauses that the spans cover, and those that they do not."""
        covered: list[Clause] = []
        rest: list[Clause] = []
        targets = [pair.span, *(clause.text for clause in pair.span_clauses)]
        for clause in pair.clauses:
            share = coverage([clause], pair.span_clauses, likeness)
            near = max(likeness(clause.text, target) for target in targets)
            (covered if share + near >= CLAUSE else rest).append(clause)
        return covered, rest


def _contradiction(pair: _Read, covered: Sequence[Clause], likeness: Likeness) -> Checked | None:
    """What a covered clause says against the spans, if anything."""
    stated = [number for clause in covered for number in numerals(clause.text)]
    given = numerals(pair.span)
    absent = missing(stated, given)
    if absent:
        return _refused(Reason.NUMBER, ", ".join(f"{number.value:g}" for number in absent))
    spans = pair.span_clauses
    names = ", ".join(strange_names(covered, spans)) or strange_authors(pair.text, pair.span) or misattributed(covered, spans)
    if names:
        return _refused(Reason.SUBJECT, names)
    turned = opposed(covered, spans) or negated(covered, spans) or undone(covered, spans) or reassigned(covered, spans)
    turned = turned or swapped(covered, spans) or ", ".join(f"{number.value:g}" for number in bounded(stated, given))
    if turned:
        return _refused(Reason.DIRECTION, turned)
    other = replaced(covered, pair.span_clauses, likeness)
    return _refused(Reason.SUBJECT, other) if other else None


def _partly(open_: Sequence[Clause]) -> Checked:
    return Checked(Support.PARTIAL, Reason.PARTLY, "; ".join(clause.text for clause in open_))


def _refused(reason: Reason, detail: str) -> Checked:
    return Checked(Support.UNSUPPORTED, reason, detail)


def _read(pair: Pair) -> _Read:
    texts = [readable(span) for span in pair.spans if span.strip()]
    sentence = readable(pair.sentence)
    return _Read(
        sentence, tuple(clauses(sentence)), tuple(texts), " ".join(texts), tuple(c for text in texts for c in clauses(text))
    )


def _texts(pair: _Read) -> list[str]:
    """Everything whose meaning is compared: the sentence, its clauses and words, and those of its spans."""
    if not pair.span_clauses:
        return []
    every = (*pair.clauses, *pair.span_clauses)
    content = [word.text.casefold() for clause in every for word in clause.content]
    return [pair.text, pair.span, *pair.spans, *(clause.text for clause in every), *content]
