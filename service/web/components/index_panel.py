"""What is indexed and what is not, as the panel under the header: summary, sources, failures, rules, what waits. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from ingest.report import IngestReport
from service.status import Skipped, SourceState, State, by_rule, shortened
from service.web.components.html import counted, note_link, sentence, text

_SHOWN = 30  # entries of one list
_FILES = 300


def summary_html(report: IngestReport | None, ended: datetime.datetime | None) -> str:
    """When the sources were read last, and what that did."""
    when = f"Last read {ended.astimezone():%Y-%m-%d at %H:%M}" if ended else "Not read yet"
    did = f": {_did(report)}" if report else ""
    return f'<h2>Sources</h2><p class="quiet" role="status">{when}{did}.</p>'


def _did(report: IngestReport) -> str:
    counts = [
        (report.added, "added"), (report.updated, "updated"), (report.moved, "moved"), (report.deleted, "deleted"),
        (len(report.failed), "failed"), (report.unchanged, "unchanged"),
    ]  # fmt: skip
    return ", ".join(f"{number:,} {name}" for number, name in counts if number) or "nothing to read"


def _held(report: IngestReport | None) -> str:
    """Deletions that were held back, because a folder seems to be missing rather than emptied."""
    items = [
        f'<code>{text(entry.path)}</code> <span class="reason">{text(entry.reason)}</span>'
        for entry in (report.held if report else ())
    ]
    return _list("Deletions held back", len(items), items)


def sources_html(sources: Sequence[SourceState], report: IngestReport | None = None, problem: str = "") -> str:
    """What kept the last reading from being complete, then every source."""
    above = (sentence(problem) if problem else "") + _held(report)
    if not sources:
        return above + '<p class="none">Nothing is registered yet: <code>passkb ingest PATH</code> adds a folder of notes.</p>'
    return above + "".join(map(_source, sources))


def _source(source: SourceState) -> str:
    def listed(entries: Iterable[tuple[str, str]]) -> list[str]:
        return [
            f"<code>{text(shortened(path, source.path))}</code> "
            f'<span class="reason">{text(why.removeprefix(f"{path}: "))}</span>'
            for path, why in entries
        ]

    counts = [counted(source.notes, "note"), counted(source.chunks, "passage")]
    other = ", ".join(f"{number:,} {text(kind)}" for kind, number in list(source.others.items())[:12])
    waiting = by_rule([Skipped(path, why) for path, why in source.waiting])
    rules = by_rule(source.skipped)
    return (
        f'<section class="source"><h3>{text(source.name)} <span class="quiet">{text(source.path)}</span></h3>'
        f"<p>{', '.join(counts)}.</p>"
        + _list("Could not be read", len(source.failed), listed(source.failed), cls="failed")
        + _list("Waiting to be read", len(source.waiting), [_rule(why, files, source) for why, files in waiting], cls="waiting")
        + _list("Left out", len(source.skipped), [_rule(why, left, source) for why, left in rules], cls="skipped")
        + _list("Read, with a warning", len(source.warnings), listed(source.warnings), cls="warned")
        + (f'<p class="quiet">Files of other kinds are not read: {other}.</p>' if other else "")
        + _files(source)
        + "</section>"
    )


def _rule(why: str, left: Sequence[Skipped], source: SourceState) -> str:
    """A reason, then the first of the files it is said of."""
    names = [f"<code>{text(shortened(entry.path, source.path))}</code>{_within(entry)}" for entry in left]
    more = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
    rule = why.removeprefix("left out by ")
    return f'{text(rule[:1].upper() + rule[1:])} <span class="reason">{", ".join(names[:4])}{more}</span>'


def _within(entry: Skipped) -> str:
    return f" ({counted(entry.files, 'file')})" if entry.path.endswith("/") and entry.files else ""


def _list(title: str, number: int, items: Sequence[str], cls: str = "") -> str:
    if not items:
        return ""
    more = f'<li class="quiet">and {len(items) - _SHOWN:,} more</li>' if len(items) > _SHOWN else ""
    listed = "".join(f"<li>{item}</li>" for item in items[:_SHOWN])
    return f'<h4>{title} <span class="count">{number:,}</span></h4><ul class="{cls or "held"}">{listed}{more}</ul>'


def _files(source: SourceState) -> str:
    """Every file with what became of it, folded; what was left out stands above."""
    files = [file for file in source.files if file.state is not State.SKIPPED]
    if not files:
        return ""
    items = []
    for file in files[:_FILES]:
        name = shortened(file.path, source.path)
        label = note_link(file.note_id, name) if file.note_id else text(name)
        state = counted(file.chunks, "passage") if file.state is State.INDEXED else str(file.state)
        items.append(f'<li>{label} <span class="count">{state}</span></li>')
    more = f'<li class="quiet">and {len(files) - _FILES:,} more: <code>passkb status --files</code></li>'
    rest = more if len(files) > _FILES else ""
    return f"<details><summary>{counted(len(files), 'file')}</summary><ul>{''.join(items)}{rest}</ul></details>"


def toggle_html() -> str:
    return (
        '<button type="button" id="status-toggle" data-sources aria-expanded="false" aria-controls="sources-status" '
        'aria-label="Details of the sources">Details</button>'
    )
