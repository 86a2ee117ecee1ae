"""The SQLite file of a home: tables, version, connections. SQLite serializes writes (WAL: readers never wait for the
writer)."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from kb.notes import PasskbError
from kb.os_errors import explanation, is_writable, open_failure
from kb.os_errors import remedy as os_remedy
from kb.store.connections import ConnectionPool, PoolExhausted

VERSION = 1
READ_ONLY_REMEDY = "you can ask questions but not change it; make it writable, or choose another folder with --home"
_CACHE_KIB = 8000  # per connection, beside mapped memory
_MMAP_SIZE = 2**28  # bytes
_REMEDY = "`passkb rebuild` creates it again from the notes"
_FOLDER_REMEDY = "check that you may write its folder and that there is room, or choose another with --home"

RANKING = "bm25(3.0, 0.5, 1.0)"  # weights of title, heading and text

_TABLES = (
    """
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
CREATE TABLE mentions (source TEXT NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL);
CREATE INDEX mentions_source ON mentions (source);
CREATE INDEX mentions_target ON mentions (target);
CREATE TABLE unresolved (source TEXT NOT NULL, target TEXT NOT NULL, candidates TEXT NOT NULL);
CREATE INDEX unresolved_source ON unresolved (source);
CREATE TABLE chunks (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, note_id TEXT NOT NULL, start INTEGER NOT NULL,
  "end" INTEGER NOT NULL, heading TEXT NOT NULL, hash BLOB NOT NULL);
CREATE INDEX chunks_note ON chunks (note_id);
CREATE VIRTUAL TABLE words USING fts5 (title, heading, text, tokenize = 'porter unicode61 remove_diacritics 2');
INSERT INTO words (words, rank) VALUES ('rank', '"""
    + RANKING
    + """');
CREATE TABLE vectors (
  model TEXT NOT NULL, hash BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (model, hash)) WITHOUT ROWID;
CREATE TABLE outbox (chunk_id TEXT PRIMARY KEY, keep INTEGER NOT NULL) WITHOUT ROWID;
"""
)
# A generation is never used twice, not even by a database that replaces another, because caches compare it.
_META = """
INSERT INTO meta VALUES ('generation', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
INSERT INTO meta VALUES ('index', 'behind');
"""
_PRESERVED = ("meta", "vectors")  # tables that a rebuild keeps


class DatabaseDamaged(PasskbError):
    """The file is damaged or written by an older passkb; a rebuild replaces it."""


class Database:
    """One SQLite file and a bounded pool of connections to it. Nested blocks of a thread share a connection.

    Reads the file as it is when its folder is not writable (`read_only`). Raises PasskbError when the file is no database
    (`DatabaseDamaged`), belongs to a newer passkb, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened_read_only = False
        self._pool = ConnectionPool(self._open, self._identity)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.connection():  # report problems now rather than at the first query
                pass
        except OSError as error:
            self.close()
            raise PasskbError(f"{path} cannot be used {explanation(error, _FOLDER_REMEDY)}") from error
        except BaseException:
            self.close()
            raise

    @property
    def read_only(self) -> bool:
        folder = self.path.parent
        return folder.is_dir() and not (is_writable(folder) and (not self.path.exists() or os.access(self.path, os.W_OK)))

    @property
    def is_nested(self) -> bool:
        """Whether this thread is inside a `connection`, `reading` or `writing` block."""
        return self._pool.is_nested

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for the duration of the block, to the current file even after a rebuild replaced a damaged one.

        Turns SQLite's errors into PasskbError with a remedy. Raises PasskbError also when all connections stay in use for a
        minute.
        """
        try:
            with self._pool.connection() as connection:
                yield connection
        except sqlite3.Error as error:
            raise self.translate_error(error) from error
        except PoolExhausted as error:
            raise PasskbError(f"{self.path} is busy ({error}): try again in a moment") from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A consistent snapshot: reads within the block do not see later writes."""
        with self.connection() as connection:
            if connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            try:
                yield
            finally:
                with suppress(sqlite3.DatabaseError):  # of a damaged file; the rows already read are unaffected
                    connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, rolled back on any exception. Raises PasskbError when the home is read-only."""
        if self.read_only:
            raise PasskbError(f"{self.path.parent} is read-only: {READ_ONLY_REMEDY}")
        if self._opened_read_only:
            self._pool.close()
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended the transaction
                    connection.execute("ROLLBACK")
                raise

    def find_damage(self) -> str:
        """What is wrong with the file, checked by reading all of it; empty when nothing is."""
        try:
            with self._pool.connection() as connection:
                result = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            return str(error)
        return "" if result == "ok" else result

    def close(self) -> None:
        """Closes idle connections, and those in use when their blocks end. The next use opens new ones."""
        self._pool.close()

    def translate_error(self, error: sqlite3.Error) -> PasskbError:
        """SQLite's error as a PasskbError that names the file and the remedy."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DatabaseDamaged(f"{self.path} cannot be used ({error}): {_REMEDY}")
        intact = "; existing data is intact"
        remedies = {
            sqlite3.SQLITE_FULL: "make room on its disk and try again" + intact,
            sqlite3.SQLITE_IOERR: "check its disk and the room on it, and try again" + intact,
            sqlite3.SQLITE_READONLY: "make it and its folder writable, or choose another with --home",
            sqlite3.SQLITE_CANTOPEN: _FOLDER_REMEDY,
            sqlite3.SQLITE_BUSY: "another program uses it: wait until it finishes, then try again",
        }
        remedy = remedies.get(code, _REMEDY)
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            cause = open_failure(self.path)  # SQLite does not report it
            remedy = os_remedy(cause, remedy) if cause else remedy
        return PasskbError(f"{self.path} cannot be used ({error}): {remedy}")

    def _open(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, or PasskbError for a damaged or foreign file."""
        if truncation := self._truncation():
            raise DatabaseDamaged(f"{self.path} cannot be used ({truncation}): {_REMEDY}")
        self._opened_read_only = self.read_only
        writable = not self._opened_read_only
        connection = self._connect() if writable else self._connect_read_only()
        try:
            if writable:
                _execute_when_unlocked(connection, "PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute(f"PRAGMA mmap_size = {_MMAP_SIZE}")
            self._ensure_schema(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, database: str | Path = "", *, uri: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(database or self.path, timeout=60, isolation_level=None, check_same_thread=False, uri=uri)

    def _connect_read_only(self) -> sqlite3.Connection:
        """Opens a file without a write-ahead log as immutable, because SQLite cannot create its coordination files in a
        read-only folder. A later writer changes `_identity`."""
        if not self.path.exists():
            raise PasskbError(f"{self.path} does not exist, and its folder is read-only: {READ_ONLY_REMEDY}")
        mode = "mode=ro" if self._has_log() else "mode=ro&immutable=1"
        return self._connect(f"file:{quote(str(self.path.absolute()))}?{mode}", uri=True)

    def _has_log(self) -> bool:
        """Whether the write-ahead log may contain changes: some are not merged yet, or a process has the file open for
        writing."""
        try:
            return Path(f"{self.path}-shm").exists() or os.stat(f"{self.path}-wal").st_size > 0
        except OSError:
            return False

    def _identity(self) -> tuple[int | bool, ...]:
        """Changes when connections opened before must not be used any more."""
        try:
            status = os.stat(self.path)
        except OSError:
            return ()
        identity = status.st_dev, status.st_ino
        if not self._opened_read_only:
            return identity
        return (*identity, True) if self._has_log() else (*identity, status.st_size, status.st_mtime_ns)

    def _truncation(self) -> str:
        """How the file is truncated, by its header and its size; empty when it is not. SQLite notices only where it reads."""
        try:
            if not self.path.is_file() or any(Path(f"{self.path}{end}").exists() for end in ("-wal", "-shm", "-journal")):
                return ""
            with open(self.path, "rb") as file:
                header = file.read(100)
            size = self.path.stat().st_size
        except OSError:
            return ""
        if len(header) < 100 or not header.startswith(b"SQLite format 3\0") or header[24:28] != header[92:96]:
            return ""
        page = int.from_bytes(header[16:18], "big")
        expected = int.from_bytes(header[28:32], "big") * (65536 if page == 1 else page)
        return f"incomplete: {size:,} of {expected:,} bytes" if size < expected else ""

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == VERSION:
            return
        if self.read_only:
            self._check_version(self._version(connection))
            raise PasskbError(f"{self.path} is empty, and its folder is read-only: {READ_ONLY_REMEDY}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._create_tables(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @staticmethod
    def _version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version == VERSION:
            return
        self._check_version(version)
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise PasskbError(f"{self.path} is not a passkb database: use another folder with --home")
        for statement in (_TABLES + _META).split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")

    def _check_version(self, version: int) -> None:
        if version > VERSION:
            raise PasskbError(
                f"{self.path} was written by a newer passkb (format {version}, this one supports {VERSION}): "
                "upgrade passkb, or use another folder with --home"
            )
        if version:
            raise DatabaseDamaged(
                f"{self.path} was written by an older passkb (format {version}, this one supports {VERSION}): {_REMEDY}"
            )


def recreate_tables(connection: sqlite3.Connection) -> None:
    """Drops and creates all tables but `meta` and `vectors`."""
    for statement in _TABLES.split(";\n"):
        words = statement.split("(")[0].split()
        if words[:1] == ["CREATE"] and words[-1] not in _PRESERVED:
            if words[1] != "INDEX":
                connection.execute(f"DROP TABLE IF EXISTS {words[words.index('TABLE') + 1]}")
            connection.execute(statement)
        elif words[:1] == ["INSERT"]:
            connection.execute(statement)


def _execute_when_unlocked(connection: sqlite3.Connection, statement: str) -> None:
    """Retries while another process sets up the file: SQLite does not wait in this case."""
    deadline = time.monotonic() + 20
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
