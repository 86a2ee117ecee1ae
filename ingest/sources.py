"""Sources: the registry of folders and files (`sources.json` in the home, which cannot be rebuilt), and their scan."""

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

_LINK_REMEDY = "ingest its target instead"


@dataclass(frozen=True, slots=True)
class Source:
    """A registered folder or `file` (None: unknown). Links and note ids are relative to the folder `root`.
    `reader`: PACKAGE:CLASS of its llama-index reader, if it has one."""

    name: str
    path: Path
    file: bool | None = field(default=None, compare=False)
    reader: str = field(default="", compare=False)

    @property
    def root(self) -> Path:
        single = bool(self.path.suffix and not self.path.is_dir()) if self.file is None else self.file
        return self.path.parent if single else self.path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a supported format. `relative` is its POSIX path below the source's root.

    `mtime_ns` is the sum of modification and status-change time: programs can reset the first but not the second.
    `written_ns` is the later of both.
    """

    path: str
    relative: str
    size: int
    mtime_ns: int
    written_ns: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """`skipped` contains (path, reason), `inaccessible` (path, reason) of folders and files whose indexed notes are kept."""

    files: tuple[FoundFile, ...]
    skipped: tuple[tuple[str, str], ...]
    inaccessible: tuple[tuple[str, str], ...] = ()


class Registry:
    """The registered sources in `sources.json`; paths inside the home are stored relative to it."""

    def __init__(self, home: Path) -> None:
        self._home, self._file = home, home / "sources.json"
        self._paths = HomePaths(home)

    def all(self) -> list[Source]:
        """All sources. Raises PasskbError when the file is unreadable or malformed."""
        sources: dict[Path, Source] = {}
        for source in self._read():
            path = self._moved_folder(source.path) or source.path
            sources.setdefault(path, replace(source, path=path))
        return list(sources.values())

    @property
    def has_moved(self) -> bool:
        """Whether the home was moved after passkb 0.2 had registered its own folders."""
        return any(self._moved_folder(source.path) for source in self._read())

    def renew(self) -> None:
        """Rewrites the file when its current form differs. The caller holds the lock of the home."""
        if self._file.exists() and json.loads(self._file.read_bytes()) != self._entries(self.all()):
            self._write(self.all())

    def _read(self) -> list[Source]:
        if not self._file.exists():
            return []
        try:
            entries = json.loads(self._file.read_text(encoding="utf-8"))
            return [
                Source(
                    str(entry["name"]),
                    Path(self._paths.absolute(str(entry["path"]))),
                    entry.get("file"),
                    str(entry.get("reader") or ""),
                )
                for entry in entries
            ]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            default = "correct it, or delete it and ingest again"
            raise PasskbError(f"{self._file} cannot be read {explanation(error, default)}") from error

    def _moved_folder(self, path: Path) -> Path | None:
        """The present folder for a path of this home's former location; None for any other path."""
        moved = Path(self._paths.home, path.name)
        return moved if path.name in OWN_FOLDERS and path != moved and moved.is_dir() and not path.exists() else None

    def add(self, path: Path, *, separate: bool = False, reader: str = "") -> Source:
        """Registers a folder or file. Returns the existing source for a path that is registered or inside a registered folder.

        With `separate` or a `reader` a path inside another source becomes a source too.
        """
        registered = [source for source in self.all() if not reader or source.path != path]
        for source in registered:
            if source.path == path or (
                not separate and not reader and source.path.is_dir() and path.is_relative_to(source.path)
            ):
                return source
        folder = path if path.is_dir() else path.parent
        shared_name = next((source.name for source in registered if source.root == folder), "")
        used = {source.name for source in registered} | {NoteKind.STUB}
        added = Source(shared_name or _free_name(slug(folder.name), used), path, not path.is_dir(), reader)
        self._write([*registered, added])
        return added

    def remove(self, name: str) -> None:
        self._write([source for source in self.all() if source.name != name])

    def _write(self, sources: Iterable[Source]) -> None:
        write_atomic(self._file, json.dumps(self._entries(sources), indent=1, ensure_ascii=False) + "\n")

    def _entries(self, sources: Iterable[Source]) -> list[dict[str, Any]]:
        return [
            {"name": source.name, "path": self._paths.relative(str(source.path))}
            | ({} if source.file is None else {"file": source.file})
            | ({"reader": source.reader} if source.reader else {})
            for source in sources
        ]


def scan(source: Source) -> Scan:
    """The readable files of a source, without hidden files and folders and without links to places outside.

    Raises PasskbError when the source is missing, so that an unmounted disk deletes nothing. A registered file that is missing
    from an existing folder counts as deleted.
    """
    if not source.path.exists():
        is_readable = source.reader or source.path.suffix.lower() in READABLE
        if source.file is not False and is_readable and source.path.parent.is_dir():
            return Scan((), ())
        raise PasskbError(
            f"{source.path} is missing, and its notes stay indexed: mount or restore it, then sync again, "
            f"or unregister it with `passkb forget {source.name}`"
        )
    files: list[FoundFile] = []
    skipped: list[tuple[str, str]] = []
    inaccessible: list[tuple[str, str]] = []
    ignore_reason = ignore_rules(source.root)
    for path in _walk(source.path, inaccessible, skipped):
        suffix = path.suffix.lower()
        is_readable = source.reader or suffix in READABLE
        if is_readable and (reason := ignore_reason(path.relative_to(source.root).as_posix())):
            skipped.append((printable(path), reason))
            continue
        if is_readable and printable(path) != str(path):
            skipped.append((printable(path), "its name is not Unicode: rename it"))
        elif is_readable:
            try:
                status = path.stat()
            except OSError as error:
                if path.is_symlink():
                    reason = f"broken link ({error.strerror}): correct or remove it"
                    skipped.append((str(path), reason))
                elif not isinstance(error, FileNotFoundError):
                    cause = explanation(error, "check its permissions and its disk")
                    inaccessible.append((str(path), f"cannot be accessed {cause}"))
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append((str(path), "not a regular file"))
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(source.root.resolve()):
                skipped.append((str(path), f"link to a file outside the source: {_LINK_REMEDY}"))
                continue
            relative = path.relative_to(source.root).as_posix()
            times = status.st_mtime_ns, status.st_ctime_ns
            files.append(FoundFile(str(path), relative, status.st_size, sum(times), max(times)))
        elif path == source.path:
            skipped.append(
                (str(path), f"unsupported format {suffix or '(no suffix)'}: passkb reads {', '.join(sorted(READABLE))}")
            )
    return Scan(tuple(files), tuple(skipped), tuple(inaccessible))


def note_ids(
    source: Source, files: Iterable[FoundFile], known_ids: Mapping[str, str], other_ids: Iterable[str] = ()
) -> dict[str, str]:
    """Path -> note id, `source/folder/name` in slugs, with a hash appended where two files would get the same id.

    `known_ids`: path -> existing id, which a file keeps. `other_ids`: further ids in use.
    """
    files = list(files)
    ids = {file.path: known_ids[file.path] for file in files if known_ids.get(file.path)}
    used = {*ids.values(), *other_ids}
    for file in files:
        if file.path in ids:
            continue
        parts = PurePosixPath(file.relative).with_suffix("").parts
        note_id = "/".join([source.name, *map(slug, parts)])
        if note_id in used:
            note_id += "-" + hashlib.sha256(file.relative.encode()).hexdigest()[:8]
        ids[file.path] = note_id
        used.add(note_id)
    return ids


def printable(path: str | Path) -> str:
    """A path for display and storage: bytes that are not UTF-8 become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(path: Path, inaccessible: list[tuple[str, str]], skipped: list[tuple[str, str]]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return

    def on_error(error: OSError) -> None:
        reason = f"cannot be opened {explanation(error, 'check its permissions')}"
        inaccessible.append((printable(error.filename), reason))

    for folder, folders, names in os.walk(path, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                reason = f"link to a folder: {_LINK_REMEDY}"
                skipped.append((printable(os.path.join(folder, name)), reason))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _free_name(name: str, used: set[str]) -> str:
    if name not in used:
        return name
    return next(candidate for i in range(2, len(used) + 3) if (candidate := f"{name}-{i}") not in used)
