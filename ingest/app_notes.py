"""Notes that passkb writes itself: files in the home's folder `notes`, indexed through the same door as any other.

Knows nothing about what stands in them.
"""

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
    """Reads the home's notes again, and gives the id of the one at `path`; empty when nothing stands there.

    They are a source of their own, also where the home lies inside a registered folder. Raises PasskbError when what stands
    there could not be indexed.
    """
    notes = app_notes_folder(kb.home)
    with lock_home(kb.home):
        Registry(kb.home).add(notes, apart=True)
    report = ingest(kb, [notes])
    wanted = str(path)
    if reasons := [reason for failed, reason in report.failed if failed == wanted]:
        raise PasskbError(f"{wanted} could not be indexed: {reasons[0]}")
    ids = [record.note_id for record in kb.store.files() if record.path == wanted and record.note_id]
    if not ids and path.exists():
        raise PasskbError(f"{wanted} was written, but not indexed: is it left out by an ignore file? `passkb sync` tries again")
    return ids[0] if ids else ""
