"""The SQLite file of a home: its tables, its version, its connections. Knows nothing about what the rows mean.

Every thread has a connection of its own; writing is serialised by SQLite (WAL: readers never wait for the writer).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kb.notes import PasskbError

VERSION = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
  path TEXT PRIMARY KEY, source TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
  note_id TEXT NOT NULL, failure TEXT NOT NULL, warnings TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX files_source ON files (source);
CREATE TABLE notes (
  id TEXT PRIMARY KEY, title TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, path TEXT NOT NULL,
  source TEXT NOT NULL, gist TEXT NOT NULL, aliases TEXT NOT NULL, tags TEXT NOT NULL, properties TEXT NOT NULL);
CREATE INDEX notes_title ON notes (title COLLATE NOCASE);
CREATE TABLE claims (
  note_id TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL, premise TEXT NOT NULL,
  settles TEXT NOT NULL, test TEXT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (note_id, id)) WITHOUT ROWID;
CREATE TABLE written (
  note_id TEXT NOT NULL, position INTEGER NOT NULL, target TEXT NOT NULL, type TEXT NOT NULL, why TEXT NOT NULL,
  anchor TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, form TEXT NOT NULL,
  PRIMARY KEY (note_id, position)) WITHOUT ROWID;
CREATE TABLE links (
  source TEXT NOT NULL, target TEXT NOT NULL, type TEXT NOT NULL, why TEXT NOT NULL, origin TEXT NOT NULL,
  anchor TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, writer TEXT NOT NULL);
CREATE INDEX links_source ON links (source);
CREATE INDEX links_target ON links (target);
CREATE TABLE unresolved (source TEXT NOT NULL, target TEXT NOT NULL, candidates TEXT NOT NULL);
CREATE INDEX unresolved_source ON unresolved (source);
CREATE TABLE chunks (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, note_id TEXT NOT NULL, start INTEGER NOT NULL,
  "end" INTEGER NOT NULL, heading TEXT NOT NULL, hash BLOB NOT NULL);
CREATE INDEX chunks_note ON chunks (note_id);
CREATE VIRTUAL TABLE words USING fts5 (title, heading, text, tokenize = 'porter unicode61 remove_diacritics 2');
INSERT INTO words (words, rank) VALUES ('rank', 'bm25(1.0, 0.5, 1.0)');
CREATE TABLE vectors (
  model TEXT NOT NULL, hash BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (model, hash)) WITHOUT ROWID;
CREATE TABLE outbox (chunk_id TEXT PRIMARY KEY, keep INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', '0');
"""


class Database:
    """One SQLite file; a connection for each thread that asks.

    Raises PasskbError when the file is not a database, belongs to a newer passkb, or can not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._version(self.connection) != VERSION:
                with self.writing() as connection:
                    self._prepare(connection)
        except PasskbError:
            self.close()
            raise
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise PasskbError(
                f"{path} can not be used ({error}). Check that its folder is yours to write and has room; "
                "if the file itself is damaged, move it away and run `passkb rebuild`"
            ) from error

    @property
    def connection(self) -> sqlite3.Connection:
        existing: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        connection = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -32000")
        connection.execute("PRAGMA mmap_size = 268435456")
        self._local.connection = connection
        self._opened.append(connection)
        return connection

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read within is of one moment."""
        connection = self.connection
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is kept, or, on any exception, none."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self._local = threading.local()

    @staticmethod
    def _version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version > VERSION:
            raise PasskbError(
                f"{self.path} was written by a newer passkb (format {version}, this one knows {VERSION}): "
                "upgrade passkb, or use another folder with --home"
            )
        if version == 0:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise PasskbError(f"{self.path} is not a passkb database: use another folder with --home")
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
