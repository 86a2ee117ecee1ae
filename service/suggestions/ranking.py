"""Suggests missing links of a note, by unlinked mentions, similar text and shared neighbours.

Computed on demand, without a language model.
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
from kb.mentions import Mention, NameIndex, is_distinctive, is_one_word
from kb.notes import Link, LinkType, Note, NoteKind, PasskbError
from kb.single_flight import SingleFlight
from service.suggestions.dismissals import list_dismissed

MAX_SUGGESTIONS = 8
_MAX_SIMILAR = 24  # similar notes that are considered
_MIN_COSINE = 0.55  # cosine from which similarity counts
_MAX_WORD_SHARE = 0.02  # share of all chunks: a one-word name in more chunks is not specific …
_MIN_WORD_CHUNKS = 5  # … unless it is in at most so many chunks
_MAX_CHUNKS = 60  # chunks searched for a name
_MIN_SCORE = 0.12  # minimum score of a suggestion
_MAX_NAMED = 3
_MENTION_WEIGHT, _SIMILARITY_WEIGHT, _NEIGHBOUR_WEIGHT = (
    0.75,
    0.8,
    0.6,
)  # maximum weights; the score is 1 - ∏ (1 - weight)


@dataclass(frozen=True, slots=True)
class Signal:
    """A reason to link two notes. `kind`: `mention`, `similar` or `neighbours`. `weight` is between 0 and 1. A mention has its
    sentence, `quote == text[start:end]` of the note `note_id`."""

    kind: str
    text: str
    weight: float
    note_id: str = ""
    start: int = -1
    end: int = -1
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggested link from `source` to `target`. `other` is the end that is not the requested note.

    `type` and `why` are saved if the suggestion is accepted: by default `related` and the text of the strongest signal.
    """

    source: str
    target: str
    other: str
    title: str
    score: float
    signals: tuple[Signal, ...]
    type: LinkType = LinkType.RELATED
    why: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class _NameGraph:
    """The names and links of all notes in one generation of the store."""

    generation: int
    names: NameIndex
    names_by_note: Mapping[str, tuple[str, ...]]
    neighbours: Mapping[str, Collection[str]]


_graphs: WeakKeyDictionary[KnowledgeBase, SingleFlight[int, _NameGraph]] = WeakKeyDictionary()
_lock = threading.Lock()  # protects the mapping only


def suggest_links(kb: KnowledgeBase, note_id: str, limit: int = MAX_SUGGESTIONS, *, unseen: str = "") -> list[Suggestion]:
    """Probably missing links of a note, best first. Leaves out stubs, inquiries, linked and dismissed notes.

    `unseen`: a note whose links with this one are ignored, for evaluation. Raises PasskbError for an unknown note.
    """
    with kb.reading():
        note = kb.store.note(note_id)
        if note is None:
            raise PasskbError(f"there is no note {note_id!r}")
        if note.kind in (NoteKind.STUB, NoteKind.INQUIRY) or not note.text.strip():
            return []
        graph = _without_link(_name_graph(kb), note_id, unseen)
        excluded = {note_id, *graph.neighbours.get(note_id, ()), *list_dismissed(kb.home, note_id)}
        signals: dict[str, list[Signal]] = defaultdict(list)
        forward: dict[str, bool] = {}
        for other, signal, out in _find_mentions(kb, note, graph, excluded):
            signals[other].append(signal)
            forward[other] = out or forward.get(other, False)
        for other, signal in [*_find_similar(kb, note_id, excluded), *_find_shared_neighbours(kb, note_id, graph, excluded)]:
            signals[other].append(signal)
        notes = {i: n for i, n in kb.store.notes(signals).items() if _can_be_linked(n)}
    candidates = [_make_suggestion(note_id, notes[other], signals[other], forward.get(other, True)) for other in notes]
    ranked = sorted(candidates, key=lambda entry: (-entry.score, entry.other))
    return [entry for entry in ranked if entry.score >= _MIN_SCORE][:limit]


def _can_be_linked(note: Note) -> bool:
    return note.kind not in (NoteKind.STUB, NoteKind.INQUIRY) and bool(note.text.strip())


def _make_suggestion(note_id: str, other: Note, signals: Iterable[Signal], forward: bool) -> Suggestion:
    ordered = tuple(sorted(signals, key=lambda signal: -signal.weight))
    score = 1.0 - math.prod(1.0 - signal.weight for signal in ordered)
    ends = (note_id, other.id) if forward else (other.id, note_id)
    return Suggestion(*ends, other.id, other.title, round(score, 4), ordered, why=ordered[0].text)


def _name_graph(kb: KnowledgeBase) -> _NameGraph:
    with _lock:
        prepared = _graphs.setdefault(kb, SingleFlight())
    with kb.store.reading():
        generation = kb.store.generation
        return prepared.get(generation, lambda: _build_name_graph(kb, generation))


def _without_link(graph: _NameGraph, one: str, other: str) -> _NameGraph:
    neighbours = {i: set(graph.neighbours.get(i, ())) - {one, other} for i in (one, other)}
    return replace(graph, neighbours={**graph.neighbours, **neighbours}) if other else graph


def _build_name_graph(kb: KnowledgeBase, generation: int) -> _NameGraph:
    names_by_note = {
        note_id: tuple(filter(is_distinctive, (title, *aliases))) for note_id, _, _, title, aliases in kb.store.names()
    }
    neighbours: dict[str, set[str]] = defaultdict(set)
    for link in kb.store.links():
        neighbours[link.source].add(link.target)
        neighbours[link.target].add(link.source)
    names = NameIndex((name, note_id) for note_id, note_names in names_by_note.items() for name in note_names)
    return _NameGraph(generation, names, names_by_note, dict(neighbours))


def _is_specific(kb: KnowledgeBase, name: str) -> bool:
    """Whether a name identifies its note: a frequent single word does not."""
    return not is_one_word(name) or kb.store.document_frequency(_escape_phrase(name)) <= max(
        _MIN_WORD_CHUNKS, _MAX_WORD_SHARE * len(kb.catalogue.numbers)
    )


def _escape_phrase(name: str) -> str:
    return name.replace('"', '""').replace("\0", " ")


def _find_mentions(
    kb: KnowledgeBase, note: Note, graph: _NameGraph, excluded: Collection[str]
) -> list[tuple[str, Signal, bool]]:
    """(other note, signal, whether this note mentions the other), one per note and direction."""
    mentions: dict[tuple[str, bool], tuple[str, Signal, bool]] = {}
    for mention in graph.names.mentions(note.text):
        if mention.note_id not in excluded and (mention.note_id, True) not in mentions and _is_specific(kb, mention.name):
            signal = _mention_signal(kb, note, mention, "this note mentions it")
            mentions[mention.note_id, True] = mention.note_id, signal, True
    own_names = [name for name in graph.names_by_note.get(note.id, ()) if _is_specific(kb, name)]
    candidates = {i for name in own_names for i in kb.store.notes_with_phrase(name, _MAX_CHUNKS)}
    for other in kb.store.notes(candidates - set(excluded)).values():
        if reverse := next((m for m in graph.names.mentions(other.text) if m.note_id == note.id and m.name in own_names), None):
            mentions[other.id, False] = other.id, _mention_signal(kb, other, reverse, "it mentions this note"), False
    return list(mentions.values())


def _mention_signal(kb: KnowledgeBase, note: Note, mention: Mention, how: str) -> Signal:
    """Weighted by the specificity of the name, halved for a single word at the start of a sentence or in different case."""
    frequency = kb.store.document_frequency(_escape_phrase(mention.name))
    specificity = 1.0 - math.log(1 + frequency) / math.log(2 + len(kb.catalogue.numbers))
    if is_one_word(mention.name) and (mention.at == mention.start or note.text[mention.at : mention.until] != mention.name):
        specificity /= 2
    quote = note.text[mention.start : mention.end]
    text = f"{how} without a link: “{plain(quote)}”"
    return Signal(
        "mention", text, round(_MENTION_WEIGHT * max(0.2, specificity), 4), note.id, mention.start, mention.end, quote
    )


def _find_similar(kb: KnowledgeBase, note_id: str, excluded: Collection[str]) -> list[tuple[str, Signal]]:
    return [
        (
            other,
            Signal("similar", f"similar text (cosine {cosine:.2f})", round(_SIMILARITY_WEIGHT * (cosine - 0.5) / 0.5, 4)),
        )
        for other, cosine in kb.similar(note_id, _MAX_SIMILAR)
        if cosine >= _MIN_COSINE and other not in excluded
    ]


def _find_shared_neighbours(
    kb: KnowledgeBase, note_id: str, graph: _NameGraph, excluded: Collection[str]
) -> list[tuple[str, Signal]]:
    """Weighted as by Adamic and Adar (2003): shared neighbours with fewer neighbours count more."""
    weights: dict[str, float] = defaultdict(float)
    through: dict[str, list[str]] = defaultdict(list)
    for neighbour in sorted(graph.neighbours.get(note_id, ())):
        share = 1.0 / math.log(max(2, len(graph.neighbours[neighbour])))
        for other in graph.neighbours[neighbour]:
            if other not in excluded:
                weights[other] += share
                through[other].append(neighbour)
    several = {other: weight for other, weight in weights.items() if len(through[other]) > 1}
    titles = {i: n.title for i, n in kb.store.notes({i for other in several for i in through[other]}).items()}
    out = []
    for other, weight in several.items():
        closest = sorted(through[other], key=lambda i: (len(graph.neighbours[i]), i))
        named = ", ".join(f"“{titles.get(i, i)}”" for i in closest[:_MAX_NAMED])
        more = f" and {len(closest) - _MAX_NAMED} more" if len(closest) > _MAX_NAMED else ""
        text = f"{len(closest)} notes are linked to both: {named}{more}"
        out.append((other, Signal("neighbours", text, round(_NEIGHBOUR_WEIGHT * weight / (weight + 1.5), 4))))
    return out


def links_between(kb: KnowledgeBase, one: str, other: str) -> list[Link]:
    """The links between two notes, in either direction."""
    return [link for into in (False, True) for link in kb.store.links(one, into=into) if other in (link.source, link.target)]
