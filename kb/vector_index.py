"""The vector index: chunk id to unit vector, nearest neighbours by cosine (the only chromadb import).

Chroma runs in this process, without a server. The index is derived from the store: a rebuild makes it again.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kb.embedding import Vectors
from kb.notes import PasskbError
from kb.offline import go_offline
from kb.os_errors import explanation, open_failure
from kb.os_errors import remedy as os_remedy

_BATCH = 2000
_NAME = "chunks"
_opened_before = itertools.count(1)


class IndexFailure(PasskbError):
    """Chroma failed. A search can compare all vectors instead."""


class VectorIndex:
    """A Chroma collection in `folder`, opened when first needed (importing chromadb takes a second).

    Reopens the collection after another process has written it: Chroma would keep answering from what it once read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()  # of the field below; never held while Chroma works
        self._current: _Client | None = None
        self._opening = threading.Lock()  # so that only one thread opens the collection

    def upsert(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Adds or replaces. vectors: float32, shape (len(chunk_ids), size)."""
        with self._collection(writing=True) as collection:
            for i in range(0, len(chunk_ids), _BATCH):
                collection.upsert(ids=list(chunk_ids[i : i + _BATCH]), embeddings=vectors[i : i + _BATCH])

    def delete(self, chunk_ids: Sequence[str]) -> None:
        with self._collection(writing=True) as collection:
            for i in range(0, len(chunk_ids), _BATCH):
                collection.delete(ids=list(chunk_ids[i : i + _BATCH]))

    def nearest(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """Chunk ids with their cosine to `vector` (shape (size,)), best first; approximate (HNSW)."""
        if not self.folder.exists():
            return []
        with self._collection() as collection:
            result = collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
        return [(key, 1.0 - distance) for key, distance in zip(result["ids"][0], result["distances"][0], strict=True)]

    def count(self) -> int:
        if not self.folder.exists():
            return 0
        with self._collection() as collection:
            return int(collection.count())

    def ids(self) -> list[str]:
        """The ids of all indexed chunks, sorted."""
        if not self.folder.exists():
            return []
        with self._collection() as collection:
            return sorted(collection.get(include=[])["ids"])

    def file_sizes(self) -> dict[str, int]:
        """The files of the index with their sizes in bytes, without Chroma's own database; they only shrink when written."""
        return {
            path.relative_to(self.folder).as_posix(): path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file() and path.parent != self.folder
        }

    def find_missing(self, files: Mapping[str, int]) -> str:
        """The first of `files` (name to size in bytes) that is missing or shorter now; empty when all are complete."""
        if files and not self.folder.is_dir():
            return "its folder is missing"
        for name, expected in files.items():
            try:
                size = (self.folder / name).stat().st_size
            except OSError:
                return f"{name} is missing"
            if size < expected:
                return f"{name} is incomplete"
        return ""

    def count_mismatch(self, expected: int) -> str:
        """Why the index does not contain `expected` chunks, counted without loading Chroma; empty when it does."""
        path = self.folder / "chroma.sqlite3"
        if not path.is_file():
            return "its folder is missing" if not self.folder.is_dir() else f"{path.name} is missing"
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=5)) as connection:
                number = int(connection.execute("SELECT count(*) FROM embeddings").fetchone()[0])
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            return "" if busy else f"{path.name} cannot be read ({error})"
        return "" if number == expected else f"it contains {number:,} of {expected:,} passages"

    def reset(self) -> None:
        """Removes the index, whatever its state. Raises PasskbError when its folder cannot be removed."""
        self.close()
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise PasskbError(f"{error.filename} cannot be removed {explanation(error, 'check its permissions')}") from error

    def close(self) -> None:
        """Closes the collection once running queries have ended. The next use opens it again."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            current.retire()

    @contextmanager
    def _collection(self, *, writing: bool = False) -> Iterator[Any]:
        """The collection. Turns Chroma's failures, of whatever type, into an IndexFailure with the remedy."""
        client = None
        try:
            client = self._acquire()
            yield client.collection
        except Exception as error:
            self.close()
            reason = f"the vector index {self.folder} cannot be used ({error})"
            remedy = "make room on its disk, or run `passkb rebuild`"
            cause = open_failure(self.folder / "chroma.sqlite3") if self.folder.is_dir() else None
            raise IndexFailure(f"{reason}: {os_remedy(cause, remedy) if cause else remedy}") from error
        finally:
            if client is not None:
                if writing:
                    client.stamp = self.stamp()
                client.release()

    def _acquire(self) -> _Client:
        if client := self._acquire_current():
            return client
        with self._opening:
            while not (client := self._acquire_current()):
                fresh = self._open()
                with self._lock:
                    self._current = fresh
            return client

    def _acquire_current(self) -> _Client | None:
        """The open client; None when there is none, or when it is stale, in which case it is retired."""
        with self._lock:
            current = self._current
            if current is None:
                return None
            if current.stamp == self.stamp():
                current.acquire()
                return current
            self._current = None
        current.retire()
        return None

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when another process writes the index or replaces its folder."""
        stamps = []
        for name in ("chroma.sqlite3", "chroma.sqlite3-wal"):
            try:
                status = (self.folder / name).stat()
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                stamps.append((0, 0, 0))
        return tuple(stamps)

    def _open(self) -> _Client:
        go_offline()
        import chromadb
        from chromadb.config import Settings

        self.folder.mkdir(parents=True, exist_ok=True)
        client = chromadb.PersistentClient(_unused_spelling(self.folder), settings=Settings(anonymized_telemetry=False))
        configuration = {"hnsw": {"space": "cosine"}}
        collection = client.get_or_create_collection(_NAME, configuration=configuration, embedding_function=None)
        return _Client(client, collection, self.stamp())


class _Client:
    """Chroma's client for one state of the folder. It closes when it is retired and no thread uses it any more."""

    def __init__(self, client: Any, collection: Any, stamp: Hashable) -> None:
        self.collection, self.stamp = collection, stamp
        self._client = client
        self._lock = threading.Lock()
        self._users, self._retired = 0, False

    def acquire(self) -> None:
        with self._lock:
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
        self._close_if_unused()

    def retire(self) -> None:
        with self._lock:
            self._retired = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            if not self._retired or self._users or self._client is None:
                return
            client, self._client = self._client, None
        with suppress(Exception):  # closing fails when the folder was removed
            client.close()


def _unused_spelling(folder: Path) -> str:
    """The folder by a path not used before: Chroma caches one state per path, even a stale or broken one."""
    return "/".join([str(folder), *("." if digit == "1" else "" for digit in f"{next(_opened_before):b}")])
