"""Stored paths: relative for files in the home, so that it can be moved or copied, absolute for all others."""

from __future__ import annotations

from pathlib import Path


class HomePaths:
    """Converts between absolute and stored paths. An empty path stays empty.

    >>> paths = HomePaths(Path("/home/ada/.passkb"))
    >>> paths.relative("/home/ada/.passkb/notes/a.md"), paths.relative("/home/ada/vault/b.md")
    ('notes/a.md', '/home/ada/vault/b.md')
    >>> paths.absolute("notes/a.md"), paths.absolute("/home/ada/vault/b.md")
    ('/home/ada/.passkb/notes/a.md', '/home/ada/vault/b.md')
    """

    def __init__(self, home: Path) -> None:
        self.home = str(home.resolve())

    def relative(self, path: str) -> str:
        return path.removeprefix(f"{self.home}/")

    def absolute(self, path: str) -> str:
        return path if path.startswith("/") or not path else f"{self.home}/{path}"
