"""What is indexed, per source and per file; what failed, was left out or waits, and why. Reads only."""

from __future__ import annotations

import datetime
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any

from ingest.readers.formats import READABLE
from ingest.recovery import find_losses
from ingest.sources import FoundFile, Registry, Source, printable, scan
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.store.queries import FileRecord
from kb.store.schema import READ_ONLY_REMEDY

HIDDEN_FILE = "hidden file: its name begins with a dot"
HIDDEN_FOLDER = "hidden folder: its name begins with a dot"
_UNCOUNTED = frozenset({".git", ".hg", ".svn", ".obsidian", ".venv", ".cache"})  # large, and never notes
_LOOKED_AT = 5_000  # entries of one hidden folder
_HASHED = 2**20  # bytes of a file


class State(StrEnum):
    INDEXED = "indexed"
    FAILED = "failed"
    SKIPPED = "skipped"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of a source. `note_id` and `chunks` are what is indexed of it now, also while it waits."""

    path: str
    state: State
    note_id: str = ""
    chunks: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a rule left out: a file, or a hidden folder with the `files` in it that could be notes; None: not counted."""

    path: str
    reason: str
    files: int | None = 1


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as it is known, against what stands on disk. The pairs are (path, reason)."""

    name: str
    path: str
    notes: int = 0
    chunks: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    files: tuple[FileState, ...] = ()


def status(kb: KnowledgeBase, *, files: bool = False) -> dict[str, Any]:
    """CONTRACT: `status`. With `files` every file of every source is listed with its state."""
    with kb.store.reading():
        kinds, types, chunks = kb.store.counts()
        sources, wrong = survey(kb), problems(kb)
    return {
        "notes": kinds,
        "links": types,
        "chunks": chunks,
        "sources": [_source_json(source, files) for source in sources],
        "embedder": kb.embedder.name,
        "synced": last_synced(kb),
        "problems": wrong,
    }


def problems(kb: KnowledgeBase) -> list[str]:
    """What is wrong with the home itself, and what to do, a sentence each."""
    home = kb.store.database
    if home.read_only:
        return [f"{home.path.parent} is read-only: {READ_ONLY_REMEDY}", *find_losses(kb).messages]
    return [f"{sentence}; `passkb sync` makes it again" for sentence in find_losses(kb).messages]


def last_synced(kb: KnowledgeBase) -> str | None:
    """When the sources were last read, in UTC; None when they never were. Whoever writes a home leaves its mark there."""
    try:
        written = (kb.home / "writing.pid").stat().st_mtime
    except OSError:
        return None
    return datetime.datetime.fromtimestamp(written, datetime.UTC).isoformat(timespec="seconds")


def survey(kb: KnowledgeBase) -> list[SourceState]:
    """Every registered source. Files are compared by size and time, and by their bytes where no time is known."""
    registered = Registry(kb.home).all()
    chunks = Counter(note_id for _, _, note_id, _ in kb.store.chunk_rows())
    records = {record.path: record for record in kb.store.files()}
    return [_surveyed(kb, source, registered, records, chunks) for source in registered]


def group_by_rule(skipped: Sequence[Skipped]) -> list[tuple[str, list[Skipped]]]:
    """(rule, what it left out), the rule that left out most first."""
    rules: dict[str, list[Skipped]] = {}
    for entry in skipped:
        rules.setdefault(entry.reason, []).append(entry)
    return sorted(rules.items(), key=lambda rule: (-len(rule[1]), rule[0]))


def path_in_source(path: str, source: str) -> str:
    """A path as it is called within its source."""
    return path.removeprefix(source.rstrip("/") + "/")


def _surveyed(
    kb: KnowledgeBase,
    source: Source,
    registered: Sequence[Source],
    records: Mapping[str, FileRecord],
    chunks: Mapping[str, int],
) -> SourceState:
    inner = [str(other.path) for other in registered if other.path != source.path and other.path.is_relative_to(source.path)]
    inner.append(str(kb.home.resolve() / "notes" / "imported"))

    def belongs(path: str) -> bool:
        return _below(path, str(source.path)) and not any(_below(path, other) for other in inner)

    known = {path: record for path, record in records.items() if record.source == source.name and belongs(path)}
    failed = {path: record.failure for path, record in known.items() if record.failure}
    warnings = tuple((path, warning) for path, record in sorted(known.items()) for warning in record.warnings)
    indexed = {path: record.note_id for path, record in known.items() if record.note_id and not record.failure}
    waiting: dict[str, str] = {}
    skipped: list[Skipped] = []
    others: Counter[str] = Counter()
    try:
        found = scan(source)
    except PasskbError as error:
        failed[str(source.path)] = str(error).removeprefix(f"{source.path}: ").removeprefix(f"{source.path} is ")
    else:
        failed |= {path: reason for path, reason in found.closed}
        skipped = [Skipped(path, reason) for path, reason in found.skipped if belongs(path)]
        skipped += [entry for entry in _hidden(source, others) if not _below(str(kb.home.resolve()), entry.path.rstrip("/"))]
        present = {file.path: file for file in found.files if belongs(file.path)}
        for path, file in present.items():
            if (record := known.get(path)) is None:
                waiting[path] = "new"
            elif _changed(record, file):
                waiting[path] = f"changed since it failed: {record.failure}" if record.failure else "changed"
        left_out = {entry.path: entry.reason for entry in skipped}
        for path in known.keys() - present.keys():
            if not any(_below(path, folder) for folder, _ in found.closed):
                waiting[path] = f"to be left out: {left_out[path]}" if path in left_out else "gone from the disk"
    files = _files(known, failed, waiting, skipped, chunks)
    return SourceState(
        name=source.name,
        path=str(source.path),
        notes=len(indexed),
        chunks=sum(chunks.get(note_id, 0) for note_id in indexed.values()),
        failed=tuple(sorted(failed.items())),
        skipped=tuple(sorted(skipped, key=lambda entry: entry.path)),
        warnings=warnings,
        waiting=tuple(sorted(waiting.items())),
        others={} if _below(str(source.path), str(kb.home.resolve())) else dict(others.most_common()),
        files=files,
    )


def _files(
    known: Mapping[str, FileRecord],
    failed: Mapping[str, str],
    waiting: Mapping[str, str],
    skipped: Sequence[Skipped],
    chunks: Mapping[str, int],
) -> tuple[FileState, ...]:
    """Each file once: what waits comes before what is known of it, what is known before the rule that leaves it out."""
    states: dict[str, FileState] = {entry.path: FileState(entry.path, State.SKIPPED, reason=entry.reason) for entry in skipped}
    for path in known.keys() | failed.keys() | waiting.keys():
        note_id = known[path].note_id if path in known and not known[path].failure else ""
        state = State.WAITING if path in waiting else State.FAILED if path in failed else State.INDEXED
        reason = waiting.get(path) or failed.get(path, "")
        states[path] = FileState(path, state, note_id, chunks.get(note_id, 0), reason)
    return tuple(states[path] for path in sorted(states))


def _changed(record: FileRecord, file: FoundFile) -> bool:
    """A file that failed, or was written just before it was read, is known without its time; its bytes tell then."""
    if record.size != file.size or record.mtime_ns >= 0:
        return record.size != file.size or record.mtime_ns != file.mtime_ns
    try:
        return file.size <= _HASHED and hashlib.sha256(Path(file.path).read_bytes()).hexdigest() != record.sha256
    except OSError:
        return False


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _hidden(source: Source, others: Counter[str]) -> Iterator[Skipped]:
    """Hidden files that could be notes, and hidden folders with how many they hold; files of other kinds are counted."""
    for folder, folders, names in os.walk(source.path):
        for name in sorted(folders):
            path = printable(os.path.join(folder, name))
            if name.startswith(".") and (number := _could_be_notes(Path(folder, name))) != 0:
                yield Skipped(path + "/", HIDDEN_FOLDER, number)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names):
            suffix = PurePath(name).suffix.lower()
            if not name.startswith("."):
                others.update([suffix or "no ending"] if suffix not in READABLE else [])
            elif suffix in READABLE:
                yield Skipped(printable(os.path.join(folder, name)), HIDDEN_FILE)


def _could_be_notes(folder: Path) -> int | None:
    """How many files of a hidden folder could be notes; None when it is not worth counting, or too large."""
    if folder.name in _UNCOUNTED:
        return None
    number = seen = 0
    for _, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > _LOOKED_AT:
            return None
        number += sum(PurePath(name).suffix.lower() in READABLE for name in names)
    return number


def _source_json(source: SourceState, files: bool) -> dict[str, Any]:
    def pairs(entries: Sequence[tuple[str, str]], named: str = "reason") -> list[dict[str, str]]:
        return [{"path": path, named: reason} for path, reason in entries]

    return {
        "name": source.name,
        "path": source.path,
        "notes": source.notes,
        "chunks": source.chunks,
        "failed": pairs(source.failed),
        "skipped": [{"path": e.path, "reason": e.reason, "files": e.files} for e in source.skipped],
        "warnings": pairs(source.warnings, "warning"),
        "waiting": pairs(source.waiting),
        "others": dict(source.others),
        **({"files": [_file_json(file) for file in source.files]} if files else {}),
    }


def _file_json(file: FileState) -> dict[str, Any]:
    return {
        "path": file.path,
        "note_id": file.note_id,
        "state": str(file.state),
        "chunks": file.chunks,
        "reason": file.reason,
    }
