"""Which passages a model is offered, each under its key: what fits the question, both sides of a dissent, evidence.

Knows nothing about prompts or models. Whatever can be cited later is a span offered here.
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
from service.answering.extractive import overlap, standing
from service.answering.retrieve.candidates import Candidate, Gathered, cached_sentences
from service.answering.surroundings import Numbering, disagreements, dissenters, evidence, thesis, touched_claims

_PASSAGES = 20
_PER_NOTE = 3
_ALIKE = 0.9  # cosine from which one passage adds nothing to another
_NEAR = 0.25  # cosine to the question below which a passage is not about it
_DISSENTS = 3
_EVIDENCE = 2
_RECONCILES = frozenset({LinkType.QUALIFIES, LinkType.EXPLAINS, LinkType.EXTENDS})
_WHOLE = r"(\d+(?:,\d{3})*)"
_ATTEMPTS = re.compile(rf"\b{_WHOLE} (?:attempts|samples|draws|completions) (?:each|per problem|a problem)\b|\bn ?= ?{_WHOLE}")
_DEPTHS = re.compile(rf"\bk ?= ?{_WHOLE}|\bpass@{_WHOLE}\b")
_END = r"[-+−]?\d+(?:\.\d+)?(?: ?%)?"
_INTERVAL = re.compile(rf"\(({_END} to {_END})\)|\binterval (?:of |from )?({_END} to {_END})")


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a note offered under `key`. `text` is its words without markup; `label` what its note is called beside it."""

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
    """Two passages whose notes disagree by an author's link; `settled_by` a passage of a note that is linked to both."""

    entry: Disagreement
    source: Passage
    target: Passage
    settled_by: Passage | None


@dataclass(frozen=True, slots=True)
class Offer:
    """All that a model gets to know. Keys are 1 to len(passages), in order."""

    passages: tuple[Passage, ...]
    dissents: tuple[Dissent, ...]
    evidence: tuple[Passage, ...]

    def at(self, key: int) -> Passage:
        return self.passages[key - 1]

    @property
    def keys(self) -> range:
        return range(1, len(self.passages) + 1)


class _Offering:
    """Gives each span its key, once."""

    def __init__(self, room: int) -> None:
        self.passages: list[Passage] = []
        self._room = room

    def add(self, note: Note, start: int, end: int) -> Passage | None:
        """The passage; None when there is no room left for it."""
        for passage in self.passages:
            if passage.note.id == note.id and passage.start <= start and end <= passage.end:
                return passage
        text = plain(note.text[start:end])
        cost = len(text.encode()) + 8
        if cost > self._room:
            return None
        self._room -= cost
        label = named(note) if note.kind is NoteKind.EVIDENCE else ""
        self.passages.append(Passage(len(self.passages) + 1, note, start, end, text, label))
        return self.passages[-1]


def offer(
    kb: KnowledgeBase,
    gathered: Gathered,
    exclude: Collection[str],
    room: int,
    chosen: Sequence[Candidate] | None = None,
) -> Offer:
    """At most some twenty passages for a question, and what their notes disagree on, in `room` bytes of text.

    First come the two best passages, then dissent and evidence, then the others: what has to be said fits before what could be.
    `chosen`: the passages, best first, in place of those that `select` gives.
    """
    offering = _Offering(room)
    chosen = select(gathered) if chosen is None else chosen
    for candidate in chosen[:2]:
        offering.add(gathered.notes[candidate.note_id], candidate.start, candidate.end)
    main = [chosen[0].note_id] if chosen else gathered.main_notes(1)
    sources = list(dict.fromkeys([*main, *dissenters(kb, main, exclude), *(candidate.note_id for candidate in chosen)]))
    found = disagreements(kb, main, sources, gathered.vector, Numbering())
    dissents = [made for entry in found[:_DISSENTS] if (made := _dissent(kb, gathered, entry, offering, exclude))]
    shown = _evidence(kb, gathered, sources, offering, exclude)
    for candidate in chosen[2:]:
        offering.add(gathered.notes[candidate.note_id], candidate.start, candidate.end)
    return Offer(tuple(offering.passages), tuple(dissents), tuple(shown))


def select(gathered: Gathered) -> list[Candidate]:
    """The fittest passages, best first: few of each note, none overlapping another or saying the same."""
    pool = sorted((standing(candidate) for candidate in gathered.candidates), key=lambda candidate: -candidate.score)
    each = _PER_NOTE if len(gathered.notes) >= _PASSAGES // _PER_NOTE else _PASSAGES
    taken: Counter[str] = Counter()
    chosen: list[Candidate] = []
    for candidate in pool:
        if len(chosen) == _PASSAGES:
            break
        if candidate.cosine < _NEAR or taken[candidate.note_id] >= each or any(overlap(candidate, other) for other in chosen):
            continue
        if chosen and float(np.max(np.stack([other.vector for other in chosen]) @ candidate.vector)) >= _ALIKE:
            continue
        taken[candidate.note_id] += 1
        chosen.append(candidate)
    return chosen


def _dissent(
    kb: KnowledgeBase, gathered: Gathered, entry: Disagreement, offering: _Offering, exclude: Collection[str]
) -> Dissent | None:
    sides = [_cited(kb, side, offering) for side in (entry.source_says, entry.target_says) if side]
    if len(sides) < 2 or not sides[0] or not sides[1]:
        return None
    reconciling = reconcilers(kb, entry.source, entry.target)
    notes = [note for note in kb.store.notes(reconciling).values() if note.text.strip() and note.kind not in exclude]
    if not notes:
        return Dissent(entry, sides[0], sides[1], None)
    nearness = kb.sentence_vectors([note.title for note in notes]) @ gathered.vector
    best = thesis(notes[int(np.argmax(nearness))], Numbering())
    return Dissent(entry, sides[0], sides[1], _cited(kb, best, offering) if best else None)


def _cited(kb: KnowledgeBase, citation: Citation, offering: _Offering) -> Passage | None:
    note = kb.store.note(citation.note_id)
    return offering.add(note, citation.start, citation.end) if note else None


def reconcilers(kb: KnowledgeBase, one: str, other: str) -> list[str]:
    """The notes that qualify, explain or extend both of two notes, by their authors' links."""

    def around(note_id: str) -> set[str]:
        return {link.source for link in kb.store.links(note_id, into=True) if link.type in _RECONCILES}

    return sorted((around(one) & around(other)) - {one, other})


def _evidence(
    kb: KnowledgeBase, gathered: Gathered, sources: Sequence[str], offering: _Offering, exclude: Collection[str]
) -> list[Passage]:
    """The first sentence of each evidence note on a claim that the question touches, newest first."""
    found: list[Passage] = []
    claims = touched_claims(kb, sources, gathered.vector)
    for item in evidence(kb, claims)[: 2 * _EVIDENCE]:
        note = kb.store.note(item.note_id)
        if note is None or note.kind in exclude or len(found) == _EVIDENCE or any(p.note.id == note.id for p in found):
            continue
        first = thesis(note, Numbering())
        passage = offering.add(note, first.start, first.end) if first else None
        found += [passage] if passage else []
    return found


def named(note: Note) -> str:
    """What an evidence note has to be called where it is used: its date, n (the attempts at a problem, said anywhere in it),
    and k and intervals of its first paragraph.

    >>> told = "Tuned solves 21.0 % (18.0 to 24.0) with k = 8, 64 attempts each."
    >>> named(Note("e", "E", text=told, properties={"date": "2026-11-20"}))
    'evidence of 2026-11-20, n = 64, k = 8, interval 18.0 to 24.0'
    """
    first = next((s for s in cached_sentences(note.text) if s.block == "paragraph"), None)
    end = note.text.find("\n\n", first.start) if first else 0
    opening = note.text[: end if end >= 0 else len(note.text)]
    return ", ".join([
        f"evidence of {str(note.properties.get('date') or 'no date')[:10]}",
        *_values("n =", _ATTEMPTS, opening, 1),
        *(_values("n =", _ATTEMPTS, note.text, 1) if not _ATTEMPTS.search(opening) else ()),
        *_values("k =", _DEPTHS, opening, 4),
        *_values("interval", _INTERVAL, opening, 3),
    ])  # fmt: skip


def _values(name: str, wanted: re.Pattern[str], text: str, most: int) -> list[str]:
    values = list(dict.fromkeys(next(filter(None, found.groups())) for found in wanted.finditer(text)))[:most]
    return [f"{name} {'; '.join(values)}"] if values else []
