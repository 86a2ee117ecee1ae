"""Notes that passkb writes itself: files in the home's folder `notes`, indexed like any other notes."""

from __future__ import annotations

from pathlib import Path

from ingest.lock import lock_home
from ingest.pipeline import ingest
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError


def app_notes_folder(home: Path) -> Path:
    return home.resolve() / "notes"


def index_app_note(kb: KnowledgeBase, path: Path) -> str:
    """Indexes the home's notes and returns the id of the note at `path`; empty when the file does not exist.

    The home's notes are a separate source, even when the home is inside a registered folder. Raises PasskbError when the file
    could not be indexed.
    """
    notes = app_notes_folder(kb.home)
    with lock_home(kb.home):
        Registry(kb.home).add(notes, separate=True)
    report = ingest(kb, [notes])
    expected = str(path)
    if reasons := [reason for failed, reason in report.failed if failed == expected]:
        raise PasskbError(f"{expected} could not be indexed: {reasons[0]}")
    ids = [record.note_id for record in kb.store.files() if record.path == expected and record.note_id]
    if not ids and path.exists():
        raise PasskbError(
            f"{expected} was written but not indexed: check whether an ignore file excludes it, then run `passkb sync`"
        )
    return ids[0] if ids else ""
