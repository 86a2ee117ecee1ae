"""Which notes links mean: Obsidian's rules on a small vault, and every wikilink of two real ones accounted for."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ingest.links import Name, Names, Resolution, resolve
from ingest.readers.markdown import read_markdown
from kb.notes import LinkType, WrittenLink

VAULT = [
    ("v", "Home.md", "Home", ()),
    ("v", "a/Index.md", "All of a", ("start",)),
    ("v", "a/deep/Note.md", "A long title", ("Short",)),
    ("v", "b/Index.md", "All of b", ("start",)),
    ("v", "b/Part 2. Intro.md", "Part", ()),
    ("v", "b/v1.5.md", "Twice", ()),
    ("v", "b/Caf\u00e9.md", "Twice", ()),
    ("v", "b/lower.md", "x", ()),
    ("v", "b/Lower.md", "y", ()),
    ("v", "paper.pdf", "A paper", ()),
    ("v", "b/Smith 2020.md", "On Smith", ()),
    ("v", "Smith 2020.pdf", "What Smith wrote", ()),
    ("v", "saved/Smith 2020.html", "What Smith posted", ()),
    ("w", "Elsewhere.md", "In another source", ("start", "far")),
    ("w", "Home.md", "Home", ()),
]
NAMES = Names(Name(f"{s}/{p.rpartition('.')[0]}", s, p, title, aliases) for s, p, title, aliases in VAULT)


def meaning(target: str, start: str = "v/Home", form: str = "wiki") -> str:
    """The id that the target means, or `a|b` where it is ambiguous, `(dangling)`, `(file)` or `(self)`."""
    got = resolve(NAMES, start, [WrittenLink(target, form=form)])
    if got.dangling:
        return f"(dangling) {got.links[0].target}"
    if got.ambiguous:
        return "|".join(got.ambiguous[0][2])
    return "(file)" if got.files else got.links[0].target if got.links else "(self)"


@pytest.mark.parametrize(
    ("target", "start", "expected"),
    [
        ("Note", "v/Home", "v/a/deep/Note"),
        ("note.md", "v/Home", "v/a/deep/Note"),
        ("a/deep/Note", "v/Home", "v/a/deep/Note"),
        ("deep/note", "v/Home", "v/a/deep/Note"),
        ("eep/Note", "v/Home", "(dangling) stub/eep-note"),
        ("Index", "v/Home", "v/a/Index|v/b/Index"),
        ("Index", "v/a/deep/Note", "v/a/Index"),
        ("b/Index", "v/a/deep/Note", "v/b/Index"),
        ("Index", "v/b/v1.5", "v/b/Index"),
        ("../Index", "v/a/deep/Note", "v/a/Index"),
        ("short", "v/Home", "v/a/deep/Note"),
        ("start", "v/Home", "v/a/Index|v/b/Index"),
        ("A LONG title", "v/Home", "v/a/deep/Note"),
        ("Twice", "v/Home", "v/b/Café|v/b/v1.5"),
        ("Cafe\u0301", "v/Home", "v/b/Café"),
        ("Lower", "v/Home", "v/b/Lower"),
        ("lower", "v/Home", "v/b/lower"),
        ("LOWER", "v/Home", "v/b/Lower|v/b/lower"),
        ("Part 2. Intro", "v/Home", "v/b/Part 2. Intro"),
        ("v1.5", "v/Home", "v/b/v1.5"),
        ("v1.6", "v/Home", "(dangling) stub/v1-6"),
        ("Missing.md", "v/Home", "(dangling) stub/missing"),
        ("fig.png", "v/Home", "(file)"),
        ("paper.pdf", "v/Home", "v/paper"),
        ("paper", "v/Home", "v/paper"),
        ("Smith 2020", "v/Home", "v/b/Smith 2020"),  # Markdown goes before what has another ending, wherever it lies
        ("smith 2020.PDF", "v/Home", "v/Smith 2020"),
        ("Smith 2020.html", "v/Home", "v/saved/Smith 2020"),
        ("saved/Smith 2020", "v/Home", "v/saved/Smith 2020"),
        ("Elsewhere", "v/Home", "w/Elsewhere"),
        ("far", "v/Home", "w/Elsewhere"),
        ("In another source", "v/Home", "w/Elsewhere"),
        ("w/Home", "v/Home", "w/Home"),
        ("Home", "v/Home", "(self)"),
        ("Home", "w/Elsewhere", "w/Home"),
    ],
)
def test_wiki(target: str, start: str, expected: str) -> None:
    assert meaning(target, start) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("Note.md", "v/a/deep/Note"),
        ("./Note.md", "v/a/deep/Note"),
        ("../Index.md", "v/a/Index"),
        ("../../b/Index.md", "v/b/Index"),
        ("../../../Home.md", "(dangling) stub/home"),
        ("b/Index.md", "v/b/Index"),
        ("/Home.md", "v/Home"),
        ("/a/Gone.md", "(dangling) stub/gone"),
        ("roadmap.sh", "(file)"),
        ("../pictures/", "(file)"),
    ],
)
def test_path(target: str, expected: str) -> None:
    assert meaning(target, "v/a/deep/Note", "path") == expected.replace("v/a/deep/Note", "(self)")


def test_a_link_keeps_its_type_reason_and_place_and_stubs_are_shared() -> None:
    links = [WrittenLink("Gone?", LinkType.SUPPORTS, "why", "H", 3, 9), WrittenLink("gone"), WrittenLink("Note")]
    got = resolve(NAMES, "v/Home", links)
    first = got.links[0]
    assert (first.target, first.type, first.why, first.anchor, first.start, first.end) == (
        "stub/gone", LinkType.SUPPORTS, "why", "H", 3, 9,
    )  # fmt: skip
    assert got.stubs == {"stub/gone": "Gone?"}
    assert got.dangling == (("v/Home", "Gone?"), ("v/Home", "gone"))
    assert got.links[2].target == "v/a/deep/Note"


def test_stubs_are_told_apart_by_what_an_id_can_not_hold() -> None:
    titles = ("C", "C++", "c++", "\U0001f680", "\U0001f389", "???", "हिंदी", "हद", "Th\u00e9", "The\u0301", "Do X?", "do x")
    got = resolve(NAMES, "v/Home", [WrittenLink(title) for title in titles])
    ids = [link.target for link in got.links]
    same = [(1, 2), (8, 9), (10, 11)]
    assert all(ids[one] == ids[other] for one, other in same) and len(set(ids)) == len(titles) - len(same)
    assert ids[0] == "stub/c" and ids[8] == "stub/thé" and ids[1].startswith("stub/c-")


def wikilinks(text: str) -> Counter[str]:
    """The wikilinks outside code, counted by another reader: CommonMark's tokens, then every `[[…]]` in their text."""
    found: Counter[str] = Counter()
    parser = MarkdownIt("commonmark").enable("table").disable(["link", "image", "reference", "emphasis", "entity"])
    parser.disable("text_join")  # what was escaped stays apart
    for token in parser.parse(text):
        shown = "".join(t.content if t.type == "text" else "\0" * 3 for t in token.children or ())
        *parts, _ = shown.split("]]")
        for inside in (part.rpartition("[[")[2] for part in parts if "[[" in part):
            if not set(inside) & {"[", "\0"}:
                found[inside.split("|")[0].split("#")[0].strip()] += 1
    return found


def meant(target: str, notes: dict[str, Path], note: str) -> str:
    """What becomes of a wikilink in a vault without aliases, found another way: by the ends of paths alone."""
    name = target.casefold().removesuffix(".md")
    ends = [path for path in notes if path == name or path.endswith(f"/{name}")]
    if len(ends) == 1:
        return "self" if ends[0] == note else "resolved"
    return "ambiguous" if ends else "file" if Path(name).suffix in {".png", ".jpg", ".jpeg", ".gif", ".svg"} else "dangling"


@pytest.mark.parametrize(("origin", "vault", "notes", "links"), [
    ("data", "vault-foam", 86, 199),
    pytest.param("shared_data", "vault-secondbrain", 755, 1786, marks=pytest.mark.shared),
])  # fmt: skip
def test_every_wikilink_of_a_real_vault_is_accounted_for(
    request: pytest.FixtureRequest, origin: str, vault: str, notes: int, links: int
) -> None:
    """Also what becomes of each, counted by another reader and another way to resolve."""
    root = request.getfixturevalue(origin) / vault
    files = {path.relative_to(root).as_posix().casefold().removesuffix(".md"): path for path in sorted(root.rglob("*.md"))}
    readings = {}
    for key, file in files.items():
        path = file.relative_to(root).as_posix()
        readings[key] = read_markdown(file.read_bytes(), path=path, note_id=f"{vault}/{path[:-3]}", source=vault)
    names = Names(Name(r.note.id, vault, r.note.path, r.note.title, r.note.aliases) for r in readings.values())
    outcomes: Counter[str] = Counter()
    for key, reading in readings.items():
        text = reading.note.text
        wiki = {link: text[link.start : link.end].strip("![]") for link in reading.links if "[[" in text[link.start : link.end]}
        said = {link: re.split("[|#]", label)[0].strip() for link, label in wiki.items()}
        elsewhere = Counter({t: n for t, n in wikilinks(text).items() if t and "://" not in t})  # not this note, not the web
        assert Counter(said.values()) == elsewhere, reading.note.id
        for link, label in wiki.items():
            outcome = _outcome(resolve(names, reading.note.id, [link]))
            defined = f"\n[{label}]: " in text and said[link] != link.target  # at its foot, as another file
            assert outcome == ("resolved" if defined else meant(said[link], files, key)), (reading.note.id, link)
            outcomes[outcome] += 1
    assert (len(readings), outcomes.total()) == (notes, links) and outcomes["ambiguous"] == 0 and outcomes["dangling"]


def _outcome(got: Resolution) -> str:
    if got.ambiguous or got.dangling:
        return "ambiguous" if got.ambiguous else "dangling"
    return "file" if got.files else "resolved" if got.links else "self"


WORDS = st.sampled_from(
    [
        "a",
        "A",
        "Index",
        "caf\u00e9",
        "cafe\u0301",
        "\u05e9\u05dc\u05d5\u05dd",
        "\U0001f680 x",
        "v1.5",
        "x y",
        "\u1e9e",
        "..",
        "#",
    ]
)
PATHS = st.builds(lambda parts, end: "/".join(parts) + end, st.lists(WORDS, min_size=1, max_size=3),
                  st.sampled_from([".md", ".markdown", ".txt", ".pdf", ".html", ".MD"]))  # fmt: skip
NOTES = st.builds(
    lambda source, path, title, aliases: (source, path, title, tuple(aliases)),
    st.sampled_from("vw"), PATHS, st.one_of(WORDS, st.text(max_size=5)), st.lists(WORDS, max_size=2),
)  # fmt: skip
TARGETS = st.one_of(WORDS, PATHS, PATHS.map(lambda path: f"../{path}"), st.text(max_size=8))
LINKS = st.builds(WrittenLink, TARGETS, form=st.sampled_from(["wiki", "path", "inward"]))


@given(st.lists(NOTES, max_size=9, unique_by=lambda note: note[:2]), st.lists(LINKS, max_size=5), st.randoms())
def test_every_link_has_one_outcome_whatever_the_names(
    notes: list[tuple[str, str, str, tuple[str, ...]]], links: list[WrittenLink], chance: random.Random
) -> None:
    """None is guessed among several, none leads to a note that is not there, and the order of the notes says nothing."""
    names = [Name(f"{i}", *note) for i, note in enumerate(notes)]
    shuffled = chance.sample(names, len(names))
    known = {name.note_id for name in names}
    for link in links:
        start = names[0].note_id if names else "nowhere"
        got = resolve(Names(names), start, [link])
        again = resolve(Names(shuffled), start, [link])
        assert again == got
        target = [other for made in got.links for other in (made.source, made.target) if other != start]
        assert len(target) <= 1 and set(target) <= known | set(got.stubs)
        assert all(candidates == tuple(sorted(set(candidates))) and {*candidates} <= known and len(candidates) > 1
                   for _, _, candidates in got.ambiguous)  # fmt: skip
        outcomes = [bool(target), bool(got.ambiguous), bool(got.files), not (target or got.ambiguous or got.files)]
        assert sum(outcomes) == 1 and len(got.dangling) <= len(got.stubs) <= 1
        if link.form == "wiki" and outcomes[0] and not got.stubs:  # a name means the same in any case and Unicode form
            spelled = replace(link, target=unicodedata.normalize("NFD", link.target).upper())
            assert len(resolve(Names(names), start, [spelled]).dangling) == 0
