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
from service.inquiries.answer_diff import Changes, changes
from service.inquiries.front_matter import Record, read_record
from service.inquiries.save import EARLIER, KeptInquiry, folder, keep, own_record, path_of
from service.inquiries.staleness import stale
from service.llm.client import Model


@dataclass(frozen=True, slots=True)
class Refreshed:
    kept: KeptInquiry
    record: Record
    changes: Changes


def refresh(kb: KnowledgeBase, note_id: str, model: Model | None = None, *, replace_edited: bool = False) -> Refreshed:
    """Asks again, in the mode of before where there is a `model` for it, and keeps the new answer.

    Raises PasskbError for a note that passkb did not keep, EditedByHand for one that a person changed, and, leaving the
    inquiry as it is, when the notes no longer answer its question or its model fails.
    """
    note = kb.store.note(note_id)
    before = own_record(kb, note) if note else None
    if note is None or before is None:
        raise PasskbError(f"{note_id!r} is no inquiry that passkb keeps: `passkb inquiries` lists them")
    reasons = stale(kb, before)
    answer = _asked_again(kb, before, model)
    if path_of(kb, answer.question) != Path(note.path):
        raise PasskbError(f"{note.path} is not the note of its question any more: mend its `question`, or keep the answer anew")
    kept = keep(kb, answer, because=reasons, replace_edited=replace_edited)
    after = kb.store.note(kept.id)
    record = own_record(kb, after) if after else None
    if record is None:
        raise PasskbError(f"{kept.path} was written and can not be read back: `passkb status` says why")
    return Refreshed(kept, record, changes(before, record, reasons))


def _asked_again(kb: KnowledgeBase, before: Record, model: Model | None) -> Answer:
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
    record = own_record(kb, note)
    before = _earlier(folder(kb), record.earlier) if record and record.earlier else None
    if record is None or before is None:
        return None
    return changes(before, record, record.because)


def _earlier(inquiries: Path, name: str) -> Record | None:
    """The record of an earlier version; None for a name that leads anywhere else."""
    path = inquiries / name
    if not path.resolve().is_relative_to((inquiries / EARLIER).resolve()):
        return None
    try:
        note = read_markdown(path.read_bytes(), path=str(path), note_id=path.stem, source="").note
    except (OSError, PasskbError):
        return None
    return read_record(note.properties)
