"""Homes that passkb 0.2 wrote hold absolute paths of their own folders: made relative once, also if the home has moved."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from kb.home_paths import HomePaths

_DONE = ("paths", "relative")
OWN_FOLDERS = ("notes", "pages")


def make_paths_relative(connection: sqlite3.Connection, home: Path) -> None:
    """To be called in a transaction of its own; changes nothing the second time."""
    if connection.execute("SELECT value FROM meta WHERE key = ?", _DONE[:1]).fetchone() == _DONE[1:]:
        return
    paths = HomePaths(home)
    for path, size in connection.execute("SELECT path, size FROM files").fetchall():
        kept = _kept(paths, path, size)
        if kept == path:
            continue
        if connection.execute("SELECT 1 FROM files WHERE path = ?", (kept,)).fetchone():
            connection.execute("DELETE FROM files WHERE path = ?", (path,))  # read again since, under another id
        else:
            connection.execute("UPDATE files SET path = ? WHERE path = ?", (kept, path))
    for note_id, path in connection.execute("SELECT id, path FROM notes WHERE path <> ''").fetchall():
        connection.execute("UPDATE notes SET path = ? WHERE id = ?", (_kept(paths, path), note_id))
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", _DONE)


def _kept(paths: HomePaths, path: str, size: int | None = None) -> str:
    """A path as it is kept now. One of a home that stood elsewhere is known by the file that stands in this one."""
    kept = paths.relative(path)
    if kept != path or not path or os.path.exists(path):
        return kept
    parts = Path(path).parts
    for start, name in enumerate(parts):
        if name in OWN_FOLDERS:
            moved = "/".join(parts[start:])
            try:
                found = os.stat(paths.absolute(moved))
            except (OSError, ValueError):
                continue
            if size is None or found.st_size == size:
                return moved
    return path
