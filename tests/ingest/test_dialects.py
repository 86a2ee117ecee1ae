"""Markdown as Obsidian, Dataview, Logseq, Foam and TiddlyWiki write it: what is quoted, linked, named and tagged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.links import Name, Names, resolve
from ingest.pipeline import ingest
from ingest.readers.markdown import ParsedNote, read_markdown
from kb.knowledge_base import KnowledgeBase
from kb.markdown.sentences import sentences

if TYPE_CHECKING:
    from tests.conftest import Vault

ID = "64a1b2c3-1111-2222-3333-444455556666"
OTHER = "64a1b2c3-1111-2222-3333-000000000000"


def read(text: str | bytes, path: str = "folder/File name.md") -> ParsedNote:
    return read_markdown(text if isinstance(text, bytes) else text.encode(), path=path, note_id="id", source="s")


def said(text: str) -> list[str]:
    note = read(text).note
    assert note.text == text
    return [text[s.start : s.end] for s in sentences(text)]


def linked(text: str) -> list[str]:
    """`type target#anchor`, mentions without their type; each at a place that holds its target."""
    links = read(text).links
    assert all(link.target.casefold() in text[link.start : link.end].casefold() for link in links)
    found = [(link.type.value, link.target + (f"#{link.anchor}" if link.anchor else "")) for link in links]
    return [target if type_ == "mentions" else f"{type_} {target}" for type_, target in found]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        # callouts
        ("> [!note] Its title\n> Words. More.", ["Its title", "Words.", "More."]),
        ("> [!tip]- Folded\n> In.\n\n> [!tip]+\n> Open.", ["Folded", "In.", "Open."]),
        ("> [!a] One\n> Out.\n> > [!b]- Two\n> > In.\n> > > [!c]\n> > > Deep.", ["One", "Out.", "Two", "In.", "Deep."]),
        ("> [!quote|right] With metadata\n> Words.", ["With metadata", "Words."]),
        ("> [!note]\n> - item. Two\n> - other", ["item.", "Two", "other"]),
        ("- > [!info] In a list\n  > Body. End", ["In a list", "Body.", "End"]),
        # the ids of blocks
        ("It matters. ^abc-1", ["It matters."]),
        ("- item ^i1\n- No stop ^i2\n\nPara\n^own", ["item", "No stop", "Para"]),
        ("> Quoted.\n> ^q\n\n|a b|c|\n|-|-|\n|d|e|\n\n^table", ["Quoted.", "a b|c", "d|e"]),
        ("Powers are x ^2 of old, no id.", ["Powers are x ^2 of old, no id."]),
        # footnotes
        ("So.[^1] And[^long-name] on. [^2] Then[^1]\n\n[^1]: It says. Twice.\n[^2]: Wrapped\n    here.",
         ["So.[^1]", "And[^long-name] on. [^2]", "Then[^1]", "It says.", "Twice.", "Wrapped\n    here."]),
        ("Inline^[An aside. Or two.] goes on. Next.", ["Inline^[An aside. Or two.] goes on.", "Next."]),
        # comments
        ("Yes. %%No. Not this.%% More. %%no%%", ["Yes.", "More."]),
        ("%% no\n\nnor this. %%\nYes.\n\n<!-- no\n\nno. -->\nAgain.", ["Yes.", "Again."]),
        ("Before %% no\n\nno. %% after it.\n\nAnd <!-- no.\n\nNo.\n\n--> so on.", ["Before", "after it.", "And", "so on."]),
        ("- item %% no\n\n  no %% rest\n- other `%%` and\n\n`%%` end", ["item", "rest", "other `%%` and", "`%%` end"]),
        ("It is 100%% sure.\n\nNothing closes it.", ["It is 100%% sure.", "Nothing closes it."]),
        # formulas
        ("\\[\nE = mc. Two\n\nthree. four\n\\]\n\\[ a. B = 1 \\]\nYes.", ["Yes."]),
        ("Where \\( x_1. Y \\) holds. End.", ["Where \\( x_1. Y \\) holds.", "End."]),
        ("An escaped \\[1. Not maths\\] bracket.", ["An escaped \\[1.", "Not maths\\] bracket."]),
        ("So $$\na_1. B\n\nc. D\n$$ it is.", ["So", "it is."]),
        ("Costs $$\n\nor twice $$\n\nat most.", ["Costs $$", "or twice $$", "at most."]),
        ("\\begin{align*}\na. B\n\nc. D\n\\end{align*}\nYes.", ["Yes."]),
        # Dataview
        ("status:: open\nIt is. [due:: 2024-01-01]\n\n- [rating:: 9]\n**Bold Key**:: value", ["It is. [due:: 2024-01-01]"]),
        ("summary:: It narrows what models can do.\n\nclaim:: no stop here at all", ["It narrows what models can do."]),
        ("As in std::vector or map :: a. Note: x.", ["As in std::vector or map :: a.", "Note: x."]),
        # Logseq
        (f"- Words here.\n  id:: {ID}\n  collapsed:: true\n  On it goes.\n\t- Child.\n\t  id:: {OTHER}",
         ["Words here.", "On it goes.", "Child."]),
        (f"- (({ID}))\n- {{{{embed (({ID}))}}}}\n- {{{{query (task LATER)}}}}\n- Words (({ID})).", [f"Words (({ID}))."]),
        ("- ship it\n  SCHEDULED: <2024-05-01>\n  :LOGBOOK:\n  CLOCK: [2024-05-01]\n  :END:\n  Done.", ["ship it", "Done."]),
        ("- ## A heading\n- > Quoted.\n- ![i](../a.png){:height 3, :width 2}\n- {{c1::Cloze}} stays.",
         ["Quoted.", "{{c1::Cloze}} stays."]),
        ("#+BEGIN_QUERY\n{:title. No}\n#+END_QUERY\n#+BEGIN_QUOTE\nYes.\n#+END_QUOTE", ["Yes."]),
        ("#tag #a/b\n\n- #[[two words]]\n\nSo #tag is here.", ["So #tag is here."]),
        # Foam
        ('See [[a-note]].\n\n[//begin]: # "Auto"\n[a-note]: a-note "A note"\n[//end]: # "Auto"', ["See [[a-note]]."]),
        # right to left, and other scripts
        ("هل هذا صحيح؟ نعم هو كذلك. انتهى.", ["هل هذا صحيح؟", "نعم هو كذلك.", "انتهى."]),
        ("यह सच है। और यह भी।", ["यह सच है।", "और यह भी।"]),
    ],
)  # fmt: skip
def test_what_is_quoted(text: str, quoted: list[str]) -> None:
    assert said(text) == quoted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("![[A#H]] ![[B]] ![[C#^b]] ![[x.PNG|300]] ![[p.pdf#page=3]]", ["A#H", "B", "C#^b", "x.PNG", "p.pdf#page=3"]),
        ("[[#H]] [[^b]] [[#^b|x]] [[##H]] [[#]] ![[#H]]", []),
        ("[[A##H]] [[A#H#I]]", ["A#H", "A#H#I"]),
        ("> [!note] On [[A]]\n> > [!b]- [[B]]\n> > [[C]] is.", ["A", "B", "C"]),
        ("It is.[^1]\n\n[^1]: From [[A]]. And^[[[B]]].", ["A", "B"]),
        ("a %% [[A]]\n\n[[B]] %% [[C]] <!-- [[D]]\n\n[[E]] --> [[F]]", ["C", "F"]),
        ("\\[\n[[A]] = 1\n\\]\n[[B]]\n\n\\begin{cases}\n[[C]]\n\\end{cases}", ["B"]),
        ("parent:: [[P]]\nsupports:: [[A]] because b\n\nWe [contradicts:: [[B]]] (author:: [[C]]).",
         ["P", "supports A", "contradicts B", "C"]),
        (f"- (({ID})) {{{{embed (({OTHER.upper()}))}}}} [x]((({ID})))\n- {{{{embed [[P]]}}}} `(({ID}))` ((so)) #[[T w]]",
         [f"(({ID}))", f"(({OTHER}))", f"(({ID}))", "P", "T w"]),
        (f"supports:: (({ID})) because x", [f"supports (({ID}))"]),
        ("[[🚀 Launch]] [[שלום עולם|x]] [[مرحبا#عنوان]]", ["🚀 Launch", "שלום עולם", "مرحبا#عنوان"]),
    ],
)  # fmt: skip
def test_what_is_linked(text: str, expected: list[str]) -> None:
    assert linked(text) == expected


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("#one and #a/b, #über-tag #日本語. (#paren) #🚀 #Two #ONE", "one a/b über-tag 日本語 paren 🚀 Two"),
        ("#123 a#b \\#esc `#code` https://x.y/#frag [a](b.md#frag) [[N#h]] [[#h]] &#39; # no ## no", ""),
        ("#ffffff #a1b2c3 #fff #facade #decade", "facade decade"),
        ("# Title #no\n#yes\n\n```\n#include\n```\n%% #no %%\n$#no$\n\n> #quoted\n- #item\n\n|a|b|\n|-|-|\n| #row |",
         "yes quoted item row"),
        ("---\ntags: [x, '#Y']\n---\nBody #z and #y.", "x Y z"),
        ("tags:: #one, [[two words]], three\n\n- Body #[[four five]] #[[One]].", "one|two words|three|four five"),
    ],
)  # fmt: skip
def test_tags(text: str, tags: str) -> None:
    assert read(text).note.tags == tuple(tags.split("|") if "|" in tags else tags.split())


@pytest.mark.parametrize(
    ("text", "title", "aliases", "kind", "properties"),
    [
        ("title:: My page\nalias:: Foo, [[Bar, baz]]\ntype:: [[Paper]]\n\n- Words.",
         "My page", ("Foo", "Bar, baz"), "paper", {"type": "Paper"}),
        ("- title:: X\n  public:: true\n- Words.\n- title:: no", "X", (), "note", {"public": "true"}),
        ("# Title\n\nauthor:: [[Ann]]\nsupports:: [[A]]\nyear:: 2024\n\nWords.\nlate:: no",
         "Title", (), "note", {"author": "Ann", "year": "2024"}),
        ("---\ntitle: Front\n---\ntitle:: Head\n", "Front", (), "note", {}),
        ("type:: essay\n", "File name", (), "note", {"type": "essay"}),
        ("tags:: a\n\n# Title\n", "Title", (), "note", {}),
        ("Words.\ntitle:: no", "File name", (), "note", {}),
        (f"- Words.\n  id:: {ID}\n", "File name", (f"(({ID}))",), "note", {}),
    ],
)  # fmt: skip
def test_properties_at_the_head(text: str, title: str, aliases: tuple[str, ...], kind: str, properties: dict[str, str]) -> None:
    note = read(text).note
    assert (note.title, note.aliases, note.kind.value, note.properties) == (title, aliases, kind, properties)


@pytest.mark.parametrize(
    ("path", "title", "aliases"),
    [
        ("journals/2024_05_01.md", "2024-05-01", ("May 1st, 2024",)),
        ("g/journals/2023-12-22.md", "2023-12-22", ("Dec 22nd, 2023", "December 22nd, 2023")),
        ("journals/2024_02_31.md", "2024_02_31", ()),
        ("daily/2024_05_01.md", "2024_05_01", ()),
        ("pages/A___B.md", "A/B", ("A/B",)),
        ("pages/A%2FB%3A c.md", "A/B: c", ("A/B: c",)),
        ("pages/50%off %zz.md", "50%off %zz", ()),
        ("a/%FF.md", "%FF", ()),
        ("$__StoryList.md", "$__StoryList", ()),
        ("___init___.md", "___init___", ()),
        ("a ~ b_ c.md", "a ~ b_ c", ()),
        ("🚀 Launch.md", "🚀 Launch", ()),
    ],
)
def test_what_a_files_name_spells(path: str, title: str, aliases: tuple[str, ...]) -> None:
    assert read("Words.", path).note.title == title
    titled = read("# Another\n", path).note
    assert titled.title == "Another" and titled.aliases == (aliases or ((title,) if title == "2024-05-01" else ()))


NAMES = Names(
    Name(path.rpartition(".")[0], "v", path, title, aliases)
    for path, title, aliases in [
        ("index.md", "Root", ()),
        ("a/page.md", "A page", ("Alias", "both")),
        ("a/deep/x.md", "x", ()),
        ("a/other/page.md", "Other", ("both", "plain")),
        ("b/page.md", "B page", ("index",)),
        ("b/plain.md", "Plain", ()),
        ("b/sub/here.md", "here", ()),
        ("c/d/twin.md", "Twin d", ()),
        ("c/e/twin.md", "Twin e", ()),
        ("top/one.md", "One", ()),
        ("top/low/one.md", "One too", ()),
        ("Cafe\u0301 🚀.md", "nfd", ()),
        ("שלום.md", "rtl", ()),
        ("$__StoryList.md", "Stories", ()),
        ("My_ Tiddler.md", "Mine", ()),
        ("pages/N___S.md", "N/S", ()),
        ("journals/2024_05_01.md", "2024-05-01", ("May 1st, 2024", f"(({ID}))")),
    ]
)


@pytest.mark.parametrize(
    ("target", "start", "expected"),
    [
        ("page", "a/deep/x", "a/page"),  # the folder above, not its other child
        ("page", "b/sub/here", "b/page"),
        ("page", "index", "a/page|b/page"),
        ("a/other/page", "b/plain", "a/other/page"),
        ("other/PAGE.md", "b/plain", "a/other/page"),
        ("one", "index", "top/one"),
        ("twin", "c/x", "c/d/twin|c/e/twin"),
        ("index", "b/plain", "index"),  # a file's name goes before an alias
        ("plain", "a/deep/x", "b/plain"),
        ("alias", "b/plain", "a/page"),
        ("both", "index", "a/other/page|a/page"),
        ("Caf\u00e9 🚀", "index", "Cafe\u0301 🚀"),
        ("CAFE\u0301 🚀", "index", "Cafe\u0301 🚀"),
        ("שלום", "index", "שלום"),
        ("$:/StoryList", "index", "$__StoryList"),
        ("My: Tiddler", "index", "My_ Tiddler"),
        ("My/ Tiddler", "index", "(dangling)"),
        ("n/s", "index", "pages/N___S"),
        ("N___S", "index", "pages/N___S"),
        ("2024-05-01", "index", "journals/2024_05_01"),
        ("may 1st, 2024", "index", "journals/2024_05_01"),
        (f"(({ID}))", "index", "journals/2024_05_01"),
        (f"(({ID}))", "journals/2024_05_01", "(self)"),
        (f"(({OTHER}))", "index", "(dangling)"),
    ],
)
def test_which_note_is_meant(target: str, start: str, expected: str) -> None:
    link = read(target if target.startswith("((") else f"[[{target}]]").links[0]
    got = resolve(NAMES, start, [link])
    if got.dangling:
        assert (expected, len(got.stubs)) == ("(dangling)", 0 if target.startswith("((") else 1)
    elif got.ambiguous:
        assert "|".join(got.ambiguous[0][2]) == expected
    else:
        assert (got.links[0].target if got.links else "(self)") == expected


def test_a_graph_of_logseq(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault(
        {
            "pages/Reading___List.md": f"alias:: Books\n\n- A block others refer to.\n  id:: {ID}\n",
            "journals/2024_05_01.md": f"- Read (({ID})), see [[Reading/List]] and [[books]].\n- (({OTHER}))",
            "pages/Me.md": f"- On [[May 1st, 2024]] {{{{embed (({ID}))}}}} and [[2024-05-01]].",
        }
    )
    report = ingest(kb, [root])
    assert (report.failed, report.ambiguous, report.stubs) == ([], [], 0)
    assert report.dangling == [("vault/journals/2024_05_01", f"(({OTHER}))")]
    links = {(link.source, link.target) for link in kb.store.links()}
    pages = {kb.find(name) for name in ("Reading/List", "2024-05-01", "Me")}
    listed, day, me = (kb.find(name) for name in ("Reading/List", "2024-05-01", "Me"))
    assert len(pages) == 3 and links == {(day, listed), (me, day), (me, listed)}


def test_notes_that_embed_each_other_and_themselves(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault(
        {"A.md": "![[B]] ![[A]] ![[A#Part]]\n\n# Part\n![[B#Part]] is in it.", "B.md": "![[A]]\n\n# Part\n![[A#Part]]"}
    )
    report = ingest(kb, [root])
    assert (report.dangling, report.ambiguous, report.stubs) == ([], [], 0)
    assert {(link.source, link.target) for link in kb.store.links()} == {("vault/a", "vault/b"), ("vault/b", "vault/a")}
