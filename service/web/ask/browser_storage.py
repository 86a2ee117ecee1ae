"""Stores exchanges in the browser: writes an answer as JSON into the page, and reads stored answers back.

Stored answers are untrusted input: they are validated, and rendered with escaping like any other answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from service.answering.answer import Answer
from service.inquiries.note_text import answer_markdown
from service.web.components.templates import render

MAX_LENGTH = 400_000  # characters of one record


@dataclass(frozen=True, slots=True)
class Record:
    answer: Answer
    asked_at: str


def record_html(answer: Answer, asked_at: str) -> Markup:
    """A hidden element that the page's script stores; empty if the record is too long."""
    record = json.dumps({"at": asked_at, "answer": answer.to_json()}, ensure_ascii=False)
    return render("ask/record.html", asked_at=asked_at, record=record) if len(record) <= MAX_LENGTH else Markup()


def markdown_html(answer: Answer, asked_at: str) -> Markup:
    """The answer as Markdown in a hidden element, for the buttons that copy and export it."""
    return render("ask/markdown.html", markdown=answer_markdown(answer, asked_at))


def load_records(records: Any, limit: int) -> list[Record]:
    """The valid records among the newest `limit`, oldest first."""
    entries = records if isinstance(records, Sequence) else ()
    loaded = [record for entry in entries[-limit:] if (record := _load_record(entry))]
    return sorted(loaded, key=lambda record: record.asked_at)


def _load_record(entry: Any) -> Record | None:
    if not isinstance(entry, str) or len(entry) > MAX_LENGTH:
        return None
    try:
        value = json.loads(entry)
        return Record(Answer.from_json(value["answer"]), str(value["at"])[:40])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
