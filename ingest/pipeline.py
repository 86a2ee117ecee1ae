"""Indexes sources: reads changed files, resolves links, embeds new text and stores everything in one transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ingest.changes import ALL_SOURCES, Plan, nested_sources, plan_changes, update_record
from ingest.chunking import chunk
from ingest.completeness import is_database_lost, mark_sources_read
from ingest.fetched_pages import Fetch, PageStore, is_address, store_pages
from ingest.imported_notes import markdown_path, remove_leftovers, remove_orphans
from ingest.links import Name, Names, Resolution, resolve
from ingest.lock import TIMEOUT_S, lock_home
from ingest.mentions import update_mentions
from ingest.readers.formats import NATIVE, read_bytes, read_file
from ingest.readers.llama_index import ReaderError, load_reader
from ingest.readers.markdown import ParsedNote
from ingest.report import IngestReport
from ingest.sources import Registry, Source, printable
from kb.files import write_atomic
from kb.knowledge_base import KnowledgeBase, Progress
from kb.notes import Chunk, PasskbError
from kb.store.queries import FileRecord, Transaction, Unresolved, passage
from kb.store.schema import DatabaseDamaged

_Entry = tuple[ParsedNote, tuple[Chunk, ...]]


def ingest(
    kb: KnowledgeBase,
    paths: Iterable[str | Path],
    progress: Progress | None = None,
    *,
    fetch: Fetch | None = None,
    reader: str = "",
) -> IngestReport:
    """Registers folders and files and indexes what is new in them. The report lists what cannot be read.

    Pages at web addresses among `paths` are fetched (by `fetch`; by default not from private networks), stored in the home and
    indexed from there. `reader`: PACKAGE:CLASS of a llama-index reader for files in other formats.
    """
    paths, report, sources = list(paths), IngestReport(), dict[Path, Source]()
    if reader:
        load_reader(reader)
    if addresses := list(dict.fromkeys(str(path) for path in paths if is_address(path))):
        pages, failed = store_pages(kb.home, addresses, fetch or _fetch(), progress)
        report.failed.extend(failed)
        sources |= {pages.path: pages} if pages else {}
    with lock_home(kb.home):
        registry = Registry(kb.home)
        registry.renew()
        if is_database_lost(kb, registry):
            sources |= {source.path: source for source in registry.all()}
        for path in paths:
            if is_address(path):
                continue
            absolute = Path(path).expanduser().absolute()
            if not absolute.exists():
                report.failed.append((printable(path), "no such file or folder: check the spelling"))
            elif printable(absolute.resolve()) != str(absolute.resolve()):
                report.failed.append((printable(path), "its name is not Unicode: rename it"))
            elif reader and (absolute.is_dir() or absolute.suffix.lower() in NATIVE):
                report.failed.append((printable(path), "a reader is for files in formats that passkb does not read itself"))
            else:
                source = registry.add(absolute.resolve(), reader=reader)
                sources |= {inner.path: inner for inner in (source, *nested_sources(source, registry.all()))}
        return _update(kb, list(sources.values()), report, progress)


def _fetch() -> Fetch:
    from ingest.fetch import fetch  # loads an HTTP client, which only addresses need

    return fetch


def sync(
    kb: KnowledgeBase,
    *,
    dry_run: bool = False,
    forget: Collection[str] = (),
    progress: Progress | None = None,
    timeout: float = TIMEOUT_S,
) -> IngestReport:
    """Indexes changed files of the registered sources and recreates lost derived data. With `dry_run` nothing is written, and
    the report's `planned` lists the changes.

    When most notes of a source are missing at once, they stay indexed and the report's `pending_deletions` names them, unless
    `forget` contains the source or ALL_SOURCES. Raises PasskbError for an unknown name in `forget`, and when another process
    locks the home for longer than `timeout` seconds.
    """
    registry = Registry(kb.home)
    _check_names(kb, forget)
    if dry_run:
        with kb.store.reading():
            return _update(kb, registry.all(), IngestReport(dry_run=True), progress, forget=forget, all_sources=True)
    with lock_home(kb.home, timeout=timeout):
        registry.renew()
        app_notes = kb.home / "notes"
        if app_notes.is_dir():
            registry.add(app_notes.resolve())
        return _update(kb, registry.all(), IngestReport(), progress, forget=forget, all_sources=True)


def forget(kb: KnowledgeBase, name: str, progress: Progress | None = None) -> IngestReport:
    """Unregisters the sources called `name` and removes their notes from the index; their files stay unchanged.

    Raises PasskbError when there is none. After an interruption the next sync asks to confirm the deletion.
    """
    with lock_home(kb.home):
        _check_names(kb, [name])
        registry = Registry(kb.home)
        registry.renew()
        registry.remove(name)
        return _update(kb, registry.all(), IngestReport(), progress, forget=[name], all_sources=True)


def _check_names(kb: KnowledgeBase, requested: Collection[str]) -> None:
    names = {source.name for source in Registry(kb.home).all()} | {record.source for record in kb.store.files()}
    for name in requested:
        if name != ALL_SOURCES and name not in names:
            raise PasskbError(f"there is no source {name!r}: the sources are {', '.join(sorted(names)) or 'none'}")


def rebuild(home: Path, open_kb: type[KnowledgeBase] = KnowledgeBase, progress: Progress | None = None) -> IngestReport:
    """Recreates the database and the vector index of a home from its sources.

    Other processes keep the old state until the new one replaces it in one transaction; an interrupted rebuild changes
    nothing. A damaged database is replaced. Raises PasskbError when the home cannot be used, belongs to a newer passkb or
    another program, or when a rebuild would lose notes because their folder is missing.
    """
    with lock_home(home):
        Registry(home).renew()
        sources = Registry(home).all()
        missing = [source.path for source in sources if not source.path.exists()]
        if missing:
            raise PasskbError(f"{missing[0]} is missing: mount or restore it first, because a rebuild would lose its notes")
        try:
            kb = open_kb(home)
        except DatabaseDamaged:
            _discard(home)
            kb = open_kb(home)
        with kb:
            if kb.store.database.find_damage():
                kb.close()
                _discard(home)
            else:
                check = IngestReport()
                plan_changes(kb, sources, check, all_sources=True)
                for deletion in check.pending_deletions:
                    raise PasskbError(f"{deletion.path}: {deletion.reason}. A rebuild would lose them")
            return _update(kb, sources, IngestReport(), progress, all_sources=True, from_scratch=True)


def _discard(home: Path) -> None:
    for name in ("kb.sqlite", "kb.sqlite-wal", "kb.sqlite-shm"):
        (home / name).unlink(missing_ok=True)


def _update(
    kb: KnowledgeBase,
    sources: Sequence[Source],
    report: IngestReport,
    progress: Progress | None,
    *,
    forget: Collection[str] = (),
    all_sources: bool = False,
    from_scratch: bool = False,
) -> IngestReport:
    started = time.perf_counter()
    plan = plan_changes(kb, sources, report, forget=forget, all_sources=all_sources, from_scratch=from_scratch)
    if not report.dry_run:
        mentions_unknown = not kb.store.meta("mentions")  # a home of an earlier version
        if from_scratch or plan.reread or plan.removed or plan.touched or mentions_unknown:
            _apply(kb, plan, report, progress, from_scratch)
        kb.embed_missing(progress)
        _sync_index(kb, report)
        if all_sources:
            remove_leftovers(kb)
            mark_sources_read(kb, sources, report)
    _describe(kb, report)
    report.seconds = time.perf_counter() - started
    return report


def _sync_index(kb: KnowledgeBase, report: IngestReport) -> None:
    """Updates the vector index. A failure goes into the report; the notes are stored and searchable without it."""
    try:
        if kb.sync_index():
            report.warnings.append((str(kb.index.folder), "was damaged and has been rebuilt"))
    except PasskbError as error:
        report.failed.append((str(kb.index.folder), str(error)))


def _apply(kb: KnowledgeBase, plan: Plan, report: IngestReport, progress: Progress | None, from_scratch: bool) -> None:
    before = [] if from_scratch else _names(kb)
    entries, records = _read_files(kb, plan, report, progress)
    passages = [passage(parsed.note, part) for parsed, parts in entries for part in parts]
    report.embedded = kb.embed(passages, progress, recompute=from_scratch)
    failed = {record.path for record in records if record.failure}
    obsolete = [*plan.removed, *(record for path, record in plan.known.items() if path in failed)]
    removed_ids = [record.note_id for record in obsolete if record.note_id]
    with kb.store.writing() as transaction:
        if from_scratch:
            transaction.clear()
        for record in plan.removed:
            transaction.delete_file(record.path)
        for record in records:
            transaction.put_file(record)
        if from_scratch or entries or removed_ids or not kb.store.meta("mentions"):
            _write_notes(kb, transaction, entries, removed_ids, before)
            transaction.drop_unused_vectors()
    if obsolete:
        remove_orphans(kb)


def _read_files(
    kb: KnowledgeBase, plan: Plan, report: IngestReport, progress: Progress | None
) -> tuple[list[_Entry], list[FileRecord]]:
    """The changed files as notes with their chunks, and the records of all files whose record changes."""
    entries: list[_Entry] = []
    records, pages = list(plan.touched), PageStore(kb.home)
    for done, changed in enumerate(plan.reread, 1):
        path, target, record = changed.file.path, markdown_path(kb.home, changed.record), changed.record
        try:
            data = read_bytes(path, changed.file.size)
            record = update_record(record, data)
            result = read_file(
                data,
                path=path,
                note_id=record.note_id,
                source=changed.source.name,
                markdown_path=target,
                origin=pages.origin(path),
                reader=changed.source.reader,
            )
        except OSError as error:  # it was readable a moment ago: keep its indexed note until the next sync
            report.count(changed.change, -1)
            report.failed.append((path, f"can no longer be read ({error.strerror}): sync again"))
            continue
        except Exception as error:  # a bad file must not stop the run, whatever its reader raises
            report.count(changed.change, -1)
            report.deleted += changed.change != "added"
            reason = str(error).removeprefix(f"{path}: ")
            if not isinstance(error, PasskbError):
                reason = f"its reader failed ({type(error).__name__}: {reason}): please report this bug of passkb"
            report.failed.append((path, reason))
            is_permanent = isinstance(error, PasskbError) and not isinstance(error.__cause__, ImportError)
            is_permanent &= not isinstance(error, ReaderError)
            records.append(replace(record, mtime_ns=record.mtime_ns if is_permanent else -1, note_id="", failure=reason))
            continue
        parsed = result.parsed
        if result.markdown:
            write_atomic(target, result.markdown, durable=False)
        report.warnings.extend((path, warning) for warning in parsed.warnings)
        records.append(replace(record, warnings=parsed.warnings))
        entries.append((parsed, chunk(parsed.note)))
        if progress and (done % 50 == 0 or done == len(plan.reread)):
            progress("reading", done, len(plan.reread))
    return entries, records


def _names(kb: KnowledgeBase) -> list[Name]:
    """The names by which notes can be linked. Pages and PDFs are called by their own files, not by the Markdown made from
    them."""
    roots = {source.name: source.root for source in Registry(kb.home).all()}
    files = {record.note_id: record.path for record in kb.store.files()}
    return [
        Name(id_, source, _relative(files.get(id_, path), roots.get(source)), title, aliases)
        for id_, source, path, title, aliases in kb.store.names()
    ]


def _write_notes(
    kb: KnowledgeBase, transaction: Transaction, entries: Sequence[_Entry], removed_ids: Sequence[str], before: Sequence[Name]
) -> None:
    """Removes and stores notes, then resolves the links of `entries`, or all links when any name has changed since `before`."""
    for note_id in removed_ids:
        transaction.delete_note(note_id)
    for parsed, parts in entries:
        transaction.put_note(parsed.note, parts, parsed.links)
    after = _names(kb)
    names = Names(after)
    inward = any(link.form == "inward" for parsed, _ in entries for link in parsed.links) or kb.store.has_inward_links()
    writers: list[str] | None = None
    if before == after and not inward:
        resolutions = [resolve(names, parsed.note.id, parsed.links) for parsed, _ in entries]
        writers = [parsed.note.id for parsed, _ in entries]
    else:
        resolutions = [resolve(names, note_id, links) for note_id, links in kb.store.written_links().items()]
    links = [link for resolution in resolutions for link in resolution.links]
    transaction.set_links(links, _unresolved(resolutions), writers)
    changed = [reading.note.id for reading, _ in entries]
    update_mentions(kb, transaction, changed, before if kb.store.meta("mentions") else [], after)
    transaction.set_stubs({stub: title for resolution in resolutions for stub, title in resolution.stubs.items()})


def _unresolved(resolutions: Sequence[Resolution]) -> list[Unresolved]:
    out = []
    for resolution in resolutions:
        out += [Unresolved(source, target) for source, target in resolution.dangling]
        out += [Unresolved(source, target, tuple(candidates)) for source, target, candidates in resolution.ambiguous]
    return out


def _relative(path: str, root: Path | None) -> str:
    return Path(path).relative_to(root).as_posix() if root and Path(path).is_relative_to(root) else Path(path).name


def _describe(kb: KnowledgeBase, report: IngestReport) -> None:
    kinds, types, _ = kb.store.counts()
    report.stubs = kinds.pop("stub", 0)
    report.notes, report.links = sum(kinds.values()), sum(types.values())
    for entry in kb.store.unresolved():
        if entry.candidates:
            report.ambiguous.append((entry.source, entry.target, entry.candidates))
        else:
            report.dangling.append((entry.source, entry.target))
