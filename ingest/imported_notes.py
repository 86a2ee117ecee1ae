"""The Markdown made from pages and PDFs, in the home's folder `notes/imported`: its paths, and removal of unused files."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from ingest.changes import imported_folder
from ingest.readers.formats import TEXT
from kb.files import remove_scratch_files
from kb.knowledge_base import KnowledgeBase
from kb.store.queries import FileRecord


def markdown_path(home: Path, record: FileRecord) -> Path:
    """The path of the Markdown made from a page or a PDF."""
    *folders, name = map(_shorten_name, (record.note_id or "unread").split("/"))
    return imported_folder(home).joinpath(*folders, f"{name}.md")


def remove_orphans(kb: KnowledgeBase) -> None:
    """Removes imported notes whose page or PDF is no longer indexed."""
    expected = {str(markdown_path(kb.home, record)) for record in kb.store.files() if record.note_id and _is_imported(record)}
    for folder, _, names in os.walk(imported_folder(kb.home), topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".md") and path not in expected:
                Path(path).unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            os.rmdir(folder)


def remove_leftovers(kb: KnowledgeBase) -> None:
    """Removes orphans and the scratch files of killed processes. The caller holds the lock of the home."""
    remove_orphans(kb)
    remove_scratch_files(kb.home)
    for name in ("notes", "pages"):
        for folder, _, _ in os.walk(kb.home / name):
            remove_scratch_files(Path(folder))


def _shorten_name(name: str) -> str:
    """A part of an id, shortened to the 255 bytes of a file name."""
    data = name.encode()
    return name if len(data) < 250 else f"{data[:200].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:8]}"


def _is_imported(record: FileRecord) -> bool:
    return Path(record.path).suffix.lower() not in TEXT
