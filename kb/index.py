"""The vector index: chunk id -> unit vector, nearest by cosine (the only chromadb import of the project).

In process, our own vectors passed in, cosine stated, upsert always. Derived from the store: once its folder is removed, a
rebuild makes it again. Chroma's server is never started.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kb.embedding import Vectors
from kb.notes import PasskbError

_BATCH = 2000
_NAME = "chunks"


class VectorIndex:
    """A Chroma collection in `folder`, opened when first needed (importing chromadb takes a second)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._client: Any = None
        self._opened: Any = None
        self._lock = threading.Lock()

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
        return int(self._collection.count()) if self.folder.exists() else 0

    def close(self) -> None:
        """Lets go of the folder, so that it may be removed; opens it again when needed."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = self._opened = None

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Chroma's failures as a PasskbError that says what to do."""
        os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
        import chromadb.errors

        try:
            yield
        except (OSError, chromadb.errors.ChromaError) as error:
            raise PasskbError(
                f"the vector index {self.folder} can not be used ({error}): move it away and run `passkb rebuild`"
            ) from error

    @property
    def _collection(self) -> Any:
        with self._lock:
            if self._opened is None:
                import chromadb
                from chromadb.config import Settings

                self.folder.mkdir(parents=True, exist_ok=True)
                settings = Settings(anonymized_telemetry=False)
                self._client = chromadb.PersistentClient(str(self.folder), settings=settings)
                configuration = {"hnsw": {"space": "cosine"}}
                self._opened = self._client.get_or_create_collection(
                    _NAME, configuration=configuration, embedding_function=None
                )
            return self._opened
