"""The context of an answer: disagreements, evidence, experiments and follow-up questions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kb.embedding import Vectors
from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.notes import DISSENT, Claim, ClaimStatus, Link, LinkType, Note, NoteKind
from service.answering.answer import Citation, Disagreement, EvidenceItem, Experiment, SourceNote
from service.answering.retrieve.candidates import cached_sentences

_MAX_DISAGREEMENTS = 5
_MAX_EXPERIMENTS = 3
_MAX_FOLLOW_UPS = 3
_MAX_CHECKED = 7
_MIN_COSINE = 0.3


class Numbering:
    """Numbers cited spans in order of first use."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int, int], int] = {}

    def cite(self, note: Note, start: int, end: int) -> Citation:
        number = self._numbers.setdefault((note.id, start, end), len(self._numbers) + 1)
        return Citation(number, note.id, note.title, start, end, note.text[start:end])


def to_source(note: Note) -> SourceNote:
    return SourceNote(note.id, note.title, note.kind, note.gist)


def find_dissenting_notes(kb: KnowledgeBase, main: Sequence[str], exclude: Collection[str]) -> list[str]:
    """The notes that contradict or qualify the main notes, or are contradicted or qualified by them.

    Ordered by personalised PageRank, with weight 1 on the main notes and 0.5 on each dissenting note, so that objections
    that support each other come first.
    """
    linked = [link for note_id in main for into in (True, False) for link in kb.store.links(note_id, into=into)]
    ends = {end for link in linked if link.type in DISSENT for end in (link.source, link.target)} - set(main)
    notes = {note_id for note_id, note in kb.store.notes(ends).items() if note.text.strip() and note.kind not in exclude}
    share = kb.graph_without(exclude).personalized_pagerank({**dict.fromkeys(notes, 0.5), **dict.fromkeys(main, 1.0)})
    return sorted(notes, key=lambda note_id: (-share.get(note_id, 0.0), note_id))


def find_disagreements(
    kb: KnowledgeBase, cited: Sequence[str], sources: Collection[str], vector: Vectors, numbering: Numbering
) -> tuple[Disagreement, ...]:
    """Disagreements with the first cited note and between cited notes; contradictions before qualifications."""
    ends = {link: {link.source, link.target} for link in kb.graph.links_among(sources) if link.type in DISSENT}
    links = [link for link, pair in ends.items() if cited[0] in pair or pair <= set(cited)]
    if not links:
        return ()
    nearness = kb.embedder([plain(link.why) or link.target for link in links]) @ vector

    def rank(pair: tuple[Link, float]) -> tuple[bool, bool, float]:
        link, near = pair
        return cited[0] not in (link.source, link.target), link.type is not LinkType.CONTRADICTS, -near

    chosen: dict[frozenset[str], Link] = {}
    for link, _ in sorted(zip(links, nearness.tolist(), strict=True), key=rank):
        chosen.setdefault(frozenset((link.source, link.target)), link)
    selected = list(chosen.values())[:_MAX_DISAGREEMENTS]
    targets = [link.target for link in selected]
    selected.sort(key=lambda link: targets.index(link.target))
    notes = kb.store.notes(note_id for link in selected for note_id in (link.source, link.target))
    return tuple(_make_disagreement(link, notes[link.source], notes[link.target], numbering) for link in selected)


def _make_disagreement(link: Link, source: Note, target: Note, numbering: Numbering) -> Disagreement:
    challenged = thesis_sentence(target, numbering)
    titles = source.title, target.title
    return Disagreement(source.id, target.id, str(link.type), link.why, *titles, thesis_sentence(source, numbering), challenged)


def thesis_sentence(note: Note, numbering: Numbering) -> Citation | None:
    """The first sentence of a note's prose, which usually states its thesis."""
    first = next((s for s in cached_sentences(note.text) if s.block == "paragraph"), None)
    return numbering.cite(note, first.start, first.end) if first else None


def find_claims(kb: KnowledgeBase, sources: Sequence[str], vector: Vectors) -> list[tuple[str, Claim, float]]:
    """(note id, claim, cosine to the question) of the sources' claims about the question, nearest first."""
    claims = [(note_id, claim) for note_id in sources for claim in kb.store.claims(note_id)]
    if not claims:
        return []
    nearness = (kb.embedder([claim.text for _, claim in claims]) @ vector).tolist()
    about = [(note_id, claim, near) for (note_id, claim), near in zip(claims, nearness, strict=True) if near >= _MIN_COSINE]
    return sorted(about, key=lambda entry: (-entry[2], entry[0], entry[1].id))


def find_evidence(kb: KnowledgeBase, claims: Iterable[tuple[str, Claim, float]]) -> tuple[EvidenceItem, ...]:
    """The evidence notes on these claims, newest first."""
    items = []
    for note_id, claim, _ in claims:
        for evidence_id, note in kb.store.notes(claim.evidence).items():
            run, status, date = (str(note.properties.get(key) or "") for key in ("run_id", "status", "date"))
            items.append(EvidenceItem(evidence_id, note.title, run, f"{note_id}#{claim.id}", claim.text, status, date))
    return tuple(sorted(items, key=lambda item: item.date, reverse=True))


def find_experiments(claims: Iterable[tuple[str, Claim, float]]) -> tuple[Experiment, ...]:
    """The tests of open claims."""
    return tuple(
        Experiment(f"{note_id}#{claim.id}", claim.text, _test_question(claim), claim.settles, _make_spec(note_id, claim))
        for note_id, claim, _ in claims
        if claim.test and claim.status in (ClaimStatus.UNTESTED, ClaimStatus.UNDERPOWERED)
    )[:_MAX_EXPERIMENTS]


def _test_question(claim: Claim) -> str:
    return str((claim.test or {}).get("question") or claim.question)


def _make_spec(note_id: str, claim: Claim) -> dict[str, Any]:
    name = f"{note_id.rsplit('/', 1)[-1]}-{claim.id}"
    return {"name": name, "question": _test_question(claim), "claim": f"{note_id}#{claim.id}", **dict(claim.test or {})}


def find_follow_ups(
    kb: KnowledgeBase, question: str, vector: Vectors, cited: Sequence[str], answered: Callable[[str], bool]
) -> tuple[str, ...]:
    """At most three related questions that the notes can answer.

    Titles of linked and similar notes that are not cited, turned into questions and checked with `answered`.
    """
    near = {link.target for note_id in cited[:6] for link in kb.store.links(note_id)}
    near |= {link.source for note_id in cited[:6] for link in kb.store.links(note_id, into=True)}
    near |= {note_id for cited_id in cited[:3] for note_id, _ in kb.similar(cited_id)}
    notes = [
        note
        for _, note in sorted(kb.store.notes(near - set(cited)).items())
        if note.text.strip() and note.kind is not NoteKind.INQUIRY
    ]
    if not notes:
        return ()
    vectors = kb.sentence_vectors([note.title for note in notes])
    nearness = vectors @ vector
    order = sorted(range(len(notes)), key=lambda i: (not notes[i].title.endswith("?"), -float(nearness[i])))
    chosen: list[int] = []
    for i in order[:_MAX_CHECKED]:
        follow_up = to_question(notes[i].title)
        different = all(float(vectors[i] @ vectors[j]) < 0.75 for j in chosen) and nearness[i] < 0.9
        if different and follow_up.casefold() != question.casefold() and answered(follow_up):
            chosen.append(i)
        if len(chosen) == _MAX_FOLLOW_UPS:
            break
    return tuple(to_question(notes[i].title) for i in chosen)


def to_question(title: str) -> str:
    return title if title.endswith("?") else f"What do the notes say about {title}?"
