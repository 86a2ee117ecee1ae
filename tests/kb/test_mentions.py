"""Names in prose: the longest that fits, at its exact place, never in code or links, never a word that may mean anything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kb.mentions import NameIndex, is_distinctive, tokenize_name

NAMES = NameIndex([
    ("pass@k", "k"), ("Pass@K Policy Optimization", "pkpo"), ("Entropy collapse", "e"), ("Twice", "t1"), ("Twice", "t2"),
    ("What is it?", "q"), ("The", "the"), ("2024-05-01", "day"),
])  # fmt: skip


def found(text: str) -> list[tuple[str, str]]:
    return [(mention.note_id, text[mention.at : mention.until]) for mention in NAMES.mentions(text)]


def test_the_longest_name_is_meant_in_any_letters_and_across_lines() -> None:
    text = "We use Pass@K\npolicy optimization, not pass@k. ENTROPY  COLLAPSE follows."
    assert found(text) == [("pkpo", "Pass@K\npolicy optimization"), ("k", "pass@k"), ("e", "ENTROPY  COLLAPSE")]
    sentences = {text[mention.start : mention.end] for mention in NAMES.mentions(text)}
    assert sentences == {"We use Pass@K\npolicy optimization, not pass@k.", "ENTROPY  COLLAPSE follows."}


def test_what_stands_in_code_links_headings_or_within_words_is_no_mention() -> None:
    assert (
        found("# Entropy collapse\n\nIt is `entropy collapse`, [[Entropy collapse]] or [entropy collapse](x.md) here.\n") == []
    )
    assert (
        found("```\nentropy collapse\n```\n\nentropy collapses, preentropy collapse, entropy-collapse, entropy. Collapse.")
        == []
    )
    assert found("It was %%entropy collapse%% or $entropy collapse$ hidden.") == []


def test_names_of_several_notes_numbers_and_small_words_are_none() -> None:
    assert found("Twice the day 2024-05-01. What is it? He said so.") == []
    assert [is_distinctive(name) for name in ("Go", "AI", "of the", "2024", "((a-b))", "^id", "", "Überlauf", "pass@k")] == [
        False, False, False, False, False, False, False, True, True
    ]  # fmt: skip


@settings(deadline=None)
@given(st.text("ab@ -\n`[]().#*é", max_size=60), st.lists(st.text("ab @-é", min_size=1, max_size=8), max_size=6))
def test_places_point_at_the_names_they_claim(text: str, names: list[str]) -> None:
    given_names = NameIndex((name, f"n{i}") for i, name in enumerate(names))
    last = 0
    for mention in given_names.mentions(text):
        assert last <= mention.at < mention.until <= len(text) and mention.start <= mention.at <= mention.until <= mention.end
        assert tokenize_name(text[mention.at : mention.until]) == tokenize_name(mention.name) and mention.name in names
        last = mention.until
