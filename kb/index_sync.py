"""Keeps the vector index in step with the store, and knows whether it may be searched.

The store counts what the index has not heard of (`outbox`), and notes what was written there (`manifest`): an index that lost
files or chunks since is not searched, and made again from the vectors in the store.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

from kb.embedding import Embedder
from kb.notes import PasskbError
from kb.store.queries import Store
from kb.vector_index import VectorIndex

_log = logging.getLogger("passkb")
_MAKE_UP = 2000  # entries that a search may wait for


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What was written: by which embedder, and the index's files with their sizes."""

    embedder: str
    files: dict[str, int]


class IndexSync:
    def __init__(self, store: Store, index: VectorIndex, embedder: Embedder) -> None:
        self.store, self.index, self.embedder = store, index, embedder
        self._writing = threading.Lock()  # no search waits for it
        self._counted: tuple[Hashable, ...] = ()
        self._problem = ""

    def problem(self) -> str:
        """Why the index must not be searched now; empty when it may be. Counts only after a change."""
        if self.store.database.read_only:
            return "its folder is read-only"
        state = self.store.index_state()
        if state or self._writing.locked():
            return "it is to be made again" if state == "behind" else "it is being written"
        if self.store.outbox_size():
            return "it has not heard of the latest changes"
        seen = self.store.generation, self.index.stamp()
        if self._counted != seen:
            self._problem, self._counted = self._damage(), seen
        return self._problem or self._lost_files()

    def find_damage(self) -> str:
        """What the index has lost, by its files and by counting; empty when nothing, or while changes are to be written."""
        return "" if self.store.index_state() or self.store.outbox_size() else self._damage()

    def _damage(self) -> str:
        if lost := self._lost_files():
            return lost
        expected = self.store.count_chunks() - len(self.store.chunks_without_vector(self.embedder.name))
        return self.index.count_mismatch(expected) if expected else ""

    def _lost_files(self) -> str:
        text = self.store.meta("index_manifest")
        if not text:
            return ""
        manifest = _Manifest(**json.loads(text))
        if manifest.embedder != self.embedder.name:
            return f"it was made by another embedding model ({manifest.embedder})"
        return self.index.find_missing(manifest.files)

    def synchronize(self) -> str:
        """Brings the index in step, after a change; for who holds the home.

        An index whose writing was cut short, that lost something or that fails is made from nothing: its files may be torn.
        Gives what was wrong, empty when nothing was. Raises PasskbError when it can not be written.
        """
        with self._writing:
            interrupted = bool(self.store.index_state())
            # With changes still to come, the number of chunks says nothing.
            damage = "" if interrupted else self._lost_files() if self.store.outbox_size() else self._damage()
            try:
                self._settle(anew=interrupted or bool(damage))
                return damage
            except PasskbError as error:
                self._settle(anew=True)
                return str(error)

    def catch_up(self) -> None:
        """Tells the index what it has not heard of, for a search that needs it; leaves one that somebody writes, that lost
        something or that has to hear a lot."""
        if self.store.database.read_only or not self._writing.acquire(blocking=False):
            return
        try:
            if 0 < self.store.outbox_size() <= _MAKE_UP and not self.store.index_state() and not self._lost_files():
                self._tell(self.store.outbox())
        except PasskbError as error:
            _log.warning("%s", error)  # it is searched without the index then
        finally:
            self._writing.release()

    def _settle(self, *, anew: bool) -> None:
        if anew:
            self.store.mark_index("behind")
            self.index.reset()
        entries = self.store.outbox()
        if entries and not anew:
            self.store.mark_index("written")
        if entries or anew:
            self._tell(entries)
        if entries or anew or not self.store.meta("index_manifest"):
            self.store.mark_index("", self._described())

    def _tell(self, entries: Sequence[tuple[str, bytes]]) -> None:
        if not entries:
            return
        self.index.delete([chunk_id for chunk_id, text in entries if not text])
        keep = [chunk_id for chunk_id, text in entries if text]
        self.index.upsert(*self.store.vectors_of(self.embedder.name, self.embedder.size, keep))
        self.store.clear_outbox(entries)

    def _described(self) -> str:
        return json.dumps(asdict(_Manifest(self.embedder.name, self.index.file_sizes())))
