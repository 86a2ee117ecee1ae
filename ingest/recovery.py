"""What a home has lost of what is derived from its notes: said, and made again."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.completeness import is_database_lost
from ingest.pipeline import sync
from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase, Progress
from kb.notes import PasskbError


@dataclass(frozen=True, slots=True)
class Loss:
    """What is derived and gone. `blocking`: answers would be wrong without it. Sentences for a person."""

    blocking: list[str] = field(default_factory=list)
    index: str = ""

    @property
    def messages(self) -> list[str]:
        return [*self.blocking, *([self.index] if self.index else [])]


def find_losses(kb: KnowledgeBase) -> Loss:
    """Compares what the registry, the store, the vectors and the vector index hold. Reads only.

    Raises PasskbError when the registry cannot be read.
    """
    registry = Registry(kb.home)
    blocking = []
    if is_database_lost(kb, registry):
        sources = len(registry.all())
        blocking.append(f"{kb.store.database.path} was missing or empty, although {sources} sources are registered")
    elif registry.has_moved:
        blocking.append(f"{kb.home} has moved")
    if lacking := len(kb.store.chunks_without_vector(kb.embedder.name)):
        blocking.append(f"{lacking:,} passages have no vector of the embedding model {kb.embedder.name}")
    damage = "" if kb.store.database.read_only else kb.index_sync.find_damage()
    return Loss(blocking, f"the vector index {kb.index.folder} is damaged: {damage}" if damage else "")


def recover(kb: KnowledgeBase, progress: Progress | None = None) -> list[str]:
    """Makes again what answers need, unless the home is read-only or another process is at it: what a person should know.

    The vector index is left to the next sync: a search that needs it compares all vectors meanwhile.
    """
    try:
        lost = find_losses(kb).blocking
    except PasskbError:
        return []  # whoever needs the registry says what is wrong with it
    if not lost:
        return []
    if kb.store.database.read_only:
        return [f"{reason}; the home is read-only, so answers are incomplete" for reason in lost]
    try:
        report = sync(kb, progress=progress, patience=0.0)
    except PasskbError as error:
        return [f"{'; '.join(lost)}. Answers are incomplete: {error}"]
    failed = [f"{path}: {reason}" for path, reason in report.failed] + [entry.reason for entry in report.pending_deletions]
    return [f"{'; '.join(lost)}: read again from the sources, {report.notes:,} notes", *failed]
