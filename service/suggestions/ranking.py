"""Links that a note probably lacks: to notes that name it or that it names, that are alike, that stand among the same others.

Derived on reading and kept nowhere; a person decides what becomes of them. No language model here.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.notes import Link, LinkType, Note, NoteKind, PasskbError
from kb.single_flight import SingleFlight
from service.suggestions.dismissals import dismissed
from service.suggestions.mentions import Mention, Names, is_plain, one_word

MOST = 8
_NEAREST = 24  # notes alike that are looked at
_ALIKE = 0.55  # cosine from which likeness is worth a line
_SHARE = 0.02  # of all chunks: a name of one word that stands in more of them says little …
_FEW = 5  # … unless these are few
_PLACES = 60  # chunks in which a name is looked for
_LEAST = 0.12  # what a suggestion has to be worth
_NAMED = 3
_MENTION, _LIKENESS, _SHARED = 0.75, 0.8, 0.6  # the most that each is worth; together they count as 1 - ∏ (1 - worth)


@dataclass(frozen=True, slots=True)
class Ground:
    """Why two notes may belong together, in words. `kind`: `mention`, `similar` or `neighbours`; a mention has its sentence,
    `quote == text[start:end]` of the note `note_id`; `worth` is between 0 and 1."""

    kind: str
    text: str
    worth: float
    note_id: str = ""
    start: int = -1
    end: int = -1
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A link from `source` to `target` that nobody has written. `other` is the one of the two that is not the note asked for.

    `type` and `why` are what accepting it would write; without a model `related`, with the first ground in words.
    """

    source: str
    target: str
    other: str
    title: str
    score: float
    grounds: tuple[Ground, ...]
    type: LinkType = LinkType.RELATED
    why: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is the same for every note until something is written."""

    generation: int
    names: Names
    of: Mapping[str, tuple[str, ...]]
    around: Mapping[str, Collection[str]]


_prepared_by_home: WeakKeyDictionary[KnowledgeBase, SingleFlight[int, _Known]] = WeakKeyDictionary()
_lock = threading.Lock()  # of the mapping, not of the work


def suggestions(kb: KnowledgeBase, note_id: str, most: int = MOST, *, unseen: str = "") -> list[Suggestion]:
    """The links that a note probably lacks, the likeliest first. None to stubs, to inquiries, to what is linked with it in
    either direction or was dismissed. `unseen`: a note whose links with this one are taken for unwritten, to measure whether
    they would be suggested. Raises PasskbError when there is no such note."""
    with kb.reading():
        note = kb.store.note(note_id)
        if note is None:
            raise PasskbError(f"there is no note {note_id!r}")
        if note.kind in (NoteKind.STUB, NoteKind.INQUIRY) or not note.text.strip():
            return []
        known = _without(_prepared(kb), note_id, unseen)
        apart = {note_id, *known.around.get(note_id, ()), *dismissed(kb.home, note_id)}
        grounds: dict[str, list[Ground]] = defaultdict(list)
        forward: dict[str, bool] = {}
        for other, ground, out in _mentioned(kb, note, known, apart):
            grounds[other].append(ground)
            forward[other] = out or forward.get(other, False)
        for other, ground in [*_alike(kb, note_id, apart), *_shared(kb, note_id, known, apart)]:
            grounds[other].append(ground)
        notes = {i: n for i, n in kb.store.notes(grounds).items() if _can_be_linked(n)}
    found = [_suggestion(note_id, notes[other], grounds[other], forward.get(other, True)) for other in notes]
    ranked = sorted(found, key=lambda entry: (-entry.score, entry.other))
    return [entry for entry in ranked if entry.score >= _LEAST][:most]


def _can_be_linked(note: Note) -> bool:
    return note.kind not in (NoteKind.STUB, NoteKind.INQUIRY) and bool(note.text.strip())


def _suggestion(note_id: str, other: Note, grounds: Iterable[Ground], forward: bool) -> Suggestion:
    ordered = tuple(sorted(grounds, key=lambda ground: -ground.worth))
    score = 1.0 - math.prod(1.0 - ground.worth for ground in ordered)
    ends = (note_id, other.id) if forward else (other.id, note_id)
    return Suggestion(*ends, other.id, other.title, round(score, 4), ordered, why=ordered[0].text)


def _prepared(kb: KnowledgeBase) -> _Known:
    with _lock:
        prepared = _prepared_by_home.setdefault(kb, SingleFlight())
    with kb.store.reading():
        generation = kb.store.generation
        return prepared.get(generation, lambda: _prepare(kb, generation))


def _without(known: _Known, one: str, other: str) -> _Known:
    apart = {i: set(known.around.get(i, ())) - {one, other} for i in (one, other)}
    return replace(known, around={**known.around, **apart}) if other else known


def _prepare(kb: KnowledgeBase, generation: int) -> _Known:
    of = {note_id: tuple(filter(is_plain, (title, *aliases))) for note_id, _, _, title, aliases in kb.store.names()}
    around: dict[str, set[str]] = defaultdict(set)
    for link in kb.store.links():
        around[link.source].add(link.target)
        around[link.target].add(link.source)
    names = Names((name, note_id) for note_id, borne in of.items() for name in borne)
    return _Known(generation, names, of, dict(around))


def _tells(kb: KnowledgeBase, name: str) -> bool:
    """Whether a name says which note is meant: a lone word that stands everywhere does not."""
    return not one_word(name) or kb.store.document_frequency(_quoted(name)) <= max(_FEW, _SHARE * len(kb.catalogue.numbers))


def _quoted(name: str) -> str:
    return name.replace('"', '""').replace("\0", " ")


def _mentioned(kb: KnowledgeBase, note: Note, known: _Known, apart: Collection[str]) -> list[tuple[str, Ground, bool]]:
    """(other note, ground, whether it is this note that names the other), one for each other note and direction."""
    found: dict[tuple[str, bool], tuple[str, Ground, bool]] = {}
    for mention in known.names.mentions(note.text):
        if mention.note_id not in apart and (mention.note_id, True) not in found and _tells(kb, mention.name):
            ground = _ground(kb, note, mention, "this note names it")
            found[mention.note_id, True] = mention.note_id, ground, True
    mine = [name for name in known.of.get(note.id, ()) if _tells(kb, name)]
    near = {i for name in mine for i in kb.store.notes_with_phrase(name, _PLACES)}
    for other in kb.store.notes(near - set(apart)).values():
        if theirs := next((m for m in known.names.mentions(other.text) if m.note_id == note.id and m.name in mine), None):
            found[other.id, False] = other.id, _ground(kb, other, theirs, "it names this note"), False
    return list(found.values())


def _ground(kb: KnowledgeBase, note: Note, mention: Mention, how: str) -> Ground:
    """A name that stands in many places says less than one that stands in few, and a lone word less when it may be any word:
    where a sentence begins, or in other letters."""
    places = kb.store.document_frequency(_quoted(mention.name))
    telling = 1.0 - math.log(1 + places) / math.log(2 + len(kb.catalogue.numbers))
    if one_word(mention.name) and (mention.at == mention.start or note.text[mention.at : mention.until] != mention.name):
        telling /= 2
    quote = note.text[mention.start : mention.end]
    text = f"{how} without a link: “{plain(quote)}”"
    return Ground("mention", text, round(_MENTION * max(0.2, telling), 4), note.id, mention.start, mention.end, quote)


def _alike(kb: KnowledgeBase, note_id: str, apart: Collection[str]) -> list[tuple[str, Ground]]:
    return [
        (other, Ground("similar", f"alike in meaning (cosine {cosine:.2f})", round(_LIKENESS * (cosine - 0.5) / 0.5, 4)))
        for other, cosine in kb.similar(note_id, _NEAREST)
        if cosine >= _ALIKE and other not in apart
    ]


def _shared(kb: KnowledgeBase, note_id: str, known: _Known, apart: Collection[str]) -> list[tuple[str, Ground]]:
    """By Adamic and Adar (2003): a neighbour in common counts the less, the more neighbours it has itself."""
    weights: dict[str, float] = defaultdict(float)
    through: dict[str, list[str]] = defaultdict(list)
    for neighbour in sorted(known.around.get(note_id, ())):
        share = 1.0 / math.log(max(2, len(known.around[neighbour])))
        for other in known.around[neighbour]:
            if other not in apart:
                weights[other] += share
                through[other].append(neighbour)
    several = {other: weight for other, weight in weights.items() if len(through[other]) > 1}
    titles = {i: n.title for i, n in kb.store.notes({i for other in several for i in through[other]}).items()}
    out = []
    for other, weight in several.items():
        closest = sorted(through[other], key=lambda i: (len(known.around[i]), i))
        named = ", ".join(f"“{titles.get(i, i)}”" for i in closest[:_NAMED])
        more = f" and {len(closest) - _NAMED} more" if len(closest) > _NAMED else ""
        text = f"{len(closest)} notes are linked with both: {named}{more}"
        out.append((other, Ground("neighbours", text, round(_SHARED * weight / (weight + 1.5), 4))))
    return out


def linked(kb: KnowledgeBase, one: str, other: str) -> list[Link]:
    """The links between two notes, in either direction."""
    return [link for into in (False, True) for link in kb.store.links(one, into=into) if other in (link.source, link.target)]
