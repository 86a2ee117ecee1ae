"""Writes to the store: notes with their chunks, links and files, inside one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from kb.home_paths import HomePaths
from kb.notes import Chunk, Link, Note, WrittenLink
from kb.store.fulltext import index_text
from kb.store.records import FileRecord, Unresolved, passage, text_hash
from kb.store.schema import recreate_tables

_NOTE = "id, title, kind, text, path, source, gist, aliases, tags, properties"
_LINK = 'source, target, type, why, origin, anchor, start, "end", writer'


class Transaction:
    """The writing interface, valid inside one `Store.writing()` block."""

    def __init__(self, connection: sqlite3.Connection, paths: HomePaths) -> None:
        self._connection, self._paths = connection, paths
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self.visible = False  # whether readers can see a difference; records of files do not count

    def clear(self) -> None:
        """Removes everything but the vectors and marks the vector index for a rebuild."""
        self.visible = True
        recreate_tables(self._connection)
        self._execute("INSERT OR REPLACE INTO meta VALUES ('index', 'behind')")

    def put_file(self, record: FileRecord) -> None:
        path = self._paths.relative(record.path)
        self._execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (path, record.source, record.size, record.mtime_ns, record.sha256, record.note_id, record.failure,
             json.dumps(record.warnings)),
        )  # fmt: skip

    def delete_file(self, path: str) -> None:
        self._execute("DELETE FROM files WHERE path = ?", (self._paths.relative(path),))

    def put_note(self, note: Note, chunks: Sequence[Chunk] = (), written: Sequence[WrittenLink] = ()) -> None:
        """Stores the note with its claims, chunks, full text and written links, replacing any note with its id."""
        self.delete_note(note.id)
        lists = [json.dumps(value, ensure_ascii=False) for value in (note.aliases, note.tags, dict(note.properties))]
        path = self._paths.relative(note.path)
        values = (note.id, note.title, note.kind, note.text, path, note.source, note.gist, *lists)
        self._execute(f"INSERT INTO notes ({_NOTE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._execute_many(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(note.id, claim.id, i, claim.text, claim.premise, claim.settles, json.dumps(claim.test), claim.status)
             for i, claim in enumerate(note.claims)],
        )  # fmt: skip
        self._execute_many(
            "INSERT INTO written VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(note.id, i, link.target, link.type, link.why, link.anchor, link.start, link.end, link.form)
             for i, link in enumerate(written)],
        )  # fmt: skip
        for chunk in chunks:
            text = note.text[chunk.start : chunk.end]
            cursor = self._execute(
                "INSERT INTO chunks VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                (chunk.id, note.id, chunk.start, chunk.end, chunk.heading, text_hash(passage(note, chunk))),
            )
            row = (cursor.lastrowid, *map(index_text, (note.title, chunk.heading, text)))
            self._execute("INSERT INTO words (rowid, title, heading, text) VALUES (?, ?, ?, ?)", row)
            self._execute("INSERT OR REPLACE INTO outbox VALUES (?, 1)", (chunk.id,))

    def delete_note(self, note_id: str) -> None:
        """Removes the note and everything derived from it. Links into it stay until they are resolved again."""
        self.visible = True
        for number, chunk_id in self._execute("SELECT number, id FROM chunks WHERE note_id = ?", (note_id,)).fetchall():
            self._execute("DELETE FROM words WHERE rowid = ?", (number,))
            self._execute("INSERT OR REPLACE INTO outbox VALUES (?, 0)", (chunk_id,))
        for table in ("chunks", "claims", "written"):
            self._execute(f"DELETE FROM {table} WHERE note_id = ?", (note_id,))
        self._execute("DELETE FROM mentions WHERE source = ?", (note_id,))
        self._execute("DELETE FROM notes WHERE id = ?", (note_id,))

    def set_links(self, links: Sequence[Link], unresolved: Sequence[Unresolved], writers: Iterable[str] | None = None) -> None:
        """Replaces the links written by the notes `writers`, or all links.

        A note's own statement of a link takes precedence over the statement of the page that it links to.
        """
        self.visible = True
        if writers is None:
            self._execute("DELETE FROM links")
            self._execute("DELETE FROM unresolved")
        else:
            ids = [(note_id,) for note_id in writers]
            self._execute_many("DELETE FROM links WHERE CASE writer WHEN '' THEN source ELSE writer END = ?", ids)
            self._execute_many("DELETE FROM unresolved WHERE source = ?", ids)
        self._execute_many(
            f"INSERT INTO links ({_LINK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(e.source, e.target, e.type, e.why, e.origin, e.anchor, e.start, e.end, e.writer) for e in links],
        )
        self._execute(
            "DELETE FROM links WHERE writer <> '' AND EXISTS (SELECT 1 FROM links own WHERE own.writer = '' "
            "AND own.source = links.source AND own.target = links.target AND own.type = links.type) "
            "AND EXISTS (SELECT 1 FROM written WHERE note_id = links.writer AND form = 'inward')"
        )
        rows = [(entry.source, entry.target, json.dumps(entry.candidates)) for entry in unresolved]
        self._execute_many("INSERT INTO unresolved VALUES (?, ?, ?)", rows)

    def set_mentions(self, mentions: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Replaces the unlinked mentions in each note of `mentions`: note id -> (id of the named note, name)."""
        self.visible = True
        self._execute_many("DELETE FROM mentions WHERE source = ?", [(note_id,) for note_id in mentions])
        rows = [(source, target, name) for source, found in mentions.items() for target, name in found]
        self._execute_many("INSERT INTO mentions VALUES (?, ?, ?)", rows)
        self._execute("INSERT OR REPLACE INTO meta VALUES ('mentions', 'known')")

    def set_stubs(self, titles: Mapping[str, str]) -> None:
        """Creates the stubs `titles` (id -> title) and removes stubs without links."""
        self._execute_many(
            "INSERT INTO notes VALUES (?, ?, 'stub', '', '', '', '', '[]', '[]', '{}') ON CONFLICT (id) DO NOTHING",
            list(titles.items()),
        )
        linked = "SELECT target FROM links UNION SELECT source FROM links"
        self._execute(f"DELETE FROM notes WHERE kind = 'stub' AND id NOT IN ({linked})")

    def drop_unused_vectors(self) -> None:
        self._execute("DELETE FROM vectors WHERE hash NOT IN (SELECT hash FROM chunks)")

    def mark_embedded(self, chunk_ids: Iterable[str]) -> None:
        """Announces to readers and the vector index that these chunks have vectors now."""
        self.visible = True
        self._execute_many("INSERT OR REPLACE INTO outbox VALUES (?, 1)", [(chunk_id,) for chunk_id in chunk_ids])
