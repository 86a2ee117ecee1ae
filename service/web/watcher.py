"""Keeps a running app up to date: when files of a source change, the sources are read again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from watchfiles import Change, watch

from ingest.ignore import OBSIDIANS, RULES
from ingest.readers.formats import READABLE
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.log import logger
from service.web.indexing_progress import Indexing

_log = logger("watch")
_SETTLED_MS = 1_600
_LOOK_AGAIN = 5.0  # seconds


def noticed(roots: Iterable[Path]) -> Callable[[Change, str], bool]:
    """Whether a change tells anything: of files that can be notes, of the rules what to leave out, and of folders: one that is
    moved away, or in, tells nothing of what is in it. What is hidden below `roots` does not, as it is not read.
    """
    innermost_first = sorted(map(str, roots), key=len, reverse=True)

    def tells(change: Change, path: str) -> bool:
        root = next((root for root in innermost_first if path == root or path.startswith(root.rstrip("/") + "/")), "/")
        parts = PurePath(path).relative_to(root).parts
        if parts in ((RULES,), OBSIDIANS.parts) or (parts == OBSIDIANS.parts[:1] and change is not Change.modified):
            return True
        hidden = any(part.startswith(".") for part in parts)
        return not hidden and (
            PurePath(path).suffix.lower() in READABLE or (change is not Change.modified and _maybe_folder(path))
        )

    return tells


def _maybe_folder(path: str) -> bool:
    return os.path.isdir(path) or not os.path.lexists(path)


def keep_up(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event, look_again: float = _LOOK_AGAIN) -> None:
    """Watches the registered sources until `stop` is set; a burst of changes is read once, when it has settled.

    Sources that are registered meanwhile, or that vanish and return, are watched too, within `look_again` seconds, and read
    when their watching begins. Where watching is not possible (too many folders for the system's limit), it says so once and
    ends: `passkb sync` reads the changes then.
    """
    trouble = ""
    while not stop.is_set():
        try:
            if _follow(kb, indexing, stop, look_again):
                trouble = ""
                continue
        except FileNotFoundError:  # a source went while its watching began
            pass
        except PasskbError as error:
            if str(error) != trouble:
                trouble = str(error)
                _log.warning("changes can not be watched for now: %s", trouble)
        except OSError as error:
            _log.warning("changes can not be watched (%s): run `passkb sync` after editing", error)
            return
        stop.wait(look_again)


def _follow(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event, look_again: float) -> bool:
    """Watches what is there now, until that is no longer the same; False when nothing is there to watch."""
    watched = _places(kb.home)
    if not watched:
        return False
    missed = True  # what changed before the watching began
    for changes in watch(
        *watched,
        watch_filter=noticed(watched),
        debounce=_SETTLED_MS,
        stop_event=stop,
        rust_timeout=round(look_again * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        if stop.is_set():
            break
        same = _places(kb.home) == watched
        if changes or missed or not same:
            missed = False
            indexing.run(kb)
        if not same:
            break
    return True


def _places(home: Path) -> dict[Path, tuple[int, int]]:
    """What is registered and there, each with what tells a folder from another that takes its place."""
    places = {}
    for source in Registry(home).all():
        try:
            status = source.path.stat()
        except OSError:
            continue
        places[source.path] = status.st_dev, status.st_ino
    return places
