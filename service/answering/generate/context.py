"""Builds the context for a model: numbered passages, both sides of disagreements, and evidence.

A model can cite only these passages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.notes import LinkType, Note, NoteKind
from service.answering.answer import Citation, Disagreement
from service.answering.extractive import overlaps, with_antecedent
from service.answering.retrieve.candidates import Candidate, Retrieval, cached_sentences
from service.answering.surroundings import (
    Numbering,
    find_claims,
    find_disagreements,
    find_dissenting_notes,
    find_evidence,
    thesis_sentence,
)

_MAX_PASSAGES = 20
_MAX_PER_NOTE = 3
_DUPLICATE_COSINE = 0.9  # cosine from which two passages say the same
_MIN_COSINE = 0.25  # cosine to the question below which a passage is off topic
_MAX_DISSENTS = 3
_MAX_EVIDENCE = 2
_RECONCILING = frozenset({LinkType.QUALIFIES, LinkType.EXPLAINS, LinkType.EXTENDS})
_WHOLE = r"(\d+(?:,\d{3})*)"
_ATTEMPTS = re.compile(rf"\b{_WHOLE} (?:attempts|samples|draws|completions) (?:each|per problem|a problem)\b|\bn ?= ?{_WHOLE}")
_DEPTHS = re.compile(rf"\bk ?= ?{_WHOLE}|\bpass@{_WHOLE}\b")
_END = r"[-+−]?\d+(?:\.\d+)?(?: ?%)?"
_INTERVAL = re.compile(rf"\(({_END} to {_END})\)|\binterval (?:of |from )?({_END} to {_END})")


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a note with its citation `key`. `text`: without markup; `label`: description of an evidence note."""

    key: int
    note: Note
    start: int
    end: int
    text: str
    label: str = ""

    @property
    def quote(self) -> str:
        return self.note.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Dissent:
    """Passages of two notes that disagree by an authored link. `reconciled_by`: a passage of a note linked to both."""

    entry: Disagreement
    source: Passage
    target: Passage
    reconciled_by: Passage | None


@dataclass(frozen=True, slots=True)
class Context:
    """The context for a model. Keys are 1 to len(passages)."""

    passages: tuple[Passage, ...]
    dissents: tuple[Dissent, ...]
    evidence: tuple[Passage, ...]

    def at(self, key: int) -> Passage:
        return self.passages[key - 1]

    @property
    def keys(self) -> range:
        return range(1, len(self.passages) + 1)


class _PassageList:
    """Numbers passages without duplicates, within a limit in bytes."""

    def __init__(self, room: int) -> None:
        self.passages: list[Passage] = []
        self._room = room

    def add(self, note: Note, start: int, end: int) -> Passage | None:
        """The passage, or None if there is no room for it."""
        for passage in self.passages:
            if passage.note.id == note.id and passage.start <= start and end <= passage.end:
                return passage
        text = plain(note.text[start:end])
        cost = len(text.encode()) + 8
        if cost > self._room:
            return None
        self._room -= cost
        label = evidence_label(note) if note.kind is NoteKind.EVIDENCE else ""
        self.passages.append(Passage(len(self.passages) + 1, note, start, end, text, label))
        return self.passages[-1]


def build_context(
    kb: KnowledgeBase,
    retrieval: Retrieval,
    exclude: Collection[str],
    room: int,
    chosen: Sequence[Candidate] | None = None,
) -> Context:
    """About twenty passages with their disagreements and evidence, in at most `room` bytes of text.

    The two best passages come first, then disagreements and evidence, then the other passages. `chosen`: the passages, best
    first (default: `select_passages`).
    """
    passages = _PassageList(room)
    chosen = select_passages(retrieval) if chosen is None else chosen
    for candidate in chosen[:2]:
        passages.add(retrieval.notes[candidate.note_id], candidate.start, candidate.end)
    main = [chosen[0].note_id] if chosen else retrieval.main_notes(1)
    sources = list(
        dict.fromkeys([*main, *find_dissenting_notes(kb, main, exclude), *(candidate.note_id for candidate in chosen)])
    )
    disagreements = find_disagreements(kb, main, sources, retrieval.vector, Numbering())
    dissents = [
        dissent
        for entry in disagreements[:_MAX_DISSENTS]
        if (dissent := _make_dissent(kb, retrieval, entry, passages, exclude))
    ]
    evidence = _add_evidence(kb, retrieval, sources, passages, exclude)
    for candidate in chosen[2:]:
        passages.add(retrieval.notes[candidate.note_id], candidate.start, candidate.end)
    return Context(tuple(passages.passages), tuple(dissents), tuple(evidence))


def select_passages(retrieval: Retrieval) -> list[Candidate]:
    """The best passages: few per note, without overlaps and near-duplicates."""
    pool = sorted((with_antecedent(candidate) for candidate in retrieval.candidates), key=lambda candidate: -candidate.score)
    each = _MAX_PER_NOTE if len(retrieval.notes) >= _MAX_PASSAGES // _MAX_PER_NOTE else _MAX_PASSAGES
    counts: Counter[str] = Counter()
    chosen: list[Candidate] = []
    for candidate in pool:
        if len(chosen) == _MAX_PASSAGES:
            break
        if (
            candidate.cosine < _MIN_COSINE
            or counts[candidate.note_id] >= each
            or any(overlaps(candidate, other) for other in chosen)
        ):
            continue
        if chosen and float(np.max(np.stack([other.vector for other in chosen]) @ candidate.vector)) >= _DUPLICATE_COSINE:
            continue
        counts[candidate.note_id] += 1
        chosen.append(candidate)
    return chosen


def _make_dissent(
    kb: KnowledgeBase, retrieval: Retrieval, entry: Disagreement, passages: _PassageList, exclude: Collection[str]
) -> Dissent | None:
    sides = [_add_citation(kb, side, passages) for side in (entry.source_says, entry.target_says) if side]
    if len(sides) < 2 or not sides[0] or not sides[1]:
        return None
    reconciling = find_reconciling_notes(kb, entry.source, entry.target)
    notes = [note for note in kb.store.notes(reconciling).values() if note.text.strip() and note.kind not in exclude]
    if not notes:
        return Dissent(entry, sides[0], sides[1], None)
    nearness = kb.sentence_vectors([note.title for note in notes]) @ retrieval.vector
    best = thesis_sentence(notes[int(np.argmax(nearness))], Numbering())
    return Dissent(entry, sides[0], sides[1], _add_citation(kb, best, passages) if best else None)


def _add_citation(kb: KnowledgeBase, citation: Citation, passages: _PassageList) -> Passage | None:
    note = kb.store.note(citation.note_id)
    return passages.add(note, citation.start, citation.end) if note else None


def find_reconciling_notes(kb: KnowledgeBase, one: str, other: str) -> list[str]:
    """The notes with links that qualify, explain or extend both notes."""

    def around(note_id: str) -> set[str]:
        return {link.source for link in kb.store.links(note_id, into=True) if link.type in _RECONCILING}

    return sorted((around(one) & around(other)) - {one, other})


def _add_evidence(
    kb: KnowledgeBase, retrieval: Retrieval, sources: Sequence[str], passages: _PassageList, exclude: Collection[str]
) -> list[Passage]:
    """Adds the first sentence of each evidence note on a related claim, newest first."""
    added: list[Passage] = []
    claims = find_claims(kb, sources, retrieval.vector)
    for item in find_evidence(kb, claims)[: 2 * _MAX_EVIDENCE]:
        note = kb.store.note(item.note_id)
        if note is None or note.kind in exclude or len(added) == _MAX_EVIDENCE or any(p.note.id == note.id for p in added):
            continue
        first = thesis_sentence(note, Numbering())
        passage = passages.add(note, first.start, first.end) if first else None
        added += [passage] if passage else []
    return added


def evidence_label(note: Note) -> str:
    """The label of an evidence note: date, n (attempts per problem), and k and intervals of its first paragraph.

    >>> text = "Tuned solves 21.0 % (18.0 to 24.0) with k = 8, 64 attempts each."
    >>> evidence_label(Note("e", "E", text=text, properties={"date": "2026-11-20"}))
    'evidence of 2026-11-20, n = 64, k = 8, interval 18.0 to 24.0'
    """
    first = next((s for s in cached_sentences(note.text) if s.block == "paragraph"), None)
    end = note.text.find("\n\n", first.start) if first else 0
    opening = note.text[: end if end >= 0 else len(note.text)]
    return ", ".join([
        f"evidence of {str(note.properties.get('date') or 'no date')[:10]}",
        *_label_values("n =", _ATTEMPTS, opening, 1),
        *(_label_values("n =", _ATTEMPTS, note.text, 1) if not _ATTEMPTS.search(opening) else ()),
        *_label_values("k =", _DEPTHS, opening, 4),
        *_label_values("interval", _INTERVAL, opening, 3),
    ])  # fmt: skip


def _label_values(name: str, pattern: re.Pattern[str], text: str, most: int) -> list[str]:
    values = list(dict.fromkeys(next(filter(None, match.groups())) for match in pattern.finditer(text)))[:most]
    return [f"{name} {'; '.join(values)}"] if values else []
