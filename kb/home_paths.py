"""Paths in a home are kept relative to it, so that the home can be moved or copied; all others are kept absolute."""

from __future__ import annotations

from pathlib import Path


class HomePaths:
    """Between paths as they are used, absolute, and as they are kept. An empty path stays empty.

    >>> paths = HomePaths(Path("/home/ada/.passkb"))
    >>> paths.kept("/home/ada/.passkb/notes/a.md"), paths.kept("/home/ada/vault/b.md")
    ('notes/a.md', '/home/ada/vault/b.md')
    >>> paths.used("notes/a.md"), paths.used("/home/ada/vault/b.md")
    ('/home/ada/.passkb/notes/a.md', '/home/ada/vault/b.md')
    """

    def __init__(self, home: Path) -> None:
        self.home = str(home.resolve())

    def relative(self, path: str) -> str:
        return path.removeprefix(f"{self.home}/")

    def absolute(self, path: str) -> str:
        return path if path.startswith("/") or not path else f"{self.home}/{path}"
