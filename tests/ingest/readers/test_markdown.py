"""A file becomes a note and links: what is read, what is not, and that nothing but binary data is refused."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.readers.markdown import ParsedNote, read_markdown
from kb.notes import NoteKind, PasskbError
from tests.dialects import SCRAPS

PIECES = (
    "---\n",
    "title: ",
    "- ",
    "[[A]]",
    "[[",
    "]]",
    "|x",
    "#h",
    "\\",
    "`",
    "```\n",
    "$",
    "$$",
    "%%",
    "<!--",
    "-->",
    "\n",
    "\n\n",
    "# ",
    "contradicts:: ",
    "(supports:: ",
    ")",
    "[a](b%20c.md)",
    "![",
    "](<d e.md>",
    " because ",
    "; ",
    "a",
    "é",
    "> ",
    "    ",
    "links: ",
    "{to: ",
    "}",
    "&a ",
    "*a",
    "claims:\n",
    "text: ",
    "[r]: ./f.md",
    "2024-02-31",
    "!!binary ",
    "\r",
    "\ufeff",
    "| |\n|-|\n",
    "cites",
    *SCRAPS,
    "title:: ",
    "alias:: [[",
    "tags:: #",
    "id:: 64a1b2c3-1111-2222-3333-444455556666\n",
)


def read(text: str | bytes, path: str = "folder/File name.md") -> ParsedNote:
    data = text if isinstance(text, bytes) else text.encode()
    return read_markdown(data, path=path, note_id="id", source="s")


def links(text: str) -> list[tuple[str, ...]]:
    """(type, target), then the anchor as `#a` and the reason where there are any."""
    return [
        (link.type.value, link.target, *([f"#{link.anchor}"] if link.anchor else []), *([link.why] if link.why else []))
        for link in read(text).links
    ]


M, C, S = "mentions", "contradicts", "supports"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[[A]] [[B|b]] [[C#H]] [[C#^x]] ![[d.png]]",
            [(M, "A"), (M, "B"), (M, "C", "#H"), (M, "C", "#^x"), (M, "d.png")],
        ),
        ("[[#Here]] [[]] [[ ]] [[|x]] [[A\nB]] [[https://x.y]]", []),
        (r"\[[A]] \\[[B]] !\[[C]] \![[D]]", [(M, "B"), (M, "D")]),
        ("|x|\n|-|\n|[[A\\|b]]|", [(M, "A")]),
        ("`[[A]]` ``[[`B]]`` `[[C]] $[[D]]$ $5 [[E]] $$[[F]]$$", [(M, "C"), (M, "E")]),
        ("```\n[[A]]\n```\n\n    [[B]]\n\n> ~~~\n> [[C]]\n\n[[D]]\n````\n[[E]]\n```\n", [(M, "D")]),
        ("- a\n\n    [[A]]\n\n          [[code]]\n", [(M, "A")]),
        (
            "<!-- [[A]]\n\n[[B]] --> [[C]] %%[[D]]%% [[E]]\n%%\n[[F]]\n\n[[G]]\n%%\n%% [[H]]",
            [(M, "C"), (M, "E"), (M, "H")],
        ),
        ("$$\n[[A]]\n\n[[B]]\n$$\n[[C]]", [(M, "C")]),
        ("# On [[A]]\n> [[B]]\n- [ ] [[C]]", [(M, "A"), (M, "B"), (M, "C")]),
        (
            "[t](a%20b.md#x%20y 'T') [t](<c d.md>) [t](e_(f).md) [`]`](g.md)",
            [(M, "a b.md", "#x y"), (M, "c d.md"), (M, "e_(f).md"), (M, "g.md")],
        ),
        ("[t](http://a.b) [t](mailto:a@b.c) [t](#x) [t]() [t](int value) [t](//a.b/c) \\[t](a.md) `[t](a.md)`", []),
        ("[![i](a.png)](b.md)", [(M, "b.md"), (M, "a.png")]),
        (
            'See [a][r] and [[w]].\n\n[r]: ./f.md\n[w]: w.md "W"\n[x]: http://a.b\n[//begin]: # "x"',
            [(M, "w"), (M, "./f.md")],
        ),
        (
            "[[foot-notes]] [[Here]] supports:: [[x|y]]\n\nsupports:: [[x|y]] because z\n\n[foot-notes]: <Foot Notes.md> 'F'\n"
            "[here]: ../b/Here.md\n[x|y]: z/w.md#h",
            [(M, "Foot Notes.md"), (M, "Here"), (M, "z/w.md", "#h"), (S, "z/w.md", "#h", "z")],
        ),
        ("contradicts:: [[A]] because it *fails*.", [(C, "A", "it fails.")]),
        ("text\ncontradicts:: [[A]], [[B]] and [[C]] — why", [(C, "A", "why"), (C, "B", "why"), (C, "C", "why")]),
        ("- contradicts:: [[A]] because [[B]] says; [[C]] because x", [(C, "A", "B says"), (M, "B"), (C, "C", "x")]),
        ("**Evidence for**:: [x](y.md) because z", [("evidence_for", "y.md", "z")]),
        (
            "a (contradicts:: [[A]] because (b) c) [[D]] [supports:: [[E]]] [[F]]",
            [(C, "A", "(b) c"), (M, "D"), (S, "E"), (M, "F")],
        ),
        ("it contradicts:: [[A]] and unknown:: [[B]] and std::[[C]]", [(M, "A"), (M, "B"), (M, "C")]),
        ("[[A]] and again [[A]]", [(M, "A"), (M, "A")]),
        (  # a property that is a link, or a list with links
            "---\nup: '[[A#h|a]]'\nsource: [[B]]\nauthors: ['[[C]]', Dee, '[e](e.md)', '[w](https://w.w)']\n"
            "nested: {f: '[[F]]'}\nsaid: As [[G]] says\nrows: [[1], [2]]\ntags: ['[[H]]']\n---\n[[I]]",
            [(M, "A", "#h"), (M, "B"), (M, "C"), (M, "e.md"), (M, "I")],
        ),
        (
            "---\nlinks: [{to: '[[A#h|s]]', type: Supports, why: w}, {to: B}]\n---\n[[C]]",
            [(S, "A", "#h", "w"), ("related", "B"), (M, "C")],
        ),
        (
            "---\ncontradicts: [[A]]\nevidence-for: ['[[B]] because b', C because]\n"
            "Evidence for: '[[D]], [[E]] because e'\n---\n",
            [
                (C, "A"),
                ("evidence_for", "B", "b"),
                ("evidence_for", "C because"),
                ("evidence_for", "D", "e"),
                ("evidence_for", "E", "e"),
            ],
        ),
        (
            "---\ncites: https://arxiv.org/abs/1\nsupports:\nrelated: {to: '[[A]]', why: w}\n---\n",
            [("related", "A", "w")],
        ),
    ],
)
def test_links(text: str, expected: list[tuple[str, ...]]) -> None:
    assert links(text) == expected


@pytest.mark.parametrize(
    ("text", "title", "body", "warned"),
    [
        ("---\ntitle: T\n---\n# H\n", "T", "# H\n", ""),
        ("# H *x*\ntext", "H x", "# H *x*\ntext", ""),
        ("text\n# H", "File name", "text\n# H", ""),
        ("## H", "File name", "## H", ""),
        ("---\ntitle: 2024-01-02\n---", "2024-01-02", "", ""),
        ("---\n---\na", "File name", "a", ""),
        ("---\ntitle: T\n", "File name", "---\ntitle: T\n", "no closing"),
        ("---\ntitle: a: b\n---\nx", "File name", "x", "not valid YAML"),
        ("---\nTwo rules.\n\n---\nx", "File name", "---\nTwo rules.\n\n---\nx", "key: value"),
        ("---\nday: 2024-02-31\ntitle: T\n---\nx", "T", "x", ""),
        ("---\nkind: essay\n---\nx", "File name", "x", "essay"),
        ("---\nlinks: [{type: supports}]\n---\nx", "File name", "x", "`to`"),
        ("---\nlinks: [{to: A, type: likes}]\n---\nx", "File name", "x", "likes"),
        ("---\nclaims: [{id: a}]\n---\nx", "File name", "x", "claim without text"),
        ("---\n" + "- " * 50_000 + "\n---\nx", "File name", "x", "nested"),
        ("---\na: &a [b]\n" + "c: [*a, *a]\n" * 20 + "---\nx", "File name", "x", "aliases"),
        ("---\na: &a [*a]\n---\nx", "File name", "x", "self-referential"),
        ("a\r\nb\rc", "File name", "a\nb\nc", ""),
        ("", "File name", "", ""),
    ],
)
def test_front_matter(text: str, title: str, body: str, warned: str) -> None:
    got = read(text)
    assert (got.note.title, got.note.text) == (title, body)
    assert warned in " ".join(got.warnings) and bool(warned) == bool(got.warnings)


def test_properties() -> None:
    note = read(
        "---\ntitle: T\nkind: Paper\naliases: A, B c\ntags: '#x y/z'\ndescription: D\n"
        "when: 2024-01-02\nn: [1, .nan, null, {2: x}]\n"
        "claims:\n- {id: c, text: It wins., premise: p, settles: s, status: refuted, test: {k: 1}}\n"
        "- It wins.\n- It wins.\n---\n"
    ).note
    assert (note.kind, note.aliases, note.tags, note.gist) == (NoteKind.PAPER, ("A", "B c"), ("x", "y/z"), "D")
    assert note.properties == {"when": "2024-01-02", "n": [1, "nan", None, {"2": "x"}]}
    assert [(c.id, c.text, c.status.value) for c in note.claims] == [
        ("c", "It wins.", "refuted"), ("it-wins", "It wins.", "untested"), ("it-wins-2", "It wins.", "untested"),
    ]  # fmt: skip
    assert note.claims[0].test == {"k": 1}


def test_gist_is_the_first_prose() -> None:
    assert read("# T\n![[x.png]]\n- [[l]]\n\n**One** [[a|two]]. Three. Four.").note.gist == "One two. Three."
    long = read("word " * 100).note.gist
    assert len(long) <= 240 and long.endswith("word…")


@pytest.mark.parametrize(
    ("data", "text", "warned"),
    [
        ("\ufeffé".encode(), "é", False),
        ("é".encode("utf-16"), "é", False),
        ("“é”".encode("cp1252"), "“é”", True),
        (b"\x81", "\x81", True),
    ],
)
def test_encodings(data: bytes, text: str, warned: bool) -> None:
    got = read(data)
    assert got.note.text == text and bool(got.warnings) == warned


@pytest.mark.parametrize("data", [b"a\0b", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(range(1, 30))])
def test_what_is_not_text_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(PasskbError, match=r"folder/File name\.md: not a text file; save it"):
        read(data)


@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.text()))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_and_offsets_point_at_what_they_claim(text: str) -> None:
    try:
        got = read(text.encode("utf-8", "replace"))
    except PasskbError:
        assert "\0" in text or sum(c < " " for c in text) * 10 > len(text)
        return
    json.dumps(got.note.properties, allow_nan=False)
    body = text.encode("utf-8", "replace").decode().lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert body.endswith(got.note.text)
    assert all(map(str.strip, (got.note.title, *got.note.aliases, *got.note.tags)))
    for link in got.links:
        assert link.target.strip()
        if link.start >= 0:
            span = got.note.text[link.start : link.end]
            assert link.target in (span if link.form == "wiki" else unquote(span).replace("\\", "")) or "\\" in span
            assert link.anchor in unquote(span) or "\\" in span


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read(data)
    except PasskbError as error:
        assert "folder/File name.md" in str(error)
