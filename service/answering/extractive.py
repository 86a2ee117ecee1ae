"""Answers made of quotes: `ask` finds, judges, chooses and composes. Nothing in an answer is worded here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, NoteKind, PasskbError
from service.answering.answer import Answer, SourceNote, Statement, Support
from service.answering.retrieve.answerable import answerable
from service.answering.retrieve.candidates import Candidate, Gathered, gather
from service.answering.retrieve.question_rewrite import LONGEST_QUESTION
from service.answering.retrieve.sufficiency import judge
from service.answering.surroundings import (
    Numbering,
    disagreements,
    dissenters,
    evidence,
    experiments,
    follow_ups,
    source_note,
    touched_claims,
)
from service.log import logger

_log = logger("ask")
_STATEMENTS = 6
_FEW = 4  # below so many, notes already quoted may give more
_SOURCES = 14
_MAIN_NOTES = 1
_NEAREST = 5
_REPEATS = 0.82  # cosine from which one sentence says what another said
_NEAR = 0.2  # cosine to the question below which a sentence is not about it
_FALL = 0.16  # a statement's score may lie so far below the third best note's …
_FURTHEST = 0.5  # … and so far below the best
_LEDE_MAY_LOSE = 0.2  # what a lede gives up in score to be a sentence that opens its note
_LONGEST_QUOTE = 420  # characters of two sentences quoted together


def ask(kb: KnowledgeBase, question: str, exclude: Collection[str] = (NoteKind.INQUIRY,)) -> Answer:
    """The answer to a question, in quotes; or, honestly, none. `exclude`: kinds of notes not to quote.

    Raises PasskbError for an empty question, one without words, and one of more than 2,000 characters.
    """
    started = time.perf_counter()
    asked = checked(question)
    with kb.reading():
        gathered = gather(kb, asked, exclude)
        found = time.perf_counter()
        verdict = judge(gathered)
        answer = quoted(kb, gathered, exclude) if verdict.enough else refusal(kb, gathered, verdict.reason, exclude)
    ended = time.perf_counter()
    _log.debug("ask: retrieval %.0f ms, answer %.0f ms", 1000 * (found - started), 1000 * (ended - found))
    return replace(answer, seconds=ended - started)


def checked(question: str) -> str:
    """The question with its white space collapsed. Raises PasskbError when it can not be asked."""
    asked = " ".join(question.split())
    if not any(map(str.isalnum, asked)):
        raise PasskbError("the question is empty: ask in words, for example “What does pass@k measure?”")
    if len(asked) > LONGEST_QUESTION:
        raise PasskbError(
            f"the question has {len(asked):,} characters: ask in at most {LONGEST_QUESTION:,}, and keep long text as a note"
        )
    return asked


def quoted(kb: KnowledgeBase, gathered: Gathered, exclude: Collection[str]) -> Answer:
    """The answer in quotes, whether or not there is enough to answer from."""
    numbering = Numbering()
    chosen = choose(gathered)
    statements = tuple(_statement(gathered, candidate, numbering, i == 0) for i, candidate in enumerate(chosen))
    return surrounded(kb, gathered, exclude, statements, numbering)


def surrounded(
    kb: KnowledgeBase, gathered: Gathered, exclude: Collection[str], statements: tuple[Statement, ...], numbering: Numbering
) -> Answer:
    """Statements with all that stands around the notes they cite, or around the nearest note where they cite none."""
    cited = list(dict.fromkeys(citation.note_id for statement in statements for citation in statement.citations))
    cited = cited or gathered.main_notes(1)
    voices = dissenters(kb, list(dict.fromkeys([*gathered.main_notes(_MAIN_NOTES), *cited]))[:_MAIN_NOTES], exclude)
    sources = _sources(kb, gathered, cited, voices)
    ids = [source.note_id for source in sources]
    claims = touched_claims(kb, ids, gathered.vector)
    return Answer(
        gathered.question,
        True,
        statements,
        disagreements(kb, cited, ids, gathered.vector, numbering),
        evidence(kb, claims),
        experiments(claims),
        sources,
        follow_ups=follow_ups(kb, gathered.question, gathered.vector, cited, lambda asked: answerable(kb, asked, exclude)),
        inquiries=_kept_inquiries(kb, gathered, exclude),
        missing=tuple(gathered.unknown),
    )


def choose(gathered: Gathered) -> list[Candidate]:
    """The lede and the statements after it: fit, from different notes, none repeating another.

    Greedy maximal marginal relevance (Carbonell and Goldstein 1998) over the candidates' scores. Each note gives one
    statement; where that makes fewer than `_FEW`, the notes already quoted may give more.
    """
    pool = [standing(candidate) for candidate in gathered.candidates]
    floor = max(_third_best(pool) - _FALL, max(candidate.score for candidate in pool) - _FURTHEST)
    chosen = [_lede(pool)]
    lone = len(gathered.notes) < _FEW
    rounds = (
        (1, _STATEMENTS, floor),
        (3, _FEW, floor - _FALL),
        (_STATEMENTS, _STATEMENTS if lone else _FEW, floor - 2 * _FALL),
    )
    for each, wanted, least in rounds:
        while len(chosen) < wanted and (following := _next(pool, chosen, least, each)):
            chosen.append(following)
    by_before = {(candidate.note_id, candidate.before): candidate for candidate in gathered.candidates if candidate.before}
    return [_with_next(candidate, by_before, floor, chosen) for candidate in chosen]


def _third_best(pool: Sequence[Candidate]) -> float:
    """The score of the third best note, or of the last: one outstanding sentence should not silence the others."""
    best: dict[str, float] = {}
    for candidate in pool:
        best[candidate.note_id] = max(candidate.score, best.get(candidate.note_id, candidate.score))
    return sorted(best.values(), reverse=True)[:3][-1]


def _next(pool: Sequence[Candidate], chosen: Sequence[Candidate], floor: float, each: int) -> Candidate | None:
    """The fittest candidate that says something else than those chosen, from a note quoted fewer than `each` times."""
    vectors = np.stack([candidate.vector for candidate in chosen])
    quoted = Counter(candidate.note_id for candidate in chosen)
    best: tuple[float, Candidate] | None = None
    for candidate in pool:
        if candidate.score < floor or candidate.cosine < _NEAR or quoted[candidate.note_id] >= each:
            continue
        if any(overlap(candidate, other) for other in chosen):
            continue
        likeness = float(np.max(vectors @ candidate.vector))
        value = candidate.score - 0.3 * likeness
        if likeness < _REPEATS and (best is None or value > best[0]):
            best = value, candidate
    return best[1] if best else None


def overlap(one: Candidate, other: Candidate) -> bool:
    return one.note_id == other.note_id and one.start < other.end and other.start < one.end


def _with_next(
    candidate: Candidate,
    by_before: Mapping[tuple[str, tuple[int, int]], Candidate],
    floor: float,
    chosen: Sequence[Candidate],
) -> Candidate:
    """A lone sentence takes the one after it along when that one answers as well and leans on it."""
    after = by_before.get((candidate.note_id, (candidate.start, candidate.end)))
    fits = after is not None and after.score >= floor and after.leans and len(candidate.text) + len(after.text) < _LONGEST_QUOTE
    if after is None or not fits or any(overlap(after, other) for other in chosen):
        return candidate
    return replace(candidate, end=after.end)


def _lede(pool: Sequence[Candidate]) -> Candidate:
    """The best candidate, or a sentence that opens its note and is nearly as good: there an author says what it holds."""
    best = max(pool, key=lambda candidate: candidate.score)

    def worth(candidate: Candidate) -> float:
        return candidate.score - (0.0 if candidate.note_id == best.note_id else _LEDE_MAY_LOSE / 2)

    opening = [c for c in pool if c.opens and not c.leans and worth(c) >= best.score - _LEDE_MAY_LOSE]
    return max(opening, key=worth, default=best)


def standing(candidate: Candidate) -> Candidate:
    """A candidate as it can be quoted: one that leans on the sentence before it takes that along, or comes last."""
    if not candidate.leans:
        return candidate
    if candidate.before is None:
        return replace(candidate, score=candidate.score - 0.15)
    return replace(candidate, start=candidate.before[0], score=candidate.score - 0.05)


def _statement(gathered: Gathered, candidate: Candidate, numbering: Numbering, lede: bool) -> Statement:
    note = gathered.notes[candidate.note_id]
    citation = numbering.cite(note, candidate.start, candidate.end)
    return Statement(citation.quote, Support.QUOTED, (citation,), "lede" if lede else "body")


def _sources(kb: KnowledgeBase, gathered: Gathered, cited: Sequence[str], voices: Sequence[str]) -> tuple[SourceNote, ...]:
    """The cited notes, those that dissent from the main ones, then the others that the search found: at most `_SOURCES`."""
    ids = list(dict.fromkeys([*cited, *voices, *(hit.note_id for hit in gathered.hits)]))[:_SOURCES]
    notes: dict[str, Note] = {**kb.store.notes(ids), **gathered.notes}
    return tuple(source_note(notes[note_id]) for note_id in ids if note_id in notes)


def refusal(kb: KnowledgeBase, gathered: Gathered, reason: str, exclude: Collection[str]) -> Answer:
    """No answer, why, and the nearest notes."""
    nearest = tuple(source_note(note) for note in _nearest(gathered))
    inquiries = _kept_inquiries(kb, gathered, exclude)
    missing = tuple(gathered.unknown)
    return Answer(gathered.question, False, nearest=nearest, inquiries=inquiries, missing=missing, reason=reason)


def _nearest(gathered: Gathered) -> list[Note]:
    ids = dict.fromkeys(hit.note_id for hit in gathered.hits)
    return [gathered.notes[note_id] for note_id in ids if note_id in gathered.notes][:_NEAREST]


def _kept_inquiries(kb: KnowledgeBase, gathered: Gathered, exclude: Collection[str]) -> tuple[SourceNote, ...]:
    """Inquiries kept in the notes whose question is nearly this one, where they are not quoted themselves."""
    kept = [note_id for note_id, _, kind, _ in kb.store.titles() if kind == NoteKind.INQUIRY]
    if not kept or NoteKind.INQUIRY not in exclude:
        return ()
    notes = list(kb.store.notes(kept).values())
    nearness = kb.embedder([note.title for note in notes]) @ gathered.vector
    near = sorted(zip(nearness.tolist(), notes, strict=True), key=lambda pair: -pair[0])
    return tuple(source_note(note) for value, note in near[:3] if value >= 0.6)
