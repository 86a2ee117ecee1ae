"""Compares the sources with the store: files to read, moved and removed files, and deletions to confirm. Writes nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest.report import IngestReport, PendingDeletion, PlannedChange
from ingest.sources import FoundFile, Registry, Source, note_ids, scan
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.os_errors import explanation
from kb.store.queries import FileRecord

ALL_SOURCES = "*"  # as the name of a source
_UNKNOWN_TIME = -1  # forces a comparison of the bytes next time
_TICK_NS = 2_000_000_000  # the coarsest file time (FAT)
_MIN_NOTES, _MIN_NOTES_FOR_HALF = (
    5,
    20,
)  # below which no loss, and no loss of half, needs confirmation


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file to read with its new record. `change` is added, updated or moved (`moved_from`: the previous path).

    Contains no file contents, because all files together may exceed memory.
    """

    file: FoundFile
    source: Source
    record: FileRecord
    change: str
    moved_from: str = ""


@dataclass(slots=True)
class Plan:
    """`touched`: new records of files that need no reading. `known`: the previous records by path."""

    reread: list[ChangedFile] = field(default_factory=list)
    touched: list[FileRecord] = field(default_factory=list)
    removed: list[FileRecord] = field(default_factory=list)
    known: dict[str, FileRecord] = field(default_factory=dict)


@dataclass(slots=True)
class SourceScan:
    """The files of one source against their records; pairs are (path, reason).

    `changed`: new files and files with another size or time, with their SHA-256. `retained`: paths of known files that are
    ignored or cannot be accessed. `unreadable`: records for new files that cannot be read. `orphaned`: records of a source that
    was removed. `unchanged`: a number of files.
    """

    source: Source
    known: dict[str, FileRecord]
    orphaned: list[FileRecord]
    files: list[FoundFile] = field(default_factory=list)
    changed: list[tuple[FoundFile, str]] = field(default_factory=list)
    missing: list[FileRecord] = field(default_factory=list)
    retained: set[str] = field(default_factory=set)
    unreadable: list[FileRecord] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0


def plan_changes(
    kb: KnowledgeBase,
    sources: Sequence[Source],
    report: IngestReport,
    *,
    forget: Collection[str] = (),
    all_sources: bool = False,
    from_scratch: bool = False,
) -> Plan:
    """The changes of `sources`; the report gets counts, failures and deletions to confirm.

    `forget`: names of sources whose missing notes may be deleted. `all_sources`: `sources` contains every registered source, so
    records outside them are removed too. `from_scratch`: ignores what is known.
    """
    registered = Registry(kb.home).all()
    records = {} if from_scratch else {record.path: record for record in kb.store.files()}
    scans = [scan_source(kb.home, source, registered, records) for source in sources]
    owned = [source.path for source in registered]
    unowned = [record for path, record in records.items() if all_sources and not any(is_below(path, root) for root in owned)]
    moved_from = _find_moves(scans, unowned)
    plan = Plan()
    for scanned in scans:
        plan.known |= scanned.known
        plan.touched += scanned.unreadable
        plan.removed += scanned.orphaned + _remove_missing(scanned, moved_from, forget, report)
        report.failed += scanned.failed
        report.skipped += scanned.skipped
        report.unchanged += scanned.unchanged
    plan.removed += _remove_unowned(unowned, forget, report)
    removed = {record.path for record in plan.removed}
    used_ids = {record.note_id for path, record in records.items() if path not in removed and record.note_id}
    for scanned in scans:
        known = {path: record.note_id for path, record in scanned.known.items()}
        ids = note_ids(scanned.source, scanned.files, known, used_ids - set(known.values()) | _retained_ids(scanned, removed))
        used_ids.update(ids.values())
        for file, sha256 in scanned.changed:
            mtime_ns = file.mtime_ns if _is_settled(file) else _UNKNOWN_TIME
            record = FileRecord(file.path, scanned.source.name, file.size, mtime_ns, sha256, ids[file.path])
            previous = plan.known.get(file.path)
            if previous and previous.sha256 == sha256 and not previous.failure:
                record = replace(record, warnings=previous.warnings)
                plan.touched += [record] if record != previous else []
                report.unchanged += 1
                continue
            change = "updated" if previous and previous.note_id else "moved" if file.path in moved_from else "added"
            plan.reread.append(ChangedFile(file, scanned.source, record, change, moved_from.get(file.path, "")))
    _count(plan, moved_from, report)
    return plan


def update_record(record: FileRecord, data: bytes) -> FileRecord:
    """The record of the bytes that were read, in case the file changed after the comparison."""
    sha256 = hashlib.sha256(data).hexdigest()
    return record if sha256 == record.sha256 else replace(record, size=len(data), mtime_ns=_UNKNOWN_TIME, sha256=sha256)


def nested_sources(source: Source, registered: Iterable[Source]) -> list[Source]:
    """The registered sources inside a source, to which the files in them belong."""
    return [other for other in registered if other.path != source.path and other.path.is_relative_to(source.path)]


def imported_folder(home: Path) -> Path:
    """The folder of the Markdown made from pages and PDFs: in the home, but not a source."""
    return home.resolve() / "notes" / "imported"


def is_below(path: str, folder: str | Path) -> bool:
    """Whether a path is a folder or inside it, by its spelling."""
    return path == str(folder) or path.startswith(str(folder).rstrip("/") + "/")


def scan_source(home: Path, source: Source, registered: Sequence[Source], records: Mapping[str, FileRecord]) -> SourceScan:
    """Compares the files of a source with `records` (by path). A source or a folder that is not accessible keeps its
    records."""
    nested = [*nested_sources(source, registered), Source("imported", imported_folder(home))]

    def belongs(path: str) -> bool:
        return is_below(path, source.path) and not any(is_below(path, other.path) for other in nested)

    own = {path: record for path, record in records.items() if belongs(path)}
    known = {path: record for path, record in own.items() if record.source == source.name}
    scanned = SourceScan(source, known, [record for path, record in own.items() if path not in known])
    try:
        listing = scan(source)
    except PasskbError as error:
        scanned.failed.append((str(source.path), str(error)))
        scanned.retained.update(known)
        return scanned
    scanned.failed += listing.inaccessible
    scanned.skipped = [entry for entry in listing.skipped if belongs(entry[0])]
    scanned.retained = {path for path in known if any(is_below(path, folder) for folder, _ in listing.inaccessible)}
    present = set(scanned.retained)
    scanned.retained.update(path for path, _ in scanned.skipped)
    present.update(file.path for file in listing.files if belongs(file.path) and _compare_file(file, scanned))
    scanned.missing = [record for path, record in known.items() if path not in present]
    return scanned


def _compare_file(file: FoundFile, scanned: SourceScan) -> bool:
    """Compares one file with its record; False when the file no longer exists.

    A file that cannot be read keeps its note. An unchanged file that failed before is not read again.
    """
    record = scanned.known.get(file.path)
    if record and (record.size, record.mtime_ns) == (file.size, file.mtime_ns):
        if record.failure:
            scanned.failed.append((file.path, record.failure))
        else:
            scanned.unchanged += 1
            scanned.files.append(file)
        return True
    try:
        sha256 = _sha256(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        is_known = bool(record and record.note_id)
        reason = f"cannot be read {explanation(error, 'check its permissions')}"
        scanned.failed.append((file.path, reason + ("; its indexed note is kept" if is_known else "")))
        if not is_known:
            scanned.unreadable.append(FileRecord(file.path, scanned.source.name, file.size, _UNKNOWN_TIME, "", "", reason))
        return True
    scanned.files.append(file)
    scanned.changed.append((file, sha256))
    return True


def _sha256(file: FoundFile) -> str:
    with open(file.path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_settled(file: FoundFile) -> bool:
    """Whether a later change of the file would change its time: not within one tick of the file system's clock."""
    return time.time_ns() - file.written_ns > _TICK_NS


def _find_moves(scans: Sequence[SourceScan], unowned: Sequence[FileRecord]) -> dict[str, str]:
    """New path -> former path of files with the same bytes as a missing one."""
    unmatched: dict[str, list[str]] = {}
    for record in (*(record for scanned in scans for record in scanned.missing), *unowned):
        if record.note_id:
            unmatched.setdefault(record.sha256, []).append(record.path)
    moved_from = {}
    for scanned in scans:
        for file, sha256 in scanned.changed:
            previous = scanned.known.get(file.path)
            if not (previous and previous.note_id) and unmatched.get(sha256):
                moved_from[file.path] = unmatched[sha256].pop(0)
    return moved_from


def _remove_missing(
    scanned: SourceScan, moved_from: dict[str, str], forget: Collection[str], report: IngestReport
) -> list[FileRecord]:
    """The records of missing files, without those that need confirmation because so many are missing at once."""
    moved = set(moved_from.values())
    notes = [record for record in scanned.known.values() if record.note_id]
    missing_notes = [r for r in scanned.missing if r.note_id and r.path not in moved and r.path not in scanned.retained]
    all_missing = len(missing_notes) == len(notes) >= (2 if _is_empty(scanned.source.path) else _MIN_NOTES)
    half_missing = len(notes) >= _MIN_NOTES_FOR_HALF and len(missing_notes) * 2 > len(notes)
    if not (all_missing or half_missing) or scanned.source.name in forget or ALL_SOURCES in forget:
        return scanned.missing
    name, quantity = scanned.source.name, f"all {len(notes)}" if all_missing else f"{len(missing_notes)} of {len(notes)}"
    reason = (
        f"{quantity} notes are missing at once and stay indexed: if the folder is not mounted, mount it and sync again; "
        f"if you deleted them, run `passkb sync --forget {name}`"
    )
    report.pending_deletions.append(PendingDeletion(name, str(scanned.source.path), len(missing_notes), reason))
    pending = {record.path for record in missing_notes}
    return [record for record in scanned.missing if record.path not in pending]


def _is_empty(folder: Path) -> bool:
    """Whether it is an empty folder, like the mount point of a disk."""
    try:
        return folder.is_dir() and not any(folder.iterdir())
    except OSError:
        return False


def _remove_unowned(unowned: Sequence[FileRecord], forget: Collection[str], report: IngestReport) -> list[FileRecord]:
    by_source: dict[str, list[FileRecord]] = {}
    for record in unowned:
        by_source.setdefault(record.source, []).append(record)
    removed: list[FileRecord] = []
    for name, records in by_source.items():
        notes = [record for record in records if record.note_id]
        if len(notes) < _MIN_NOTES or name in forget or ALL_SOURCES in forget:
            removed += records
            continue
        folder = str(Path(records[0].path).parent)
        reason = (
            f"{len(notes)} notes of a source that is no longer registered stay indexed: ingest it again, "
            f"or run `passkb sync --forget {name}`"
        )
        report.pending_deletions.append(PendingDeletion(name, folder, len(notes), reason))
    return removed


def _retained_ids(scanned: SourceScan, removed: Collection[str]) -> set[str]:
    """Ids in use by notes whose files are missing but not removed."""
    present = {file.path for file in scanned.files}
    return {r.note_id for path, r in scanned.known.items() if r.note_id and path not in present and path not in removed}


def _count(plan: Plan, moved_from: dict[str, str], report: IngestReport) -> None:
    moved, reread = set(moved_from.values()), {entry.file.path for entry in plan.reread}
    for entry in plan.reread:
        report.count(entry.change, 1)
        report.planned.append(PlannedChange(entry.file.path, entry.change, entry.moved_from))
    for record in plan.removed:
        if record.note_id and record.path not in moved and record.path not in reread:
            report.deleted += 1
            report.planned.append(PlannedChange(record.path, "deleted"))
