"""Whether an inquiry still stands on what it stood on: its sources, the sentences it quotes, the evidence on its claims.

Worked out from the note's record and the notes as they are now, whenever it is asked for; kept nowhere, so it can't go stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.markdown.sentences import sentences
from kb.notes import Claim, Note
from kb.store.fulltext import stems
from service.inquiries.front_matter import Drawn, Reason, Record, Touched, text_mark
from service.inquiries.save import kept, own_record

_ALIKE = 0.3  # share of words in common from which one sentence is another's new wording
_LONGEST = 200_000  # characters of a text in which a new wording is looked for


@dataclass(frozen=True, slots=True)
class Standing:
    """A kept inquiry and what has become of its sources; stale when there is any reason."""

    note: Note
    record: Record
    reasons: tuple[Reason, ...]


def standing(kb: KnowledgeBase, note: Note) -> Standing | None:
    """None for a note that is no inquiry kept by passkb."""
    record = own_record(kb, note)
    return Standing(note, record, stale(kb, record)) if record else None


def standings(kb: KnowledgeBase) -> list[Standing]:
    """Of all kept inquiries."""
    with kb.store.reading():
        return [Standing(note, record, stale(kb, record)) for note, record in kept(kb)]


def stale(kb: KnowledgeBase, record: Record) -> tuple[Reason, ...]:
    """The reasons, sources first, in the record's order; none when all is as it was."""
    with kb.store.reading():
        notes = kb.store.notes([*(s.note_id for s in record.sources), *(c.note_id for c in record.citations)])
        found = [reason for source in record.sources for reason in _of_source(kb, record, source, notes)]
        found += [reason for touched in record.touched for reason in _of_claim(kb, touched)]
    return tuple(found)


def _of_source(kb: KnowledgeBase, record: Record, source: Drawn, notes: Mapping[str, Note]) -> list[Reason]:
    note = notes.get(source.note_id)
    if note is None or (not note.text and source.text != text_mark("")):
        moved = [i for i in kb.store.named(source.title) if text_mark(kb.store.notes([i])[i].text) == source.text]
        if moved:
            return [Reason("moved", source.note_id, source.title, f"“{source.title}” is now {moved[0]}; its text is the same")]
        return [Reason("deleted", source.note_id, source.title, f"“{source.title}” is gone")]
    if text_mark(note.text) == source.text:
        return []
    reasons = []
    for quote in dict.fromkeys(c.quote for c in record.citations if c.note_id == note.id):
        if quote not in note.text:
            now = reworded(note.text, quote)
            told = f"“{source.title}” no longer says “{plain(quote)}”"
            reasons.append(
                Reason("changed", note.id, source.title, f"{told}; it says “{now}”" if now else told, plain(quote), now)
            )
    quoted = any(c.note_id == note.id for c in record.citations)
    rest = "has changed; what is quoted from it still stands" if quoted else "has changed; nothing is quoted from it"
    return reasons or [Reason("changed", note.id, source.title, f"“{source.title}” {rest}")]


def reworded(text: str, quote: str) -> str:
    """The sentence of a text that says most nearly what `quote` said; empty when none comes near."""
    wanted, best, found = stems(plain(quote)), _ALIKE, ""
    for sentence in sentences(text[:_LONGEST]):
        words = plain(text[sentence.start : sentence.end])
        have = stems(words)
        alike = len(wanted & have) / max(1, len(wanted | have))
        if alike >= best:
            best, found = alike, words
    return found


def _of_claim(kb: KnowledgeBase, touched: Touched) -> list[Reason]:
    note_id, _, claim_id = touched.claim.partition("#")
    claim: Claim | None = next((claim for claim in kb.store.claims(note_id) if claim.id == claim_id), None)
    if claim is None:
        return [Reason("status", note_id, "", f"the claim “{touched.text}” is no longer made", touched.status)]
    reasons, evidence = [], kb.store.notes({*claim.evidence, *touched.evidence})
    for other in claim.evidence:
        if other not in touched.evidence and other in evidence:
            date, status = (str(evidence[other].properties.get(key) or "") for key in ("date", "status"))
            told = f"new evidence of {date[:10] or 'no date'} on “{claim.text}”"
            told = f"{told}: {status}" if status else told
            reasons.append(Reason("evidence", other, evidence[other].title, told, touched.status, status))
    gone = [other for other in touched.evidence if other not in claim.evidence]
    reasons += [
        Reason("evidence", other, "", f"evidence on “{claim.text}” is gone ({other})", touched.status) for other in gone
    ]
    if not reasons and claim.status != touched.status:
        told = f"the claim “{claim.text}” is now {claim.status}, and was {touched.status}"
        reasons.append(Reason("status", note_id, "", told, touched.status, str(claim.status)))
    return reasons
