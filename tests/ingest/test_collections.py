"""Whole collections of saved pages through the pipeline: the four seeds, and four pages of the same kinds about reefs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.pipeline import ingest, sync
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from kb.notes import Link, LinkType, NoteKind, Origin
from service import output

if TYPE_CHECKING:
    from tests.conftest import Vault

SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"
REEF = Path(__file__).parent / "reef"
PAPER = "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"


@pytest.fixture
def known(home: Path, minilm: MiniLM) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(home, minilm) as opened:
        yield opened


def of(links: tuple[Link, ...], *types: LinkType) -> list[Link]:
    return [link for link in links if link.type in types and link.origin is Origin.AUTHORED]


@pytest.mark.shared
def test_the_four_seeds(known: KnowledgeBase) -> None:
    report = ingest(known, [SEEDS])
    assert (report.added, report.failed, report.ambiguous, report.warnings) == (4, [], [], [])
    assert 400 <= report.notes + report.stubs <= 410 and len(known.graph.components()) == 1
    page, inquiry, review = (
        known.view(known.find(title), similar=0)
        for title in (
            "base models already possess latent reasoning capability that minimal training signals can unlock",
            "What does pass@k reveal about base model reasoning capacity?",
            PAPER,
        )
    )
    assert (page.note.kind, inquiry.note.kind, review.note.kind) == (NoteKind.NOTE, NoteKind.INQUIRY, NoteKind.REVIEW)
    assert all(f"Finding {i} (" in page.note.text for i in range(1, 6))
    reasons = [link for link in page.links if link.why]
    papers = [link for link in page.links if link.type is LinkType.RELATED and not link.why]
    assert len(reasons) == 16 and len(papers) == 8 and papers[-1].target == review.note.id
    assert reasons[0].type is LinkType.CONTRADICTS and reasons[0].why.startswith("partially contradicted: ")
    assert len(of(page.links, LinkType.MENTIONS)) == 5
    assert len(page.inquiries) == len(set(page.inquiries)) == 317 and inquiry.note.id in page.inquiries
    drawn = of(inquiry.links, LinkType.DRAWS_ON)
    assert len(drawn) == 9 and drawn[0].target == page.note.id and all(len(link.why) > 60 for link in drawn)
    cites = of(review.backlinks, LinkType.CITES)
    assert len(cites) == 60 and len({link.source for link in cites}) == 54 and all(link.why for link in cites)
    assert Counter(claim.id.split("-")[0] for claim in known.store.claims(review.note.id)) == {
        "core": 1, "implication": 5, "extrapolation": 3,
    }  # fmt: skip
    objections = output.note(review)["objections"]
    assert (
        objections == review.note.properties["objections"]
        and len(objections) == 5
        and sum("answer" in objection for objection in objections) == 2
    )
    (article,) = {i for i, _, _, _ in known.store.titles() if i.startswith("seeds/")} - {
        view.note.id for view in (page, inquiry, review)
    }
    assert [link.source for link in known.graph.links if link.origin is Origin.INFERRED] == [article]  # it joins no other way
    assert {link.target for link in of(known.view(article).links, LinkType.MENTIONS)} == {
        known.find("Pass@K Policy Optimization"), known.find("SimKO"),
    }  # fmt: skip


def test_a_collection_about_reefs(known: KnowledgeBase) -> None:
    report = ingest(known, [REEF])
    assert (report.added, report.failed, report.ambiguous, report.warnings) == (4, [], [], [])
    assert len(known.graph.components()) == 1
    page = known.view("reef/note")
    assert page.note.title == "Do parrotfish decide whether reefs come back?"
    assert page.note.aliases == ("parrotfish biomass not heat exposure separates reefs that recover",)
    assert [link.type.value for link in page.links if link.why] == "related contradicts qualifies related related".split()
    assert {link.target for link in page.links} >= {"stub/mangrove-nurseries", "reef/review"}
    assert len(page.inquiries) == 4 and "reef/inquiry" in page.inquiries
    drawn = of(known.view("reef/inquiry").links, LinkType.DRAWS_ON)
    assert len(drawn) == 8 and drawn[0].target == "reef/note" and drawn[4].why.startswith("Loose rubble")
    review = known.view("reef/review")
    assert review.note.title == "Herbivory, Turf and Recruitment" and review.note.kind is NoteKind.REVIEW
    assert [claim.id for claim in known.store.claims("reef/review")] == [
        "core", "implication-1", "implication-2", "extrapolation-1",
    ]  # fmt: skip
    assert [entry.get("revision", "") for entry in review.note.properties["objections"]] == ["yes", "partial", "no", ""]
    assert Counter(link.source for link in of(review.backlinks, LinkType.CITES)).most_common(1)[0][1] == 2
    works = {known.find(name) for name in ("Larval Seeding Optimization", "ReefSim", "Rubble Stapling")}
    assert {link.target for link in of(known.view("reef/article").links, LinkType.MENTIONS)} == works


_HEADINGS = re.compile(
    r"Inquiring lines|Related (?:concepts|papers) in|Original note title|Sources \d|The pith|Core claim|What carries|If this is"
    r"|Where Pith|Load-bearing|What would settle|read the original abstract|Editorial analysis|Referee Report|m\w+ comments"
    r"|Simulated|read point|Circularity|full rationale|Axiom|axioms|free parameters|Forward citations|discussion "
)


def as_html(text: str) -> str:
    """A page as a browser saves it: navigation around, items of paragraphs, titles that are links."""
    title, *lines = text.split("\n")
    made, listed = f"<h1>{escape(title)}</h1>", False
    for line in filter(None, lines):
        words = re.sub(r"((?:How|Is|Do|Does|Where|Why) [^.?]*\?)", r'<a href="/n">\1</a>', escape(line.removeprefix("- ")))
        opens = line.startswith("-") or bool(_HEADINGS.match(line))
        made += "</li></ul>" if listed and _HEADINGS.match(line) else "</li>" if listed and opens else ""
        if _HEADINGS.match(line):
            made, listed = made + f"<section><h2>{escape(line)}</h2>", False
        elif line.startswith("-"):
            made, listed = made + ("" if listed else "<ul>") + f"<li>{words if line != '-' else ''}", True
        else:
            made += f"<p>{words}</p>"
    menu = "<nav><ul><li><a href='/'>Home</a></li></ul></nav><div>Skip to content</div>"
    return (
        f"<!doctype html><html><head><title>{escape(title)} · Notes</title></head><body>{menu}<main>{made}</main></body></html>"
    )


@pytest.mark.parametrize("name", ["note", "inquiry", "review"])
def test_a_page_saved_as_html_is_the_same_note(known: KnowledgeBase, vault: Vault, name: str) -> None:
    text = (REEF / f"{name}.txt").read_text(encoding="utf-8")
    ingest(known, [vault({f"{name}.txt": text}, "one"), vault({f"{name}.html": as_html(text)}, "two")])
    one, two = known.view(f"one/{name}"), known.view(f"two/{name}")
    for part in ("title", "kind", "aliases", "gist"):
        assert getattr(one.note, part) == getattr(two.note, part)

    def endpoints(links: tuple[Link, ...]) -> list[tuple[str, str, str, str]]:
        return sorted((link.source.removeprefix("one/"), link.target.removeprefix("one/"), link.type, link.why)
                      for link in links if link.origin is Origin.AUTHORED)  # fmt: skip

    assert endpoints(one.links) == [tuple(end.replace("two/", "") for end in link) for link in endpoints(two.links)]
    assert endpoints(one.backlinks) == [tuple(end.replace("two/", "") for end in link) for link in endpoints(two.backlinks)]
    assert known.store.claims(one.note.id) == known.store.claims(two.note.id)
    assert two.note.properties.items() >= one.note.properties.items() and two.note.properties["original"].endswith(".html")
    assert all(two.note.text[link.start : link.end].startswith(("Do", "How", "Is", "Why", "Where")) for link in two.links
               if link.type in (LinkType.MENTIONS, LinkType.DRAWS_ON))  # fmt: skip


def test_an_article_saved_as_html_mentions_the_works_it_names(known: KnowledgeBase, vault: Vault) -> None:
    ingest(known, [vault({"article.html": as_html((REEF / "article.txt").read_text(encoding="utf-8"))})])
    works = {known.find(name) for name in ("Larval Seeding Optimization", "ReefSim", "Rubble Stapling")}
    assert {link.target for link in of(known.view("vault/article").links, LinkType.MENTIONS)} == works


def test_a_stub_of_a_page_gives_way_to_its_note_with_all_its_links(known: KnowledgeBase, tmp_path: Path) -> None:
    """Links that it has out as well as in: those a page says of it."""
    ingest(known, [REEF])
    stubs = ("Should marine reserves be drawn around fish or around corals?", "Do Cages Attract Damselfish?")
    before = [known.view(known.find(title)) for title in stubs]
    assert [len(view.links) for view in before] == [1, 1]
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "reserves.md").write_text(f"# {stubs[0]}\n\nAround both.\n", encoding="utf-8")
    (vault / "cages.md").write_text(f"---\ntitle: Cages\naliases: ['{stubs[1]}']\n---\nThey do.\n", encoding="utf-8")
    ingest(known, [vault])
    for view, written in zip(before, ("vault/reserves", "vault/cages"), strict=True):
        ((was,), (now,)) = (view.links, known.view(written).links)
        assert (now.target, now.type, now.why) == (was.target, was.type, was.why) and now.source == written
        assert known.store.note(view.note.id) is None
    for file in vault.iterdir():
        file.unlink()
    sync(known)
    assert [len(known.view(known.find(title)).links) for title in stubs] == [1, 1]
