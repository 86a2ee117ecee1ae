"""Saves answers as inquiry notes, one note per question.

Previous versions are archived in the hidden folder `.earlier`. Edited notes are replaced only on request.
"""

from __future__ import annotations

import datetime
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.app_notes import app_notes_folder, index_app_note
from ingest.lock import lock_home
from ingest.readers.markdown import read_markdown
from kb.files import write_atomic
from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, NoteKind, PasskbError, slug
from kb.os_errors import explanation
from service.answering.answer import Answer
from service.inquiries.front_matter import (
    ClaimSnapshot,
    InquiryRecord,
    SourceSnapshot,
    StaleReason,
    read_record,
    record_of_note,
    text_digest,
)
from service.inquiries.note_text import InquiryPage, inquiry_markdown, is_edited, list_citations

EARLIER = ".earlier"
_MAX_FILE_NAME = 40  # characters of a file's name, at most four bytes each


class EditedByHand(PasskbError):
    """The note was edited after passkb wrote it."""


@dataclass(frozen=True, slots=True)
class SavedInquiry:
    """`fresh`: the note is new. `unchanged`: the same answer was already saved. Else the old version is at `earlier`."""

    id: str
    title: str
    path: str
    fresh: bool
    unchanged: bool
    earlier: str = ""


def save_inquiry(
    kb: KnowledgeBase, answer: Answer, *, because: Sequence[StaleReason] = (), replace_edited: bool = False
) -> SavedInquiry:
    """Writes the answer as the inquiry note of its question and archives the previous version.

    `because`: why the previous version was stale. `replace_edited`: replace the note even if it was edited. Raises
    PasskbError for a refusal or if the home is not writable, and EditedByHand.
    """
    if not answer.answered or not answer.statements:
        raise PasskbError("the notes do not answer this question: there is nothing to save")
    answer = _as_standalone(answer)
    record = _make_record(kb, answer, tuple(because))
    with lock_home(kb.home):
        path = inquiry_path(kb, answer.question)
        existing = _read_note(path)
        before = read_record(existing.properties) if existing else None
        if before and before.says() == record.says() and not because:
            title, earlier, fresh, unchanged = existing.title if existing else "", before.earlier, False, True
        else:
            title = existing.title if existing else _choose_title(kb, answer.question)
            earlier = _archive(path, before, replace_edited) if existing else ""
            write_atomic(path, inquiry_markdown(InquiryPage(title, answer, replace(record, earlier=earlier))))
            fresh, unchanged = existing is None, False
    return SavedInquiry(index_app_note(kb, path), title, str(path), fresh, unchanged, earlier)


def inquiries_folder(kb: KnowledgeBase) -> Path:
    return app_notes_folder(kb.home) / "inquiries"


def list_inquiries(kb: KnowledgeBase) -> list[tuple[Note, InquiryRecord]]:
    """The saved inquiries by title, without inquiry notes in the user's own vaults."""
    ids = [note_id for note_id, _, kind, _ in kb.store.titles() if kind == NoteKind.INQUIRY]
    inquiries = [(note, record) for note in kb.store.notes(ids).values() if (record := saved_record(kb, note))]
    return sorted(inquiries, key=lambda pair: (pair[0].title.casefold(), pair[0].id))


def saved_record(kb: KnowledgeBase, note: Note) -> InquiryRecord | None:
    """The record of an inquiry note in the home; None for any other note."""
    mine = note.kind is NoteKind.INQUIRY and Path(note.path).is_relative_to(app_notes_folder(kb.home))
    return record_of_note(note) if mine else None


def inquiry_path(kb: KnowledgeBase, question: str) -> Path:
    """The path of the inquiry note of a question, existing or new; finds renamed files."""
    normalized = normalize_question(question)
    for note, record_ in list_inquiries(kb):
        if normalize_question(record_.question) == normalized and Path(note.path).is_file():
            return Path(note.path)
    digest, name = hashlib.sha256(normalized.encode()).hexdigest(), slug(question)[:_MAX_FILE_NAME].strip("-_") or "inquiry"
    for length in range(8, len(digest) + 1, 8):
        path = inquiries_folder(kb) / f"{name}-{digest[:length]}.md"
        existing = _read_note(path)
        record = read_record(existing.properties) if existing else None
        if not path.exists() or (record and normalize_question(record.question) == normalized):
            return path
    raise PasskbError(
        f"{inquiries_folder(kb)} contains another file with the name of this inquiry: rename {name}-{digest[:8]}.md"
    )


def normalize_question(question: str) -> str:
    """The question without case, extra white space and final punctuation: equal for equal questions."""
    words = " ".join(unicodedata.normalize("NFC", question).casefold().split())
    return words.rstrip("?!. ") or words


def _as_standalone(answer: Answer) -> Answer:
    """The answer with a question that can be asked on its own: a follow-up is replaced by its rewritten question."""
    return replace(answer, question=" ".join((answer.understood or answer.question).split()))


def _choose_title(kb: KnowledgeBase, question: str) -> str:
    """The question, or “Inquiry: …” if another note already has that title."""
    existing = kb.store.notes(kb.store.ids_by_name(question)).values()
    return f"Inquiry: {question}" if any(note.kind is not NoteKind.STUB for note in existing) else question


def _make_record(kb: KnowledgeBase, answer: Answer, because: tuple[StaleReason, ...]) -> InquiryRecord:
    with kb.store.reading():
        notes = kb.store.notes(source.note_id for source in answer.sources)
        claims = _snapshot_claims(kb, answer)
    sources = tuple(
        SourceSnapshot(source.note_id, source.title, text_digest(notes[source.note_id].text) if source.note_id in notes else "")
        for source in answer.sources
    )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    statements, citations = answer.statements, list_citations(answer)
    return InquiryRecord(
        answer.question, now, answer.mode, answer.model or "", statements, citations, sources, claims, because=because
    )


def _snapshot_claims(kb: KnowledgeBase, answer: Answer) -> tuple[ClaimSnapshot, ...]:
    """The claims of the answer with the evidence it shows for each."""
    evidence_by_claim: dict[str, list[str]] = {}
    for item in answer.evidence:
        evidence_by_claim.setdefault(item.claim, []).append(item.note_id)
    for entry in answer.experiments:
        evidence_by_claim.setdefault(entry.claim, [])
    out = []
    for name, evidence in evidence_by_claim.items():
        note_id, _, claim_id = name.partition("#")
        claim = next((claim for claim in kb.store.claims(note_id) if claim.id == claim_id), None)
        if claim:
            out.append(ClaimSnapshot(name, claim.text, str(claim.status), tuple(sorted(evidence))))
    return tuple(out)


def _read_note(path: Path) -> Note | None:
    """The note in a file as it is now, not as indexed."""
    try:
        return read_markdown(path.read_bytes(), path=str(path), note_id=path.stem, source="").note
    except (FileNotFoundError, PasskbError):
        return None
    except OSError as error:  # never replace a file that cannot be read
        raise PasskbError(f"{path} cannot be read {explanation(error, 'check it, and try again')}") from error


def _archive(path: Path, before: InquiryRecord | None, replace_edited: bool) -> str:
    """Copies the file to the archive; returns its path relative to the folder of inquiries."""
    text = path.read_bytes()
    if is_edited(text.decode("utf-8", "replace")) and not replace_edited:
        raise EditedByHand(f"{path} was changed by hand and is not replaced")
    stamp = (before.asked if before else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")).replace(":", "")
    folder = path.parent / EARLIER / path.stem
    target = folder / f"{slug(stamp)}.md"
    for number in range(2, 1000):
        if not target.exists() or target.read_bytes() == text:
            break
        target = folder / f"{slug(stamp)}-{number}.md"
    write_atomic(target, text)
    return target.relative_to(path.parent).as_posix()
