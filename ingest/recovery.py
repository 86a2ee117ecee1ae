"""Detects lost derived data of a home (database, vectors, vector index) and recreates it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.completeness import is_database_lost
from ingest.pipeline import sync
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase, Progress
from kb.notes import PasskbError


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages about lost derived data. `blocking`: losses that make answers wrong. `index`: damage of the vector index."""

    blocking: list[str] = field(default_factory=list)
    index: str = ""

    @property
    def messages(self) -> list[str]:
        return [*self.blocking, *([self.index] if self.index else [])]


def find_losses(kb: KnowledgeBase) -> Loss:
    """Compares registry, store, vectors and vector index, without writing. Raises PasskbError for an unreadable registry."""
    registry = Registry(kb.home)
    blocking = []
    if is_database_lost(kb, registry):
        sources = len(registry.all())
        blocking.append(f"{kb.store.database.path} was missing or empty, although sources are registered ({sources})")
    elif registry.has_moved:
        blocking.append(f"{kb.home} has moved")
    if count := len(kb.store.chunks_without_vector(kb.embedder.name)):
        blocking.append(f"{count:,} passages have no vector of the embedding model {kb.embedder.name}")
    damage = "" if kb.store.database.read_only else kb.index_sync.find_damage()
    return Loss(blocking, f"the vector index {kb.index.folder} is damaged: {damage}" if damage else "")


def recover(kb: KnowledgeBase, progress: Progress | None = None) -> list[str]:
    """Recreates what answers need, unless the home is read-only or locked; returns messages for the user.

    Leaves the vector index to the next sync: until then, searches compare all vectors.
    """
    try:
        blocking = find_losses(kb).blocking
    except PasskbError:
        return []  # reported where the registry is used
    if not blocking:
        return []
    if kb.store.database.read_only:
        return [f"{reason}; the home is read-only, so answers are incomplete" for reason in blocking]
    try:
        report = sync(kb, progress=progress, timeout=0.0)
    except PasskbError as error:
        return [f"{'; '.join(blocking)}. Answers are incomplete: {error}"]
    failed = [f"{path}: {reason}" for path, reason in report.failed] + [entry.reason for entry in report.pending_deletions]
    return [f"{'; '.join(blocking)}: indexed {report.notes:,} notes again from the sources", *failed]
