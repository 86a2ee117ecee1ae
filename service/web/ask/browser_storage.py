"""What the browser remembers of an exchange: its answer as JSON, written into the page for it to keep, and read back.

What comes back is a stranger's word: it is read as an Answer or left, and shown like any other, escaped. Quotes that no
longer stand in their notes say so when they are opened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.answering.answer import Answer
from service.inquiries.note_text import answer_markdown
from service.web.components.html import text

LONGEST = 400_000  # characters of one record


@dataclass(frozen=True, slots=True)
class Record:
    answer: Answer
    at: str


def record_html(answer: Answer, at: str) -> str:
    """For the page's script, which keeps it; nothing of it is shown."""
    kept = json.dumps({"at": at, "answer": answer.to_json()}, ensure_ascii=False)
    return f'<div class="record" hidden data-at="{text(at)}">{text(kept)}</div>' if len(kept) <= LONGEST else ""


def markdown_html(answer: Answer, at: str) -> str:
    """The answer as Markdown, for the page's buttons that copy and export it; nothing of it is shown."""
    return f'<div class="markdown" hidden>{text(answer_markdown(answer, at))}</div>'


def read_back(records: Any, most: int) -> list[Record]:
    """The newest `most` records that can be read, oldest first."""
    found = [record for entry in (records if isinstance(records, Sequence) else ())[-most:] if (record := _record(entry))]
    return sorted(found, key=lambda record: record.at)


def _record(entry: Any) -> Record | None:
    if not isinstance(entry, str) or len(entry) > LONGEST:
        return None
    try:
        value = json.loads(entry)
        return Record(Answer.from_json(value["answer"]), str(value["at"])[:40])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
