"""The vector index: chunk id -> unit vector, nearest by cosine (the only chromadb import of the project).

In process, our own vectors passed in, cosine stated, upsert always. Derived from the store: once its folder is removed, a
rebuild makes it again. Chroma's server is never started.
"""

from __future__ import annotations

import itertools
import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kb.embedding import Vectors
from kb.notes import PasskbError
from kb.offline import go_offline

_BATCH = 2000
_HEADER = 100  # bytes of hnswlib's header.bin
_NAME = "chunks"
_opened_before = itertools.count(1)


class VectorIndex:
    """A Chroma collection in `folder`, opened when first needed (importing chromadb takes a second).

    What another process writes there is seen: Chroma itself would go on answering from what it once read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._client: Any = None
        self._opened: Any = None
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._lock = threading.RLock()

    def upsert(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Adds or replaces. vectors: float32, shape (len(chunk_ids), size)."""
        with self._usable():
            for i in range(0, len(chunk_ids), _BATCH):
                self._collection.upsert(ids=list(chunk_ids[i : i + _BATCH]), embeddings=vectors[i : i + _BATCH])

    def delete(self, chunk_ids: Sequence[str]) -> None:
        with self._usable():
            for i in range(0, len(chunk_ids), _BATCH):
                self._collection.delete(ids=list(chunk_ids[i : i + _BATCH]))

    def nearest(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """Chunk ids with their cosine to `vector` (shape (size,)), best first; approximate (HNSW)."""
        if not self.folder.exists():
            return []
        with self._usable():
            found = self._collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
        return [(key, 1.0 - distance) for key, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    def count(self) -> int:
        if not self.folder.exists():
            return 0
        with self._usable():
            return int(self._collection.count())

    def ids(self) -> list[str]:
        """The ids of all chunks in it, sorted."""
        if not self.folder.exists():
            return []
        with self._usable():
            return sorted(self._collection.get(include=[])["ids"])

    def reset(self) -> None:
        """Empties it, whatever its state. Raises PasskbError when its folder can not be removed."""
        with self._lock:
            self.close()
            try:
                if self.folder.exists():
                    shutil.rmtree(self.folder)
            except OSError as error:
                raise PasskbError(f"{error.filename} can not be removed ({error.strerror}): check its permissions") from error

    def close(self) -> None:
        """Lets go of the folder, so that it may be removed; opens it again when needed."""
        with self._lock:
            if self._client is not None:
                with suppress(Exception):  # a client of a folder that was removed fails to stop
                    self._client.close()
            self._client = self._opened = None

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """One use, in its turn. Chroma's failures, of whatever type, become a PasskbError that says what to do."""
        with self._lock:
            if self._opened is not None and self._stamp() != self._seen:
                self.close()
            try:
                yield
            except Exception as error:
                self.close()
                reason = f"the vector index {self.folder} can not be used ({error})"
                raise PasskbError(f"{reason}: make room on its disk, or run `passkb rebuild`") from error
            self._seen = self._stamp()

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Differs once another process has written, or put another folder in its place."""
        stamps = []
        for name in ("chroma.sqlite3", "chroma.sqlite3-wal"):
            try:
                status = (self.folder / name).stat()
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                stamps.append((0, 0, 0))
        return tuple(stamps)

    @property
    def _collection(self) -> Any:
        if self._opened is None:
            go_offline()
            import chromadb
            from chromadb.config import Settings

            self.folder.mkdir(parents=True, exist_ok=True)
            _whole(self.folder)
            settings = Settings(anonymized_telemetry=False)
            self._client = chromadb.PersistentClient(_spelled_anew(self.folder), settings=settings)
            configuration = {"hnsw": {"space": "cosine"}}
            self._opened = self._client.get_or_create_collection(_NAME, configuration=configuration, embedding_function=None)
        return self._opened


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
