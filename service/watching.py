"""Keeps a running app up to date: when files of a source change, the sources are read again."""

from __future__ import annotations

import sys
import threading
from pathlib import Path, PurePath

from watchfiles import Change, DefaultFilter, watch

from ingest.reading import READABLE
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.web.indexing import Indexing

_SETTLED_MS = 1_600
_LOOK_AGAIN_MS = 5_000


class _Notes(DefaultFilter):
    """Changes of files that can be notes, outside hidden folders and of what passkb itself makes."""

    def __call__(self, change: Change, path: str) -> bool:
        return PurePath(path).suffix.lower() in READABLE and super().__call__(change, path)


def keep_up(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event) -> None:
    """Watches the registered sources until `stop` is set; a burst of changes is read once, when it has settled.

    Sources that are registered meanwhile are watched too, within seconds. Where watching is not possible (too many folders
    for the system's limit), it says so once and ends: `passkb sync` reads the changes then.
    """
    try:
        while not stop.is_set():
            watched = _paths(kb.home)
            if not watched:
                stop.wait(_LOOK_AGAIN_MS / 1000)
                continue
            for changes in watch(
                *watched,
                watch_filter=_Notes(),
                debounce=_SETTLED_MS,
                stop_event=stop,
                rust_timeout=_LOOK_AGAIN_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                if changes:
                    indexing.run(kb)
                if _paths(kb.home) != watched:
                    break
    except (OSError, PasskbError) as error:
        print(f"passkb: changes can not be watched ({error}): run `passkb sync` after editing", file=sys.stderr, flush=True)


def _paths(home: Path) -> list[Path]:
    return [source.path for source in Registry(home).all() if source.path.exists()]
