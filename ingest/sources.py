"""Sources: the folders and files a person registered, and what stands in them now.

The registry is `sources.json` in the home: the one file besides notes that can not be rebuilt. Knows nothing about what is
inside the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ingest.ignoring import ignored
from ingest.reading import READABLE
from kb.notes import NoteKind, PasskbError, slug


@dataclass(frozen=True, slots=True)
class Source:
    """A registered folder, or one file. `root` is the folder that links and note ids are relative to."""

    name: str
    path: Path

    @property
    def root(self) -> Path:
        return self.path.parent if self.path.suffix and not self.path.is_dir() else self.path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a source that can be read: `relative` is its POSIX path below the source's root."""

    path: str
    relative: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Scan:
    """`skipped` holds (path, reason); `closed` the folders that could not be looked into: what was known of them holds."""

    files: tuple[FoundFile, ...]
    skipped: tuple[tuple[str, str], ...]
    closed: tuple[tuple[str, str], ...] = ()


class Registry:
    """Name -> path of every source, kept in `sources.json`."""

    def __init__(self, home: Path) -> None:
        self._file = home / "sources.json"

    def all(self) -> list[Source]:
        """Raises PasskbError when the file can not be read as what it is."""
        if not self._file.exists():
            return []
        try:
            entries = json.loads(self._file.read_text(encoding="utf-8"))
            return [Source(str(entry["name"]), Path(entry["path"])) for entry in entries]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PasskbError(f"{self._file} can not be read ({error}): mend it, or delete it and ingest again") from error

    def add(self, path: Path) -> Source:
        """Registers a folder or file; one that is registered, or lies inside a registered folder, gives that source."""
        known = self.all()
        for source in known:
            if source.path == path or (source.path.is_dir() and path.is_relative_to(source.path)):
                return source
        folder = path if path.is_dir() else path.parent
        shared = next((source.name for source in known if source.root == folder), "")
        taken = {source.name for source in known} | {NoteKind.STUB}
        added = Source(shared or _free_name(slug(folder.name), taken), path)
        entries = [{"name": source.name, "path": str(source.path)} for source in [*known, added]]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._file.with_suffix(".part")
        scratch.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(scratch, self._file)
        return added


def scan(source: Source) -> Scan:
    """What can be read in a source, by path; hidden files and folders are left out, links are not followed outside.

    Raises PasskbError when the source is not there: nothing may be deleted because a disk is not mounted. A registered file
    that is gone from a folder that is there was deleted.
    """
    if not source.path.exists():
        if source.path.suffix.lower() in READABLE and source.path.parent.is_dir():
            return Scan((), ())
        raise PasskbError(
            f"{source.path} is not there: nothing of {source.name!r} was touched. Mount it, or put it back, and sync again"
        )
    files: list[FoundFile] = []
    skipped: list[tuple[str, str]] = []
    closed: list[tuple[str, str]] = []
    left_out = ignored(source.root)
    for path in _walk(source.path, closed):
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
                skipped.append((str(path), f"can not be read: {error.strerror}"))
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append((str(path), "not a regular file"))
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(source.root.resolve()):
                skipped.append((str(path), "a link that leads outside the source is not followed"))
                continue
            relative = path.relative_to(source.root).as_posix()
            files.append(FoundFile(str(path), relative, status.st_size, status.st_mtime_ns))
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


def _walk(path: Path, closed: list[tuple[str, str]]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return

    def refused(error: OSError) -> None:
        closed.append((printable(error.filename), f"the folder can not be opened ({error.strerror}): check its permissions"))

    for folder, folders, names in os.walk(path, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(candidate for i in range(2, len(taken) + 3) if (candidate := f"{name}-{i}") not in taken)
