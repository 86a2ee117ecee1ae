"""What is indexed, per source, and which files failed and why."""

from __future__ import annotations

from typing import Any

from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase


def status(kb: KnowledgeBase) -> dict[str, Any]:
    """CONTRACT: `status`."""
    kinds, types, chunks = kb.store.counts()
    sources = []
    for source in Registry(kb.home).all():
        records = [r for r in kb.store.files(source.name) if r.path == str(source.path) or source.path.is_dir()]
        failed = [{"path": record.path, "reason": record.failure} for record in records if record.failure]
        if not source.path.exists():
            failed.append({"path": str(source.path), "reason": "not there: mount it or put it back, then `passkb sync`"})
        notes = sum(1 for record in records if record.note_id and not record.failure)
        sources.append({"name": source.name, "path": str(source.path), "notes": notes, "failed": failed})
    return {"notes": kinds, "links": types, "chunks": chunks, "sources": sources, "embedder": kb.embedder.name}
