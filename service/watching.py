"""Keeps a running app up to date: when files of a source change, the sources are read again."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path, PurePath

from watchfiles import Change, DefaultFilter, watch

from ingest.ignoring import RULES
from ingest.reading import READABLE
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.web.indexing import Indexing

_SETTLED_MS = 1_600
_LOOK_AGAIN_MS = 5_000


class _Notes(DefaultFilter):
    """Changes of files that can be notes, of the rules what to leave out, and of folders: a folder that is moved away, or in,
    tells nothing of what is in it.
    """

    def __call__(self, change: Change, path: str) -> bool:
        name = PurePath(path).name
        if name == RULES:
            return True
        noticed = PurePath(path).suffix.lower() in READABLE or (change is not Change.modified and _maybe_folder(path))
        return noticed and not name.startswith(".") and super().__call__(change, path)


def _maybe_folder(path: str) -> bool:
    return os.path.isdir(path) or not os.path.lexists(path)


def keep_up(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event) -> None:
    """Watches the registered sources until `stop` is set; a burst of changes is read once, when it has settled.

    Sources that are registered meanwhile, or that vanish and return, are watched too, within seconds, and read when their
    watching begins. Where watching is not possible (too many folders for the system's limit), it says so once and ends:
    `passkb sync` reads the changes then.
    """
    trouble = ""
    while not stop.is_set():
        try:
            if _follow(kb, indexing, stop):
                trouble = ""
                continue
        except FileNotFoundError:  # a source went while its watching began
            pass
        except PasskbError as error:
            if str(error) != trouble:
                trouble = str(error)
                print(f"passkb: changes can not be watched for now: {trouble}", file=sys.stderr, flush=True)
        except OSError as error:
            print(f"passkb: changes can not be watched ({error}): run `passkb sync` after editing", file=sys.stderr, flush=True)
            return
        stop.wait(_LOOK_AGAIN_MS / 1000)


def _follow(kb: KnowledgeBase, indexing: Indexing, stop: threading.Event) -> bool:
    """Watches what is there now, until that is no longer the same; False when nothing is there to watch."""
    watched = _places(kb.home)
    if not watched:
        return False
    missed = True  # what changed before the watching began
    for changes in watch(
        *watched,
        watch_filter=_Notes(),
        debounce=_SETTLED_MS,
        stop_event=stop,
        rust_timeout=_LOOK_AGAIN_MS,
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
