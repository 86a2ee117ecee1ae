"""The report of an ingest or a sync."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PendingDeletion:
    """Missing notes of a source whose deletion waits for confirmation, because so many are missing at once.

    `notes`: their number. `reason`: the cause and the remedy.
    """

    source: str
    path: str
    notes: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A file's change: `added`, `updated`, `moved` (`moved_from`: the previous path) or `deleted`."""

    path: str
    change: str
    moved_from: str = ""

    def to_json(self) -> dict[str, str]:
        return {"path": self.path, "change": self.change} | ({"from": self.moved_from} if self.moved_from else {})


@dataclass(slots=True)
class IngestReport:
    """Counts of files; `failed` and `skipped` contain (path, reason), `warnings` (path, warning).

    `planned` lists the added, updated, moved and deleted files; a dry run prints them as what a sync would do.
    """

    added: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    pending_deletions: list[PendingDeletion] = field(default_factory=list)
    planned: list[PlannedChange] = field(default_factory=list)
    dry_run: bool = False
    embedded: int = 0
    notes: int = 0
    links: int = 0
    stubs: int = 0
    dangling: list[tuple[str, str]] = field(default_factory=list)
    ambiguous: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, change: str, amount: int) -> None:
        """Adds to the count named `change`."""
        setattr(self, change, getattr(self, change) + amount)

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
            "held": [
                {"source": entry.source, "path": entry.path, "notes": entry.notes, "reason": entry.reason}
                for entry in self.pending_deletions
            ],
            **({"would": [entry.to_json() for entry in self.planned]} if self.dry_run else {}),
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
