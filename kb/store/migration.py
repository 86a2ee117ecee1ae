"""Brings homes of earlier versions up to date: relative paths, full text of scripts without spaces, unlinked mentions."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from kb.home_paths import HomePaths
from kb.store.fulltext import index_text
from kb.store.schema import RANKING, Database

_DONE = ("paths", "relative")
_FULL_TEXT = ("fulltext", "2")
OWN_FOLDERS = ("notes", "pages")


def migrate(database: Database, home: Path) -> None:
    """Every step once, each in its own transaction. What a step can't derive here, the next sync derives."""
    with database.connection() as connection:
        done = set(connection.execute("SELECT key, value FROM meta").fetchall())
    if _DONE not in done:
        with database.writing() as connection:
            make_paths_relative(connection, home)
    if _FULL_TEXT not in done:
        with database.writing() as connection:
            renew_full_text(connection)


def renew_full_text(connection: sqlite3.Connection) -> None:
    """Weighs titles more, and separates the characters of scripts without spaces. Adds the table of mentions."""
    connection.execute("CREATE TABLE IF NOT EXISTS mentions (source TEXT NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL)")
    connection.execute("CREATE INDEX IF NOT EXISTS mentions_source ON mentions (source)")
    connection.execute("CREATE INDEX IF NOT EXISTS mentions_target ON mentions (target)")
    connection.execute(f"INSERT INTO words (words, rank) VALUES ('rank', '{RANKING}')")
    for number, *texts in connection.execute("SELECT rowid, title, heading, text FROM words").fetchall():
        spaced = [index_text(text) for text in texts]
        if spaced != texts:
            connection.execute("UPDATE words SET title = ?, heading = ?, text = ? WHERE rowid = ?", (*spaced, number))
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", _FULL_TEXT)


def make_paths_relative(connection: sqlite3.Connection, home: Path) -> None:
    """Converts all stored paths. Call it in a transaction of its own; a second call changes nothing."""
    if connection.execute("SELECT value FROM meta WHERE key = ?", _DONE[:1]).fetchone() == _DONE[1:]:
        return
    paths = HomePaths(home)
    for path, size in connection.execute("SELECT path, size FROM files").fetchall():
        relative = _relative(paths, path, size)
        if relative == path:
            continue
        if connection.execute("SELECT 1 FROM files WHERE path = ?", (relative,)).fetchone():
            connection.execute("DELETE FROM files WHERE path = ?", (path,))  # indexed again since, under another id
        else:
            connection.execute("UPDATE files SET path = ? WHERE path = ?", (relative, path))
    for note_id, path in connection.execute("SELECT id, path FROM notes WHERE path <> ''").fetchall():
        connection.execute("UPDATE notes SET path = ? WHERE id = ?", (_relative(paths, path), note_id))
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", _DONE)


def _relative(paths: HomePaths, path: str, size: int | None = None) -> str:
    """The stored form of a path. A path of the home's former location is recognized by the file of that name in this home."""
    relative = paths.relative(path)
    if relative != path or not path or os.path.exists(path):
        return relative
    parts = Path(path).parts
    for start, name in enumerate(parts):
        if name in OWN_FOLDERS:
            candidate = "/".join(parts[start:])
            try:
                status = os.stat(paths.absolute(candidate))
            except (OSError, ValueError):
                continue
            if size is None or status.st_size == size:
                return candidate
    return path
