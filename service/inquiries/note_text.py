"""An answer as Markdown: the inquiry note with footnotes and typed links, and a copy to export.

All text is escaped, so that the only links of the note are those to its sources.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ingest.readers.extracted_document import one_line
from kb.notes import LinkType
from service.answering.answer import Answer, Citation, Disagreement, Statement, Support
from service.inquiries.front_matter import RECORD_KEY, InquiryRecord, read_record
from service.inquiries.markdown_escape import escape

_INVISIBLE = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\ufeff]")
_SEAL = re.compile(r"^written: .*\n", re.M)
_ID = re.compile(r"[\w/-]+(?:#[\w.-]+)?")


class _ExactDumper(yaml.SafeDumper):
    """Writes text so that YAML reads back every character, including unusual line ends."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if _INVISIBLE.search(value) else None)


_ExactDumper.add_representer(str, _represent_text)


@dataclass(frozen=True, slots=True)
class InquiryPage:
    """An answer to save, with the title and the record of its note."""

    title: str
    answer: Answer
    record: InquiryRecord


def inquiry_markdown(page: InquiryPage) -> str:
    """The whole file with a digest, by which `is_edited` detects later changes."""
    links = [
        {"to": f"[[{source.note_id}]]", "type": str(LinkType.DRAWS_ON), "why": one_line(source.gist)}
        for source in page.answer.sources
    ]
    front: dict[str, Any] = {"title": one_line(page.title), "kind": "inquiry", "links": links}
    front[RECORD_KEY] = page.record.to_front_matter()
    header = yaml.dump(
        front, Dumper=_ExactDumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000_000
    )
    body = "\n\n".join(filter(None, _sections(page.answer, page.record.asked)))
    text = f"---\n{header}---\n{body}\n"
    return f"---\n{header}written: {_digest(text)}\n---\n{body}\n"


def answer_markdown(answer: Answer, asked: str) -> str:
    """An answer to export, under its question. `asked`: ISO time. A refusal gives the reason and the nearest notes."""
    near = [_format_note(entry.title, entry.note_id) for entry in answer.nearest]
    refused = [escape(answer.reason or "The notes do not answer this question."), _format_section("Nearest notes", near)]
    body = _sections(answer, asked) if answer.answered else refused
    return "\n\n".join(filter(None, (f"# {escape(answer.question)}", *body))) + "\n"


def is_edited(text: str) -> bool:
    """Whether a file differs from the output of `inquiry_markdown`."""
    sealed = _SEAL.search(text)
    return sealed is None or sealed[0] != f"written: {_digest(_SEAL.sub('', text, count=1))}\n"


def list_citations(answer: Answer) -> tuple[Citation, ...]:
    """The citations of all statements and disagreements, without duplicates, by number."""
    stated = [citation for statement in answer.statements for citation in statement.citations]
    sides = [side for entry in answer.disagreements for side in (entry.source_says, entry.target_says) if side]
    by_number = {citation.number: citation for citation in (*stated, *sides)}
    return tuple(by_number[number] for number in sorted(by_number))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _sections(answer: Answer, asked: str) -> Iterable[str]:
    yield from _generated_sections(answer.statements) if answer.mode == "generated" else _quoted_sections(answer.statements)
    yield _format_section("Where the notes disagree", list(_format_disagreements(answer.disagreements)))
    yield _format_section("Evidence", [
        f"{escape(item.date)[:10] or 'no date'}, {escape(item.status) or 'undecided'}: {escape(item.claim_text)} "
        f"({_format_note(item.title, item.note_id)})"
        for item in answer.evidence
    ])  # fmt: skip
    yield _format_section("What would settle it", [
        f"{escape(entry.settles or entry.question)} (`{_safe_id(entry.claim)}`)" for entry in answer.experiments
    ])  # fmt: skip
    yield _format_section("Removed by the check", [
        f"{escape(entry.text)} *({entry.support}: {escape(entry.reason)})*" for entry in answer.dropped
    ])  # fmt: skip
    yield f"*{_provenance(answer, asked[:10])}*"
    yield "\n".join(f"[^{c.number}]: {_format_note(c.title, c.note_id)}: “{escape(c.quote)}”" for c in list_citations(answer))


def _quoted_sections(statements: Sequence[Statement]) -> Iterable[str]:
    yield from (_format_statement(entry) for entry in statements if entry.part == "lede")
    yield _format_section("What the notes say", [_format_statement(entry) for entry in statements if entry.part != "lede"])


def _generated_sections(statements: Sequence[Statement]) -> Iterable[str]:
    paragraphs: dict[int, list[str]] = {}
    for entry in statements:
        paragraphs.setdefault(entry.paragraph, []).append(_format_statement(entry))
    yield from (" ".join(sentences) for sentences in paragraphs.values())


def _format_statement(entry: Statement) -> str:
    """A sentence with its footnotes, and its grade if it is not fully supported."""
    marks = "".join(f"[^{citation.number}]" for citation in entry.citations)
    doubt = "" if entry.support in (Support.QUOTED, Support.SUPPORTED) else f" *({entry.support}: {escape(entry.reason)})*"
    return f"{escape(entry.text)} {marks}".rstrip() + doubt


def _format_disagreements(entries: Sequence[Disagreement]) -> Iterable[str]:
    """Both sides of each disagreement in their own words; repeated quotes are omitted."""
    shown: set[int] = set()
    for entry in entries:
        one, other = _format_note(entry.source_title, entry.source), _format_note(entry.target_title, entry.target)
        why = escape(entry.why).rstrip(".")
        parts = [f"{one} {escape(entry.type.replace('_', ' '))} {other}{f': {why}' if why else ''}."]
        for title, says in ((entry.source_title, entry.source_says), (entry.target_title, entry.target_says)):
            if says and says.number not in shown:
                shown.add(says.number)
                parts.append(f"{escape(title)} says: “{escape(says.quote)}” [^{says.number}]")
        yield " ".join(parts)


def _provenance(answer: Answer, day: str) -> str:
    if answer.mode != "generated":
        return f"Asked on {day}. All statements are quotes from the notes."
    grades = [entry.support for entry in answer.statements]
    counts = ", ".join(f"{number} {grade}" for grade in Support if (number := grades.count(grade)))
    cut = f" The answer is incomplete: {escape(answer.fault)}." if answer.incomplete else ""
    author = escape(answer.model or "") or "a model"
    return f"Written by {author} on {day}. Each sentence was checked against its citations: {counts}.{cut}"


def _format_section(title: str, items: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {item}" for item in items) if items else ""


def _format_note(title: str, note_id: str) -> str:
    return f"{escape(title)} (`{_safe_id(note_id)}`)"


def _safe_id(note_id: str) -> str:
    return note_id if _ID.fullmatch(note_id) else "?"


def list_source_ids(properties: Mapping[str, Any]) -> list[str]:
    """The ids of the source notes of an inquiry."""
    record = read_record(properties)
    return list(dict.fromkeys(source.note_id for source in record.sources)) if record else []
