"""Watches the registered sources, and syncs when their files change."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from watchfiles import Change, watch

from ingest.ignore import IGNORE_FILE, OBSIDIAN_SETTINGS
from ingest.readers.formats import READABLE
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.log import logger
from service.web.indexing_progress import Indexing

_log = logger("watch")
_DEBOUNCE_MS = 1_600
_CHECK_SECONDS = 5.0  # between two looks at which sources are registered


def change_filter(roots: Iterable[Path]) -> Callable[[Change, str], bool]:
    """Accepts changes of readable files, of ignore rules and of folders (a moved folder reports no changes of its files).

    Rejects hidden files below `roots`, which are not indexed."""
    innermost_first = sorted(map(str, roots), key=len, reverse=True)

    def is_relevant(change: Change, path: str) -> bool:
        root = next((root for root in innermost_first if path == root or path.startswith(root.rstrip("/") + "/")), "/")
        parts = PurePath(path).relative_to(root).parts
        if parts in ((IGNORE_FILE,), OBSIDIAN_SETTINGS.parts) or (
            parts == OBSIDIAN_SETTINGS.parts[:1] and change is not Change.modified
        ):
            return True
        hidden = any(part.startswith(".") for part in parts)
        return not hidden and (
            PurePath(path).suffix.lower() in READABLE or (change is not Change.modified and _may_be_folder(path))
        )

    return is_relevant


def _may_be_folder(path: str) -> bool:
    return os.path.isdir(path) or not os.path.lexists(path)


def watch_sources(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event, check_seconds: float = _CHECK_SECONDS) -> None:
    """Watches the registered sources until `stop` is set, and syncs once per burst of changes.

    Within `check_seconds` it also watches newly registered sources and sources that reappear, after a sync. If the system
    cannot watch (too many folders), it logs a warning and returns; users then run `passkb sync`.
    """
    logged = ""
    while not stop.is_set():
        try:
            if _watch_current(kb, indexing, stop, check_seconds):
                logged = ""
                continue
        except FileNotFoundError:  # a source was removed as the watch started
            pass
        except PasskbError as error:
            if str(error) != logged:
                logged = str(error)
                _log.warning("cannot watch for changes at the moment: %s", logged)
        except OSError as error:
            _log.warning("cannot watch for changes (%s): run `passkb sync` after editing", error)
            return
        stop.wait(check_seconds)


def _watch_current(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event, check_seconds: float) -> bool:
    """Watches the existing sources until their set changes. False if no source exists."""
    watched = _source_identities(kb.home)
    if not watched:
        return False
    first = True  # files may have changed before the watch started
    for changes in watch(
        *watched,
        watch_filter=change_filter(watched),
        debounce=_DEBOUNCE_MS,
        stop_event=stop,
        rust_timeout=round(check_seconds * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        if stop.is_set():
            break
        same = _source_identities(kb.home) == watched
        if changes or first or not same:
            first = False
            indexing.run(kb)
        if not same:
            break
    return True


def _source_identities(home: Path) -> dict[Path, tuple[int, int]]:
    """The existing sources with device and inode, which change when a folder is replaced."""
    identities = {}
    for source in Registry(home).all():
        try:
            status = source.path.stat()
        except OSError:
            continue
        identities[source.path] = status.st_dev, status.st_ino
    return identities
