"""Sources: the folders and files a person registered, and what stands in them now.

The registry is `sources.json` in the home; like notes and fetched pages it cannot be rebuilt. Knows nothing about what is
inside the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ingest.ignore import ignore_rules
from ingest.readers.formats import READABLE
from kb.files import write_atomic
from kb.home_paths import HomePaths
from kb.notes import NoteKind, PasskbError, slug
from kb.os_errors import explanation
from kb.store.migration import OWN_FOLDERS

_HOW_TO_FOLLOW = "ingest what it leads to by its own path"


@dataclass(frozen=True, slots=True)
class Source:
    """A registered folder, or one `file` (None: not known). `root` is the folder that links and note ids are relative to."""

    name: str
    path: Path
    file: bool | None = field(default=None, compare=False)

    @property
    def root(self) -> Path:
        single = bool(self.path.suffix and not self.path.is_dir()) if self.file is None else self.file
        return self.path.parent if single else self.path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a source that can be read: `relative` is its POSIX path below the source's root.

    `mtime_ns` is the sum of the times of its content and of its status, so that content that was changed and given its old
    time again is noticed: only the system sets the second. `written_ns` is the later of the two.
    """

    path: str
    relative: str
    size: int
    mtime_ns: int
    written_ns: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """`skipped` holds (path, reason); `closed` the folders that could not be looked into: what was known of them holds."""

    files: tuple[FoundFile, ...]
    skipped: tuple[tuple[str, str], ...]
    closed: tuple[tuple[str, str], ...] = ()


class Registry:
    """Name -> path of every source, kept in `sources.json`; folders of the home itself are kept relative to it."""

    def __init__(self, home: Path) -> None:
        self._home, self._file = home, home / "sources.json"
        self._paths = HomePaths(home)

    def all(self) -> list[Source]:
        """Raises PasskbError when the file cannot be read as what it is."""
        sources: dict[Path, Source] = {}
        for source in self._read():
            path = self._own_folder(source.path) or source.path
            sources.setdefault(path, replace(source, path=path))
        return list(sources.values())

    @property
    def has_moved(self) -> bool:
        """Whether the home stood elsewhere when passkb 0.2 registered its own folders."""
        return any(self._own_folder(source.path) for source in self._read())

    def renew(self) -> None:
        """Writes it as it is understood now, where that differs. For who holds the home."""
        if self._file.exists() and json.loads(self._file.read_bytes()) != self._entries(self.all()):
            self._write(self.all())

    def _read(self) -> list[Source]:
        if not self._file.exists():
            return []
        try:
            entries = json.loads(self._file.read_text(encoding="utf-8"))
            return [
                Source(str(entry["name"]), Path(self._paths.absolute(str(entry["path"]))), entry.get("file"))
                for entry in entries
            ]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            otherwise = "mend it, or delete it and ingest again"
            raise PasskbError(f"{self._file} cannot be read {explanation(error, otherwise)}") from error

    def _own_folder(self, path: Path) -> Path | None:
        """The folder of this home that `path` was before the home moved; None for any other path."""
        own = Path(self._paths.home, path.name)
        return own if path.name in OWN_FOLDERS and path != own and own.is_dir() and not path.exists() else None

    def add(self, path: Path, *, apart: bool = False) -> Source:
        """Registers a folder or file; one that is registered, or lies inside a registered folder, gives that source.

        With `apart` it becomes a source of its own even inside another.
        """
        known = self.all()
        for source in known:
            if source.path == path or (not apart and source.path.is_dir() and path.is_relative_to(source.path)):
                return source
        folder = path if path.is_dir() else path.parent
        shared = next((source.name for source in known if source.root == folder), "")
        taken = {source.name for source in known} | {NoteKind.STUB}
        added = Source(shared or _free_name(slug(folder.name), taken), path, not path.is_dir())
        self._write([*known, added])
        return added

    def remove(self, name: str) -> None:
        self._write([source for source in self.all() if source.name != name])

    def _write(self, sources: Iterable[Source]) -> None:
        write_atomic(self._file, json.dumps(self._entries(sources), indent=1, ensure_ascii=False) + "\n")

    def _entries(self, sources: Iterable[Source]) -> list[dict[str, Any]]:
        return [
            {"name": source.name, "path": self._paths.relative(str(source.path))}
            | ({} if source.file is None else {"file": source.file})
            for source in sources
        ]


def scan(source: Source) -> Scan:
    """What can be read in a source, by path; hidden files and folders are left out, links are not followed outside.

    Raises PasskbError when the source is not there: nothing may be deleted because a disk is not mounted. A registered file
    that is gone from a folder that is there was deleted.
    """
    if not source.path.exists():
        if source.file is not False and source.path.suffix.lower() in READABLE and source.path.parent.is_dir():
            return Scan((), ())
        raise PasskbError(
            f"{source.path} is not there: nothing of {source.name!r} was touched. Mount it, or put it back, and sync again; "
            f"`passkb forget {source.name}` gives it up"
        )
    files: list[FoundFile] = []
    skipped: list[tuple[str, str]] = []
    closed: list[tuple[str, str]] = []
    left_out = ignore_rules(source.root)
    for path in _walk(source.path, closed, skipped):
        suffix = path.suffix.lower()
        if suffix in READABLE and (why := left_out(path.relative_to(source.root).as_posix())):
            skipped.append((printable(path), why))
            continue
        if suffix in READABLE and printable(path) != str(path):
            skipped.append((printable(path), "its name is not Unicode: rename it"))
        elif suffix in READABLE:
            try:
                status = path.stat()
            except OSError as error:
                if path.is_symlink():
                    reason = f"a link that leads nowhere ({error.strerror}): mend or remove it"
                    skipped.append((str(path), reason))
                elif not isinstance(error, FileNotFoundError):
                    cause = explanation(error, "check its permissions and its disk")
                    closed.append((str(path), f"cannot be looked at {cause}"))
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append((str(path), "not a regular file"))
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(source.root.resolve()):
                skipped.append((str(path), f"a link that leads outside the source is not followed: {_HOW_TO_FOLLOW}"))
                continue
            relative = path.relative_to(source.root).as_posix()
            times = status.st_mtime_ns, status.st_ctime_ns
            files.append(FoundFile(str(path), relative, status.st_size, sum(times), max(times)))
        elif path == source.path:
            skipped.append((str(path), f"{suffix or 'such'} files are not notes: passkb reads {', '.join(sorted(READABLE))}"))
    return Scan(tuple(files), tuple(skipped), tuple(closed))


def note_ids(
    source: Source, files: Iterable[FoundFile], known: Mapping[str, str], others: Iterable[str] = ()
) -> dict[str, str]:
    """Path -> note id, `source/folder/name` in slugs; two files that would get the same id are told apart by a hash.

    `known` holds the ids given before: a file keeps its id when another, like-named file appears. `others` are taken too.
    """
    files = list(files)
    ids = {file.path: known[file.path] for file in files if known.get(file.path)}
    taken = {*ids.values(), *others}
    for file in files:
        if file.path in ids:
            continue
        parts = PurePosixPath(file.relative).with_suffix("").parts
        note_id = "/".join([source.name, *map(slug, parts)])
        if note_id in taken:
            note_id += "-" + hashlib.sha256(file.relative.encode()).hexdigest()[:8]
        ids[file.path] = note_id
        taken.add(note_id)
    return ids


def printable(path: str | Path) -> str:
    """A path as it can be shown and kept: bytes that are not UTF-8 as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(path: Path, closed: list[tuple[str, str]], skipped: list[tuple[str, str]]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return

    def refused(error: OSError) -> None:
        reason = f"the folder cannot be opened {explanation(error, 'check its permissions')}"
        closed.append((printable(error.filename), reason))

    for folder, folders, names in os.walk(path, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                reason = f"a link to a folder is not followed: {_HOW_TO_FOLLOW}"
                skipped.append((printable(os.path.join(folder, name)), reason))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(candidate for i in range(2, len(taken) + 3) if (candidate := f"{name}-{i}") not in taken)
