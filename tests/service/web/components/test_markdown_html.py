"""Markdown to safe HTML: no scripts, no requests, highlights around the right sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from service.web.components.highlight import CLOSE, OPEN
from service.web.components.markdown import inline, passage, render
from service.web.components.mathml import mathml

NOTE = r"""# Reach

A **bold [[Alpha|first *note*]] claim** holds for $p_1^2$ and `code <b>`; see [[Nowhere#Top]] and ![[chart.png]].

contradicts:: [[Alpha]] because 2 < 3

> [!warning] Careful
> Not always. %%private%% ^block-1

| set | rate |
|---|---|
| [[Alpha\|MATH]] | $x/y$ |

$$
\frac{a}{b}
$$

```python
if a < b: pass
```

- one thing. Another thing.
- a last thing[^1]

[^1]: said elsewhere
"""

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](file:///etc/passwd)",
    "[x](vbscript:x)",
    "![x](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "<javascript:alert(1)>",
    "[[<img src=x onerror=alert(1)>]]",
    "[[Alpha|<script>alert(1)</script>]]",
    "![[<svg onload=alert(1)>]]",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{<script>alert(1)</script>}$",
    "$$\\style{background:url(https://evil.example)}{x}$$",
    "```<script>\n</code></pre><script>alert(1)</script>\n```",
    '[x](https://a.example/"onmouseover="alert(1))',
    '[x](https://a.example "t\\" onmouseover=alert(1)")',
    "> [!<script>] x",
    "[^1]\n\n[^1]: <script>alert(1)</script>",
    "a | b\n---|---\n<script>alert(1)</script> | x",
    "supports:: <script>alert(1)</script>",
    "<!-- --><script>alert(1)</script><!-- -->",
]


def href(target: str) -> str | None:
    return {"Alpha": "vault/alpha", "my note.md": "vault/my-note"}.get(target)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_is_only_shown(text: str, harmless: Callable[[str], None]) -> None:
    for html in (
        render(text, note_href=href),
        render(f"Before {text} after", marks=[(3, 12)], note_href=lambda target: target),
        inline(text),
        passage(text, 0, len(text), href),
    ):
        harmless(html)


def test_obsidian_syntax_is_rendered() -> None:
    html = render(NOTE, note_href=href)
    assert '<a class="wiki" href="/?note=vault/alpha" data-note="vault/alpha">first *note*</a>' in html
    assert '<span class="missing" title="No such note">Nowhere &gt; Top</span>' in html
    assert '<span class="picture">[chart.png]</span>' in html
    assert '<span class="field-type">contradicts</span>' in html
    assert '<strong class="callout">Warning</strong> Careful' in html
    assert "private" not in html and "block-1" not in html
    assert "<msubsup>" in html and "<mfrac>" in html and "<table>" in html
    assert "<h1>" not in html and "<h2>Reach</h2>" in html


def test_web_links_open_outside_and_relative_links_open_notes() -> None:
    html = render("[a](https://a.example/x?y=1&z=2) [b](my%20note.md#part) [c](gone.md)", note_href=href)
    assert 'href="https://a.example/x?y=1&amp;z=2" target="_blank" rel="noopener noreferrer nofollow"' in html
    assert 'data-note="vault/my-note"' in html
    assert '<span class="missing">c</span>' in html


SPANS = [
    "A **bold [[Alpha|first *note*]] claim** holds for $p_1^2$ and `code <b>`",
    "bold [[Alpha|first",  # ends inside a link
    "p_1^2$ and `code",  # from inside a formula into code
    "$p_1^2$",
    "Alpha]] because 2 < 3",
    "> [!warning] Careful\n> Not always.",
    "[[Alpha\\|MATH]] | $x/y$",
    "$$\n\\frac{a}{b}\n$$",
    "\\frac{a}",
    "```python\nif a < b: pass\n```",
    "a < b",
    "Another thing.\n- a last",
    "# Reach",
    "owhere#To",
    NOTE,
]


@pytest.mark.parametrize("span", SPANS, ids=range(len(SPANS)))
def test_a_mark_changes_nothing_but_the_highlight(span: str, audit: Any) -> None:
    start = NOTE.index(span)
    html = render(NOTE, marks=[(start, start + len(span))], note_href=href)
    assert "<mark>" in html
    assert OPEN not in html and CLOSE not in html and "%F0%90" not in html
    assert re.sub("</?mark>", "", html) == render(NOTE, note_href=href)
    audit(html)


def test_a_mark_holds_exactly_its_sentence(audit: Any) -> None:
    start = NOTE.index("Another thing.")
    html = passage(NOTE, start, start + len("Another thing."), href)
    assert audit(html).marked == "Another thing."
    assert "one thing" in html and "last thing" not in html


def test_markers_in_a_note_are_removed() -> None:
    html = render(f"a {OPEN} b {CLOSE} c [x](https://a.example/{OPEN})", note_href=href)
    assert "<mark>" not in html and OPEN not in html and CLOSE not in html


def test_a_mark_that_ends_inside_an_address_ends_with_the_link(audit: Any) -> None:
    text = "See [the site](https://a.example/page) and more."
    html = render(text, marks=[(4, text.index("page"))], note_href=href)
    assert audit(html).marked == "the site"


@pytest.mark.parametrize("latex", ["\\frac{1}{", "x" * 5000, "{" * 500 + "}" * 500, "\\begin{nope}", "\\\\\\", "&<>", ""])
def test_invalid_formulas_are_shown_as_source(latex: str, harmless: Callable[[str], None]) -> None:
    html = mathml(latex, display=True)
    assert html.startswith(("<math", "<code"))
    harmless(html)


def test_a_very_long_note_is_cut_with_a_sentence() -> None:
    assert "more characters are not shown" in render("word " * 70_000, note_href=href)


BLOCK = "64f1c3d2-1111-2222-3333-444455556666"


def logseq(text: str, **options: Any) -> str:
    known = {f"(({BLOCK}))": "v/x", "Other note": "v/o"}
    return render(text, note_href=known.get, title_of=lambda note_id: f"Title of {note_id}", **options)


def test_blocks_of_other_notes_are_links_with_their_notes_title() -> None:
    link = '<a class="wiki" href="/?note=v/x" data-note="v/x">Title of v/x</a>'
    assert link in logseq(f"It follows from (({BLOCK})).") and link in logseq(f"{{{{embed (({BLOCK}))}}}}")
    assert 'data-note="v/o">Other note</a>' in logseq("{{embed [[Other note]]}}")
    unknown = logseq(f"See (({BLOCK.replace('6', '7')})).")
    assert "a block of another note" in unknown and "((" not in unknown and "<a" not in unknown
    assert f"<code>(({BLOCK}))</code>" in logseq(f"`(({BLOCK}))`") and "((not one))" in logseq("((not one))")
    assert inline(f"It follows from (({BLOCK})).") == "It follows from a block of another note."


def test_properties_are_small_lines_of_their_own_and_programs_ids_are_hidden(harmless: Any) -> None:
    html = logseq(
        f"status:: open <b>\nid:: {BLOCK}\nowner:: [[Other note]]\n\nA claim std::vector.\n- item\n  collapsed:: true\n"
    )
    assert '<span class="property"><span class="property-key">status</span> open &lt;b&gt;</span>' in html
    assert 'data-note="v/o">Other note</a></span>' in html and "std::vector" in html
    assert BLOCK not in html and "collapsed" not in html
    assert '<span class="field-type">supports</span>' in logseq("supports:: [[Other note]] because x")
    assert '<span class="macro">query (and x)</span>' in logseq("{{query (and x)}}")
    harmless(html)


def test_a_property_can_be_highlighted() -> None:
    text = "summary:: It narrows what models can do.\nAnd more."
    start = text.index("It narrows")
    html = logseq(text, marks=[(start, start + 10)])
    assert "<mark>It narrows</mark> what" in html


def test_only_trusted_pictures_are_embedded() -> None:
    drawn = {"r1.svg": "<span>curve</span>"}
    assert "<span>curve</span>" in logseq("![[r1.svg]]", pictures=drawn)
    assert '<span class="picture">[r2.svg]</span>' in logseq("![[r2.svg]]", pictures=drawn)


def test_a_footnote_has_one_number_for_all_references() -> None:
    html = render("First [^a], then [^b], again [^a].\n\n[^a]: The one.\n[^b]: The other.\n", note_href=lambda _: None)
    assert re.findall(r"\[[\d:]+\]", html) == ["[1]", "[2]", "[1]"]
