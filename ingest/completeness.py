"""Detects a database that was lost after its sources had been indexed."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.report import IngestReport
from ingest.sources import Registry, Source
from kb.knowledge_base import KnowledgeBase

_MARKER = ("sources", "read")


def is_database_lost(kb: KnowledgeBase, registry: Registry) -> bool:
    """Whether sources are registered but the database has neither files nor a record of a completed sync."""
    return bool(registry.all()) and kb.store.meta(_MARKER[0]) != _MARKER[1] and not kb.store.files()


def mark_sources_read(kb: KnowledgeBase, sources: Iterable[Source], report: IngestReport) -> None:
    """Records that all `sources` were read, unless one of them was unavailable."""
    unavailable = {str(source.path) for source in sources} & {path for path, _ in report.failed}
    if not unavailable and kb.store.meta(_MARKER[0]) != _MARKER[1]:
        kb.store.set_meta(*_MARKER)
