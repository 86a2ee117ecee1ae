"""Chunks tile a note's text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunking import MAX_SIZE, TARGET_SIZE, chunk
from kb.notes import Note

WORDS = "It rises with k and then stays. "
PIECES = (
    "# A\n",
    "## B\n",
    "### C\n",
    WORDS * 5,
    WORDS * 20,
    "\n\n",
    "\n",
    "- ",
    "> ",
    "```\n",
    "x" * 900,
    "x" * 2000,
    "|a|b|\n|-|-|\n",
    "> [!tip]- ",
    "key:: value\n",
    "x %% ",
    "- # ",
    "\\[\n",
)


def chunks(text: str) -> list[tuple[str, str]]:
    """(heading, text) of each chunk."""
    return [(c.heading, text[c.start : c.end]) for c in chunk(Note(id="n", title="N", text=text))]


def test_sections_are_chunks_and_small_ones_join() -> None:
    long = (WORDS * 12).strip()
    assert chunks("") == chunks(" \n\n") == []
    assert chunks(f"# A\n{long}\n\n# B\n{long}\n") == [("A", f"# A\n{long}"), ("B", f"# B\n{long}")]
    assert chunks("# A\none\n## B\ntwo\n## C\nthree") == [("A", "# A\none\n## B\ntwo\n## C\nthree")]
    assert chunks(f"# A\n## B\n{long}\n## C\nsmall") == [("A", f"# A\n## B\n{long}\n## C\nsmall")]
    assert chunks(f"# A\n{long}\n## B\n{long}\n# D\nsmall")[2] == ("D", "# D\nsmall"), "of another parent"


def test_what_is_long_is_cut_where_it_hurts_least() -> None:
    prose = chunks(WORDS * 100)
    assert all(text.endswith("stays.") and len(text) <= TARGET_SIZE for _, text in prose)
    code = "```\n" + "line = 1\n" * 150 + "```"
    assert chunks(f"{WORDS * 20}\n\n{code}")[1][1] == code, "whole while under the hard limit"
    cut = chunks("```\n" + "line = 1\n" * 400 + "```")
    assert all(text.startswith(("```", "line")) and text.endswith(("1", "```")) for _, text in cut)
    assert [len(text) for _, text in chunks("x" * 4000)] == [TARGET_SIZE, TARGET_SIZE, TARGET_SIZE, 4000 - 3 * TARGET_SIZE]


@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.text()))
@settings(max_examples=300, deadline=None)
def test_chunks_tile_any_text(text: str) -> None:
    note = Note(id="n", title="N", text=text)
    result = chunk(note)
    assert result == chunk(note)
    assert [c.id for c in result] == [f"n@{i}" for i in range(len(result))]
    end = 0
    for c in result:
        assert not text[end : c.start].strip(), "nothing is left out"
        assert end <= c.start < c.end and c.end - c.start <= MAX_SIZE
        assert text[c.start : c.end] == text[c.start : c.end].strip()
        end = c.end
    assert not text[end:].strip()


def words(size: int) -> str:
    """Prose of `size` characters without a full stop."""
    return ("so " * size)[: size - 1] + "o"


def spans(text: str) -> list[tuple[int, int]]:
    return [(c.start, c.end) for c in chunk(Note(id="n", title="N", text=text))]


@pytest.mark.parametrize(("second", "number"), [(598, 1), (599, 2)])
def test_paragraphs_fill_a_chunk_up_to_1100_characters(second: int, number: int) -> None:
    """500 + 2 line ends + 598 is 1100."""
    assert len(spans(f"{words(500)}\n\n{words(second)}")) == number


@pytest.mark.parametrize(("body", "number"), [(1595, 1), (1596, 2)])
def test_a_heading_stays_with_its_text_up_to_1600_characters(body: int, number: int) -> None:
    """`# H` and 2 line ends are 5 characters."""
    assert len(spans(f"# H\n\n{words(body)}")) == number


@pytest.mark.parametrize(("size", "number"), [(1600, 1), (1601, 2)])
def test_a_block_is_cut_beyond_1600_characters(size: int, number: int) -> None:
    assert len(spans(words(size))) == number


@pytest.mark.parametrize(
    ("first", "second", "number"), [(249, 849, 1), (250, 848, 2), (249, 850, 2), (849, 249, 1), (848, 250, 2)]
)
def test_sections_below_250_characters_join_a_neighbour_up_to_1100(first: int, second: int, number: int) -> None:
    """249 + 2 line ends + 849 is 1100; `# A` and 2 line ends are part of a section's size."""
    assert len(spans(f"# A\n\n{words(first - 5)}\n\n# B\n\n{words(second - 5)}")) == number


@pytest.mark.parametrize(("sentence", "end"), [(1099, 1099), (366, 366), (365, 1097)])
def test_a_long_block_is_cut_after_the_last_sentence_of_its_first_1100_characters(sentence: int, end: int) -> None:
    """If that is in the first third (366 characters), it is cut at the last space instead: spaces are at 365 + 3 i, the last at
    365 + 3 * 244 = 1097."""
    text = f"{'x' * (sentence - 1)}. " + "bb " * 500
    assert spans(text)[0] == (0, end)


def test_a_word_without_end_is_cut_every_1100_characters() -> None:
    assert spans("x" * 3000) == [(0, 1100), (1100, 2200), (2200, 3000)]


def test_code_is_cut_after_a_line() -> None:
    """`` ``` `` and 110 lines of 10 characters: the last line end within 1100 characters is at 4 + 109 * 10 - 1."""
    text = "```\n" + "x = 12345\n" * 200 + "```"
    assert spans(text)[0] == (0, 4 + 109 * 10 - 1)
