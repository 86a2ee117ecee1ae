"""Finds stale inquiries: sources, quotes or evidence have changed since the answer was saved.

Computed on demand from the record and the current notes, and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.markdown.sentences import sentences
from kb.notes import Claim, Note
from kb.store.fulltext import stems
from service.inquiries.front_matter import ClaimSnapshot, InquiryRecord, SourceSnapshot, StaleReason, text_digest
from service.inquiries.save import list_inquiries, saved_record

_MIN_OVERLAP = 0.3  # Jaccard similarity of stems from which a sentence counts as a rewording
_MAX_TEXT = 200_000  # characters of a text that are searched for a rewording


@dataclass(frozen=True, slots=True)
class InquiryStatus:
    """A saved inquiry. It is stale if there are `reasons`."""

    note: Note
    record: InquiryRecord
    reasons: tuple[StaleReason, ...]


def inquiry_status(kb: KnowledgeBase, note: Note) -> InquiryStatus | None:
    """The status of an inquiry; None for a note that is not a saved inquiry."""
    record = saved_record(kb, note)
    return InquiryStatus(note, record, find_stale_reasons(kb, record)) if record else None


def list_inquiry_statuses(kb: KnowledgeBase) -> list[InquiryStatus]:
    """The status of all saved inquiries."""
    with kb.store.reading():
        return [InquiryStatus(note, record, find_stale_reasons(kb, record)) for note, record in list_inquiries(kb)]


def find_stale_reasons(kb: KnowledgeBase, record: InquiryRecord) -> tuple[StaleReason, ...]:
    """Why an inquiry is stale, sources first, in the order of the record; empty if it is up to date."""
    with kb.store.reading():
        notes = kb.store.notes([*(s.note_id for s in record.sources), *(c.note_id for c in record.citations)])
        reasons = [reason for source in record.sources for reason in _check_source(kb, record, source, notes)]
        reasons += [reason for snapshot in record.claims for reason in _check_claim(kb, snapshot)]
    return tuple(reasons)


def _check_source(
    kb: KnowledgeBase, record: InquiryRecord, source: SourceSnapshot, notes: Mapping[str, Note]
) -> list[StaleReason]:
    note = notes.get(source.note_id)
    if note is None or (not note.text and source.text != text_digest("")):
        moved = [i for i in kb.store.ids_by_name(source.title) if text_digest(kb.store.notes([i])[i].text) == source.text]
        if moved:
            return [
                StaleReason("moved", source.note_id, source.title, f"“{source.title}” is now {moved[0]}, with the same text")
            ]
        return [StaleReason("deleted", source.note_id, source.title, f"“{source.title}” was deleted")]
    if text_digest(note.text) == source.text:
        return []
    reasons = []
    for quote in dict.fromkeys(c.quote for c in record.citations if c.note_id == note.id):
        if quote not in note.text:
            now = find_rewording(note.text, quote)
            message = f"“{source.title}” no longer says “{plain(quote)}”"
            reasons.append(
                StaleReason(
                    "changed", note.id, source.title, f"{message}; it says “{now}”" if now else message, plain(quote), now
                )
            )
    quoted = any(c.note_id == note.id for c in record.citations)
    rest = "has changed; the quotes are unchanged" if quoted else "has changed; the answer does not quote it"
    return reasons or [StaleReason("changed", note.id, source.title, f"“{source.title}” {rest}")]


def find_rewording(text: str, quote: str) -> str:
    """The sentence of a text most similar to `quote`; empty if none is similar."""
    quote_stems, best, rewording = stems(plain(quote)), _MIN_OVERLAP, ""
    for sentence in sentences(text[:_MAX_TEXT]):
        words = plain(text[sentence.start : sentence.end])
        sentence_stems = stems(words)
        overlap = len(quote_stems & sentence_stems) / max(1, len(quote_stems | sentence_stems))
        if overlap >= best:
            best, rewording = overlap, words
    return rewording


def _check_claim(kb: KnowledgeBase, snapshot: ClaimSnapshot) -> list[StaleReason]:
    note_id, _, claim_id = snapshot.claim.partition("#")
    claim: Claim | None = next((claim for claim in kb.store.claims(note_id) if claim.id == claim_id), None)
    if claim is None:
        return [StaleReason("status", note_id, "", f"the claim “{snapshot.text}” was removed", snapshot.status)]
    reasons, evidence = [], kb.store.notes({*claim.evidence, *snapshot.evidence})
    for other in claim.evidence:
        if other not in snapshot.evidence and other in evidence:
            date, status = (str(evidence[other].properties.get(key) or "") for key in ("date", "status"))
            message = f"new evidence of {date[:10] or 'no date'} on “{claim.text}”"
            message = f"{message}: {status}" if status else message
            reasons.append(StaleReason("evidence", other, evidence[other].title, message, snapshot.status, status))
    removed = [other for other in snapshot.evidence if other not in claim.evidence]
    reasons += [
        StaleReason("evidence", other, "", f"evidence on “{claim.text}” was removed ({other})", snapshot.status)
        for other in removed
    ]
    if not reasons and claim.status != snapshot.status:
        message = f"the claim “{claim.text}” changed from {snapshot.status} to {claim.status}"
        reasons.append(StaleReason("status", note_id, "", message, snapshot.status, str(claim.status)))
    return reasons
