"""From files to a knowledge base: read what changed, resolve its links, embed new text, change everything together."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.chunking import chunk
from ingest.holding import holding
from ingest.links import Name, Names, Resolution, resolve
from ingest.readers.markdown import Reading
from ingest.reading import PAGES, PDF, read_file
from ingest.report import IngestReport
from ingest.sources import FoundFile, Registry, Source, note_ids, printable, scan
from kb.knowledge_base import KnowledgeBase, Progress
from kb.notes import Chunk, PasskbError
from kb.store import Change, FileRecord, Unresolved, passage


@dataclass(slots=True)
class _Plan:
    """What differs between the sources and the store. `reread` holds (file, source, note id, its bytes, its record)."""

    reread: list[tuple[FoundFile, Source, str, bytes, FileRecord]] = field(default_factory=list)
    touched: list[FileRecord] = field(default_factory=list)
    gone: list[FileRecord] = field(default_factory=list)
    known: dict[str, FileRecord] = field(default_factory=dict)


def ingest(kb: KnowledgeBase, paths: Iterable[str | Path], progress: Progress | None = None) -> IngestReport:
    """Registers folders and files and indexes what is new in them. What can not be read is in the report."""
    with holding(kb.home):
        registry, report = Registry(kb.home), IngestReport()
        sources: dict[Path, Source] = {}
        for path in paths:
            if str(path).startswith(("http://", "https://")):
                report.failed.append((str(path), "web addresses can not be read yet: save the page as Markdown or text"))
                continue
            absolute = Path(path).expanduser().absolute()
            if not absolute.exists():
                report.failed.append((printable(path), "no such file or folder: check the spelling"))
            elif printable(absolute.resolve()) != str(absolute.resolve()):
                report.failed.append((printable(path), "its name is not Unicode: rename it"))
            else:
                source = registry.add(absolute.resolve())
                sources |= {inner.path: inner for inner in (source, *_inside(source, registry.all()))}
        return _update(kb, list(sources.values()), report, progress)


def sync(kb: KnowledgeBase, *, dry_run: bool = False, progress: Progress | None = None) -> IngestReport:
    """Reads the registered sources again, only what changed. With `dry_run` nothing is written."""
    registry = Registry(kb.home)
    if dry_run:
        return _update(kb, registry.all(), IngestReport(), progress, dry_run=True)
    with holding(kb.home):
        written_here = kb.home / "notes"
        if written_here.is_dir():
            registry.add(written_here.resolve())
        return _update(kb, registry.all(), IngestReport(), progress)


def rebuild(home: Path, open_kb: type[KnowledgeBase] = KnowledgeBase, progress: Progress | None = None) -> IngestReport:
    """Makes the database and the vector index of a home again, from its sources.

    Raises PasskbError when the home can not be used, or belongs to a newer passkb or to another program; a damaged database
    is simply replaced.
    """
    with holding(home):
        registry = Registry(home)
        sources = registry.all()
        missing = [source.path for source in sources if not source.path.exists()]
        if missing:
            raise PasskbError(f"{missing[0]} is not there: mount it or put it back first, a rebuild would forget its notes")
        try:
            open_kb(home).close()
        except PasskbError as error:
            if type(error.__cause__) is not sqlite3.DatabaseError:
                raise
        for name in ("kb.sqlite", "kb.sqlite-wal", "kb.sqlite-shm"):
            (home / name).unlink(missing_ok=True)
        shutil.rmtree(home / "chroma", ignore_errors=True)
        with open_kb(home) as kb:
            return _update(kb, sources, IngestReport(), progress)


def _update(
    kb: KnowledgeBase,
    sources: Sequence[Source],
    report: IngestReport,
    progress: Progress | None,
    *,
    dry_run: bool = False,
) -> IngestReport:
    started = time.perf_counter()
    if not dry_run:
        kb.settle()
    plan = _compare(kb, sources, report)
    _count(plan, report)
    if not dry_run and (plan.reread or plan.gone or plan.touched):
        _apply(kb, plan, report, progress)
    _describe(kb, report)
    report.seconds = time.perf_counter() - started
    return report


def _compare(kb: KnowledgeBase, sources: Sequence[Source], report: IngestReport) -> _Plan:
    plan = _Plan()
    registered = Registry(kb.home).all()
    records = {record.path: record for name in {s.name for s in sources} for record in kb.store.files(name)}
    seen: set[str] = set()
    for source in sources:
        inner = [*_inside(source, registered), Source("imported", _imported_folder(kb))]
        mine = {path: record for path, record in records.items() if _belongs(path, source, inner)}
        plan.known |= mine
        try:
            found = scan(source)
        except PasskbError as error:
            report.failed.append((str(source.path), str(error)))
            seen.update(mine)
            continue
        report.failed.extend(found.closed)
        seen.update(path for path in mine if any(Path(path).is_relative_to(folder) for folder, _ in found.closed))
        report.skipped.extend(entry for entry in found.skipped if _belongs(entry[0], source, inner))
        files = [file for file in found.files if _belongs(file.path, source, inner)]
        others = [record.note_id for path, record in records.items() if path not in mine]
        ids = note_ids(source, files, {path: record.note_id for path, record in mine.items()}, others)
        for file in files:
            seen.add(file.path)
            _compare_file(plan, file, source, ids[file.path], report)
    plan.gone = [record for path, record in plan.known.items() if path not in seen]
    return plan


def _inside(source: Source, registered: Iterable[Source]) -> list[Source]:
    """The sources within a source: what stands in them is theirs."""
    return [other for other in registered if other.path != source.path and other.path.is_relative_to(source.path)]


def _belongs(path: str, source: Source, inner: Iterable[Source]) -> bool:
    return Path(path).is_relative_to(source.path) and not any(Path(path).is_relative_to(other.path) for other in inner)


def _compare_file(plan: _Plan, file: FoundFile, source: Source, note_id: str, report: IngestReport) -> None:
    record = plan.known.get(file.path)
    if record and (record.size, record.mtime_ns) == (file.size, file.mtime_ns) and not record.failure:
        report.unchanged += 1
        return
    try:
        data = Path(file.path).read_bytes()
    except OSError as error:
        reason = f"can not be read ({error.strerror}): check its permissions"
        failed = FileRecord(file.path, source.name, file.size, -1, "", "", reason)
        plan.touched.append(failed)
        report.failed.append((file.path, reason))
        report.deleted += bool(record and record.note_id)
        return
    sha256 = hashlib.sha256(data).hexdigest()
    fresh = FileRecord(file.path, source.name, file.size, file.mtime_ns, sha256, note_id)
    if record and record.sha256 == sha256 and not record.failure:
        plan.touched.append(fresh)
        report.unchanged += 1
    else:
        plan.reread.append((file, source, note_id, data, fresh))


def _count(plan: _Plan, report: IngestReport) -> None:
    """Added, updated, moved, deleted: a file that is gone and whose bytes are at one new place has moved."""
    left = Counter(record.sha256 for record in plan.gone if record.note_id)
    for file, _, _, _, fresh in plan.reread:
        if file.path in plan.known and plan.known[file.path].note_id:
            report.updated += 1
        elif left[fresh.sha256] > 0:
            left[fresh.sha256] -= 1
            report.moved += 1
        else:
            report.added += 1
    report.deleted += left.total()


def _apply(kb: KnowledgeBase, plan: _Plan, report: IngestReport, progress: Progress | None) -> None:
    entries: list[tuple[Reading, tuple[Chunk, ...]]] = []
    records = list(plan.touched)
    for done, (file, source, note_id, data, fresh) in enumerate(plan.reread, 1):
        try:
            kept_at = _kept_at(kb, fresh)
            read = read_file(data, path=file.path, note_id=note_id, source=source.name, kept_at=kept_at)
            if read.imported:
                kept_at.parent.mkdir(parents=True, exist_ok=True)
                kept_at.write_text(read.imported, encoding="utf-8")
            reading = read.reading
        except Exception as error:  # one bad file never stops the run, whatever its reader makes of it
            _uncount(plan, file, report)
            reason = str(error).removeprefix(f"{file.path}: ")
            if not isinstance(error, PasskbError):
                reason = f"its reader failed ({type(error).__name__}: {reason}): a fault of passkb, please report it"
            report.failed.append((file.path, reason))
            records.append(FileRecord(file.path, source.name, file.size, -1, fresh.sha256, "", reason))
            continue
        report.warnings.extend((file.path, warning) for warning in reading.warnings)
        records.append(FileRecord(*_fields(fresh), warnings=reading.warnings))
        entries.append((reading, chunk(reading.note)))
        if progress and (done % 50 == 0 or done == len(plan.reread)):
            progress("reading", done, len(plan.reread))
    passages = [passage(reading.note, part) for reading, parts in entries for part in parts]
    report.embedded = kb.embed(passages, progress)
    removed = [record.note_id for record in plan.gone if record.note_id]
    failed = {record.path for record in records if record.failure}
    removed += [r.note_id for path, r in plan.known.items() if path in failed and r.note_id]
    with kb.writing() as change:
        for record in plan.gone:
            change.delete_file(record.path)
        for record in records:
            change.put_file(record)
        _rewrite(kb, change, entries, removed)
        if removed or report.updated:
            change.drop_unused_vectors()
    for record in (*plan.gone, *(record for record in records if record.failure)):
        if Path(record.path).suffix.lower() in PAGES | PDF and record.path in plan.known:
            _kept_at(kb, plan.known[record.path]).unlink(missing_ok=True)


def _imported_folder(kb: KnowledgeBase) -> Path:
    return kb.home.resolve() / "notes" / "imported"


def _kept_at(kb: KnowledgeBase, record: FileRecord) -> Path:
    """Where the Markdown that was made of a page or a PDF stands."""
    return _imported_folder(kb) / f"{record.note_id or 'unread'}.md"


def _rewrite(
    kb: KnowledgeBase, change: Change, entries: Sequence[tuple[Reading, tuple[Chunk, ...]]], removed: Sequence[str]
) -> None:
    """Notes in and out, then their links: all links again when a name came, went or changed, else those of `entries`."""
    before = kb.store.names()
    for note_id in removed:
        change.delete_note(note_id)
    for reading, parts in entries:
        change.put_note(reading.note, parts, reading.links)
    after = kb.store.names()
    roots = {source.name: source.root for source in Registry(kb.home).all()}
    names = Names(
        Name(id_, source, _relative(path, roots.get(source)), title, aliases) for id_, source, path, title, aliases in after
    )
    inward = any(link.form == "inward" for reading, _ in entries for link in reading.links) or kb.store.has_inward_links()
    if before == after and not inward:
        resolutions = [resolve(names, reading.note.id, reading.links) for reading, _ in entries]
        of: list[str] | None = [reading.note.id for reading, _ in entries]
    else:
        resolutions, of = (
            [resolve(names, note_id, links) for note_id, links in kb.store.written_by_note().items()],
            None,
        )
    links = [link for resolution in resolutions for link in resolution.links]
    change.set_links(links, _unresolved(resolutions), of)
    change.set_stubs({stub: title for resolution in resolutions for stub, title in resolution.stubs.items()})


def _unresolved(resolutions: Sequence[Resolution]) -> list[Unresolved]:
    out = []
    for resolution in resolutions:
        out += [Unresolved(source, target) for source, target in resolution.dangling]
        out += [Unresolved(source, target, tuple(candidates)) for source, target, candidates in resolution.ambiguous]
    return out


def _relative(path: str, root: Path | None) -> str:
    return Path(path).relative_to(root).as_posix() if root and Path(path).is_relative_to(root) else Path(path).name


def _fields(record: FileRecord) -> tuple[str, str, int, int, str, str]:
    return record.path, record.source, record.size, record.mtime_ns, record.sha256, record.note_id


def _uncount(plan: _Plan, file: FoundFile, report: IngestReport) -> None:
    """A file that turned out unreadable was neither added nor updated; if it was a note before, that note is gone."""
    if file.path in plan.known and plan.known[file.path].note_id:
        report.updated -= 1
        report.deleted += 1
    else:
        report.added -= 1


def _describe(kb: KnowledgeBase, report: IngestReport) -> None:
    kinds, types, _ = kb.store.counts()
    report.stubs = kinds.pop("stub", 0)
    report.notes, report.links = sum(kinds.values()), sum(types.values())
    for entry in kb.store.unresolved():
        if entry.candidates:
            report.ambiguous.append((entry.source, entry.target, entry.candidates))
        else:
            report.dangling.append((entry.source, entry.target))
