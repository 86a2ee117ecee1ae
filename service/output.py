"""Results as JSON objects and as text for the terminal."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kb.graph import Step
from kb.knowledge_base import NoteView
from kb.markdown.blocks import plain
from kb.notes import Claim, Hit, Link
from service.status import path_in_source

if TYPE_CHECKING:
    from ingest.report import IngestReport
    from service.answering.answer import Answer
    from service.doctor import CheckResult

_WIDTH = 88
_NAMED = 3  # files named for each rule
_STATES = {"failed": "failed", "skipped": "ignored", "warnings": "with warnings", "waiting": "pending"}


def progress(stage: str, done: int, total: int) -> None:
    """One line on stderr, updated in place on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{stage} {done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)
    elif done >= total:
        print(f"{stage} {done} of {total}", file=sys.stderr)


def wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, initial_indent=indent, subsequent_indent=indent)


def hit(entry: Hit) -> dict[str, Any]:
    return {
        "note_id": entry.note_id,
        "title": entry.title,
        "chunk_id": entry.chunk_id,
        "start": entry.start,
        "end": entry.end,
        "text": entry.text,
        "score": entry.score,
        "via": entry.via,
    }


def hits(entries: Sequence[Hit]) -> str:
    lines = []
    for rank, entry in enumerate(entries, 1):
        by = "  (via links)" if entry.via == "links" else ""
        lines += [f"{rank}. {entry.title}  [{entry.note_id}]  {entry.score:.3f}{by}"]
        lines += [wrapped(textwrap.shorten(plain(entry.text), 240, placeholder=" …"), "   ")]
    return "\n".join(lines) or "no results"


def claim(entry: Claim) -> dict[str, Any]:
    return {
        "id": entry.id,
        "text": entry.text,
        "premise": entry.premise,
        "settles": entry.settles,
        "test": dict(entry.test) if entry.test else None,
        "status": str(entry.status),
        "status_reason": entry.status_reason,
        "evidence": list(entry.evidence),
    }


def note(view: NoteView) -> dict[str, Any]:
    """CONTRACT: `note`."""
    entry = view.note
    return {
        "id": entry.id,
        "title": entry.title,
        "kind": str(entry.kind),
        "path": entry.path,
        "gist": entry.gist,
        "aliases": list(entry.aliases),
        "tags": list(entry.tags),
        "text": entry.text,
        "links": [
            {"target": link.target, "type": str(link.type), "why": link.why, "origin": str(link.origin), **_writer(link)}
            for link in view.links
        ],
        "backlinks": [
            {"source": link.source, "type": str(link.type), "why": link.why, "origin": str(link.origin), **_writer(link)}
            for link in view.backlinks
        ],
        "similar": [{"id": note_id, "score": score} for note_id, score in view.similar],
        "inquiries": list(view.inquiries),
        "claims": [claim(entry) for entry in entry.claims],
        **({"objections": objections} if (objections := entry.properties.get("objections")) else {}),
    }


def _writer(link: Link) -> dict[str, str]:
    """The note that contains the link, if it is not the source."""
    return {"writer": link.writer} if link.writer else {}


def note_text(view: NoteView) -> str:
    entry = view.note
    parts = [entry.title, f"{entry.kind}  [{entry.id}]  {entry.path}", "", entry.text.strip(), ""]
    for heading, links in (("Links", view.links), ("Linked from", view.backlinks)):
        if links:
            parts.append(heading)
            for link in links:
                other = link.source if links is view.backlinks else link.target
                parts.append(f"  {link.type}  {other}" + (f"  {plain(link.why)}" if link.why else ""))
    parts += ["Similar"] * bool(view.similar) + [f"  {score:.2f}  {note_id}" for note_id, score in view.similar]
    parts += ["Claims"] * bool(entry.claims) + [f"  {c.status}  #{c.id}  {c.text}" for c in entry.claims]
    return "\n".join(parts)


def ends(steps: Sequence[Step]) -> list[str]:
    return [note_id for step in steps for note_id in (step.link.source, step.link.target)]


def step(entry: Step) -> dict[str, Any]:
    link = entry.link
    return {
        "source": link.source,
        "target": link.target,
        "type": str(link.type),
        "why": link.why,
        "forward": entry.forward,
    }


def path(start: str, steps: Sequence[Step], titles: Mapping[str, str]) -> str:
    lines = [titles.get(start, start)]
    for entry in steps:
        link = entry.link
        arrow = f"--{link.type}-->" if entry.forward else f"<--{link.type}--"
        lines.append(f"  {arrow}  {plain(link.why)}".rstrip())
        there = link.target if entry.forward else link.source
        lines.append(titles.get(there, there))
    return "\n".join(lines)


def ledger(entries: Sequence[tuple[str, Claim]]) -> str:
    lines = []
    for note_id, claim in entries:
        lines += [f"{claim.status:<12} {note_id}#{claim.id}", wrapped(claim.text, " " * 13)]
        lines += [wrapped(claim.status_reason, " " * 13)] * bool(claim.status_reason)
    return "\n".join(lines) or "no claims"


def report(done: IngestReport) -> str:
    would = "would be " if done.dry_run else ""
    counts = [
        f"{number} {would}{name}"
        for name, number in (
            ("added", done.added), ("updated", done.updated), ("moved", done.moved), ("deleted", done.deleted),
        )
        if number
    ]  # fmt: skip
    lines = [", ".join([*counts, f"{done.unchanged} unchanged"]) + f" in {done.seconds:.1f} s"]
    if done.dry_run:
        origins = [(entry, f"{entry.moved_from} -> " if entry.moved_from else "") for entry in done.planned]
        lines += [f"  {entry.change}  {origin}{entry.path}" for entry, origin in origins]
    lines.append(f"{done.notes} notes, {done.links} links, {done.stubs} stubs (linked, not written yet)")
    if done.ambiguous:
        lines.append(f"{len(done.ambiguous)} ambiguous links:")
        lines += [f"  {target!r} in {source}: {', '.join(names)}" for source, target, names in done.ambiguous[:10]]
    if done.skipped:
        lines.append(f"{len(done.skipped)} files ignored, first: {done.skipped[0][0]}: {done.skipped[0][1]}")
    lines += [f"{path}: {warning}" for path, warning in done.warnings[:20]]
    return "\n".join(lines)


def status(result: Mapping[str, Any]) -> str:
    def counted(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"

    lines = [f"notes: {counted(result['notes'])}", f"links: {counted(result['links'])}"]
    lines.append(f"chunks: {result['chunks']}, embedder {result['embedder']}")
    if result["synced"]:
        lines.append(f"last sync: {datetime.fromisoformat(result['synced']).astimezone():%Y-%m-%d %H:%M}")
    if (inquiries := result.get("inquiries")) and inquiries["kept"]:
        stale = f", {inquiries['stale']} stale (see `passkb inquiries --stale`)" if inquiries["stale"] else ", none stale"
        lines.append(f"inquiries: {inquiries['kept']}{stale}")
    lines += [f"problem: {problem}" for problem in result["problems"]]
    for source in result["sources"]:
        lines += ["", *_source(source)]
    waiting, failed = (sum(len(source[key]) for source in result["sources"]) for key in ("waiting", "failed"))
    if not result["sources"]:
        lines.append("no sources yet: add one with `passkb ingest PATH`")
    elif waiting or failed:
        what = [f"read {waiting} pending files"] * bool(waiting) + [f"retry {failed} failed files"] * bool(failed)
        lines += ["", f"next: run `passkb sync` to {' and '.join(what)}"]
    return "\n".join(lines)


def _source(source: Mapping[str, Any]) -> list[str]:
    """A source in one line, then its failed, pending and ignored files with reasons."""

    def short(entry: Mapping[str, Any]) -> str:
        return path_in_source(entry["path"], source["path"])

    counts = [f"{source['notes']} notes", f"{source['chunks']} chunks"]
    counts += [f"{len(source[key])} {name}" for key, name in _STATES.items() if source[key]]
    lines = [f"{source['name']} ({source['path']}): {', '.join(counts)}"]
    lines += [f"  failed: {short(entry)}: {entry['reason']}" for entry in source["failed"]]
    lines += _first([f"  warning: {short(entry)}: {entry['warning']}" for entry in source["warnings"]])
    lines += _first([f"  pending: {short(entry)}: {entry['reason']}" for entry in source["waiting"]])
    rules: dict[str, list[str]] = {}
    for entry in source["skipped"]:
        number = entry["files"] if entry["path"].endswith("/") else None
        rules.setdefault(entry["reason"], []).append(short(entry) + (f" ({number})" if number else ""))
    for reason, names in rules.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"  ignored: {', '.join(names[:_NAMED])}{more}: {reason}")
    if source["others"]:
        lines.append("  other kinds of files: " + ", ".join(f"{number} {kind}" for kind, number in source["others"].items()))
    for file in source.get("files", ()):
        indexed = f"{file['note_id']}, {file['chunks']} chunks" if file["note_id"] else ""
        lines.append(f"  {file['state']:<8} {short(file)}: {'; '.join(filter(None, (indexed, file['reason'])))}")
    return lines


def _first(lines: Sequence[str], most: int = 20) -> list[str]:
    return [*lines[:most], *([f"  … and {len(lines) - most} more (all with --json)"] if len(lines) > most else [])]


def findings(entries: Sequence[CheckResult]) -> str:
    lines = []
    for entry in entries:
        lines.append(f"{'works  ' if entry.ok else 'missing'}  {entry.name}: {entry.detail}")
        if not entry.ok and entry.remedy:
            lines.append(f"         -> {entry.remedy}")
    return "\n".join(lines)


def answer(value: Answer) -> str:
    if not value.answered:
        nearest = [f"  {entry.title}  [{entry.note_id}]" for entry in value.nearest]
        return "\n".join([wrapped(value.reason), *(["", "Nearest notes", *nearest] if nearest else [])])
    lines = _generated_lines(value) if value.mode == "generated" else _quoted_lines(value)
    if value.disagreements:
        lines.append("Where the notes disagree")
        for entry in value.disagreements:
            lines.append(wrapped(f"{entry.source_title} {entry.type} {entry.target_title}: {plain(entry.why)}", "  "))
        lines.append("")
    if value.evidence:
        lines += [
            "Evidence",
            *[wrapped(f"{e.title} ({e.date}): {e.status}: {e.claim_text}", "  ") for e in value.evidence],
            "",
        ]
    if value.experiments:
        lines += [
            "What would settle it",
            *[wrapped(f"{e.settles or e.question}  ({e.claim})", "  ") for e in value.experiments],
            "",
        ]
    lines.append(f"Sources ({len(value.sources)})")
    numbers: dict[str, list[str]] = {}
    for statement in value.statements:
        for citation in statement.citations:
            numbers.setdefault(citation.note_id, []).append(f"[{citation.number}]")
    lines += [f"  {''.join(numbers.get(s.note_id, []))} {s.title}  [{s.note_id}]" for s in value.sources]
    if value.follow_ups:
        lines += ["", "Follow-up questions", *[f"  {question}" for question in value.follow_ups]]
    return "\n".join(lines)


def _quoted_lines(value: Answer) -> list[str]:
    lines: list[str] = []
    for part, heading in (("lede", ""), ("body", "What the notes say")):
        chosen = [statement for statement in value.statements if statement.part == part]
        if chosen:
            lines += [heading] * bool(heading)
            for statement in chosen:
                marks = "".join(f"[{citation.number}]" for citation in statement.citations)
                lines.append(wrapped(f"{plain(statement.text)} {marks}", "  " if heading else ""))
            lines.append("")
    return lines


def _generated_lines(value: Answer) -> list[str]:
    """Paragraphs with citation marks, and the grade of sentences that are not fully supported."""
    lines = [wrapped(f"(Understood as: {value.understood})"), ""] if value.understood else []
    paragraphs: dict[int, list[str]] = {}
    for statement in value.statements:
        marks = "".join(f"[{citation.number}]" for citation in statement.citations)
        doubt = "" if statement.support == "supported" else f" ({statement.support}: {statement.reason})"
        paragraphs.setdefault(statement.paragraph, []).append(f"{statement.text} {marks}".rstrip() + doubt)
    for sentences in paragraphs.values():
        lines += [wrapped(" ".join(sentences)), ""]
    if value.incomplete:
        lines += [wrapped(f"(Incomplete: {value.fault})"), ""]
    if value.dropped:
        lines.append("Removed by the check (which can be wrong)")
        lines += [*(wrapped(f"{entry.text} ({entry.reason})", "  ") for entry in value.dropped), ""]
    if value.remarks:
        lines += [*map(wrapped, value.remarks), ""]
    return lines
