"""Extractive answers: `ask` retrieves, checks sufficiency, selects quotes and assembles the answer."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, NoteKind, PasskbError
from service.answering.answer import Answer, SourceNote, Statement, Support
from service.answering.retrieve.answerable import is_answerable
from service.answering.retrieve.candidates import Candidate, Retrieval, retrieve
from service.answering.retrieve.question_rewrite import MAX_QUESTION
from service.answering.retrieve.sufficiency import assess
from service.answering.surroundings import (
    Numbering,
    find_claims,
    find_disagreements,
    find_dissenting_notes,
    find_evidence,
    find_experiments,
    find_follow_ups,
    to_source,
)
from service.log import logger

_log = logger("ask")
_QUESTION = re.compile(r"[?？][\W_]*\Z")
_STATEMENTS = 6
_FEW_STATEMENTS = 4  # with fewer statements, a note may be quoted more than once
_SOURCES = 14
_MAIN_NOTES = 1
_NEAREST = 5
_DUPLICATE_COSINE = 0.82  # cosine from which two sentences say the same
_MIN_COSINE = 0.2  # cosine to the question below which a sentence is off topic
_MAX_DROP_FROM_THIRD = 0.16  # maximum distance of a statement's score below the third best note …
_MAX_DROP_FROM_BEST = 0.5  # … and below the best
_LEDE_TOLERANCE = 0.2  # score that a lede may lose to be from the opening of its note
_MAX_QUOTE = 420  # characters of two consecutive sentences


def ask(kb: KnowledgeBase, question: str, exclude: Collection[str] = (NoteKind.INQUIRY,)) -> Answer:
    """Answers a question in quotes, or refuses. `exclude`: kinds of notes that are not quoted.

    Raises PasskbError for a question without words or with more than 2,000 characters.
    """
    started = time.perf_counter()
    question_text = validate_question(question)
    with kb.reading():
        retrieval = retrieve(kb, question_text, exclude)
        retrieved_at = time.perf_counter()
        verdict = assess(retrieval)
        answer = answer_in_quotes(kb, retrieval, exclude) if verdict.enough else refuse(kb, retrieval, verdict.reason, exclude)
    ended = time.perf_counter()
    _log.debug("ask: retrieval %.0f ms, answer %.0f ms", 1000 * (retrieved_at - started), 1000 * (ended - retrieved_at))
    return replace(answer, seconds=ended - started)


def validate_question(question: str) -> str:
    """The question with normalized white space. Raises PasskbError for an invalid question."""
    text = " ".join(question.encode("utf-8", "replace").decode().split())
    if not any(map(str.isalnum, text)):
        raise PasskbError("the question is empty: ask for example “What does pass@k measure?”")
    if len(text) > MAX_QUESTION:
        raise PasskbError(f"the question has {len(text):,} characters: the limit is {MAX_QUESTION:,}")
    return text


def answer_in_quotes(kb: KnowledgeBase, retrieval: Retrieval, exclude: Collection[str]) -> Answer:
    """The answer in quotes, without checking sufficiency."""
    numbering = Numbering()
    chosen = select_candidates(retrieval)
    statements = tuple(_make_statement(retrieval, candidate, numbering, i == 0) for i, candidate in enumerate(chosen))
    return assemble_answer(kb, retrieval, exclude, statements, numbering)


def assemble_answer(
    kb: KnowledgeBase, retrieval: Retrieval, exclude: Collection[str], statements: tuple[Statement, ...], numbering: Numbering
) -> Answer:
    """The answer with disagreements, evidence, experiments, sources and follow-ups of the cited notes (or the nearest)."""
    cited = list(dict.fromkeys(citation.note_id for statement in statements for citation in statement.citations))
    cited = cited or retrieval.main_notes(1)
    dissenting = find_dissenting_notes(
        kb, list(dict.fromkeys([*retrieval.main_notes(_MAIN_NOTES), *cited]))[:_MAIN_NOTES], exclude
    )
    sources = _list_sources(kb, retrieval, cited, dissenting)
    ids = [source.note_id for source in sources]
    claims = find_claims(kb, ids, retrieval.vector)
    return Answer(
        retrieval.question,
        True,
        statements,
        find_disagreements(kb, cited, ids, retrieval.vector, numbering),
        find_evidence(kb, claims),
        find_experiments(claims),
        sources,
        follow_ups=find_follow_ups(
            kb, retrieval.question, retrieval.vector, cited, lambda follow_up: is_answerable(kb, follow_up, exclude)
        ),
        inquiries=_similar_inquiries(kb, retrieval, exclude),
        missing=tuple(retrieval.unknown),
    )


def select_candidates(retrieval: Retrieval) -> list[Candidate]:
    """Selects the lede and the other statements by greedy maximal marginal relevance (Carbonell and Goldstein 1998).

    One statement per note; with fewer than `_FEW_STATEMENTS`, notes may be quoted again. A question answers nothing: one is
    selected only where there is nothing else.
    """
    answers = [candidate for candidate in retrieval.candidates if not _QUESTION.search(candidate.text)]
    pool = [with_antecedent(candidate) for candidate in answers or retrieval.candidates]
    floor = max(
        _third_best_score(pool) - _MAX_DROP_FROM_THIRD, max(candidate.score for candidate in pool) - _MAX_DROP_FROM_BEST
    )
    chosen = [_select_lede(pool)]
    lone = len(retrieval.notes) < _FEW_STATEMENTS
    rounds = (
        (1, _STATEMENTS, floor),
        (3, _FEW_STATEMENTS, floor - _MAX_DROP_FROM_THIRD),
        (_STATEMENTS, _STATEMENTS if lone else _FEW_STATEMENTS, floor - 2 * _MAX_DROP_FROM_THIRD),
    )
    for each, count, minimum in rounds:
        while len(chosen) < count and (candidate := _next_candidate(pool, chosen, minimum, each)):
            chosen.append(candidate)
    by_before = {(candidate.note_id, candidate.before): candidate for candidate in retrieval.candidates if candidate.before}
    return [_with_continuation(candidate, by_before, floor, chosen) for candidate in chosen]


def _third_best_score(pool: Sequence[Candidate]) -> float:
    """The score of the third best note (or the last): a floor that one outstanding sentence does not raise."""
    best: dict[str, float] = {}
    for candidate in pool:
        best[candidate.note_id] = max(candidate.score, best.get(candidate.note_id, candidate.score))
    return sorted(best.values(), reverse=True)[:3][-1]


def _next_candidate(pool: Sequence[Candidate], chosen: Sequence[Candidate], floor: float, each: int) -> Candidate | None:
    """The best candidate that repeats none of `chosen`, from a note quoted fewer than `each` times."""
    vectors = np.stack([candidate.vector for candidate in chosen])
    uses = Counter(candidate.note_id for candidate in chosen)
    best: tuple[float, Candidate] | None = None
    for candidate in pool:
        if candidate.score < floor or candidate.cosine < _MIN_COSINE or uses[candidate.note_id] >= each:
            continue
        if any(overlaps(candidate, other) for other in chosen):
            continue
        similarity = float(np.max(vectors @ candidate.vector))
        value = candidate.score - 0.3 * similarity
        if similarity < _DUPLICATE_COSINE and (best is None or value > best[0]):
            best = value, candidate
    return best[1] if best else None


def overlaps(one: Candidate, other: Candidate) -> bool:
    return one.note_id == other.note_id and one.start < other.end and other.start < one.end


def _with_continuation(
    candidate: Candidate,
    by_before: Mapping[tuple[str, tuple[int, int]], Candidate],
    floor: float,
    chosen: Sequence[Candidate],
) -> Candidate:
    """Appends the next sentence if it scores well and depends on this one."""
    after = by_before.get((candidate.note_id, (candidate.start, candidate.end)))
    fits = (
        after is not None and after.score >= floor and after.is_dependent and len(candidate.text) + len(after.text) < _MAX_QUOTE
    )
    if after is None or not fits or any(overlaps(after, other) for other in chosen):
        return candidate
    return replace(candidate, end=after.end)


def _select_lede(pool: Sequence[Candidate]) -> Candidate:
    """The best candidate, or one from the opening of its note that is nearly as good."""
    best = max(pool, key=lambda candidate: candidate.score)

    def adjusted_score(candidate: Candidate) -> float:
        return candidate.score - (0.0 if candidate.note_id == best.note_id else _LEDE_TOLERANCE / 2)

    opening = [c for c in pool if c.is_opening and not c.is_dependent and adjusted_score(c) >= best.score - _LEDE_TOLERANCE]
    return max(opening, key=adjusted_score, default=best)


def with_antecedent(candidate: Candidate) -> Candidate:
    """Prepends the previous sentence to a dependent candidate; lowers the score if there is none."""
    if not candidate.is_dependent:
        return candidate
    if candidate.before is None:
        return replace(candidate, score=candidate.score - 0.15)
    return replace(candidate, start=candidate.before[0], score=candidate.score - 0.05)


def _make_statement(retrieval: Retrieval, candidate: Candidate, numbering: Numbering, lede: bool) -> Statement:
    note = retrieval.notes[candidate.note_id]
    citation = numbering.cite(note, candidate.start, candidate.end)
    return Statement(citation.quote, Support.QUOTED, (citation,), "lede" if lede else "body")


def _list_sources(
    kb: KnowledgeBase, retrieval: Retrieval, cited: Sequence[str], dissenting: Sequence[str]
) -> tuple[SourceNote, ...]:
    """The cited notes, the dissenting notes, then the other search results: at most `_SOURCES`."""
    ids = list(dict.fromkeys([*cited, *dissenting, *(hit.note_id for hit in retrieval.hits)]))[:_SOURCES]
    notes: dict[str, Note] = {**kb.store.notes(ids), **retrieval.notes}
    return tuple(to_source(notes[note_id]) for note_id in ids if note_id in notes)


def refuse(kb: KnowledgeBase, retrieval: Retrieval, reason: str, exclude: Collection[str]) -> Answer:
    """A refusal with the reason and the nearest notes."""
    nearest = tuple(to_source(note) for note in _nearest_notes(retrieval))
    inquiries = _similar_inquiries(kb, retrieval, exclude)
    missing = tuple(retrieval.unknown)
    return Answer(retrieval.question, False, nearest=nearest, inquiries=inquiries, missing=missing, reason=reason)


def _nearest_notes(retrieval: Retrieval) -> list[Note]:
    ids = dict.fromkeys(hit.note_id for hit in retrieval.hits)
    return [retrieval.notes[note_id] for note_id in ids if note_id in retrieval.notes][:_NEAREST]


def _similar_inquiries(kb: KnowledgeBase, retrieval: Retrieval, exclude: Collection[str]) -> tuple[SourceNote, ...]:
    """Saved inquiries with a similar question, unless inquiries may be quoted."""
    ids = [note_id for note_id, _, kind, _ in kb.store.titles() if kind == NoteKind.INQUIRY]
    if not ids or NoteKind.INQUIRY not in exclude:
        return ()
    notes = list(kb.store.notes(ids).values())
    nearness = kb.embedder([note.title for note in notes]) @ retrieval.vector
    ranked = sorted(zip(nearness.tolist(), notes, strict=True), key=lambda pair: -pair[0])
    return tuple(to_source(note) for value, note in ranked[:3] if value >= 0.6)
