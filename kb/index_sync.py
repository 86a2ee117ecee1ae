"""Keeps the vector index in step with the store and decides whether it may be searched.

The store records which chunks the index lacks (`outbox`) and which files the index had when it was last written (`manifest`).
An index that lost files or chunks since then is not searched; the next sync rebuilds it from the vectors in the store.
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
_MAX_CATCH_UP = 2000  # changed chunks that a search may wait for


@dataclass(frozen=True, slots=True)
class _Manifest:
    """The embedding model of the index, and its files with their sizes in bytes."""

    embedder: str
    files: dict[str, int]


class IndexSync:
    def __init__(self, store: Store, index: VectorIndex, embedder: Embedder) -> None:
        self.store, self.index, self.embedder = store, index, embedder
        self._writing = threading.Lock()  # searches never wait for it
        self._checked: tuple[Hashable, ...] = ()
        self._damage = ""

    def problem(self) -> str:
        """Why the index must not be searched now; empty when it may be. Counts its entries only after a change."""
        if self.store.database.read_only:
            return "its folder is read-only"
        state = self.store.index_state()
        if state or self._writing.locked():
            return "it must be rebuilt" if state == "behind" else "it is being written"
        if self.store.outbox_size():
            return "it lacks the latest changes"
        if not self.store.meta("index_manifest"):
            return "its files were never recorded"
        current = self.store.generation, self.index.stamp()
        if self._checked != current:
            self._damage, self._checked = self._find_damage(), current
        return self._damage or self._find_missing_files()

    def find_damage(self) -> str:
        """What the index has lost, by its files and its number of entries; empty when nothing, or while changes are pending."""
        return "" if self.store.index_state() or self.store.outbox_size() else self._find_damage()

    def _find_damage(self) -> str:
        if missing := self._find_missing_files():
            return missing
        expected = self.store.count_chunks() - len(self.store.chunks_without_vector(self.embedder.name))
        return self.index.count_mismatch(expected) if expected else ""

    def _find_missing_files(self) -> str:
        text = self.store.meta("index_manifest")
        if not text:
            return ""
        manifest = _Manifest(**json.loads(text))
        if manifest.embedder != self.embedder.name:
            return f"it was made by another embedding model ({manifest.embedder})"
        return self.index.find_missing(manifest.files)

    def synchronize(self) -> str:
        """Brings the index up to date. The caller holds the lock of the home.

        Rebuilds an index that is damaged, fails, has no manifest, or whose last write was interrupted, because its files may be
        incomplete. Returns what was wrong, empty when nothing was. Raises PasskbError when the index cannot be written.
        """
        with self._writing:
            unknown = bool(self.store.index_state()) or not self.store.meta("index_manifest")
            # While changes are pending, the number of chunks proves nothing.
            damage = "" if unknown else self._find_missing_files() if self.store.outbox_size() else self._find_damage()
            try:
                self._write(rebuild=unknown or bool(damage))
                return damage
            except PasskbError as error:
                self._write(rebuild=True)
                return str(error)

    def catch_up(self) -> None:
        """Adds a small number of pending changes to a sound index before a search; leaves any other index to the next sync."""
        if self.store.database.read_only or not self._writing.acquire(blocking=False):
            return
        try:
            if 0 < self.store.outbox_size() <= _MAX_CATCH_UP and self._is_writable():
                self._write(rebuild=False)
        except PasskbError as error:
            _log.warning("%s", error)  # the search then does without the index
        finally:
            self._writing.release()

    def _is_writable(self) -> bool:
        return not self.store.index_state() and bool(self.store.meta("index_manifest")) and not self._find_missing_files()

    def _write(self, *, rebuild: bool) -> None:
        if rebuild:
            self.store.mark_index("behind")
            self.index.reset()
        elif not self.store.outbox_size():
            return
        else:
            self.store.mark_index("written")
        self._apply(self.store.outbox())
        if rebuild or self.store.index_state() == "written":  # otherwise another process has started a rebuild
            self.store.mark_index("", json.dumps(asdict(_Manifest(self.embedder.name, self.index.file_sizes()))))

    def _apply(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Entries are chunk ids with the hash of their text, which is empty for chunks that were removed."""
        if not entries:
            return
        self.index.delete([chunk_id for chunk_id, text_hash in entries if not text_hash])
        present = [chunk_id for chunk_id, text_hash in entries if text_hash]
        self.index.upsert(*self.store.vectors_of(self.embedder.name, self.embedder.size, present))
        self.store.clear_outbox(entries)
