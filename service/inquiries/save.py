"""From an answer to an inquiry: a note in the home that draws on its sources. One note a question, whatever it is called.

A version that gives way to another is kept byte for byte in the hidden folder `.earlier` beside it: whoever wants it finds it,
and no search does. What a person wrote into the note is never replaced unasked.
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
    """A person has changed the note since it was written."""


@dataclass(frozen=True, slots=True)
class SavedInquiry:
    """`fresh`: a new note; `unchanged`: the same answer was kept before, and nothing was written; else an earlier version
    gave way, and stands at `earlier`."""

    id: str
    title: str
    path: str
    fresh: bool
    unchanged: bool
    earlier: str = ""


def save_inquiry(
    kb: KnowledgeBase, answer: Answer, *, because: Sequence[StaleReason] = (), replace_edited: bool = False
) -> SavedInquiry:
    """Writes an answer as the inquiry of its question, in place of what was kept of that question before.

    `because`: why the former version was stale; `replace_edited`: also where a person has changed the note, whose words then
    stand in the earlier version. Raises PasskbError for an answer that is none and when the home can not be written, and
    EditedByHand.
    """
    if not answer.answered or not answer.statements:
        raise PasskbError("the notes do not answer this question: there is nothing to keep")
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
    """The inquiries that passkb keeps, by title; those in people's own vaults are theirs."""
    ids = [note_id for note_id, _, kind, _ in kb.store.titles() if kind == NoteKind.INQUIRY]
    inquiries = [(note, record) for note in kb.store.notes(ids).values() if (record := saved_record(kb, note))]
    return sorted(inquiries, key=lambda pair: (pair[0].title.casefold(), pair[0].id))


def saved_record(kb: KnowledgeBase, note: Note) -> InquiryRecord | None:
    """What a note in the home remembers; None for any other note, whatever its front matter says."""
    mine = note.kind is NoteKind.INQUIRY and Path(note.path).is_relative_to(app_notes_folder(kb.home))
    return record_of_note(note) if mine else None


def inquiry_path(kb: KnowledgeBase, question: str) -> Path:
    """Where the inquiry of a question stands or would stand, also where a person has renamed its file."""
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
        f"{inquiries_folder(kb)} holds other files under the name of this question: rename {name}-{digest[:8]}.md"
    )


def normalize_question(question: str) -> str:
    """Two questions with the same of these are one: letters' case, white space and a question mark tell none apart."""
    words = " ".join(unicodedata.normalize("NFC", question).casefold().split())
    return words.rstrip("?!. ") or words


def _as_standalone(answer: Answer) -> Answer:
    """The answer to a question that can be asked again by itself: a follow-up is the question that it was understood as."""
    question = (answer.understood or answer.question).encode("utf-8", "replace").decode()
    return replace(answer, question=" ".join(question.split()))


def _choose_title(kb: KnowledgeBase, question: str) -> str:
    """The question, unless a note that somebody wrote bears it already: links by that title are to lead there still."""
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
    """The claims that the answer names, with the evidence it shows for each: what came since is not what it stands on."""
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
    """The note that stands in a file now, whatever is indexed of it."""
    try:
        return read_markdown(path.read_bytes(), path=str(path), note_id=path.stem, source="").note
    except (FileNotFoundError, PasskbError):
        return None
    except OSError as error:  # what stands there may not be replaced unread
        raise PasskbError(f"{path} can not be read {explanation(error, 'check it, and try again')}") from error


def _archive(path: Path, before: InquiryRecord | None, replace_edited: bool) -> str:
    """Keeps what stands at `path`; where, below the folder of inquiries."""
    text = path.read_bytes()
    if is_edited(text.decode("utf-8", "replace")) and not replace_edited:
        raise EditedByHand(f"{path} was changed by hand since it was written, and stays as it is")
    stamp = (before.asked if before else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")).replace(":", "")
    folder = path.parent / EARLIER / path.stem
    target = folder / f"{slug(stamp)}.md"
    for number in range(2, 1000):
        if not target.exists() or target.read_bytes() == text:
            break
        target = folder / f"{slug(stamp)}-{number}.md"
    write_atomic(target, text)
    return target.relative_to(path.parent).as_posix()
