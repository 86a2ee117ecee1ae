"""Asks the question of an inquiry again and reports what changed in the answer, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ingest.readers.markdown import read_markdown
from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, PasskbError
from service.answering.answer import Answer
from service.answering.extractive import ask
from service.answering.generate.writer import write
from service.inquiries.answer_diff import Changes, diff_records
from service.inquiries.front_matter import InquiryRecord, read_record
from service.inquiries.save import EARLIER, SavedInquiry, inquiries_folder, inquiry_path, save_inquiry, saved_record
from service.inquiries.staleness import find_stale_reasons
from service.llm.client import Model


@dataclass(frozen=True, slots=True)
class RefreshResult:
    saved: SavedInquiry
    record: InquiryRecord
    changes: Changes


def refresh(kb: KnowledgeBase, note_id: str, model: Model | None = None, *, replace_edited: bool = False) -> RefreshResult:
    """Asks again, in the same mode if a `model` is given, and saves the new answer.

    Raises EditedByHand for an edited note; PasskbError if the note is not an inquiry, the notes no longer answer the
    question, or the model fails. The inquiry then stays unchanged.
    """
    note = kb.store.note(note_id)
    before = saved_record(kb, note) if note else None
    if note is None or before is None:
        raise PasskbError(f"{note_id!r} is not a saved inquiry: see `passkb inquiries`")
    reasons = find_stale_reasons(kb, before)
    answer = _ask_again(kb, before, model)
    if inquiry_path(kb, answer.question) != Path(note.path):
        raise PasskbError(f"{note.path} does not match its `question`: correct the question, or save the answer again")
    saved = save_inquiry(kb, answer, because=reasons, replace_edited=replace_edited)
    after = kb.store.note(saved.id)
    record = saved_record(kb, after) if after else None
    if record is None:
        raise PasskbError(f"{saved.path} was written but cannot be read: see `passkb status`")
    return RefreshResult(saved, record, diff_records(before, record, reasons))


def _ask_again(kb: KnowledgeBase, before: InquiryRecord, model: Model | None) -> Answer:
    if before.mode != "generated" or model is None:
        answer = ask(kb, before.question)
    else:
        answer = write(kb, before.question, model)
        if answer.fault:
            raise PasskbError(f"{answer.fault}: the inquiry is unchanged")
    if not answer.answered:
        raise PasskbError(f"{answer.reason.rstrip('.')}: the inquiry is unchanged")
    return answer


def last_change(kb: KnowledgeBase, note: Note) -> Changes | None:
    """The difference to the previous version of an inquiry; None if there is none."""
    record = saved_record(kb, note)
    before = _read_earlier(inquiries_folder(kb), record.earlier) if record and record.earlier else None
    if record is None or before is None:
        return None
    return diff_records(before, record, record.because)


def _read_earlier(inquiries: Path, name: str) -> InquiryRecord | None:
    """The record of an earlier version; None for a path outside the archive."""
    path = inquiries / name
    if not path.resolve().is_relative_to((inquiries / EARLIER).resolve()):
        return None
    try:
        note = read_markdown(path.read_bytes(), path=str(path), note_id=path.stem, source="").note
    except (OSError, PasskbError):
        return None
    return read_record(note.properties)
