"""From files to a knowledge base: read what changed, resolve its links, embed new text, change everything together."""

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
from ingest.lock import PATIENCE, lock_home
from ingest.readers.formats import read_bytes, read_file
from ingest.readers.markdown import ParsedNote
from ingest.report import IngestReport
from ingest.sources import Registry, Source, printable
from kb.files import write_atomic
from kb.knowledge_base import KnowledgeBase, Progress
from kb.notes import Chunk, PasskbError
from kb.store.queries import Transaction, Unresolved, passage
from kb.store.schema import DatabaseDamaged


def ingest(
    kb: KnowledgeBase, paths: Iterable[str | Path], progress: Progress | None = None, *, fetch: Fetch | None = None
) -> IngestReport:
    """Registers folders and files and indexes what is new in them. What cannot be read is in the report.

    What stands at a web address among `paths` is fetched (by `fetch`; by default nothing of a private network is), kept in the
    home and indexed from there.
    """
    paths, report, sources = list(paths), IngestReport(), dict[Path, Source]()
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
            else:
                source = registry.add(absolute.resolve())
                sources |= {inner.path: inner for inner in (source, *nested_sources(source, registry.all()))}
        return _update(kb, list(sources.values()), report, progress)


def _fetch() -> Fetch:
    from ingest.fetch import fetch  # only an address pays for loading an HTTP client

    return fetch


def sync(
    kb: KnowledgeBase,
    *,
    dry_run: bool = False,
    forget: Collection[str] = (),
    progress: Progress | None = None,
    patience: float = PATIENCE,
) -> IngestReport:
    """Reads the registered sources again, only what changed, and makes again what was lost of what is derived from them.
    With `dry_run` nothing is written, and `would` says what would be.

    Where most notes of a source are gone at once, they are kept and `held` says so, unless `forget` names the source, or is
    EVERY. Raises PasskbError for a name in `forget` that is none, and when another process holds the home for longer than
    `patience` seconds.
    """
    registry = Registry(kb.home)
    _check_names(kb, forget)
    if dry_run:
        with kb.store.reading():
            return _update(kb, registry.all(), IngestReport(dry_run=True), progress, forget=forget, whole=True)
    with lock_home(kb.home, patience=patience):
        registry.renew()
        written_here = kb.home / "notes"
        if written_here.is_dir():
            registry.add(written_here.resolve())
        return _update(kb, registry.all(), IngestReport(), progress, forget=forget, whole=True)


def forget(kb: KnowledgeBase, name: str, progress: Progress | None = None) -> IngestReport:
    """Unregisters the sources of that name and drops their notes; the files stay as they are.

    Raises PasskbError when there is none. A process killed in between leaves notes that the next sync asks about.
    """
    with lock_home(kb.home):
        _check_names(kb, [name])
        registry = Registry(kb.home)
        registry.renew()
        registry.remove(name)
        return _update(kb, registry.all(), IngestReport(), progress, forget=[name], whole=True)


def _check_names(kb: KnowledgeBase, given: Collection[str]) -> None:
    names = {source.name for source in Registry(kb.home).all()} | {record.source for record in kb.store.files()}
    for name in given:
        if name != ALL_SOURCES and name not in names:
            raise PasskbError(f"no source is called {name!r}: there are {', '.join(sorted(names)) or 'none'}")


def rebuild(home: Path, open_kb: type[KnowledgeBase] = KnowledgeBase, progress: Progress | None = None) -> IngestReport:
    """Makes the database and the vector index of a home again, from its sources.

    Whoever has the home open goes on with the old state until the new one takes its place in one transaction; so does a home
    whose rebuild is killed. A damaged database is replaced. Raises PasskbError when the home cannot be used, belongs to a
    newer passkb or to another program, or when a rebuild would forget notes because their folder is not there.
    """
    with lock_home(home):
        Registry(home).renew()
        sources = Registry(home).all()
        missing = [source.path for source in sources if not source.path.exists()]
        if missing:
            raise PasskbError(f"{missing[0]} is not there: mount it or put it back first, a rebuild would forget its notes")
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
                held = IngestReport()
                plan_changes(kb, sources, held, whole=True)
                if held.pending_deletions:
                    raise PasskbError(
                        f"{held.pending_deletions[0].path}: {held.pending_deletions[0].reason}. A rebuild would forget them"
                    )
            return _update(kb, sources, IngestReport(), progress, whole=True, anew=True)


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
    whole: bool = False,
    anew: bool = False,
) -> IngestReport:
    started = time.perf_counter()
    plan = plan_changes(kb, sources, report, forget=forget, whole=whole, anew=anew)
    if not report.dry_run:
        if anew or plan.reread or plan.gone or plan.touched:
            _apply(kb, plan, report, progress, anew)
        kb.embed_missing(progress)
        _settle(kb, report)
        if whole:
            remove_leftovers(kb)
            mark_sources_read(kb, sources, report)
    _describe(kb, report)
    report.seconds = time.perf_counter() - started
    return report


def _settle(kb: KnowledgeBase, report: IngestReport) -> None:
    """The vector index last: what it cannot take is in the report, and all else is kept and can be searched."""
    try:
        if kb.sync_index():
            report.warnings.append((str(kb.index.folder), "was damaged, and has been made again from what is known"))
    except PasskbError as error:
        report.failed.append((str(kb.index.folder), str(error)))


def _apply(kb: KnowledgeBase, plan: Plan, report: IngestReport, progress: Progress | None, anew: bool) -> None:
    entries: list[tuple[ParsedNote, tuple[Chunk, ...]]] = []
    records, pages = list(plan.touched), PageStore(kb.home)
    before = [] if anew else _names(kb)
    for done, entry in enumerate(plan.reread, 1):
        path, place, record = entry.file.path, markdown_path(kb.home, entry.record), entry.record
        try:
            data = read_bytes(path, entry.file.size)
            record = update_record(record, data)
            read = read_file(
                data,
                path=path,
                note_id=record.note_id,
                source=entry.source.name,
                kept_at=place,
                origin=pages.origin(path),
            )
        except OSError as error:  # it could be a moment ago: what was known of it is kept for the next sync
            report.count(entry.change, -1)
            report.failed.append((path, f"cannot be read any more ({error.strerror}): sync again"))
            continue
        except Exception as error:  # one bad file never stops the run, whatever its reader makes of it
            report.count(entry.change, -1)
            report.deleted += entry.change != "added"
            reason = str(error).removeprefix(f"{path}: ")
            if not isinstance(error, PasskbError):
                reason = f"its reader failed ({type(error).__name__}: {reason}): a fault of passkb, please report it"
            report.failed.append((path, reason))
            lasts = isinstance(error, PasskbError) and not isinstance(error.__cause__, ImportError)
            records.append(replace(record, mtime_ns=record.mtime_ns if lasts else -1, note_id="", failure=reason))
            continue
        reading = read.reading
        if read.imported:
            write_atomic(place, read.imported, durable=False)
        report.warnings.extend((path, warning) for warning in reading.warnings)
        records.append(replace(record, warnings=reading.warnings))
        entries.append((reading, chunk(reading.note)))
        if progress and (done % 50 == 0 or done == len(plan.reread)):
            progress("reading", done, len(plan.reread))
    passages = [passage(reading.note, part) for reading, parts in entries for part in parts]
    report.embedded = kb.embed(passages, progress, recompute=anew)
    failed = {record.path for record in records if record.failure}
    former = [*plan.gone, *(record for path, record in plan.known.items() if path in failed)]
    removed = [record.note_id for record in former if record.note_id]
    with kb.store.writing() as change:
        if anew:
            change.clear()
        for record in plan.gone:
            change.delete_file(record.path)
        for record in records:
            change.put_file(record)
        if anew or entries or removed:
            _rewrite(kb, change, entries, removed, before)
            change.drop_unused_vectors()
    if former:
        remove_orphans(kb)


def _names(kb: KnowledgeBase) -> list[Name]:
    """What can be linked. A page or a PDF is called as its own file is, not as the Markdown that was made of it."""
    roots = {source.name: source.root for source in Registry(kb.home).all()}
    files = {record.note_id: record.path for record in kb.store.files()}
    return [
        Name(id_, source, _relative(files.get(id_, path), roots.get(source)), title, aliases)
        for id_, source, path, title, aliases in kb.store.names()
    ]


def _rewrite(
    kb: KnowledgeBase,
    change: Transaction,
    entries: Sequence[tuple[ParsedNote, tuple[Chunk, ...]]],
    removed: Sequence[str],
    before: Sequence[Name],
) -> None:
    """Notes in and out, then their links: all links again when a name came, went or changed, else those of `entries`."""
    for note_id in removed:
        change.delete_note(note_id)
    for reading, parts in entries:
        change.put_note(reading.note, parts, reading.links)
    after = _names(kb)
    names = Names(after)
    inward = any(link.form == "inward" for reading, _ in entries for link in reading.links) or kb.store.has_inward_links()
    if before == after and not inward:
        resolutions = [resolve(names, reading.note.id, reading.links) for reading, _ in entries]
        of: list[str] | None = [reading.note.id for reading, _ in entries]
    else:
        resolutions, of = (
            [resolve(names, note_id, links) for note_id, links in kb.store.written_links().items()],
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


def _describe(kb: KnowledgeBase, report: IngestReport) -> None:
    kinds, types, _ = kb.store.counts()
    report.stubs = kinds.pop("stub", 0)
    report.notes, report.links = sum(kinds.values()), sum(types.values())
    for entry in kb.store.unresolved():
        if entry.candidates:
            report.ambiguous.append((entry.source, entry.target, entry.candidates))
        else:
            report.dangling.append((entry.source, entry.target))
