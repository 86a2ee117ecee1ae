"""A note's page and its map: links by type with reasons, stubs, escaping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kb.graph import NoteGraph
from kb.knowledge_base import NoteView
from kb.notes import Claim, Hit, Link, LinkType, Note, NoteKind
from service.web.notes.map import WIDTH, map_html, shorten
from service.web.notes.page import links_html, results_html, text_html, title_html

EVIL = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
NOTES = {
    note.id: note
    for note in (
        Note("v/a", "Does it hold?", text="It holds for $k$.\n", gist="In short, yes.",
             claims=(Claim("c1", "It holds.", "No luck.", "A draw.", evidence=("v/e",)),)),
        Note("v/b", f"B {EVIL}"),
        Note("v/e", "Evidence", NoteKind.EVIDENCE),
        Note("v/s", "Unwritten", NoteKind.STUB),
    )
}  # fmt: skip
LINKS = [
    Link("v/a", "v/b", LinkType.MENTIONS),
    Link("v/a", "v/b", LinkType.SUPPORTS, "same curve"),
    Link("v/a", "v/s", LinkType.CONTRADICTS, f"other regime {EVIL}"),
    Link("v/e", "v/a", LinkType.EVIDENCE_FOR, "counted", anchor="c1"),
]
VIEW = NoteView(NOTES["v/a"], tuple(LINKS[:3]), (LINKS[3],), (("v/b", 0.7123),), ())


def test_links_are_grouped_by_type_with_reasons_disagreement_first(harmless: Callable[[str], None]) -> None:
    html = links_html(VIEW, NOTES)
    assert html.index("contradicts") < html.index("supports") < html.index("linked from") < html.index("similar")
    assert "same curve" in html and "is evidence for this" in html and "0.71" in html
    assert "mentions" not in html  # the same note is linked with a type
    harmless(html)


def test_a_page_shows_text_claims_and_evidence(audit: Any) -> None:
    html = title_html(VIEW) + text_html(VIEW, NOTES, lambda _: None)
    assert "<h1>Does it hold?</h1>" in html and 'data-ask="Does it hold?"' in html and "In short, yes." in html
    assert "<mi>k</mi>" in html and "No luck." in html and 'data-note="v/e">Evidence</a>' in html
    audit(html)


def test_a_stub_shows_the_notes_that_refer_to_it(harmless: Callable[[str], None]) -> None:
    view = NoteView(NOTES["v/s"], (), (LINKS[2],), (), ())
    html = text_html(view, NOTES, lambda _: None)
    assert "This note does not exist yet." in html and "1 note refers to it" in html and "Does it hold?" in html
    harmless(html)


def test_the_map_contains_links_within_its_bounds(audit: Any, harmless: Callable[[str], None]) -> None:
    graph = NoteGraph(NOTES, LINKS)
    near = graph.neighbourhood("v/a", 2)
    html = map_html("v/a", near, graph.layout("v/a", near), NOTES)
    tags = audit(html).tags
    nodes = [attributes for tag, attributes in tags if tag == "a"]
    assert {attributes["data-note"] for attributes in nodes} == set(NOTES)
    assert "Does it hold? contradicts Unwritten: other regime" in html
    assert all(0 <= float(a["cx"] or -1) <= WIDTH for tag, a in tags if tag == "circle")
    harmless(html)
    assert map_html("v/b", graph.neighbourhood("none", 1), {}, NOTES) == ""


def test_search_results_are_escaped_and_empty_results_have_a_message(harmless: Callable[[str], None]) -> None:
    hit = Hit("v/b", NOTES["v/b"].title, "v/b#0", 0, 9, f"## Head\nSome **words** {EVIL}", 1.0)
    html = results_html("words", [("v/b", NOTES["v/b"].title)], [hit])
    assert "Some words" in html and "Head" not in html
    harmless(html)
    harmless(results_html(EVIL, [], []))
    assert results_html("  ", [], []) == ""


def test_long_titles_are_cut_between_words() -> None:
    assert shorten("Does it hold for every model?", 20) == "Does it hold for…"
    assert shorten("x" * 40, 20) == "x" * 19 + "…"
