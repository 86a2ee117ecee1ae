"""Chunks tile a note's text."""

from __future__ import annotations

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
    found = chunk(note)
    assert found == chunk(note)
    assert [c.id for c in found] == [f"n@{i}" for i in range(len(found))]
    end = 0
    for c in found:
        assert not text[end : c.start].strip(), "nothing is left out"
        assert end <= c.start < c.end and c.end - c.start <= MAX_SIZE
        assert text[c.start : c.end] == text[c.start : c.end].strip()
        end = c.end
    assert not text[end:].strip()
