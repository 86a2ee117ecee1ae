"""Whether a home knows what its registered sources hold, or its database vanished since they were registered."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.report import IngestReport
from ingest.sources import Registry, Source
from kb.knowledge_base import KnowledgeBase

_READ = ("sources", "read")


def is_database_lost(kb: KnowledgeBase, registry: Registry) -> bool:
    """Whether sources are registered and nothing is known of them, not even that there is nothing to know."""
    return bool(registry.all()) and kb.store.meta(_READ[0]) != _READ[1] and not kb.store.files()


def mark_sources_read(kb: KnowledgeBase, sources: Iterable[Source], report: IngestReport) -> None:
    """Notes that all `sources` were read, unless one of them was not there."""
    absent = {str(source.path) for source in sources} & {path for path, _ in report.failed}
    if not absent and kb.store.meta(_READ[0]) != _READ[1]:
        kb.store.set_meta(*_READ)
