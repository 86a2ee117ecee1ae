"""Reading and rendering a note takes time in proportion to its length, whatever opens in it and never closes.

Processor time, with room for a busy machine: four times the text may take eight times as long. What was quadratic took sixteen.
bench/hostile_input.py measures all of the texts.
"""

from __future__ import annotations

import time

import pytest

from ingest.links import extract_links
from ingest.readers.markdown import read_markdown
from kb.markdown.sentences import sentences
from service.web.components.markdown import render
from tests.hostile_texts import TEXTS, Text

SAMPLE = (
    "'<!-- ' repeated",
    "'%%' repeated",
    "'%% ' on lines",
    "'``` ' repeated",
    "'`` ` ' repeated",
    "'[' repeated",
    "'[a](' repeated",
    "'$ ' repeated",
    "'**a ' repeated",
    "'<div' on lines",
    "'[^a]: ' on lines",
    "'key:: ' on lines",
    "'\\\\(' repeated",
    "'> ' in stairs",
    "'<!--' '-->' nested",
)


def seconds(text: Text, size: int) -> float:
    start = time.process_time()
    note = read_markdown(text(size).encode(), path="a.md", note_id="a", source="s").note
    sentences(note.text)
    extract_links(note.text)
    render(note.text, note_href=lambda target: None)
    return time.process_time() - start


@pytest.mark.parametrize("name", SAMPLE)
def test_four_times_the_text_takes_no_more_than_eight_times_as_long(name: str) -> None:
    assert seconds(TEXTS[name], 200_000) <= 8 * seconds(TEXTS[name], 50_000) + 1.0
