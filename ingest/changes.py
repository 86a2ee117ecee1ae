"""What differs between the sources and the store: what to read, what moved, what is gone, and what had better be asked about.

Reads files and records; writes nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest.report import IngestReport, PendingDeletion, PlannedChange
from ingest.sources import FoundFile, Registry, Source, note_ids, scan
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.os_errors import explanation
from kb.store.queries import FileRecord

ALL_SOURCES = "*"  # among names of sources: all of them
_UNKNOWN = -1  # as a time: compare the bytes next time
_TICK_NS = 2_000_000_000  # the coarsest clock of a file system (FAT's)
_FEW, _MANY = 5, 20


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file to be read: the record it gets, and whether it was added, updated or moved (`former`: from where). Its bytes are
    not held: all files together may be larger than memory."""

    file: FoundFile
    source: Source
    record: FileRecord
    change: str
    former: str = ""


@dataclass(slots=True)
class Plan:
    """`touched`: records to be put, of files that need no reading. `known`: what was known, by path."""

    reread: list[ChangedFile] = field(default_factory=list)
    touched: list[FileRecord] = field(default_factory=list)
    gone: list[FileRecord] = field(default_factory=list)
    known: dict[str, FileRecord] = field(default_factory=dict)


@dataclass(slots=True)
class _Look:
    """One source as it was known and as it was found. `standing`: paths that are left out or cannot be seen."""

    source: Source
    mine: dict[str, FileRecord]
    files: list[FoundFile] = field(default_factory=list)
    fresh: list[tuple[FoundFile, str]] = field(default_factory=list)
    missing: list[FileRecord] = field(default_factory=list)
    standing: set[str] = field(default_factory=set)


def plan_changes(
    kb: KnowledgeBase,
    sources: Sequence[Source],
    report: IngestReport,
    *,
    forget: Collection[str] = (),
    whole: bool = False,
    anew: bool = False,
) -> Plan:
    """`forget`: names of sources whose missing notes are given up. `whole`: `sources` are all that are registered, so what
    belongs to none of them is given up too. `anew`: as if nothing were known.
    """
    plan = Plan()
    registered = Registry(kb.home).all()
    records = {} if anew else {record.path: record for record in kb.store.files()}
    looks = [_look(kb, source, registered, records, plan, report) for source in sources]
    strays = list(_strays(kb, registered, records)) if whole else []
    former = _moved(looks, strays)
    held: set[str] = set()
    for look in looks:
        plan.gone += _given_up(look, former, forget, held, report)
    plan.gone += _strays_given_up(strays, forget, held, report)
    gone = {record.path for record in plan.gone}
    taken = {record.note_id for path, record in records.items() if path not in gone and record.note_id}
    for look in looks:
        known = {path: record.note_id for path, record in look.mine.items()}
        ids = note_ids(look.source, look.files, known, taken - set(known.values()) | _kept(look, gone))
        taken.update(ids.values())
        for file, sha256 in look.fresh:
            time_known = file.mtime_ns if _settled(file) else _UNKNOWN
            record = FileRecord(file.path, look.source.name, file.size, time_known, sha256, ids[file.path])
            was = plan.known.get(file.path)
            if was and was.sha256 == sha256 and not was.failure:
                record = replace(record, warnings=was.warnings)
                plan.touched += [record] if record != was else []
                report.unchanged += 1
                continue
            change = "updated" if was and was.note_id else "moved" if file.path in former else "added"
            plan.reread.append(ChangedFile(file, look.source, record, change, former.get(file.path, "")))
    _count(plan, former, report)
    return plan


def update_record(record: FileRecord, data: bytes) -> FileRecord:
    """The record of what was read in the end, should the file have changed since it was compared."""
    sha256 = hashlib.sha256(data).hexdigest()
    return record if sha256 == record.sha256 else replace(record, size=len(data), mtime_ns=_UNKNOWN, sha256=sha256)


def nested_sources(source: Source, registered: Iterable[Source]) -> list[Source]:
    """The sources within a source: what stands in them is theirs."""
    return [other for other in registered if other.path != source.path and other.path.is_relative_to(source.path)]


def imported_folder(home: Path) -> Path:
    """Where the Markdown made of pages and PDFs stands: in the home, but no source."""
    return home.resolve() / "notes" / "imported"


def _belongs(path: str, source: Source, inner: Iterable[Source]) -> bool:
    return _below(path, source.path) and not any(_below(path, other.path) for other in inner)


def _below(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(str(folder).rstrip("/") + "/")


def _look(
    kb: KnowledgeBase,
    source: Source,
    registered: Sequence[Source],
    records: dict[str, FileRecord],
    plan: Plan,
    report: IngestReport,
) -> _Look:
    inner = [*nested_sources(source, registered), Source("imported", imported_folder(kb.home))]
    mine = {path: record for path, record in records.items() if _belongs(path, source, inner)}
    look = _Look(source, {path: record for path, record in mine.items() if record.source == source.name})
    plan.gone += [record for record in mine.values() if record.source != source.name]  # a forgotten one's
    plan.known |= look.mine
    try:
        found = scan(source)
    except PasskbError as error:
        report.failed.append((str(source.path), str(error)))
        look.standing.update(look.mine)
        return look
    report.failed.extend(found.closed)
    look.standing.update(path for path in look.mine if any(_below(path, Path(closed)) for closed, _ in found.closed))
    skipped = [entry for entry in found.skipped if _belongs(entry[0], source, inner)]
    report.skipped.extend(skipped)
    seen = set(look.standing)
    look.standing.update(path for path, _ in skipped)
    for file in found.files:
        if _belongs(file.path, source, inner) and _read(file, look, report, plan):
            seen.add(file.path)
    look.missing = [record for path, record in look.mine.items() if path not in seen]
    return look


def _read(file: FoundFile, look: _Look, report: IngestReport, plan: Plan) -> bool:
    """Notes what is new in a file; False when it is gone by now. One that cannot be read keeps what is known of it, and one
    that is as it was when no note could be made of it is not read again."""
    record = look.mine.get(file.path)
    if record and (record.size, record.mtime_ns) == (file.size, file.mtime_ns):
        if record.failure:
            report.failed.append((file.path, record.failure))
        else:
            report.unchanged += 1
            look.files.append(file)
        return True
    try:
        sha256 = _sha256(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        kept = bool(record and record.note_id)
        reason = f"cannot be read {explanation(error, 'check its permissions')}"
        report.failed.append((file.path, reason + ("; what was known of it is kept" if kept else "")))
        if not kept:
            plan.touched.append(FileRecord(file.path, look.source.name, file.size, _UNKNOWN, "", "", reason))
        return True
    look.files.append(file)
    look.fresh.append((file, sha256))
    return True


def _sha256(file: FoundFile) -> str:
    with open(file.path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _settled(file: FoundFile) -> bool:
    """Whether a later change of the file would show in its time; not while the clock may stand where it stood."""
    return time.time_ns() - file.written_ns > _TICK_NS


def _strays(kb: KnowledgeBase, registered: Sequence[Source], records: dict[str, FileRecord]) -> Iterator[FileRecord]:
    """What is known of files that stand in no registered source."""
    for path, record in records.items():
        if not any(_below(path, source.path) for source in registered):
            yield record


def _moved(looks: Sequence[_Look], strays: Sequence[FileRecord]) -> dict[str, str]:
    """New path -> former path, for files that are gone and whose bytes are at one new place."""
    left: dict[str, list[str]] = {}
    for record in (*(record for look in looks for record in look.missing), *strays):
        if record.note_id:
            left.setdefault(record.sha256, []).append(record.path)
    former = {}
    for look in looks:
        for file, sha256 in look.fresh:
            was = look.mine.get(file.path)
            if not (was and was.note_id) and left.get(sha256):
                former[file.path] = left[sha256].pop(0)
    return former


def _given_up(
    look: _Look, former: dict[str, str], forget: Collection[str], held: set[str], report: IngestReport
) -> list[FileRecord]:
    """The records to be dropped: what is missing, but not when so much is that the folder itself may not be there."""
    moved = set(former.values())
    notes = [record for record in look.mine.values() if record.note_id]
    vanished = [r for r in look.missing if r.note_id and r.path not in moved and r.path not in look.standing]
    all_of_some = len(vanished) == len(notes) >= (2 if _is_empty(look.source.path) else _FEW)
    most_of_many = len(notes) >= _MANY and len(vanished) * 2 > len(notes)
    if not (all_of_some or most_of_many) or look.source.name in forget or ALL_SOURCES in forget:
        return look.missing
    name, amount = look.source.name, f"all {len(notes)}" if all_of_some else f"{len(vanished)} of {len(notes)}"
    reason = (
        f"{amount} notes are gone at once, nothing of them was touched: if the folder is not mounted, put it back and sync "
        f"again; if they were deleted, `passkb sync --forget {name}`"
    )
    report.pending_deletions.append(PendingDeletion(name, str(look.source.path), len(vanished), reason))
    held.update(record.path for record in vanished)
    return [record for record in look.missing if record.path not in held]


def _is_empty(folder: Path) -> bool:
    """As the place is where a disk was mounted."""
    try:
        return folder.is_dir() and not any(folder.iterdir())
    except OSError:
        return False


def _strays_given_up(
    strays: Sequence[FileRecord], forget: Collection[str], held: set[str], report: IngestReport
) -> list[FileRecord]:
    by_source: dict[str, list[FileRecord]] = {}
    for record in strays:
        by_source.setdefault(record.source, []).append(record)
    gone: list[FileRecord] = []
    for name, records in by_source.items():
        notes = [record for record in records if record.note_id]
        if len(notes) < _FEW or name in forget or ALL_SOURCES in forget:
            gone += records
            continue
        folder = str(Path(records[0].path).parent)
        reason = (
            f"{len(notes)} notes of a source that is not registered any more, nothing of them was touched: ingest it again, "
            f"or `passkb sync --forget {name}`"
        )
        report.pending_deletions.append(PendingDeletion(name, folder, len(notes), reason))
    return gone


def _kept(look: _Look, gone: Collection[str]) -> set[str]:
    """Ids that stay taken although their files were not found."""
    present = {file.path for file in look.files}
    return {r.note_id for path, r in look.mine.items() if r.note_id and path not in present and path not in gone}


def _count(plan: Plan, former: dict[str, str], report: IngestReport) -> None:
    moved, reread = set(former.values()), {entry.file.path for entry in plan.reread}
    for entry in plan.reread:
        report.count(entry.change, 1)
        report.planned.append(PlannedChange(entry.file.path, entry.change, entry.former))
    for record in plan.gone:
        if record.note_id and record.path not in moved and record.path not in reread:
            report.deleted += 1
            report.planned.append(PlannedChange(record.path, "deleted"))
