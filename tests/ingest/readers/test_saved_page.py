"""Saved pages become notes with their links, claims and referrers; the seeds whole, invented pages of other subjects, and
never an ordinary note."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.readers.markdown import ParsedNote, read_markdown
from ingest.readers.saved_page.reader import link_type, named_works, read_page
from kb.notes import LinkType, NoteKind, WrittenLink

ROOT = Path(__file__).parents[3]
SEEDS = ROOT.parent / "shared" / "seeds"


# Invented pages, two of each kind: other subjects, other numbers of items, sections missing.
PAGES = {path.stem: path.read_bytes().decode() for path in sorted((Path(__file__).parent / "pages").glob("*.txt"))}
FROST, TIDES, COMPOST, MARS, REEFS, BREAD = (PAGES[name] for name in ("frost", "tides", "compost", "mars", "reefs", "bread"))

ARTICLES = (
    "Gardeners rarely test what they are told. A new study of methods such as Double Digging, NoDigPlus or “The Lazy Bed "
    "Method”, which promise less work, finds little to choose between them. It follows a protocol proposed in Beds Without "
    "Spades by Fern et al., and was reviewed on 3 May 2024.\n\nRelated notes\n- [[Spades]]\n\nSources\n- Fern, 2020\n",
    "# What I read\n\nThe core claim of the book called *Night Skies over Quito* is simple. Cities such as New York, people "
    "such as Ada Lovelace and fruit such as apples are no works, papers like those of Smith et al. neither, nor `methods such "
    "as Hidden Code`. It was proposed in January 2020, in a paper such as the first.\n\n## Related notes (3)\n\n- one\n",
    "What I used\n\nSome things and others.\n\n## Sources (2 notes)\n\n- one\n- two\n\n## Abstract\n\nNone.\n",
)


def read(text: str) -> ParsedNote:
    reading = read_page(text, path="a/page.txt", note_id="a/page", source="a")
    assert reading is not None
    assert (reading.note.text, reading.note.path, reading.note.id, reading.note.source) == (text, "a/page.txt", "a/page", "a")
    return reading


def hold(reading: ParsedNote) -> None:
    """Every name that the page gives stands where its span says."""
    text = reading.note.text
    for name, start, end in [(link.target, link.start, link.end) for link in reading.links if link.form == "wiki"] + [
        (referrer.title, referrer.start, referrer.end) for referrer in reading.referrers
    ]:
        assert 0 <= start < end <= len(text)
        assert " ".join(text[start:end].split()) == name or f"[[{name}" in text[start:end]


def of(reading: ParsedNote, *types: LinkType) -> list[WrittenLink]:
    return [link for link in reading.links if link.type in types]


def seed(number: str) -> str:
    (path,) = SEEDS.glob(f"{number}_*.txt")
    return path.read_text(encoding="utf-8")


@pytest.mark.shared
def test_the_seed_of_a_note() -> None:
    reading = read(seed("001"))
    hold(reading)
    note = reading.note
    assert note.kind is NoteKind.NOTE and note.title == "Do base models already contain hidden reasoning ability?"
    assert note.gist.startswith("Explores whether reasoning capability emerges during pre-training")
    assert note.aliases == ("base models already possess latent reasoning capability that minimal training signals can unlock",)
    mentions, papers = of(reading, LinkType.MENTIONS), [link for link in of(reading, LinkType.RELATED) if not link.why]
    related = [link for link in reading.links if link.why]
    assert len(related) == 16 and len(papers) == 8 and len(mentions) == 5 and len(reading.links) == 29
    assert {link.target for link in mentions} <= {link.target for link in related}
    assert related[0].target == "Can simple rewards alone teach complex domain reasoning?"
    assert related[0].type is LinkType.CONTRADICTS and related[0].why.startswith('partially contradicted: "emergence" may be')
    assert " ".join(link.type for link in related) == (
        "contradicts explains extends qualifies supports related supports explains "
        "related extends related supports supports extends extends supports"
    )
    assert related[-1].why.endswith("across 6 model families up to 70B")
    assert len(reading.referrers) == len({referrer.title for referrer in reading.referrers}) == 317
    assert {(referrer.type, referrer.kind) for referrer in reading.referrers} == {(LinkType.DRAWS_ON, NoteKind.INQUIRY)}
    assert "What does pass@k reveal about base model reasoning capacity?" in {r.title for r in reading.referrers}
    assert "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?" in {
        link.target for link in papers
    }
    assert not reading.warnings


@pytest.mark.shared
def test_the_seed_of_an_inquiry() -> None:
    reading = read(seed("000"))
    hold(reading)
    assert reading.note.kind is NoteKind.INQUIRY and reading.note.gist.startswith("This explores what the pass@k metric")
    assert [link.type for link in reading.links] == [LinkType.DRAWS_ON] * 9 and not reading.warnings
    assert reading.links[0].target == "Do base models already contain hidden reasoning ability?"
    assert reading.links[0].why.startswith("Five independent mechanisms")
    assert reading.links[6].target == "Do reasoning traces show how models actually think?"
    assert reading.links[8].target == "Can non-reasoning models catch up with more compute?"
    assert reading.links[8].why.endswith("not raw capability.")
    assert all(before.start < after.start for before, after in pairwise(reading.links))


@pytest.mark.shared
def test_the_seed_of_a_review() -> None:
    reading = read(seed("003"))
    hold(reading)
    note = reading.note
    assert note.kind is NoteKind.REVIEW and note.gist.startswith("Reinforcement learning with verifiable rewards improves")
    assert note.title == "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"
    ids = [claim.id for claim in note.claims]
    assert ids == ["core", *(f"implication-{n}" for n in range(1, 6)), *(f"extrapolation-{n}" for n in range(1, 4))]
    core = note.claims[0]
    assert core.text.startswith("RLVR-trained models do not") and core.text.endswith("the model's reasoning capabilities.")
    assert core.premise.startswith("That any reasoning pattern never") and core.settles.startswith("An RLVR model correctly")
    assert not any(claim.premise or claim.settles for claim in note.claims[1:])
    objections = note.properties["objections"]
    assert [entry["weight"] for entry in objections] == ["major"] * 2 + ["minor"] * 3
    assert all(entry["answer"].startswith("We a") and entry["revision"] == "yes" for entry in objections[:2])
    assert all("answer" not in entry for entry in objections[2:]) and objections[1]["about"] == "experimental setup and results"
    assert note.properties["reviewed"] == "2026-05-10 23:11 UTC" and note.properties["model"] == "grok-4.3"
    assert note.properties["axioms"] and note.properties["abstract"].endswith("to unlock this potential.")
    assert len(reading.referrers) == 60 and len({referrer.title for referrer in reading.referrers}) == 54
    assert all((r.type, r.kind) == (LinkType.CITES, NoteKind.PAPER) and len(r.why) > 40 for r in reading.referrers)
    assert not reading.links and not reading.warnings


@pytest.mark.shared
def test_the_seed_of_an_article() -> None:
    text = seed("002")
    assert read_page(text, path="a.txt", note_id="a", source="") is None
    works = named_works(text)
    assert [work.target for work in works] == ["Pass@K Policy Optimization", "SimKO"]
    assert all(text[work.start : work.end] == work.target and work.type is LinkType.MENTIONS for work in works)


def test_a_note_page_with_wrapped_items_a_list_twice_and_a_wrong_count() -> None:
    reading = read(FROST)
    note = reading.note
    assert note.title == "Does a light frost sweeten parsnips?" and note.gist.startswith("Asks whether cold turns starch")
    assert note.aliases == ("cold turns parsnip starch into sugar before harvest",) and note.kind is NoteKind.NOTE
    assert [(r.title, r.why) for r in reading.referrers] == [
        ("When is the best week to lift winter roots?", ""),
        ("Does frost harm leeks?", "Leeks are compared with roots throughout."),
    ]
    assert [(link.type.value, link.target, link.why) for link in reading.links] == [
        ("mentions", "Do carrots taste of the soil they grow in?", ""),
        ("mentions", "Is cold storage as good as the ground?", ""),
        ("related", "Do carrots taste of the soil they grow in?", "not contradicted: the panels tasted other roots"),
        (
            "contradicts",
            "Is cold storage as good as the ground?",
            "contradicted in part: sugar is lost in store. the loss begins in the second week",
        ),
        ("explains", "Is sweetness in roots a defence against ice?", "mechanism: sugar is the plant's antifreeze"),
        (
            "supports",
            "Blind Tasting of Winter Vegetables",
            "the strongest evidence here: panels can tell lifted from frosted",
        ),
        (
            "related",
            "Carbohydrate Changes in Umbelliferous Roots During Cold Acclimation and Their Effect on Flavour",
            "",
        ),
        ("related", "Frost and Flavour", ""),
    ]
    assert len(reading.warnings) == 1 and "states 5 entries but contains 4" in reading.warnings[0]


def test_a_note_page_in_markdown_with_numbers_for_markers_and_sections_missing() -> None:
    reading = read(TIDES)
    assert (reading.note.title, reading.note.gist, reading.note.aliases) == (
        "Why do tides lag the moon?",
        "Explores friction.",
        (),
    )
    assert [(link.type.value, link.target, link.why) for link in reading.links] == [
        ("mentions", "Does the seabed slow the water?", ""),
        ("extends", "Does the seabed slow the water?", "extends the argument from oceans to rivers"),
        ("related", "Is the day getting longer?", ""),
        ("related", "Tidal Friction", ""),
    ]
    assert not reading.referrers and not reading.warnings


def test_an_inquiry_page_takes_its_sources_in_order_of_first_mention() -> None:
    reading = read(COMPOST)
    assert reading.note.kind is NoteKind.INQUIRY and reading.note.gist.startswith("This explores where")
    assert [(link.type.value, link.target, link.why.split()[0]) for link in reading.links] == [
        ("draws_on", "Do microbes breathe in a compost heap?", "Aerobic"),
        ("draws_on", "Does water put out a heap?", "Above"),
        ("draws_on", "What does turning do for a heap?", "Turning"),
        ("draws_on", "Is there a smallest heap that gets hot?", "Below"),
    ]
    assert not reading.warnings


def test_an_inquiry_page_whose_list_gives_titles_and_a_wrong_count() -> None:
    reading = read(MARS)
    assert [(link.type.value, link.target, link.why) for link in reading.links] == [
        ("draws_on", "Does the solar wind strip Mars?", "Orbiters measured a loss of two kilograms each second."),
        ("draws_on", "Is there enough ice on Mars?", "Radar says no."),
    ]
    assert len(reading.warnings) == 1 and "states 3 entries but contains 2" in reading.warnings[0]


def test_gists_that_are_not_as_many_as_the_titles_are_given_to_none() -> None:
    reading = read(COMPOST.replace("Turning brings air back for about two days.\n", ""))
    assert [link.why for link in of(reading, LinkType.DRAWS_ON)] == [""] * 4
    assert len(reading.warnings) == 2 and "3 sources are listed and 4 titles" in reading.warnings[1]


def test_a_review_keeps_apart_what_is_claimed_what_follows_and_what_the_reviewer_adds() -> None:
    reading = read(REEFS)
    note = reading.note
    assert note.kind is NoteKind.REVIEW and note.title == "Do Artificial Reefs Make Fish or Only Gather Them?"
    assert note.gist == "Reefs gather fish at first and make fish only after years."
    assert [(claim.id, claim.text) for claim in note.claims] == [
        ("core", "Reefs raise the biomass of a bay only after the fifth year."),
        ("implication-1", "Young reefs are no reason to raise quotas."),
        ("implication-2", "Monitoring has to last ten years."),
        ("extrapolation-1", "Old wrecks should show the same curve."),
    ]
    assert note.claims[0].premise.startswith("That divers") and note.claims[0].settles.startswith("A bay with")
    assert note.properties == {
        "reviewed": "3 May 2024",
        "reviewer": "Plain Reader",
        "model": "reader-2",
        "argument": "Counts before and after in nine bays.",
        "summary": "The authors count fish. They do it well.",
        "significance": "High for fisheries.",
        "objections": [
            {
                "weight": "major",
                "about": "methods",
                "objection": "No bay without a reef was counted.",
                "answer": "Two such bays will be added. They were counted in the same years.",
                "revision": "partial",
            },
            {"weight": "minor", "about": "figures", "objection": "Give the units."},
        ],
        "parameters": ["weight of a fish from its length"],
    }
    assert [(referrer.title, referrer.why) for referrer in reading.referrers] == [
        ("Wrecks as Reefs", "Wrecks gather fish for a decade before they add any."),
        ("The Quota Question", "Quotas follow counts, not biomass."),
        ("Wrecks as Reefs", "A shorter version for managers, with the same counts."),
    ]
    assert len(reading.warnings) == 1 and "states 2 entries but contains 1" in reading.warnings[0]


def test_a_review_with_little_in_it() -> None:
    reading = read(BREAD)
    note = reading.note
    assert note.title == "Sourdough Keeps Longer Than Yeasted Bread" and note.gist == note.claims[0].text
    assert [(claim.id, claim.premise) for claim in note.claims] == [
        ("core", "Loaves were stored alike."),
        ("implication-1", ""),
        ("extrapolation-1", ""),
    ]
    assert not reading.referrers and not note.properties


@pytest.mark.parametrize("name", PAGES)
def test_line_ends_and_wrapping_change_offsets_and_nothing_else(name: str) -> None:
    text = PAGES[name].replace("\r\n", "\n")
    unix, windows = read(text), read(text.replace("\n", "\r\n"))
    hold(unix)
    hold(windows)
    assert (unix.note.title, unix.note.gist, unix.note.claims) == (windows.note.title, windows.note.gist, windows.note.claims)
    assert [(link.target, link.type, link.why) for link in unix.links] == [
        (link.target, link.type, link.why) for link in windows.links
    ]
    assert unix.note.properties == windows.note.properties and len(unix.referrers) == len(windows.referrers)
    assert unix.warnings == windows.warnings


def test_lists_that_lost_their_markers_are_told_apart_by_their_count() -> None:
    text = REEFS.replace("-\n", "").replace("Cited by 4 papers", "Cited by 3 papers")
    text = text[: text.index("The Quota Question\nQuotas follow counts, not biomass.\ndiscussion")].replace(
        "the\nsame", "the same"
    )
    assert [referrer.title for referrer in read(text).referrers] == ["Wrecks as Reefs", "The Quota Question", "Wrecks as Reefs"]


def test_an_article_is_no_page_and_names_works() -> None:
    assert [read_page(text, path="a.txt", note_id="a", source="") for text in ARTICLES] == [None] * 3
    garden, sky, _ = ([work.target for work in named_works(text)] for text in ARTICLES)
    assert garden == ["Double Digging", "NoDigPlus", "The Lazy Bed Method", "Beds Without Spades"]
    assert sky == ["Night Skies over Quito"]


@pytest.mark.parametrize(
    ("reason", "type_"),
    [
        ("partially contradicted: only in summer", "contradicts"),
        ("the strongest evidence against it", "contradicts"),
        ("qualifies the claim for wet soil", "qualifies"),
        ("extended to greenhouses by a later trial", "extends"),
        ("Identifies what the smell consists of", "explains"),
        ("corroborated: three gardens agree", "supports"),
        ("a field trial over ten years, confirming that roots sense cold", "supports"),
        ("reinforcement learning without evidence of transfer", "related"),
        ("does not extend to trees: they have bark", "related"),
        ("", "related"),
    ],
)
def test_the_type_of_a_link_is_in_its_reason(reason: str, type_: str) -> None:
    assert link_type(reason).value == type_


@pytest.mark.parametrize(("origin", "number"), [("data", 140), pytest.param("shared_data", 800, marks=pytest.mark.shared)])
def test_ordinary_notes_are_never_taken_for_a_page(request: pytest.FixtureRequest, origin: str, number: int) -> None:
    folders = [ROOT / "samples" / "vault", *sorted(request.getfixturevalue(origin).glob("vault-*"))]
    files = [path for folder in folders for path in sorted(folder.rglob("*.md"))]
    assert len(files) > number
    for path in files:
        data = path.read_bytes()
        body = read_markdown(data, path=path.name, note_id="n", source="s").note.text
        for text in (data.decode("utf-8", "replace"), body):
            assert read_page(text, path=path.name, note_id="n", source="s") is None, path
            named_works(text)


PIECES = (
    *(line + "\n" for text in PAGES.values() for line in text.splitlines()),
    *(
        "-\n",
        "- ",
        "\n",
        "\r\n",
        "\r",
        " ",
        "?",
        "See ",
        "Can it be? ",
        "1. ",
        "Referee: ",
        "Authors: ",
        "[[A]]",
        "such as B@c ",
        "“",
        "\ufeff",
    ),
)


@settings(max_examples=300)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=40), st.sampled_from([*PAGES.values(), ""]))
def test_no_text_raises_and_every_span_holds(pieces: list[str], before: str) -> None:
    text = before + "".join(pieces)
    reading = read_page(text, path="p", note_id="n", source="s")
    if reading:
        assert reading.note.text == text and reading.note.title
        hold(reading)
        assert len({claim.id for claim in reading.note.claims}) == len(reading.note.claims)
    assert all(text[work.start : work.end] == work.target for work in named_works(text))


@settings(max_examples=200)
@given(st.data(), st.sampled_from(sorted(PAGES)))
def test_a_page_with_lines_missing_or_moved_raises_nothing(data: st.DataObject, name: str) -> None:
    lines = PAGES[name].splitlines(keepends=True)
    kept = data.draw(st.lists(st.sampled_from(lines), max_size=60)) if data.draw(st.booleans()) else []
    start = data.draw(st.integers(0, len(lines)))
    reading = read_page("".join(lines[:start] + kept + lines[start + 3 :]), path="p", note_id="n", source="s")
    if reading:
        hold(reading)


def test_a_cue_before_words_without_a_name_names_nothing() -> None:
    assert named_works("Similar books, such as those published in the following decades, are rare.") == ()
