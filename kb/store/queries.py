"""The store: reads notes, links, claims, chunks, full text and vectors from SQLite. `transaction` writes them.

The notes on disk can rebuild everything in it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kb.claim_status import Finding, combined_status
from kb.embedding import Vectors
from kb.home_paths import HomePaths
from kb.notes import Chunk, Claim, ClaimStatus, Link, LinkType, Note, NoteKind, Origin, WrittenLink
from kb.store.fulltext import document_frequency, lexical_search, phrase_search
from kb.store.migration import migrate
from kb.store.records import FileRecord, Unresolved, passage, text_hash
from kb.store.schema import Database
from kb.store.transaction import Transaction

__all__ = ["FileRecord", "Store", "Transaction", "Unresolved", "passage", "text_hash"]

_JUDGED = frozenset(ClaimStatus) - {ClaimStatus.UNTESTED}
_NOTE = "id, title, kind, text, path, source, gist, aliases, tags, properties"
_LINK = 'source, target, type, why, origin, anchor, start, "end", writer'


class Store:
    """Reads from any thread at any time; writes inside `with store.writing() as transaction`."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self._paths = HomePaths(path.parent)
        if not self.database.read_only:
            migrate(self.database, path.parent)

    def meta(self, key: str) -> str:
        """The value stored under `key`; empty when there is none."""
        rows = self._query("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else ""

    def set_meta(self, key: str, value: str) -> None:
        """Stores a value that survives a rebuild."""
        with self.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> None:
        self.database.close()

    def reading(self) -> AbstractContextManager[None]:
        """A consistent snapshot: reads within the block do not see later writes."""
        return self.database.reading()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One transaction over notes, links, chunks and full text; readers see all of it or nothing."""
        with self.database.writing() as connection:
            transaction = Transaction(connection, self._paths)
            yield transaction
            if transaction.visible:
                connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")

    @property
    def generation(self) -> int:
        """A number that each visible change increases; the key of caches."""
        return int(self._query("SELECT value FROM meta WHERE key = 'generation'")[0][0])

    def files(self, source: str | None = None) -> list[FileRecord]:
        where, parameters = ("WHERE source = ?", [source]) if source is not None else ("", [])
        rows = self._query(
            f"SELECT path, source, size, mtime_ns, sha256, note_id, failure, warnings FROM files {where}", *parameters
        )
        return [_file(row, self._paths) for row in rows]

    def indexing_details(self, note_id: str) -> tuple[tuple[str, ...], int]:
        """The warnings about a note's file, and the note's number of chunks."""
        rows = self._query("SELECT warnings FROM files WHERE note_id = ?", note_id)
        chunks = self._query("SELECT count(*) FROM chunks WHERE note_id = ?", note_id)[0][0]
        return tuple(warning for row in rows for warning in json.loads(row[0])), chunks

    def note(self, note_id: str) -> Note | None:
        rows = self._query(f"SELECT {_NOTE} FROM notes WHERE id = ?", note_id)
        return replace(_note(rows[0], self._paths), claims=tuple(self.claims(note_id))) if rows else None

    def notes(self, ids: Iterable[str]) -> dict[str, Note]:
        """The notes of `ids` that exist, without their claims."""
        requested = json.dumps(list(dict.fromkeys(ids)))
        rows = self._query(f"SELECT {_NOTE} FROM notes WHERE id IN (SELECT value FROM json_each(?))", requested)
        return {row[0]: _note(row, self._paths) for row in rows}

    def titles(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """(id, title, kind, aliases) of every note, by title."""
        rows = self._query("SELECT id, title, kind, aliases FROM notes ORDER BY title COLLATE NOCASE, id")
        return [(id_, title, kind, tuple(json.loads(aliases))) for id_, title, kind, aliases in rows]

    def ids_by_name(self, name: str) -> list[str]:
        """Ids of the notes with the title or alias `name`, ignoring case."""
        rows = self._query(
            "SELECT id FROM notes WHERE title = ?1 COLLATE NOCASE OR EXISTS "
            "(SELECT 1 FROM json_each(aliases) WHERE value = ?1 COLLATE NOCASE) ORDER BY id",
            name,
        )
        return [row[0] for row in rows]

    def claims(self, note_id: str | None = None) -> list[Claim]:
        return [claim for _, claim in self.ledger(note_id)]

    def ledger(self, note_id: str | None = None) -> list[tuple[str, Claim]]:
        """(note id, claim) with its evidence; all its runs together give a claim its status (`kb.claim_status`)."""
        where, parameters = ("WHERE note_id = ?", [note_id]) if note_id is not None else ("", [])
        rows = self._query(
            f"SELECT note_id, id, text, premise, settles, test, status FROM claims {where} ORDER BY note_id, position",
            *parameters,
        )
        return [self._with_evidence(row[0], _claim(row[1:])) for row in rows]

    def links(self, note_id: str | None = None, *, into: bool = False) -> list[Link]:
        """Links from a note, links into it, or all links."""
        where, parameters = (f"WHERE {'target' if into else 'source'} = ?", [note_id]) if note_id is not None else ("", [])
        rows = self._query(f"SELECT {_LINK} FROM links {where} ORDER BY rowid", *parameters)
        return [_link(row) for row in rows]

    def names(self) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
        """(id, source, path, title, aliases) of every note but stubs: the possible targets of links."""
        rows = self._query("SELECT id, source, path, title, aliases FROM notes WHERE kind <> 'stub' ORDER BY id")
        return [(*row[:2], self._paths.absolute(row[2]), row[3], tuple(json.loads(row[4]))) for row in rows]

    def mentions(self) -> list[tuple[str, str]]:
        """(note, note that it names without a link), each pair once."""
        if self.meta("mentions") != "known":
            return []
        return [(row[0], row[1]) for row in self._query("SELECT DISTINCT source, target FROM mentions ORDER BY 1, 2")]

    def mentioned_in(self, note_id: str) -> list[tuple[str, str]]:
        """(id, name) of the notes that a note names without a link."""
        if self.meta("mentions") != "known":
            return []
        return self._query("SELECT target, name FROM mentions WHERE source = ? ORDER BY rowid", note_id)

    def notes_that_mention(self, note_ids: Collection[str]) -> set[str]:
        statement = "SELECT DISTINCT source FROM mentions WHERE target IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self._query(statement, json.dumps(list(note_ids)))}

    def written_links(self) -> dict[str, list[WrittenLink]]:
        """Every note's links as written, before resolution."""
        rows = self._query(
            'SELECT note_id, target, type, why, anchor, start, "end", form FROM written ORDER BY note_id, position'
        )
        out: dict[str, list[WrittenLink]] = {}
        for row in rows:
            out.setdefault(row[0], []).append(WrittenLink(row[1], LinkType(row[2]), *row[3:]))
        return out

    def has_inward_links(self) -> bool:
        """Whether any note states that other notes link to it."""
        return bool(self._query("SELECT EXISTS (SELECT 1 FROM written WHERE form = 'inward')")[0][0])

    def unresolved(self) -> list[Unresolved]:
        rows = self._query("SELECT source, target, candidates FROM unresolved ORDER BY rowid")
        return [Unresolved(source, target, tuple(json.loads(candidates))) for source, target, candidates in rows]

    def chunks(self, numbers: Sequence[int]) -> dict[int, tuple[Chunk, str, str]]:
        """Chunk number -> (chunk, title of its note, text)."""
        rows = self._query(
            'SELECT c.number, c.id, c.note_id, c.start, c."end", c.heading, n.title, substr(n.text, c.start + 1, '
            'c."end" - c.start) FROM chunks c JOIN notes n ON n.id = c.note_id '
            f"WHERE c.number IN ({', '.join('?' * len(numbers))})",
            *numbers,
        )
        return {row[0]: (Chunk(*row[1:6]), row[6], row[7]) for row in rows}

    def lexical(self, query: str, limit: int) -> list[tuple[int, float]]:
        """Chunk numbers with their BM25 score, best first."""
        with self.database.connection() as connection:
            return lexical_search(connection, query, limit)

    def document_frequency(self, word: str) -> int:
        """The number of chunks that contain a word of the same stem."""
        with self.database.connection() as connection:
            return document_frequency(connection, word)

    def notes_with_phrase(self, phrase: str, limit: int) -> set[str]:
        """The notes of up to `limit` chunks that contain the words of `phrase` in sequence."""
        with self.database.connection() as connection:
            numbers = phrase_search(connection, phrase, limit)
        rows = self._query("SELECT note_id FROM chunks WHERE number IN (SELECT value FROM json_each(?))", json.dumps(numbers))
        return {row[0] for row in rows}

    def chunk_rows(self) -> list[tuple[int, str, str, str]]:
        """(number, chunk id, note id, kind of the note) of every chunk, by number."""
        return self._query("SELECT c.number, c.id, c.note_id, n.kind FROM chunks c JOIN notes n ON n.id = c.note_id ORDER BY 1")

    def chunk_vectors(self, model: str, size: int) -> tuple[list[int], Vectors]:
        """Numbers of the chunks that have a vector of `model`, and their vectors, by number."""
        rows = self._query(
            "SELECT c.number, v.vector FROM chunks c JOIN vectors v ON v.model = ? AND v.hash = c.hash ORDER BY c.number",
            model,
        )
        vectors = np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(len(rows), size)
        return [row[0] for row in rows], vectors

    def missing_vectors(self, model: str, hashes: Iterable[bytes]) -> set[bytes]:
        """The members of `hashes` without a vector of `model`."""
        requested = set(hashes)
        existing = {row[0] for row in self._query("SELECT hash FROM vectors WHERE model = ?", model)} if requested else set()
        return requested - existing

    def add_vectors(self, model: str, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """Stores vectors in a separate transaction, so that an interrupted ingest does not compute them again."""
        rows = [(model, key, vector.tobytes()) for key, vector in zip(hashes, vectors, strict=True)]
        with self.database.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def chunks_without_vector(self, model: str) -> list[Chunk]:
        """Chunks without a vector of `model`, which vector search cannot find."""
        rows = self._query(
            'SELECT id, note_id, start, "end", heading FROM chunks c WHERE NOT EXISTS '
            "(SELECT 1 FROM vectors v WHERE v.model = ? AND v.hash = c.hash) ORDER BY number",
            model,
        )
        return [Chunk(*row) for row in rows]

    def outbox(self) -> list[tuple[str, bytes]]:
        """Changes that the vector index lacks: chunk ids with the hash of their text, empty for removed chunks."""
        return self._query("SELECT o.chunk_id, coalesce(c.hash, x'') FROM outbox o LEFT JOIN chunks c ON c.id = o.chunk_id")

    def outbox_size(self) -> int:
        return int(self._query("SELECT count(*) FROM outbox")[0][0])

    def count_chunks(self) -> int:
        return int(self._query("SELECT count(*) FROM chunks")[0][0])

    def clear_outbox(self, applied: Sequence[tuple[str, bytes]]) -> None:
        """Removes the entries `applied`, except those whose chunk has changed since they were read."""
        with self.database.writing() as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE chunk_id = ?1 AND coalesce((SELECT hash FROM chunks WHERE id = ?1), x'') = ?2",
                applied,
            )

    def index_state(self) -> str:
        """`behind` when the vector index must be rebuilt, `written` during a write, otherwise empty."""
        return self.meta("index")

    def mark_index(self, state: str, manifest: str = "") -> None:
        """Sets `index_state`: `written` before a write, empty after it, together with the `manifest`; `behind` also puts all
        chunks into the outbox."""
        with self.database.writing() as connection:
            rows = [("index", state), ("index_manifest", manifest)]
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            if state == "behind":
                connection.execute("INSERT OR REPLACE INTO outbox SELECT id, 1 FROM chunks")

    def vectors_of(self, model: str, size: int, chunk_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        rows = self._query(
            "SELECT c.id, v.vector FROM chunks c JOIN vectors v ON v.model = ? AND v.hash = c.hash "
            "WHERE c.id IN (SELECT value FROM json_each(?))",
            model,
            json.dumps(list(chunk_ids)),
        )
        vectors = np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(len(rows), size)
        return [row[0] for row in rows], vectors

    def counts(self) -> tuple[dict[str, int], dict[str, int], int]:
        """Notes by kind, links by type, and the number of chunks."""
        kinds = dict(self._query("SELECT kind, count(*) FROM notes GROUP BY kind ORDER BY kind"))
        types = dict(self._query("SELECT type, count(*) FROM links GROUP BY type ORDER BY type"))
        return kinds, types, self.count_chunks()

    def _with_evidence(self, note_id: str, claim: Claim) -> tuple[str, Claim]:
        rows = self._query(
            "SELECT l.source, json_extract(n.properties, '$.status'), json_extract(n.properties, '$.p_support'), "
            "json_extract(n.properties, '$.p_refute'), json_extract(n.properties, '$.date') AS date FROM links l "
            "JOIN notes n ON n.id = l.source WHERE l.target = ? AND l.type = 'evidence_for' AND l.anchor = ? "
            "AND n.kind = 'evidence' ORDER BY date, l.source",
            note_id,
            claim.id,
        )
        if not rows:
            return note_id, claim
        by_note = {source: (status, _p(support), _p(refute)) for source, status, support, refute, _ in rows}
        findings = [Finding(ClaimStatus(status), *p) for status, *p in by_note.values() if status in _JUDGED]
        status, reason = combined_status(findings) if findings else (claim.status, "")
        return note_id, replace(claim, status=status, status_reason=reason, evidence=tuple(by_note))

    def _query(self, statement: str, *parameters: Any) -> list[Any]:
        with self.database.connection() as connection:
            return connection.execute(statement, parameters).fetchall()


def _file(row: Sequence[Any], paths: HomePaths) -> FileRecord:
    path, source, size, mtime_ns, sha256, note_id, failure, warnings = row
    return FileRecord(paths.absolute(path), source, size, mtime_ns, sha256, note_id, failure, tuple(json.loads(warnings)))


def _note(row: Sequence[Any], paths: HomePaths) -> Note:
    id_, title, kind, text, path, source, gist, aliases, tags, properties = row
    lists = tuple(json.loads(aliases)), tuple(json.loads(tags))
    return Note(id_, title, NoteKind(kind), text, paths.absolute(path), source, gist, *lists, properties=json.loads(properties))


def _p(value: Any) -> float | None:
    """A P-value of an evidence note's front matter; None for anything else."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _claim(row: Sequence[Any]) -> Claim:
    return Claim(row[0], row[1], row[2], row[3], json.loads(row[4]), ClaimStatus(row[5]))


def _link(row: Sequence[Any]) -> Link:
    return Link(row[0], row[1], LinkType(row[2]), row[3], Origin(row[4]), *row[5:])
