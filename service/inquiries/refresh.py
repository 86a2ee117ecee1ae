"""Asking an inquiry's question again, and telling what changed in its answer since, and why."""

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
    """Asks again, in the mode of before where there is a `model` for it, and keeps the new answer.

    Raises PasskbError for a note that passkb did not keep, EditedByHand for one that a person changed, and, leaving the
    inquiry as it is, when the notes no longer answer its question or its model fails.
    """
    note = kb.store.note(note_id)
    before = saved_record(kb, note) if note else None
    if note is None or before is None:
        raise PasskbError(f"{note_id!r} is no inquiry that passkb keeps: `passkb inquiries` lists them")
    reasons = find_stale_reasons(kb, before)
    answer = _ask_again(kb, before, model)
    if inquiry_path(kb, answer.question) != Path(note.path):
        raise PasskbError(f"{note.path} is not the note of its question any more: mend its `question`, or keep the answer anew")
    kept = save_inquiry(kb, answer, because=reasons, replace_edited=replace_edited)
    after = kb.store.note(kept.id)
    record = saved_record(kb, after) if after else None
    if record is None:
        raise PasskbError(f"{kept.path} was written and can not be read back: `passkb status` says why")
    return RefreshResult(kept, record, diff_records(before, record, reasons))


def _ask_again(kb: KnowledgeBase, before: InquiryRecord, model: Model | None) -> Answer:
    if before.mode != "generated" or model is None:
        answer = ask(kb, before.question)
    else:
        answer = write(kb, before.question, model)
        if answer.fault:
            raise PasskbError(f"{answer.fault}: the inquiry stays as it was")
    if not answer.answered:
        raise PasskbError(f"{answer.reason.rstrip('.')}: the inquiry stays as it was, with what its sources said then")
    return answer


def last_change(kb: KnowledgeBase, note: Note) -> Changes | None:
    """What changed when an inquiry was last written, from its earlier version; None for one that has none."""
    record = saved_record(kb, note)
    before = _read_earlier(inquiries_folder(kb), record.earlier) if record and record.earlier else None
    if record is None or before is None:
        return None
    return diff_records(before, record, record.because)


def _read_earlier(inquiries: Path, name: str) -> InquiryRecord | None:
    """The record of an earlier version; None for a name that leads anywhere else."""
    path = inquiries / name
    if not path.resolve().is_relative_to((inquiries / EARLIER).resolve()):
        return None
    try:
        note = read_markdown(path.read_bytes(), path=str(path), note_id=path.stem, source="").note
    except (OSError, PasskbError):
        return None
    return read_record(note.properties)
