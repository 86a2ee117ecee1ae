"""The panel below the header: what is indexed, and failed, ignored and pending files with reasons."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ingest.report import IngestReport
from service.status import FileState, Skipped, SourceState, State, group_by_rule, path_in_source
from service.web.components.formatting import count, upper_first
from service.web.components.messages import message_html
from service.web.components.templates import render

_MAX_ITEMS = 30  # of one list
_MAX_FILES = 300
_MAX_FILES_PER_RULE = 4


def summary_html(report: IngestReport | None, ended: datetime.datetime | None) -> Markup:
    """When the sources were last synced, and what changed."""
    time = f"{ended.astimezone():%Y-%m-%d at %H:%M}" if ended else ""
    return render("components/index_summary.html", time=time, changes=_changes(report) if report else "")


def _changes(report: IngestReport) -> str:
    counts = [
        (report.added, "added"), (report.updated, "updated"), (report.moved, "moved"), (report.deleted, "deleted"),
        (len(report.failed), "failed"), (report.unchanged, "unchanged"),
    ]  # fmt: skip
    return ", ".join(f"{number:,} {name}" for number, name in counts if number) or "no files"


def sources_html(sources: Sequence[SourceState], report: IngestReport | None = None, problem: str = "") -> Markup:
    """Why the last sync is incomplete, then every source."""
    return render(
        "components/index_sources.html",
        sources=[_source(source) for source in sources],
        held=[(entry.path, entry.reason) for entry in report.pending_deletions] if report else [],
        problem_html=message_html(problem) if problem else "",
        max_items=_MAX_ITEMS,
        max_files=_MAX_FILES,
    )


def _source(source: SourceState) -> dict[str, Any]:
    def relative(entries: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(path_in_source(path, source.path), reason.removeprefix(f"{path}: ")) for path, reason in entries]

    return {
        "name": source.name,
        "path": source.path,
        "notes": source.notes,
        "chunks": source.chunks,
        "failed": relative(source.failed),
        "warnings": relative(source.warnings),
        "pending": _rules([Skipped(path, reason) for path, reason in source.waiting], source),
        "pending_total": len(source.waiting),
        "ignored": _rules(source.skipped, source),
        "ignored_total": len(source.skipped),
        "other_types": ", ".join(f"{number:,} {kind}" for kind, number in list(source.others.items())[:12]),
        "files": [_file(file, source) for file in source.files if file.state is not State.SKIPPED],
    }


def _rules(entries: Sequence[Skipped], source: SourceState) -> list[dict[str, Any]]:
    """A reason with the first files that it applies to."""
    return [
        {
            "reason": upper_first(reason.removeprefix("ignored by ")),
            "files": [
                {"path": path_in_source(file.path, source.path), "count": file.files if file.path.endswith("/") else 0}
                for file in files[:_MAX_FILES_PER_RULE]
            ],
            "more": max(0, len(files) - _MAX_FILES_PER_RULE),
        }
        for reason, files in group_by_rule(entries)
    ]


def _file(file: FileState, source: SourceState) -> dict[str, str]:
    state = count(file.chunks, "passage") if file.state is State.INDEXED else str(file.state)
    return {"note_id": file.note_id, "name": path_in_source(file.path, source.path), "state": state}
