"""Sentences are exact spans of prose: tables of cases, good beside bad, and properties over any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.markdown.blocks import blocks, plain
from kb.markdown.sentences import sentences
from tests.dialects import SCRAPS

PIECES = (
    "# ",
    "## A\n",
    "\n",
    "\n\n",
    "- ",
    "1. ",
    "> ",
    "```\n",
    "`",
    "$",
    "$$",
    "%%",
    "<!--",
    "-->",
    "[[",
    "]]",
    "](",
    ")",
    "[",
    "(",
    "\\",
    "*",
    "**",
    "_",
    "a",
    "B. ",
    "Is it? ",
    "e.g. ",
    "word ",
    "  ",
    "\t",
    "    ",
    "|",
    "|a|\n|-|\n",
    "\n---\n",
    "supports:: ",
    "[[A#b|c]]",
    ".",
    "。",
    "https://x.y ",
    "é",
    "\u2028",
    "\xa0",
    "^id",
    "[^1]",
    ": ",
    "<b>",
    "~~~",
    "===\n",
    *SCRAPS,
)
HOSTILE = (
    ">", "> > - ", "[", "x <!-- a\n\n", "x <!-- a\n", "x %%\n", "x %% y ", "x $$\n^", "{{a ", "((", "key:: ", "[a:: ", "(a:: ",
    "\\(", "\\[", "\\[ ^\n", "#a/", "# ", "^[", "^a ", "> [!n] ", "\n\\begin{cases}", ":LOGBOOK:\n", "#+BEGIN_SRC\n", "- - ",
    "… ", "a_", "*_",
)  # fmt: skip
MARKDOWN = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def texts(text: str) -> list[str]:
    return [text[s.start : s.end] for s in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("It wins, e.g. Llama does. So i.e. The rest.", ["It wins, e.g. Llama does.", "So i.e. The rest."]),
        (
            "Chen et al. 2024 show it. See Chen et al. The end.",
            ["Chen et al. 2024 show it.", "See Chen et al.", "The end."],
        ),
        (
            "In Fig. 3, Eq. (2), cf. Sec. 4. Dr. Wu vs. J. Smith.",
            ["In Fig. 3, Eq. (2), cf. Sec. 4.", "Dr. Wu vs. J. Smith."],
        ),
        ("No. 5 is it. No. It is not.", ["No. 5 is it.", "No.", "It is not."]),
        ("At large k. The base wins.", ["At large k.", "The base wins."]),
        ("Made by J. R. R. Smith. Ends.", ["Made by J. R. R. Smith.", "Ends."]),
        ("It rose 3.5 points (arXiv 2504.13837). Then fell.", ["It rose 3.5 points (arXiv 2504.13837).", "Then fell."]),
        ("Wait... what? Well... Yes.", ["Wait... what?", "Well...", "Yes."]),
        ('He said "it works." (It did.) And **so.** End.', ['He said "it works."', "(It did.)", "And **so.**", "End."]),
        ("It grows. pass@k says so. `x` too.", ["It grows.", "pass@k says so.", "`x` too."]),
        (
            "Run `a. B` or $a. B$ or [[Part 2. Intro]] or [x. Y](z. A). Done.",
            ["Run `a. B` or $a. B$ or [[Part 2. Intro]] or [x. Y](z. A).", "Done."],
        ),
        ("これは文。次の文。", ["これは文。", "次の文。"]),
        ("So it is.[^1] And [2]. End.[3] Fin.", ["So it is.[^1]", "And [2].", "End.[3]", "Fin."]),
        ("A sentence\nwrapped over\nlines. Next.", ["A sentence\nwrapped over\nlines.", "Next."]),
        (
            "- first item\n- [ ] second. Third\n  wrapped\n\n1. one",
            ["first item", "second.", "Third\n  wrapped", "one"],
        ),
        ("> Quoted. More\n> of it.\n>\n> Apart.", ["Quoted.", "More\n> of it.", "Apart."]),
        ("> [!note] Callout\n> Its words.", ["Callout", "Its words."]),
        ("| a | b |\n|---|:-:|\n| 1 | x. Y |\n\nAfter.", ["a | b", "1 | x. Y", "After."]),
        ("# Head.\nText.\n\nOver\n---\nUnder.", ["Text.", "Under."]),
        ("```\nCode. Here.\n```\nYes.\n\n    indented. code\n\n~~~\nunclosed", ["Yes."]),
        ("$$\na. B\n$$\n$$x$$\n$$y$$ is it.", ["$$y$$ is it."]),
        ("<!-- No. -->\n%% No.\n\nNo. %%\n[ref]: http://x.y\n\nYes.", ["Yes."]),
        ("contradicts:: [[A]] because no. It is.\n- supports:: [[B]]\n\nYes.", ["Yes."]),
        ("[[A]]\n![[b.png]]\n- [[C]], [d](e.md)\n- [[C]] has words", ["[[C]] has words"]),
        ("Yes.\n## References\nNo.\n### Deeper\nNo.\n## See also\n- No.\n## Results\nAgain.", ["Yes.", "Again."]),
        ("", []),
        (" \n\t\n***\n", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_sentences_know_where_they_stand() -> None:
    text = "Free.\n# A\n## *B*\n- item\n> quote\n\nText.\n# C\n|x|\n|-|\n|y|\n"
    assert [(s.heading, s.block) for s in sentences(text)] == [
        ("", "paragraph"), ("A > B", "list"), ("A > B", "quote"), ("A > B", "paragraph"),
        ("C", "table"), ("C", "table"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('See [[A]], [[A|b]], [[A#H]], [[A#^x]] and [c](d.md "t").', "See A, b, A > H, A and c."),
        ("**Bold** *it* _it_ __b__ ~~s~~ ==h== `co_de_`", "Bold it it b s h co_de_"),
        ("snake_case_name and 2 * 3 * 4 and a_i", "snake_case_name and 2 * 3 * 4 and a_i"),
        ("$a_i * b_i$ and *b*", "$a_i * b_i$ and b"),
        ("> quoted\n> on\n\n- item\n# head", "quoted on item head"),
        (r"\*not\* \[[no]] [[A\|b]]", "*not* [[no]] b"),
        ("a<br>b <!-- c -->d %%e%% f[^1] &amp; <https://x.y>", "ab d f & https://x.y"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(st.one_of(MARKDOWN, st.text()))
@settings(max_examples=400, deadline=None)
def test_any_text(text: str) -> None:
    plain(text)
    end = 0
    for block in blocks(text):
        assert end <= block.start <= block.body <= block.end <= len(text)
        end = block.end
    end = 0
    for sentence in sentences(text):
        words = text[sentence.start : sentence.end]
        assert end <= sentence.start < sentence.end <= len(text)
        assert words == words.strip() and any(map(str.isalnum, words))
        assert any(b.start <= sentence.start and sentence.end <= b.end for b in blocks(text))
        end = sentence.end


@pytest.mark.parametrize(
    "piece", ["[[", "`a ``", "$a ", "<!-- ", "%%\n", "> ~~~\n> ```\n\n", "[a](", "**a* ", "a. ", "a|\n|-", *HOSTILE]
)
def test_time_is_linear_in_the_text(piece: str) -> None:
    def cost(size: int) -> float:
        text, begun = piece * size, time.process_time()
        sentences(text)
        plain(text)
        return time.process_time() - begun

    cost(100)
    assert cost(80_000) < 0.05 + 40 * cost(8_000)  # ten times the text; quadratic would be a hundred
