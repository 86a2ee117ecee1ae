"""Staleness, changes and suggestions on a note's page: escaping, and the actions of their buttons."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from ingest.pipeline import sync
from kb.knowledge_base import KnowledgeBase, NoteView
from kb.notes import Link, LinkType, Note, NoteKind
from service.answering.extractive import ask
from service.inquiries.answer_diff import ChangedSentence, Changes
from service.inquiries.front_matter import InquiryRecord, StaleReason
from service.inquiries.save import save_inquiry
from service.inquiries.staleness import InquiryStatus
from service.llm.client import LanguageModel
from service.suggestions.accepted_links import accepted_link_notes
from service.suggestions.ranking import Signal, Suggestion
from service.web.notes.actions import apply_action
from service.web.notes.inquiry import (
    accepted_links_html,
    changes_html,
    edited_html,
    link_note_ids,
    staleness_html,
    suggestions_html,
)
from service.web.notes.page import links_html
from service.web.notes.tab import note_page, start_page
from tests.service.answering.scripted_server import said, serving
from tests.service.answering.zebras import QUESTION, QUICK

RECORD = InquiryRecord("Why?", "2026-11-27T06:00:00+00:00", "quoted", "", (), (), (), ())
NOTE = Note("notes/inquiries/why", "Why?", NoteKind.INQUIRY)


def test_hostile_notes_are_escaped(evil: str, harmless: Callable[[str], None]) -> None:
    reasons = tuple(
        StaleReason(kind, "v/a", evil, evil, was, evil) for kind in ("changed", "deleted", evil) for was in ("", evil)
    )
    suggestion = Suggestion("v/a", "v/b", "v/b", evil, 0.5, (Signal("mention", evil, 0.5),), LinkType.EXTENDS, evil, evil)
    for html in (
        staleness_html(InquiryStatus(NOTE, RECORD, reasons), ["v/a"]),
        staleness_html(InquiryStatus(NOTE, RECORD, ())),
        changes_html(
            Changes((ChangedSentence(evil, evil),), (ChangedSentence(evil, evil),), (ChangedSentence(evil),), (evil,)),
            is_open=True,
        ),
        suggestions_html("v/a", [suggestion] * 5, can_propose=True),
        edited_html(evil, evil),
        links_html(NoteView(NOTE, (Link(NOTE.id, evil, LinkType.RELATED, evil, writer=evil),), (), (), ()), {}, {evil}),
        accepted_links_html("n/links", [Link("v/a", evil, LinkType.RELATED, evil, writer="n/links")], {"v/a": evil}),
    ):
        harmless(html)


def test_a_stale_inquiry_shows_the_old_and_the_new_sentence() -> None:
    html = staleness_html(
        InquiryStatus(NOTE, RECORD, (StaleReason("changed", "v/a", "A", "…", "It was so.", "It is so."),)), ["v/a"]
    )
    assert "Stale" in html and "<del>It was so.</del> <ins>It is so.</ins>" in html and 'data-note="v/a">A</a>' in html
    assert 'data-tend="refresh"' in html and "Its sources have changed" in html
    calm = staleness_html(InquiryStatus(NOTE, RECORD, ()))
    assert "Stale" not in calm and "have not changed" in calm


def test_the_reason_of_a_removed_sentence_is_shown_once() -> None:
    changes = Changes((ChangedSentence("New.", "“A” has changed"),), (ChangedSentence("Old.", "“A” now says: “New.”"),), (),
                    ("“A” no longer says “Old.”; it says “New.”", "“B” is gone"))  # fmt: skip
    html = changes_html(changes, is_open=True)
    assert html.count("Old.") == 1 and "“B” is gone" in html and '<details class="changes" open>' in html
    assert " open" not in changes_html(changes, is_open=False)


def test_many_suggestions_are_collapsed_and_name_the_link_type() -> None:
    entry = Suggestion("v/b", "v/a", "v/b", "B", 0.5, (Signal("similar", "alike", 0.5),), LinkType.EXTENDS, "goes on", "tiny")
    html = suggestions_html("v/a", [entry] * 4)
    assert "<details>" in html and 'data-from="v/b" data-to="v/a" data-type="extends" data-why="goes on"' in html
    assert "extends this note" in html and "Accept “extends”" in html and "Propose" not in html
    assert "<details open>" in suggestions_html("v/a", [entry]) and suggestions_html("v/a", []) == ""


def test_note_ids_in_code_become_links() -> None:
    html = link_note_ids(Markup("<code>v/a</code> <code>v/b</code>"), ["v/a"])
    assert 'data-note="v/a">v/a</a></code> <code>v/b</code>' in html


def test_an_invalid_action_shows_a_message(zebra_notes: KnowledgeBase) -> None:
    before = zebra_notes.store.links()
    for event in (
        {}, {"act": "loves"}, {"act": "accept", "from": "vault/flies", "to": "nowhere"},
        {"act": "refresh", "of": "vault/flies"},
        {"act": "accept", "from": "vault/flies", "to": "vault/heat"}, {"act": "take_back", "from": "vault/flies", "to": "x"},
        {"act": "propose", "of": "vault/flies"}, {"act": ["accept"], "of": {"x": 1}},
    ):  # fmt: skip
        result = apply_action(zebra_notes, event)
        assert 'class="message" role="alert"' in result.message and result.action == ""
    assert zebra_notes.store.links() == before


def test_proposing_types_accepts_nothing(zebra_notes: KnowledgeBase) -> None:
    before = zebra_notes.store.links()
    with serving(said("1. supports: both count flies on coats")) as server:
        model = LanguageModel(server.url, "scripted", "", QUICK)
        result = apply_action(zebra_notes, {"act": "propose", "of": "vault/evidence"}, model)
    assert result.action == "propose" and result.suggestions and result.suggestions[0].type is LinkType.SUPPORTS
    page = note_page(zebra_notes, "vault/evidence", result, can_propose=True)
    assert "both count flies on coats" in page[4] and "(scripted)" in page[4] and "Propose types" in page[4]
    assert zebra_notes.store.links() == before


def test_a_note_of_accepted_links_lists_them(zebra_notes: KnowledgeBase) -> None:
    apply_action(zebra_notes, {"act": "accept", "from": "vault/evidence", "to": "vault/heat", "why": "warm"})
    (writer,) = accepted_link_notes(zebra_notes)
    page = note_page(zebra_notes, writer)
    assert "Zebra stripes against heat" in page[3] and "warm" in page[3] and 'data-tend="take_back"' in page[3]
    assert 'data-tend="take_back"' in note_page(zebra_notes, "vault/heat")[4]


def test_accepting_and_removing_a_link(zebra_notes: KnowledgeBase) -> None:
    made = save_inquiry(zebra_notes, ask(zebra_notes, QUESTION))
    ends = {"of": "vault/evidence", "from": "vault/evidence", "to": "vault/heat"}
    assert apply_action(zebra_notes, {**ends, "act": "accept", "type": "no such", "why": "<b>x</b>\n"}).action == "accept"
    (link,) = [link for link in zebra_notes.store.links("vault/evidence") if link.target == "vault/heat"]
    assert (link.type, link.why) == (LinkType.RELATED, "<b>x</b>") and link.writer.startswith("notes/links/")
    assert apply_action(zebra_notes, {**ends, "act": "take_back"}).action == "take_back"
    assert not [link for link in zebra_notes.store.links("vault/evidence") if link.target == "vault/heat"]
    assert 'class="stale-mark"' not in start_page(zebra_notes)
    (zebra_notes.home.parent / "vault" / "season.md").unlink()
    sync(zebra_notes)
    assert start_page(zebra_notes).count('class="stale-mark"') == 1
    assert apply_action(zebra_notes, {"act": "refresh", "of": made.id}).action == "refresh"
    assert 'class="stale-mark"' not in start_page(zebra_notes)
