"""The store: notes, links, claims, chunks, full text and vectors in SQLite. The one place that knows the tables' meaning.

Everything here can be rebuilt from the notes on disk. Knows nothing about Markdown, embedding models or graphs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kb.embedding import Vectors
from kb.lexical import document_frequency, lexical_search, phrase_search
from kb.notes import Chunk, Claim, ClaimStatus, Link, LinkType, Note, NoteKind, Origin, WrittenLink
from kb.schema import Database, empty

_NOTE = "id, title, kind, text, path, source, gist, aliases, tags, properties"
_LINK = 'source, target, type, why, origin, anchor, start, "end", writer'


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one file of a source. `failure` is empty when it was read; `note_id` is empty when it was not."""

    path: str
    source: str
    size: int
    mtime_ns: int
    sha256: str
    note_id: str
    failure: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A written link that names no note (`candidates` empty) or several."""

    source: str
    target: str
    candidates: tuple[str, ...] = ()


def passage(note: Note, chunk: Chunk) -> str:
    """What is embedded for a chunk: its text under the note's title and nearest heading, so that its subject is known."""
    nearest = chunk.heading.rsplit(" > ", 1)[-1]
    above = f"{note.title} > {nearest}" if nearest not in ("", note.title) else note.title
    return f"{above}\n{note.text[chunk.start : chunk.end]}"


def text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Store:
    """Reading at any time, from any thread; writing inside `with store.writing() as change`."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)

    def close(self) -> None:
        self.database.close()

    def reading(self) -> AbstractContextManager[None]:
        """All that is read within is of one moment, whatever is written meanwhile."""
        return self.database.reading()

    @contextmanager
    def writing(self) -> Iterator[Change]:
        """One transaction over notes, links, chunks and full text; readers see all of it or nothing."""
        with self.database.writing() as connection:
            change = Change(connection)
            yield change
            if change.seen:
                connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")

    @property
    def generation(self) -> int:
        """Counts the transactions; whoever caches rows compares it."""
        return int(self._all("SELECT value FROM meta WHERE key = 'generation'")[0][0])

    def files(self, source: str | None = None) -> list[FileRecord]:
        where, parameters = ("WHERE source = ?", [source]) if source is not None else ("", [])
        rows = self._all(
            f"SELECT path, source, size, mtime_ns, sha256, note_id, failure, warnings FROM files {where}", *parameters
        )
        return [_file(row) for row in rows]

    def standing(self, note_id: str) -> tuple[tuple[str, ...], int]:
        """What was odd when a note's file was read, and in how many chunks the note is searched."""
        rows = self._all("SELECT warnings FROM files WHERE note_id = ?", note_id)
        chunks = self._all("SELECT count(*) FROM chunks WHERE note_id = ?", note_id)[0][0]
        return tuple(warning for row in rows for warning in json.loads(row[0])), chunks

    def note(self, note_id: str) -> Note | None:
        rows = self._all(f"SELECT {_NOTE} FROM notes WHERE id = ?", note_id)
        return replace(_note(rows[0]), claims=tuple(self.claims(note_id))) if rows else None

    def notes(self, ids: Iterable[str]) -> dict[str, Note]:
        """The notes of `ids` that exist, without their claims."""
        wanted = json.dumps(list(dict.fromkeys(ids)))
        rows = self._all(f"SELECT {_NOTE} FROM notes WHERE id IN (SELECT value FROM json_each(?))", wanted)
        return {row[0]: _note(row) for row in rows}

    def titles(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """(id, title, kind, aliases) of every note, by title."""
        rows = self._all("SELECT id, title, kind, aliases FROM notes ORDER BY title COLLATE NOCASE, id")
        return [(id_, title, kind, tuple(json.loads(aliases))) for id_, title, kind, aliases in rows]

    def named(self, name: str) -> list[str]:
        """Ids of the notes that bear `name` as title or alias, in any case of letters."""
        rows = self._all(
            "SELECT id FROM notes WHERE title = ?1 COLLATE NOCASE OR EXISTS "
            "(SELECT 1 FROM json_each(aliases) WHERE value = ?1 COLLATE NOCASE) ORDER BY id",
            name,
        )
        return [row[0] for row in rows]

    def claims(self, note_id: str | None = None) -> list[Claim]:
        return [claim for _, claim in self.ledger(note_id)]

    def ledger(self, note_id: str | None = None) -> list[tuple[str, Claim]]:
        """(note id, claim) with the evidence that stands on each; the newest evidence note gives a claim its status."""
        where, parameters = ("WHERE note_id = ?", [note_id]) if note_id is not None else ("", [])
        rows = self._all(
            f"SELECT note_id, id, text, premise, settles, test, status FROM claims {where} ORDER BY note_id, position",
            *parameters,
        )
        return [self._with_evidence(row[0], _claim(row[1:])) for row in rows]

    def links(self, note_id: str | None = None, *, into: bool = False) -> list[Link]:
        """Links out of a note, into it, or all of them."""
        where, parameters = (f"WHERE {'target' if into else 'source'} = ?", [note_id]) if note_id is not None else ("", [])
        rows = self._all(f"SELECT {_LINK} FROM links {where} ORDER BY rowid", *parameters)
        return [_link(row) for row in rows]

    def names(self) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
        """(id, source, path, title, aliases) of every note that somebody wrote: what links can mean."""
        rows = self._all("SELECT id, source, path, title, aliases FROM notes WHERE kind <> 'stub' ORDER BY id")
        return [(*row[:4], tuple(json.loads(row[4]))) for row in rows]

    def written_by_note(self) -> dict[str, list[WrittenLink]]:
        """Every note's links as they were written, before they are resolved."""
        rows = self._all(
            'SELECT note_id, target, type, why, anchor, start, "end", form FROM written ORDER BY note_id, position'
        )
        out: dict[str, list[WrittenLink]] = {}
        for row in rows:
            out.setdefault(row[0], []).append(WrittenLink(row[1], LinkType(row[2]), *row[3:]))
        return out

    def has_inward_links(self) -> bool:
        """Whether some note says of others that they link to it."""
        return bool(self._all("SELECT EXISTS (SELECT 1 FROM written WHERE form = 'inward')")[0][0])

    def unresolved(self) -> list[Unresolved]:
        rows = self._all("SELECT source, target, candidates FROM unresolved ORDER BY rowid")
        return [Unresolved(source, target, tuple(json.loads(candidates))) for source, target, candidates in rows]

    def chunks(self, numbers: Sequence[int]) -> dict[int, tuple[Chunk, str, str]]:
        """Chunk number -> (chunk, title of its note, text)."""
        rows = self._all(
            'SELECT c.number, c.id, c.note_id, c.start, c."end", c.heading, n.title, substr(n.text, c.start + 1, '
            'c."end" - c.start) FROM chunks c JOIN notes n ON n.id = c.note_id '
            f"WHERE c.number IN ({', '.join('?' * len(numbers))})",
            *numbers,
        )
        return {row[0]: (Chunk(*row[1:6]), row[6], row[7]) for row in rows}

    def lexical(self, query: str, limit: int) -> list[tuple[int, float]]:
        """Chunk numbers with their BM25 score, best first."""
        try:
            return lexical_search(self.database.connection, query, limit)
        except sqlite3.DatabaseError as error:
            raise self.database.explained(error) from error

    def document_frequency(self, word: str) -> int:
        """In how many chunks a word, or another of the same stem, occurs."""
        return document_frequency(self.database.connection, word)

    def notes_with_phrase(self, phrase: str, limit: int) -> set[str]:
        """The notes of at most `limit` chunks in whose text the words of `phrase` stand in a row."""
        numbers = phrase_search(self.database.connection, phrase, limit)
        rows = self._all("SELECT note_id FROM chunks WHERE number IN (SELECT value FROM json_each(?))", json.dumps(numbers))
        return {row[0] for row in rows}

    def chunk_rows(self) -> list[tuple[int, str, str, str]]:
        """(number, chunk id, note id, kind of the note) of every chunk, by number."""
        return self._all("SELECT c.number, c.id, c.note_id, n.kind FROM chunks c JOIN notes n ON n.id = c.note_id ORDER BY 1")

    def chunk_vectors(self, model: str, size: int) -> tuple[list[int], Vectors]:
        """Numbers of the chunks that have a vector of `model`, and their vectors, by number."""
        rows = self._all(
            "SELECT c.number, v.vector FROM chunks c JOIN vectors v ON v.model = ? AND v.hash = c.hash ORDER BY c.number",
            model,
        )
        joined = np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(len(rows), size)
        return [row[0] for row in rows], joined

    def missing_vectors(self, model: str, hashes: Iterable[bytes]) -> set[bytes]:
        """Those of `hashes` that have no vector of `model` yet."""
        wanted = set(hashes)
        have = {row[0] for row in self._all("SELECT hash FROM vectors WHERE model = ?", model)} if wanted else set()
        return wanted - have

    def add_vectors(self, model: str, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """Kept at once, in a transaction of its own: an ingest that is killed later finds them again."""
        rows = [(model, key, vector.tobytes()) for key, vector in zip(hashes, vectors, strict=True)]
        with self.database.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def outbox(self) -> list[tuple[str, bytes]]:
        """What the vector index has not heard of yet: chunk ids with the hash of their text, empty for those that are gone."""
        return self._all("SELECT o.chunk_id, coalesce(c.hash, x'') FROM outbox o LEFT JOIN chunks c ON c.id = o.chunk_id")

    def clear_outbox(self, heard: Sequence[tuple[str, bytes]]) -> None:
        """Forgets the entries `heard`, save those whose chunk has changed since they were read."""
        with self.database.writing() as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE chunk_id = ?1 AND coalesce((SELECT hash FROM chunks WHERE id = ?1), x'') = ?2",
                heard,
            )

    def index_state(self) -> str:
        """`behind` when the vector index must be made from nothing, `written` while it is written to, else empty."""
        rows = self._all("SELECT value FROM meta WHERE key = 'index'")
        return str(rows[0][0]) if rows else ""

    def mark_index(self, state: str) -> None:
        """`written` before the index is written to, empty afterwards. `behind`: it is to hear of all chunks again."""
        with self.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('index', ?)", (state,))
            if state == "behind":
                connection.execute("INSERT OR REPLACE INTO outbox SELECT id, 1 FROM chunks")

    def vectors_of(self, model: str, size: int, chunk_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        rows = self._all(
            "SELECT c.id, v.vector FROM chunks c JOIN vectors v ON v.model = ? AND v.hash = c.hash "
            "WHERE c.id IN (SELECT value FROM json_each(?))",
            model,
            json.dumps(list(chunk_ids)),
        )
        joined = np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(len(rows), size)
        return [row[0] for row in rows], joined

    def counts(self) -> tuple[dict[str, int], dict[str, int], int]:
        """Notes by kind, links by type, and the number of chunks."""
        kinds = dict(self._all("SELECT kind, count(*) FROM notes GROUP BY kind ORDER BY kind"))
        types = dict(self._all("SELECT type, count(*) FROM links GROUP BY type ORDER BY type"))
        return kinds, types, self._all("SELECT count(*) FROM chunks")[0][0]

    def _with_evidence(self, note_id: str, claim: Claim) -> tuple[str, Claim]:
        rows = self._all(
            "SELECT l.source, json_extract(n.properties, '$.status'), json_extract(n.properties, '$.date') FROM links l "
            "JOIN notes n ON n.id = l.source WHERE l.target = ? AND l.type = 'evidence_for' AND l.anchor = ? "
            "AND n.kind = 'evidence' ORDER BY 3, 1",
            note_id,
            claim.id,
        )
        if not rows:
            return note_id, claim
        decided = [status for _, status, _ in rows if status in set(ClaimStatus)]
        status = ClaimStatus(decided[-1]) if decided else claim.status
        return note_id, replace(claim, status=status, evidence=tuple(dict.fromkeys(row[0] for row in rows)))

    def _all(self, statement: str, *parameters: Any) -> list[Any]:
        try:
            return self.database.connection.execute(statement, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise self.database.explained(error) from error


class Change:
    """The writing half, valid inside one `Store.writing()`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._many = connection.executemany
        self.seen = False  # whether readers can see a difference: records of files alone make none

    def empty(self) -> None:
        """Forgets everything but the vectors; the vector index is to be made from nothing."""
        self.seen = True
        empty(self._connection)
        self._run("INSERT OR REPLACE INTO meta VALUES ('index', 'behind')")

    def put_file(self, record: FileRecord) -> None:
        self._run(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (record.path, record.source, record.size, record.mtime_ns, record.sha256, record.note_id, record.failure,
             json.dumps(record.warnings)),
        )  # fmt: skip

    def delete_file(self, path: str) -> None:
        self._run("DELETE FROM files WHERE path = ?", (path,))

    def put_note(self, note: Note, chunks: Sequence[Chunk] = (), written: Sequence[WrittenLink] = ()) -> None:
        """The note, its claims, chunks, full text and written links, in place of whatever bore its id."""
        self.delete_note(note.id)
        lists = [json.dumps(value, ensure_ascii=False) for value in (note.aliases, note.tags, dict(note.properties))]
        values = (note.id, note.title, note.kind, note.text, note.path, note.source, note.gist, *lists)
        self._run(f"INSERT INTO notes ({_NOTE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._many(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(note.id, claim.id, i, claim.text, claim.premise, claim.settles, json.dumps(claim.test), claim.status)
             for i, claim in enumerate(note.claims)],
        )  # fmt: skip
        self._many(
            "INSERT INTO written VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(note.id, i, link.target, link.type, link.why, link.anchor, link.start, link.end, link.form)
             for i, link in enumerate(written)],
        )  # fmt: skip
        for chunk in chunks:
            text = note.text[chunk.start : chunk.end]
            cursor = self._run(
                "INSERT INTO chunks VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                (chunk.id, note.id, chunk.start, chunk.end, chunk.heading, text_hash(passage(note, chunk))),
            )
            row = (cursor.lastrowid, note.title, chunk.heading, text)
            self._run("INSERT INTO words (rowid, title, heading, text) VALUES (?, ?, ?, ?)", row)
            self._run("INSERT OR REPLACE INTO outbox VALUES (?, 1)", (chunk.id,))

    def delete_note(self, note_id: str) -> None:
        """Forgets the note and all that was derived from it. Links into it stay until they are resolved again."""
        self.seen = True
        for number, chunk_id in self._run("SELECT number, id FROM chunks WHERE note_id = ?", (note_id,)).fetchall():
            self._run("DELETE FROM words WHERE rowid = ?", (number,))
            self._run("INSERT OR REPLACE INTO outbox VALUES (?, 0)", (chunk_id,))
        for table in ("chunks", "claims", "written"):
            self._run(f"DELETE FROM {table} WHERE note_id = ?", (note_id,))
        self._run("DELETE FROM notes WHERE id = ?", (note_id,))

    def set_links(self, links: Sequence[Link], unresolved: Sequence[Unresolved], of: Iterable[str] | None = None) -> None:
        """Replaces the links that the notes `of` wrote, or all links.

        What a page says of the notes that link to it gives way to what those say themselves.
        """
        self.seen = True
        if of is None:
            self._run("DELETE FROM links")
            self._run("DELETE FROM unresolved")
        else:
            ids = [(note_id,) for note_id in of]
            self._many("DELETE FROM links WHERE CASE writer WHEN '' THEN source ELSE writer END = ?", ids)
            self._many("DELETE FROM unresolved WHERE source = ?", ids)
        self._many(
            f"INSERT INTO links ({_LINK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(e.source, e.target, e.type, e.why, e.origin, e.anchor, e.start, e.end, e.writer) for e in links],
        )
        self._run(
            "DELETE FROM links WHERE writer <> '' AND EXISTS (SELECT 1 FROM links own WHERE own.writer = '' "
            "AND own.source = links.source AND own.target = links.target AND own.type = links.type) "
            "AND EXISTS (SELECT 1 FROM written WHERE note_id = links.writer AND form = 'inward')"
        )
        rows = [(entry.source, entry.target, json.dumps(entry.candidates)) for entry in unresolved]
        self._many("INSERT INTO unresolved VALUES (?, ?, ?)", rows)

    def set_stubs(self, titles: Mapping[str, str]) -> None:
        """Makes the stubs `titles` (id -> title), and forgets those that no link touches any more."""
        self._many(
            "INSERT INTO notes VALUES (?, ?, 'stub', '', '', '', '', '[]', '[]', '{}') ON CONFLICT (id) DO NOTHING",
            list(titles.items()),
        )
        linked = "SELECT target FROM links UNION SELECT source FROM links"
        self._run(f"DELETE FROM notes WHERE kind = 'stub' AND id NOT IN ({linked})")

    def drop_unused_vectors(self) -> None:
        self._run("DELETE FROM vectors WHERE hash NOT IN (SELECT hash FROM chunks)")


def _file(row: Sequence[Any]) -> FileRecord:
    path, source, size, mtime_ns, sha256, note_id, failure, warnings = row
    return FileRecord(path, source, size, mtime_ns, sha256, note_id, failure, tuple(json.loads(warnings)))


def _note(row: Sequence[Any]) -> Note:
    id_, title, kind, text, path, source, gist, aliases, tags, properties = row
    lists = tuple(json.loads(aliases)), tuple(json.loads(tags))
    return Note(id_, title, NoteKind(kind), text, path, source, gist, *lists, properties=json.loads(properties))


def _claim(row: Sequence[Any]) -> Claim:
    return Claim(row[0], row[1], row[2], row[3], json.loads(row[4]), ClaimStatus(row[5]))


def _link(row: Sequence[Any]) -> Link:
    return Link(row[0], row[1], LinkType(row[2]), row[3], Origin(row[4]), *row[5:])
