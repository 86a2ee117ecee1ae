"""The index per source and file: indexed, failed, ignored and pending files, with reasons. Writes nothing."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any

from ingest.changes import SourceScan, is_below, scan_source
from ingest.readers.formats import READABLE
from ingest.recovery import find_losses
from ingest.sources import Registry, Source, printable
from kb.knowledge_base import KnowledgeBase
from kb.store.queries import FileRecord
from kb.store.schema import READ_ONLY_REMEDY

HIDDEN_FILE = "hidden file (name begins with a dot)"
HIDDEN_FOLDER = "hidden folder (name begins with a dot)"
_UNCOUNTED = frozenset({".git", ".hg", ".svn", ".obsidian", ".venv", ".cache"})
_MAX_ENTRIES = 5_000  # of a hidden folder, beyond which it is not counted


class State(StrEnum):
    INDEXED = "indexed"
    FAILED = "failed"
    SKIPPED = "skipped"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of a source. `note_id` and `chunks` describe its indexed version, also while a change waits for a sync."""

    path: str
    state: State
    note_id: str = ""
    chunks: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An ignored file or hidden folder. `files`: the number of possible notes in a folder; None: not counted."""

    path: str
    reason: str
    files: int | None = 1


@dataclass(frozen=True, slots=True)
class SourceState:
    """The indexed state of a source compared with its files. The pairs are (path, reason); `waiting`: for the next sync."""

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
    """The JSON of `passkb status`. `files`: includes every file with its state."""
    with kb.store.reading():
        kinds, types, chunks = kb.store.counts()
        sources, messages = survey(kb), problems(kb)
    return {
        "notes": kinds,
        "links": types,
        "chunks": chunks,
        "sources": [_source_json(source, files) for source in sources],
        "embedder": kb.embedder.name,
        "synced": last_synced(kb),
        "problems": messages,
    }


def problems(kb: KnowledgeBase) -> list[str]:
    """Messages about problems of the home with their remedies."""
    home = kb.store.database
    if home.read_only:
        return [f"{home.path.parent} is read-only: {READ_ONLY_REMEDY}", *find_losses(kb).messages]
    return [f"{message}; run `passkb sync`" for message in find_losses(kb).messages]


def last_synced(kb: KnowledgeBase) -> str | None:
    """The time (UTC, ISO 8601) of the last write to the home; None when there was none."""
    try:
        written = (kb.home / "writing.pid").stat().st_mtime
    except OSError:
        return None
    return datetime.datetime.fromtimestamp(written, datetime.UTC).isoformat(timespec="seconds")


def survey(kb: KnowledgeBase) -> list[SourceState]:
    """The state of every registered source. Compares files like a sync does."""
    registered = Registry(kb.home).all()
    chunks = Counter(note_id for _, _, note_id, _ in kb.store.chunk_rows())
    records = {record.path: record for record in kb.store.files()}
    home = kb.home.resolve()
    return [_survey_source(scan_source(home, source, registered, records), home, chunks) for source in registered]


def group_by_rule(skipped: Sequence[Skipped]) -> list[tuple[str, list[Skipped]]]:
    """(rule, entries), the rule with most entries first."""
    rules: dict[str, list[Skipped]] = {}
    for entry in skipped:
        rules.setdefault(entry.reason, []).append(entry)
    return sorted(rules.items(), key=lambda rule: (-len(rule[1]), rule[0]))


def path_in_source(path: str, source: str) -> str:
    """A path relative to its source."""
    return path.removeprefix(source.rstrip("/") + "/")


def _survey_source(scanned: SourceScan, home: Path, chunks: Mapping[str, int]) -> SourceState:
    source, known = scanned.source, scanned.known
    failed = {path: record.failure for path, record in known.items() if record.failure} | dict(scanned.failed)
    indexed = {path: record.note_id for path, record in known.items() if record.note_id and not record.failure}
    others: Counter[str] = Counter()
    ignored = dict(scanned.skipped)
    skipped = [Skipped(path, reason) for path, reason in scanned.skipped]
    if source.path.exists():
        skipped += [entry for entry in _find_hidden(source, others) if not is_below(str(home), entry.path.rstrip("/"))]
    waiting = {
        path: f"will be removed from the index: {ignored[path]}" if path in ignored else "deleted from the disk"
        for path in (record.path for record in scanned.missing)
    }
    for file, sha256 in scanned.changed:
        if (record := known.get(file.path)) is None:
            waiting[file.path] = "new"
        elif record.sha256 != sha256:
            waiting[file.path] = f"changed since it failed: {record.failure}" if record.failure else "changed"
    return SourceState(
        name=source.name,
        path=str(source.path),
        notes=len(indexed),
        chunks=sum(chunks.get(note_id, 0) for note_id in indexed.values()),
        failed=tuple(sorted(failed.items())),
        skipped=tuple(sorted(skipped, key=lambda entry: entry.path)),
        warnings=tuple((path, warning) for path, record in sorted(known.items()) for warning in record.warnings),
        waiting=tuple(sorted(waiting.items())),
        others={} if is_below(str(source.path), home) else dict(others.most_common()),
        files=_list_files(known, failed, waiting, skipped, chunks),
    )


def _list_files(
    known: Mapping[str, FileRecord],
    failed: Mapping[str, str],
    waiting: Mapping[str, str],
    skipped: Sequence[Skipped],
    chunks: Mapping[str, int],
) -> tuple[FileState, ...]:
    """The state of each file. A pending change takes precedence over the record, the record over an ignore rule."""
    states: dict[str, FileState] = {entry.path: FileState(entry.path, State.SKIPPED, reason=entry.reason) for entry in skipped}
    for path in known.keys() | failed.keys() | waiting.keys():
        note_id = known[path].note_id if path in known and not known[path].failure else ""
        state = State.WAITING if path in waiting else State.FAILED if path in failed else State.INDEXED
        reason = waiting.get(path) or failed.get(path, "")
        states[path] = FileState(path, state, note_id, chunks.get(note_id, 0), reason)
    return tuple(states[path] for path in sorted(states))


def _find_hidden(source: Source, others: Counter[str]) -> Iterator[Skipped]:
    """Hidden files in supported formats, and hidden folders with their number; counts files of other formats by suffix."""
    for folder, folders, names in os.walk(source.path):
        for name in sorted(folders):
            path = printable(os.path.join(folder, name))
            if name.startswith(".") and (number := _count_possible_notes(Path(folder, name))) != 0:
                yield Skipped(path + "/", HIDDEN_FOLDER, number)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names):
            suffix = PurePath(name).suffix.lower()
            if not name.startswith("."):
                others.update([suffix or "no suffix"] if suffix not in READABLE else [])
            elif suffix in READABLE:
                yield Skipped(printable(os.path.join(folder, name)), HIDDEN_FILE)


def _count_possible_notes(folder: Path) -> int | None:
    """The number of possible notes in a hidden folder; None for tool folders and large ones."""
    if folder.name in _UNCOUNTED:
        return None
    number = seen = 0
    for _, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > _MAX_ENTRIES:
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
