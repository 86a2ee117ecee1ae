"""The text of an inquiry's note: an answer as Markdown, its citations as footnotes, its sources as typed links. Pure.

Whatever an answer holds is set as words: the only links of the note are those to its sources.
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
from service.inquiries.front_matter import RECORD, Record, read_record
from service.inquiries.markdown_escape import inert

_UNSEEN = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\ufeff]")
_SEAL = re.compile(r"^written: .*\n", re.M)
_ID = re.compile(r"[\w/-]+(?:#[\w.-]+)?")


class _Exactly(yaml.SafeDumper):
    """Writes text so that it is read back to the character: what YAML takes for a line's end is escaped."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if _UNSEEN.search(value) else None)


_Exactly.add_representer(str, _text)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to be kept, with what the note is called and remembers."""

    title: str
    answer: Answer
    record: Record


def inquiry_markdown(page: Page) -> str:
    """The whole file, sealed: `edited` tells whether anybody has changed it since."""
    links = [
        {"to": f"[[{source.note_id}]]", "type": str(LinkType.DRAWS_ON), "why": one_line(source.gist)}
        for source in page.answer.sources
    ]
    front: dict[str, Any] = {"title": one_line(page.title), "kind": "inquiry", "links": links}
    front[RECORD] = page.record.to_front_matter()
    header = yaml.dump(front, Dumper=_Exactly, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000_000)
    body = "\n\n".join(filter(None, _sections(page.answer, page.record.asked)))
    text = f"---\n{header}---\n{body}\n"
    return f"---\n{header}written: {_digest(text)}\n---\n{body}\n"


def answer_markdown(answer: Answer, asked: str) -> str:
    """An answer to be read elsewhere, under its question; `asked`: when, as an ISO time. A refusal says why, and names the
    nearest notes."""
    near = [_note(entry.title, entry.note_id) for entry in answer.nearest]
    refused = [inert(answer.reason or "The notes do not answer this."), _part("The nearest notes", near)]
    body = _sections(answer, asked) if answer.answered else refused
    return "\n\n".join(filter(None, (f"# {inert(answer.question)}", *body))) + "\n"


def edited(text: str) -> bool:
    """Whether a file is no longer what `inquiry_markdown` made."""
    sealed = _SEAL.search(text)
    return sealed is None or sealed[0] != f"written: {_digest(_SEAL.sub('', text, count=1))}\n"


def citations_of(answer: Answer) -> tuple[Citation, ...]:
    """Each cited span once, by number: of the statements, and of both sides of the disagreements."""
    said = [citation for statement in answer.statements for citation in statement.citations]
    sides = [side for entry in answer.disagreements for side in (entry.source_says, entry.target_says) if side]
    found = {citation.number: citation for citation in (*said, *sides)}
    return tuple(found[number] for number in sorted(found))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _sections(answer: Answer, asked: str) -> Iterable[str]:
    yield from _written(answer.statements) if answer.mode == "generated" else _quoted(answer.statements)
    yield _part("Where the notes disagree", list(_disagreements(answer.disagreements)))
    yield _part("Evidence", [
        f"{inert(item.date)[:10] or 'no date'}, {inert(item.status) or 'undecided'}: {inert(item.claim_text)} "
        f"({_note(item.title, item.note_id)})"
        for item in answer.evidence
    ])  # fmt: skip
    yield _part("What would settle it", [
        f"{inert(entry.settles or entry.question)} (`{_id(entry.claim)}`)" for entry in answer.experiments
    ])  # fmt: skip
    yield _part("Left out by the check", [
        f"{inert(entry.text)} *({entry.support}: {inert(entry.reason)})*" for entry in answer.dropped
    ])  # fmt: skip
    yield f"*{_provenance(answer, asked[:10])}*"
    yield "\n".join(f"[^{c.number}]: {_note(c.title, c.note_id)}: “{inert(c.quote)}”" for c in citations_of(answer))


def _quoted(statements: Sequence[Statement]) -> Iterable[str]:
    yield from (_statement(entry) for entry in statements if entry.part == "lede")
    yield _part("What the notes say", [_statement(entry) for entry in statements if entry.part != "lede"])


def _written(statements: Sequence[Statement]) -> Iterable[str]:
    paragraphs: dict[int, list[str]] = {}
    for entry in statements:
        paragraphs.setdefault(entry.paragraph, []).append(_statement(entry))
    yield from (" ".join(sentences) for sentences in paragraphs.values())


def _statement(entry: Statement) -> str:
    """A sentence with its footnotes; whatever its sources do not carry in full says so."""
    marks = "".join(f"[^{citation.number}]" for citation in entry.citations)
    doubt = "" if entry.support in (Support.QUOTED, Support.SUPPORTED) else f" *({entry.support}: {inert(entry.reason)})*"
    return f"{inert(entry.text)} {marks}".rstrip() + doubt


def _disagreements(entries: Sequence[Disagreement]) -> Iterable[str]:
    """Both sides of each in their own words, every sentence once."""
    told: set[int] = set()
    for entry in entries:
        one, other = _note(entry.source_title, entry.source), _note(entry.target_title, entry.target)
        why = inert(entry.why).rstrip(".")
        parts = [f"{one} {inert(entry.type.replace('_', ' '))} {other}{f': {why}' if why else ''}."]
        for title, says in ((entry.source_title, entry.source_says), (entry.target_title, entry.target_says)):
            if says and says.number not in told:
                told.add(says.number)
                parts.append(f"{inert(title)} says: “{inert(says.quote)}” [^{says.number}]")
        yield " ".join(parts)


def _provenance(answer: Answer, day: str) -> str:
    if answer.mode != "generated":
        return f"Asked on {day}. The statements are quotes; no model wrote any of this."
    grades = [entry.support for entry in answer.statements]
    told = ", ".join(f"{number} {grade}" for grade in Support if (number := grades.count(grade)))
    cut = f" It is incomplete: {inert(answer.fault)}." if answer.incomplete else ""
    author = inert(answer.model or "") or "a model"
    return f"Written by {author} on {day}, each sentence checked against what it cites: {told}.{cut}"


def _part(title: str, items: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {item}" for item in items) if items else ""


def _note(title: str, note_id: str) -> str:
    return f"{inert(title)} (`{_id(note_id)}`)"


def _id(note_id: str) -> str:
    return note_id if _ID.fullmatch(note_id) else "?"


def named_notes(properties: Mapping[str, Any]) -> list[str]:
    """The ids that a page of this note shows as code, and that its reader may want to open."""
    record = read_record(properties)
    return list(dict.fromkeys(source.note_id for source in record.sources)) if record else []
