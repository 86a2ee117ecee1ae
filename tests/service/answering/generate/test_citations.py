"""Keys and marks in a model's words: what is read from any text was offered, and what is cut away does not come back."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.notes import Note
from service.answering.generate.citations import NO_ANSWER, answer_pattern, parse_draft, parse_keys, renumber_keys
from service.answering.generate.context import evidence_label
from service.llm.sanitize import sanitize

OFFERED = range(1, 8)
PARTS = st.sampled_from([
    *"A base model wins|.| |, |[1]|[2][3]|[4, 9]|[99]|[0, 1]|【5】|(see note 2)|(Smith et al., 2020)|[a](http://b)|\n\n".split("|"),
    *"<think> </think> <tool_call> </tool_call> <|im_end|> [[x|y]] [1 ? e.g. 0.5 ```\n It \ue000".split(" "),
    *("Sources:\n", "- ", "# ", "It holds", "And more", "interval [2, 3]"),
])  # fmt: skip
TEXTS = st.one_of(st.lists(PARTS, max_size=30).map("".join), st.text(max_size=200))


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_whatever_is_written_only_offered_keys_are_read(text: str) -> None:
    for sentence in parse_draft(text, OFFERED):
        assert set(sentence.keys) <= set(OFFERED) and len(set(sentence.keys)) == len(sentence.keys)
        assert any(map(str.isalnum, sentence.text)) and "\ue000" not in sentence.text
    assert all(int(key) <= 7 for key in re.findall(r"\[(\d)\]", renumber_keys(text, OFFERED)) if key != "0")


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 7))
def test_a_stream_ends_as_the_whole_text_is_read_and_never_breaks(text: str, step: int) -> None:
    for end in range(0, len(text), step):
        assert "<think>" not in sanitize(text[:end], ended=False).text
    whole = sanitize(text, ended=True)
    assert not re.search(r"<think>|</think>|<tool_call>|<\|im_end\|>", whole.text)
    assert sanitize(whole.text, ended=True).text == whole.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It wins [2]. It loses. [3] More [1, 4][9]!", [("It wins.", (2,)), ("It loses.", (3,)), ("More!", (1, 4))]),
        ("According to [3], it wins. [2] says no.", [("It wins.", (3,)), ("One note says no.", (2,))]),
        ("The interval [2, 3] is wide [1]. In [0, 1] too.", [("The interval [2, 3] is wide.", (1,)), ("In [0, 1] too.", ())]),
        ("It wins (e.g., at k = 8) [1-3].", [("It wins (e.g., at k = 8).", (1, 2, 3))]),
        ("Yue et al. (2025) find it [1].", [("Yue et al. (2025) find it.", (1,))]),
        ("It wins [1].\n\nSources:\n[1] A note\n[2] Another", [("It wins.", (1,))]),
        ("It wins [1]. It wins [2].", [("It wins.", (1,))]),
        ("- It wins [1].\n- It loses [2].", [("It wins.", (1,)), ("It loses.", (2,))]),
        ("It wins [1] and it los [", [("It wins and it los", (1,))]),
        ("", []),
        ("[1][2]", []),
    ],
)
def test_sentences_with_their_keys(text: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(sentence.text, sentence.keys) for sentence in parse_draft(text, OFFERED)] == expected


@given(st.integers(1, 400), st.integers(1, 400))
def test_a_range_of_keys_is_all_of_it_or_no_range(first: int, last: int) -> None:
    found = parse_keys(f"{first}-{last}")
    assert found[0] == first and set(found) == (set(range(first, last + 1)) if first <= last <= first + 12 else {first, last})


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (NO_ANSWER, True),
        ("Pass@k is 0.5 at k = 1 [1][12]. And so (e.g., here) [3].\n\nMore [2].", True),
        ("It wins [13].", False),
        ("It wins.", False),
        ("It wins. It loses [1].", False),
        ("It wins [Author et al.].", False),
        ("It wins 【1】.", False),
    ],
)
def test_the_pattern_lets_offered_keys_be_written_and_no_others(text: str, fits: bool) -> None:
    assert bool(re.fullmatch(answer_pattern(12), text)) is fits


@settings(deadline=None)
@given(st.from_regex(answer_pattern(5), fullmatch=True))
def test_every_sentence_that_the_pattern_allows_has_offered_keys_only(text: str) -> None:
    assert not re.search(r"\[(?![1-5]\])", text)


UNITS = [
    "(Ab, 2020;",
    "\n",
    " ",
    "[1",
    "<think>",
    "<|channel|>x",
    "[",
    ". ",
    "(",
    "[[",
    "![a](",
    "<tool_call>",
    "1, ",
    "a.b",
    '{"',
    "<",
]


@pytest.mark.parametrize("unit", UNITS)
def test_long_and_strange_texts_are_read_in_linear_time(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    started = time.process_time()
    parse_draft(sanitize(text, ended=True).text, OFFERED)
    renumber_keys(sanitize(text, ended=False).text, OFFERED)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("end", range(24, 48))
def test_no_image_of_a_model_is_fetched_while_it_is_written(end: int) -> None:
    text = "It wins. See ![x](https://evil.example/?q=key) there [1]."
    assert "evil.example" not in renumber_keys(sanitize(text[:end], ended=False).text, OFFERED)
    assert not any("evil" in sentence.text for sentence in parse_draft(text[:end], OFFERED))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (
            "Tuned solves 21.0 % (18.0 to 24.0) with k = 8, 64 attempts each.",
            "evidence of 2026-11-20, n = 64, k = 8, interval 18.0 to 24.0",
        ),
        (
            "Base is behind at k = 1 (-2.1 points, 95 % interval -3.3 to -0.5) and ahead at k = 1,024.\n\n"
            "## What was run\n\n100 problems of countdown, 2,048 attempts each.",
            "evidence of 2026-11-20, n = 2,048, k = 1; 1,024, interval -3.3 to -0.5",
        ),
        ("It held in the spring.\n\nAt k = 4 it did not.", "evidence of 2026-11-20"),
        ("", "evidence of 2026-11-20"),
    ],
)
def test_evidence_is_named_by_what_it_says(text: str, label: str) -> None:
    assert evidence_label(Note("e", "E", text=text, properties={"date": "2026-11-20T10:00"})) == label
