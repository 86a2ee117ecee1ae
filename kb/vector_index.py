"""The vector index: chunk id -> unit vector, nearest by cosine (the only chromadb import of the project).

In process, our own vectors passed in, cosine stated, upsert always. Derived from the store: once its folder is removed, a
rebuild makes it again. Chroma's server is never started.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import struct
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
_HEADER = 100  # bytes of hnswlib's header.bin
_NAME = "chunks"
_opened_before = itertools.count(1)


class IndexFailure(PasskbError):
    """Chroma failed: whoever searches can compare all vectors instead."""


class VectorIndex:
    """A Chroma collection in `folder`, opened when first needed (importing chromadb takes a second).

    What another process writes there is seen: Chroma itself would go on answering from what it once read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()  # of the fields below; never held while Chroma works
        self._current: _Opened | None = None
        self._opening = threading.Lock()  # for those who need what is being opened

    def upsert(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Adds or replaces. vectors: float32, shape (len(chunk_ids), size)."""
        with self._usable(writing=True) as collection:
            for i in range(0, len(chunk_ids), _BATCH):
                collection.upsert(ids=list(chunk_ids[i : i + _BATCH]), embeddings=vectors[i : i + _BATCH])

    def delete(self, chunk_ids: Sequence[str]) -> None:
        with self._usable(writing=True) as collection:
            for i in range(0, len(chunk_ids), _BATCH):
                collection.delete(ids=list(chunk_ids[i : i + _BATCH]))

    def nearest(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """Chunk ids with their cosine to `vector` (shape (size,)), best first; approximate (HNSW)."""
        if not self.folder.exists():
            return []
        with self._usable() as collection:
            found = collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
        return [(key, 1.0 - distance) for key, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    def count(self) -> int:
        if not self.folder.exists():
            return 0
        with self._usable() as collection:
            return int(collection.count())

    def ids(self) -> list[str]:
        """The ids of all chunks in it, sorted."""
        if not self.folder.exists():
            return []
        with self._usable() as collection:
            return sorted(collection.get(include=[])["ids"])

    def file_sizes(self) -> dict[str, int]:
        """Its files with their sizes in bytes, of which none may vanish or shrink but by writing; without Chroma's log."""
        found = {}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.parent != self.folder:
                found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return found

    def find_missing(self, files: Mapping[str, int]) -> str:
        """What of `files` is gone; empty when nothing is."""
        if files and not self.folder.is_dir():
            return "its folder is missing"
        for name, size in files.items():
            try:
                now = (self.folder / name).stat().st_size
            except OSError:
                return f"{name} is missing"
            if now < size:
                return f"{name} is cut short"
        return ""

    def count_mismatch(self, expected: int) -> str:
        """Why it does not hold `expected` chunks, as far as its tables tell without loading Chroma; empty when it does."""
        path = self.folder / "chroma.sqlite3"
        if not path.is_file():
            return "its folder is missing" if not self.folder.is_dir() else f"{path.name} is missing"
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=5)) as connection:
                number = int(connection.execute("SELECT count(*) FROM embeddings").fetchone()[0])
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            return "" if busy else f"{path.name} can not be read ({error})"
        return "" if number == expected else f"it holds {number:,} of {expected:,} passages"

    def reset(self) -> None:
        """Empties it, whatever its state. Raises PasskbError when its folder can not be removed."""
        self.close()
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise PasskbError(f"{error.filename} can not be removed {explanation(error, 'check its permissions')}") from error

    def close(self) -> None:
        """Lets go of the folder, so that it may be removed; opens it again when needed. Queries that go on end first."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            current.retire()

    @contextmanager
    def _usable(self, *, writing: bool = False) -> Iterator[Any]:
        """The collection. Chroma's failures, of whatever type, become an IndexFailure that says what to do."""
        opened = None
        try:
            opened = self._checked_out()
            yield opened.collection
        except Exception as error:
            self.close()
            reason = f"the vector index {self.folder} can not be used ({error})"
            remedy = "make room on its disk, or run `passkb rebuild`"
            cause = open_failure(self.folder / "chroma.sqlite3") if self.folder.is_dir() else None
            raise IndexFailure(f"{reason}: {os_remedy(cause, remedy) if cause else remedy}") from error
        finally:
            if opened is not None:
                if writing:
                    opened.stamp = self.stamp()
                opened.give_back()

    def _checked_out(self) -> _Opened:
        if opened := self._still_good():
            return opened
        with self._opening:
            while not (opened := self._still_good()):
                fresh = self._open()
                with self._lock:
                    self._current = fresh
            return opened

    def _still_good(self) -> _Opened | None:
        with self._lock:
            current = self._current
            if current is None:
                return None
            if current.stamp == self.stamp():
                current.check_out()
                return current
            self._current = None
        current.retire()
        return None

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Differs once another process has written, or put another folder in its place."""
        stamps = []
        for name in ("chroma.sqlite3", "chroma.sqlite3-wal"):
            try:
                status = (self.folder / name).stat()
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                stamps.append((0, 0, 0))
        return tuple(stamps)

    def _open(self) -> _Opened:
        go_offline()
        import chromadb
        from chromadb.config import Settings

        self.folder.mkdir(parents=True, exist_ok=True)
        _whole(self.folder)
        client = chromadb.PersistentClient(_spelled_anew(self.folder), settings=Settings(anonymized_telemetry=False))
        configuration = {"hnsw": {"space": "cosine"}}
        collection = client.get_or_create_collection(_NAME, configuration=configuration, embedding_function=None)
        return _Opened(client, collection, self.stamp())


class _Opened:
    """Chroma's client of one state of the folder; closed when it is retired and nobody uses it any more."""

    def __init__(self, client: Any, collection: Any, stamp: Hashable) -> None:
        self.collection, self.stamp = collection, stamp
        self._client = client
        self._lock = threading.Lock()
        self._users, self._retired = 0, False

    def check_out(self) -> None:
        with self._lock:
            self._users += 1

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
        self._close_unused()

    def retire(self) -> None:
        with self._lock:
            self._retired = True
        self._close_unused()

    def _close_unused(self) -> None:
        with self._lock:
            if not self._retired or self._users or self._client is None:
                return
            client, self._client = self._client, None
        with suppress(Exception):  # a client of a folder that was removed fails to stop
            client.close()


def _whole(folder: Path) -> None:
    """Raises OSError for an index whose files were cut short: hnswlib would read beyond their end and end the process."""
    for header in folder.glob("*/header.bin"):
        head, links = header.read_bytes(), (header.parent / "link_lists.bin").read_bytes()
        _, _, _, number, size = struct.unpack_from("<i4Q", head.ljust(_HEADER, b"\0"))
        end = 0
        for _ in range(number):  # of each element, the length of its list and the list
            end += 4 + int.from_bytes(links[end : end + 4], "little")
        lengths = {"header.bin": _HEADER, "data_level0.bin": number * size, "length.bin": number * 4, "link_lists.bin": end}
        for name, length in lengths.items():
            if (header.parent / name).stat().st_size < length:
                raise OSError(f"{header.parent / name} is cut short")


def _spelled_anew(folder: Path) -> str:
    """The folder by a name not used before: Chroma keeps one state a name, also a stale or a broken one."""
    return "/".join([str(folder), *("." if digit == "1" else "" for digit in f"{next(_opened_before):b}")])
