"""What an ingest or a sync did, and what it could not do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class IngestReport:
    """Counts are files; `failed` and `skipped` hold (path, reason); `warnings` (path, what was odd)."""

    added: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    embedded: int = 0
    notes: int = 0
    links: int = 0
    stubs: int = 0
    dangling: list[tuple[str, str]] = field(default_factory=list)
    ambiguous: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "updated": self.updated,
            "moved": self.moved,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "failed": [{"path": path, "reason": reason} for path, reason in self.failed],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "warnings": [{"path": path, "warning": warning} for path, warning in self.warnings],
            "embedded": self.embedded,
            "notes": self.notes,
            "links": self.links,
            "stubs": self.stubs,
            "dangling": [{"from": source, "target": target} for source, target in self.dangling],
            "ambiguous": [
                {"from": source, "target": target, "candidates": list(names)} for source, target, names in self.ambiguous
            ],
            "seconds": round(self.seconds, 3),
        }
