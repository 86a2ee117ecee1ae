"""How the time of reading and rendering a note grows with its length, over texts in which a construct opens again and again."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from bench.figures import Figure
from ingest.links import extract_links
from ingest.readers.markdown import read_markdown
from kb.markdown.sentences import sentences
from kb.notes import PasskbError
from service.web.components.markdown import render
from tests.hostile_texts import TEXTS, Text

_SMALL, _LARGE = 25_000, 100_000
_WORTH = 0.2  # seconds below which a growth is the clock's


def measure(scratch: Path) -> list[Figure]:
    """The largest growth from 25 kB to 100 kB, where 4 is linear and 16 quadratic, and the longest time."""
    rows = []
    for name, text in TEXTS.items():
        small, large = _seconds(text, _SMALL), _seconds(text, _LARGE)
        rows.append((large / max(small, _WORTH / 4), large, name))
    growth, _, worst = max(rows)
    _, longest, slowest = max(rows, key=lambda row: row[1])
    return [
        Figure("texts of one construct that opens again and again", f"{len(rows)}"),
        Figure(f"**growth from 25 kB to 100 kB**, worst ({worst})", f"{growth:.1f} times", "at most 8", growth <= 8),
        Figure(f"longest, 100 kB ({slowest})", f"{longest:.1f} s"),
        Figure("a note of 300 kB of `<!-- `", f"{_seconds(TEXTS[repr('<!-- ') + ' repeated'], 300_000):.2f} s", "1 s"),
    ]


def _seconds(text: Text, size: int) -> float:
    """Processor time; of a text that the reader refuses as no text, of the refusal."""
    start = time.process_time()
    with suppress(PasskbError):
        note = read_markdown(text(size).encode("utf-8", "replace"), path="a.md", note_id="a", source="s").note
        sentences(note.text)
        extract_links(note.text)
        render(note.text, note_href=lambda target: None)
    return time.process_time() - start
