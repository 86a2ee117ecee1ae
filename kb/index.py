"""The vector index: chunk id -> unit vector, nearest by cosine (the only chromadb import of the project).

In process, our own vectors passed in, cosine stated, upsert always. Derived from the store: `VectorIndex.clear` and a
refill make it again. Chroma's server is never started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kb.embedding import Vectors

_BATCH = 2000
_NAME = "chunks"


class VectorIndex:
    """A Chroma collection in `folder`, opened when first needed (importing chromadb takes a second)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: Any = None

    def upsert(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Adds or replaces. vectors: float32, shape (len(chunk_ids), size)."""
        for i in range(0, len(chunk_ids), _BATCH):
            self._collection.upsert(ids=list(chunk_ids[i : i + _BATCH]), embeddings=vectors[i : i + _BATCH])

    def delete(self, chunk_ids: Sequence[str]) -> None:
        for i in range(0, len(chunk_ids), _BATCH):
            self._collection.delete(ids=list(chunk_ids[i : i + _BATCH]))

    def nearest(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """Chunk ids with their cosine to `vector` (shape (size,)), best first; approximate (HNSW)."""
        if not self.folder.exists():
            return []
        found = self._collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
        return [(key, 1.0 - distance) for key, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    def count(self) -> int:
        return int(self._collection.count()) if self.folder.exists() else 0

    def clear(self) -> None:
        """Forgets everything, the folder included when nothing of this process has it open."""
        if self._opened is not None:
            self._client.delete_collection(_NAME)
            self._opened = None
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _client(self) -> Any:
        os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
        import chromadb
        from chromadb.config import Settings

        self.folder.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(str(self.folder), settings=Settings(anonymized_telemetry=False))

    @property
    def _collection(self) -> Any:
        if self._opened is None:
            configuration = {"hnsw": {"space": "cosine"}}
            self._opened = self._client.get_or_create_collection(_NAME, configuration=configuration, embedding_function=None)
        return self._opened
