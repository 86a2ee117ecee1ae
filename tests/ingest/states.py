"""Everything a home knows, as plain data that can be compared: of two homes, or of one at two times."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ingest.pipeline import ingest
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase

_CHUNKS = (
    'SELECT c.id, c.note_id, c.start, c."end", c.heading, hex(c.hash), w.title, w.heading, w.text '
    "FROM chunks c LEFT JOIN words w ON w.rowid = c.number ORDER BY c.id"
)


class WithHashedWords(KnowledgeBase):
    """For `rebuild`, which opens the home itself; counts nothing of meaning."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, HashedWords())


def whole_state(kb: KnowledgeBase) -> dict[str, Any]:
    """Notes, links, stubs, what is unresolved, chunks with their full text, vectors' hashes, Chroma's ids, files, and the
    Markdown made of pages and PDFs; the home's own place left out, so that two homes can be compared."""

    def rows(statement: str) -> list[Any]:
        with kb.store.database.connection() as connection:
            return connection.execute(statement).fetchall()

    imported = kb.home / "notes" / "imported"
    state = {
        "notes": rows("SELECT * FROM notes ORDER BY id"),
        "claims": rows("SELECT * FROM claims ORDER BY note_id, id"),
        "written": rows("SELECT * FROM written ORDER BY note_id, position"),
        "links": sorted(rows("SELECT * FROM links")),
        "unresolved": sorted(rows("SELECT * FROM unresolved")),
        "chunks": rows(_CHUNKS),
        "words": rows("SELECT count(*) FROM words"),
        "vectors": rows("SELECT model, hex(hash), hex(vector) FROM vectors ORDER BY 1, 2"),
        "indexed": kb.index.ids(),
        "outbox": rows("SELECT * FROM outbox"),
        "files": rows("SELECT path, source, size, sha256, note_id, failure, warnings FROM files ORDER BY path"),
        "imported": sorted((str(path.relative_to(imported)), path.read_text()) for path in imported.rglob("*.md")),
    }
    return {name: _elsewhere(value, str(kb.home)) for name, value in state.items()}


def _elsewhere(value: Any, home: str) -> Any:
    if isinstance(value, str):
        return value.replace(home, "HOME")
    return type(value)(_elsewhere(entry, home) for entry in value) if isinstance(value, list | tuple) else value


def fresh_state(scratch: Path, *folders: Path) -> dict[str, Any]:
    """What a home knows that has read these folders as they are now, and nothing before."""
    shutil.rmtree(scratch, ignore_errors=True)
    with WithHashedWords(scratch) as kb:
        ingest(kb, folders)
        return whole_state(kb)
