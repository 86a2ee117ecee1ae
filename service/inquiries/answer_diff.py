"""The difference between two versions of an answer, sentence by sentence, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kb.markdown.blocks import plain
from service.answering.answer import Statement
from service.inquiries.front_matter import InquiryRecord, StaleReason


@dataclass(frozen=True, slots=True)
class ChangedSentence:
    """A sentence of an answer, and why it was added or removed (empty if unchanged)."""

    text: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference. `because`: what happened to the sources, one sentence each."""

    added: tuple[ChangedSentence, ...]
    removed: tuple[ChangedSentence, ...]
    unchanged: tuple[ChangedSentence, ...]
    because: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "added": [{"text": entry.text, "why": entry.why} for entry in self.added],
            "removed": [{"text": entry.text, "why": entry.why} for entry in self.removed],
            "unchanged": [entry.text for entry in self.unchanged],
            "because": list(self.because),
        }


def diff_records(before: InquiryRecord, after: InquiryRecord, reasons: Sequence[StaleReason]) -> Changes:
    """Compares two records. `reasons`: why `before` was stale when `after` was written."""
    old_texts, new_texts = ({plain(entry.text) for entry in record.statements} for record in (before, after))
    by_note: dict[str, list[StaleReason]] = {}
    for reason in reasons:
        by_note.setdefault(reason.note_id, []).append(reason)
    old_ids = {source.note_id for source in before.sources}
    new_ids = {source.note_id for source in after.sources}
    return Changes(
        tuple(
            ChangedSentence(plain(s.text), _reason_added(s, old_ids, by_note))
            for s in after.statements
            if plain(s.text) not in old_texts
        ),
        tuple(
            ChangedSentence(plain(s.text), _reason_removed(s, new_ids, by_note))
            for s in before.statements
            if plain(s.text) not in new_texts
        ),
        tuple(ChangedSentence(plain(s.text)) for s in after.statements if plain(s.text) in old_texts),
        tuple(
            dict.fromkeys([*(reason.text for reason in reasons), *_new_sources(before, after), *_mode_change(before, after)])
        ),
    )


def _reason_added(statement: Statement, old_ids: set[str], by_note: Mapping[str, Sequence[StaleReason]]) -> str:
    for citation in statement.citations:
        if citation.note_id not in old_ids:
            return f"“{citation.title}” is a new source"
        if by_note.get(citation.note_id):
            return f"“{citation.title}” has changed"
    return "new selection from the same sources" if statement.citations else "no citation"


def _reason_removed(statement: Statement, new_ids: set[str], by_note: Mapping[str, Sequence[StaleReason]]) -> str:
    for citation in statement.citations:
        for reason in by_note.get(citation.note_id, ()):
            if reason.kind == "changed" and reason.was == plain(citation.quote):
                return f"“{citation.title}” now says: “{reason.now}”" if reason.now else f"“{citation.title}” no longer says so"
            if reason.kind in ("deleted", "moved"):
                return reason.text
        if citation.note_id not in new_ids:
            return f"“{citation.title}” is no longer a source"
    return "still in its source; replaced by other sentences" if statement.citations else "no citation"


def _new_sources(before: InquiryRecord, after: InquiryRecord) -> list[str]:
    known = {source.note_id for source in before.sources}
    cited = {citation.note_id for citation in after.citations}
    return [f"“{s.title}” is a new source" for s in after.sources if s.note_id not in known and s.note_id in cited]


def _mode_change(before: InquiryRecord, after: InquiryRecord) -> list[str]:
    if (before.mode, before.model) == (after.mode, after.model):
        return []
    labels = {"generated": f"written by {after.model}", "quoted": "in quotes"}
    return [f"the answer is now {labels.get(after.mode, after.mode)}"]
