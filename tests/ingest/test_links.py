"""Which notes links mean: Obsidian's rules on a small vault, and every wikilink of two real ones accounted for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from ingest.links import Name, Names, Resolution, resolve
from ingest.readers.markdown import read_markdown
from kb.notes import LinkType, WrittenLink

DATA = Path(__file__).parents[2].parent / "shared" / "data"

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


@pytest.mark.parametrize(("vault", "notes", "dangling"), [("vault-foam", 86, 0.05), ("vault-secondbrain", 755, 0.08)])
def test_every_wikilink_of_a_real_vault_is_accounted_for(vault: str, notes: int, dangling: float) -> None:
    root = DATA / vault
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    readings = []
    for file in sorted(root.rglob("*.md")):
        path = file.relative_to(root).as_posix()
        readings.append(read_markdown(file.read_bytes(), path=path, note_id=f"{vault}/{path[:-3]}", source=vault))
    names = Names(Name(r.note.id, vault, r.note.path, r.note.title, r.note.aliases) for r in readings)
    kinds: Counter[str] = Counter()
    for reading in readings:
        wiki = [link for link in reading.links if link.form == "wiki"]
        written = wikilinks(reading.note.text)
        elsewhere = Counter({t: n for t, n in written.items() if t and "://" not in t})  # not this note, not the web
        assert Counter(link.target for link in wiki) == elsewhere, reading.note.id
        for link in wiki:
            kinds[_outcome(resolve(names, reading.note.id, [link]))] += 1
    assert len(readings) == notes
    assert kinds["ambiguous"] == 0
    assert kinds["dangling"] < dangling * kinds.total()
    assert kinds["resolved"] > 0.9 * (kinds.total() - kinds["file"])


def _outcome(got: Resolution) -> str:
    if got.ambiguous or got.dangling:
        return "ambiguous" if got.ambiguous else "dangling"
    return "file" if got.files else "resolved" if got.links else "self"
