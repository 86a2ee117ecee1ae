"""The Markdown made of pages and PDFs, in the home's folder `notes/imported`: where each stands, and what nobody needs."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from ingest.changes import imported_folder
from ingest.readers.formats import PAGES, PDF
from kb.files import remove_scratch_files
from kb.knowledge_base import KnowledgeBase
from kb.store.queries import FileRecord


def markdown_path(home: Path, record: FileRecord) -> Path:
    """Where the Markdown of a page or a PDF stands."""
    *folders, name = map(_fitting, (record.note_id or "unread").split("/"))
    return imported_folder(home).joinpath(*folders, f"{name}.md")


def remove_orphans(kb: KnowledgeBase) -> None:
    """Removes what no page or PDF stands behind: those that were given up, by this process or by one that was killed."""
    needed = {str(markdown_path(kb.home, record)) for record in kb.store.files() if record.note_id and _is_imported(record)}
    for folder, _, names in os.walk(imported_folder(kb.home), topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".md") and path not in needed:
                Path(path).unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty
            os.rmdir(folder)


def remove_leftovers(kb: KnowledgeBase) -> None:
    """What killed processes left in the home: orphans, and files they were writing. For who holds the home."""
    remove_orphans(kb)
    remove_scratch_files(kb.home)
    for name in ("notes", "pages"):
        for folder, _, _ in os.walk(kb.home / name):
            remove_scratch_files(Path(folder))


def _fitting(name: str) -> str:
    """A part of an id as file systems take it, with their 255 bytes."""
    data = name.encode()
    return name if len(data) < 250 else f"{data[:200].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:8]}"


def _is_imported(record: FileRecord) -> bool:
    return Path(record.path).suffix.lower() in PAGES | PDF
