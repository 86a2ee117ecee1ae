"""Converts the absolute paths of homes written by passkb 0.2 to relative ones, also when the home has moved."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from kb.home_paths import HomePaths

_DONE = ("paths", "relative")
OWN_FOLDERS = ("notes", "pages")


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
