"""Suggested links: each with its reasons, never one that is there, never to a stub; the better grounded first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.knowledge_base import KnowledgeBase
from kb.notes import LinkType, NoteKind, PasskbError
from service.suggestions.dismissals import dismiss, list_dismissed, undismiss
from service.suggestions.ranking import suggest_links


def by_target(kb: KnowledgeBase, note_id: str) -> dict[str, list[str]]:
    return {entry.other: [ground.kind for ground in entry.signals] for entry in suggest_links(kb, note_id)}


def test_a_name_without_a_link_is_suggested_from_who_names_to_who_is_named(linkless: KnowledgeBase) -> None:
    for note_id, forward in (("vault/training", True), ("vault/entropy-collapse", False)):
        other = "vault/entropy-collapse" if forward else "vault/training"
        (entry,) = [entry for entry in suggest_links(linkless, note_id) if entry.other == other]
        assert (entry.source, entry.target) == ("vault/training", "vault/entropy-collapse")
        (ground,) = [ground for ground in entry.signals if ground.kind == "mention"]
        note = linkless.store.note(ground.note_id)
        assert note and note.text[ground.start : ground.end] == ground.quote
        assert ground.quote == "A long run often ends in entropy collapse, and a bonus helps." and ground.quote in ground.text
        assert entry.type is LinkType.RELATED and entry.by == ""
    assert "mention" in by_target(linkless, "vault/rewards")["vault/entropy-collapse"]  # by its alias


def test_notes_among_the_same_others_are_suggested_with_those(linkless: KnowledgeBase) -> None:
    (entry,) = [entry for entry in suggest_links(linkless, "vault/alpha") if entry.other == "vault/beta"]
    assert [ground.text for ground in entry.signals if ground.kind == "neighbours"] == [
        "2 notes are linked to both: “Hub”, “Other hub”"
    ]


def test_alike_notes_are_suggested_with_their_cosine(linkless: KnowledgeBase, add: Callable[[str, str], None]) -> None:
    add("Gamma.md", "# Gamma\n\nWhales sing below the ice.\n\nOf alpha one may say: whales sing below the ice.\n")
    (entry,) = [entry for entry in suggest_links(linkless, "vault/gamma") if entry.other == "vault/alpha"]
    cosine = dict(linkless.similar("vault/gamma"))["vault/alpha"]
    assert f"similar text (cosine {cosine:.2f})" in [ground.text for ground in entry.signals]


def test_what_is_linked_dismissed_a_stub_an_inquiry_or_itself_is_not_suggested(
    linkless: KnowledgeBase, add: Callable[[str, str], None]
) -> None:
    add("Inquiry.md", "---\nkind: inquiry\n---\n\nA long run often ends in entropy collapse, and a bonus helps.\n")
    add("Points.md", "# Points\n\nEntropy collapse, and nobody wrote this.\n\ncontradicts:: [[Entropy collapse]]\n")
    stubs = {note_id for note_id, _, kind, _ in linkless.store.titles() if kind == NoteKind.STUB}
    for note_id in [i for i, _, _, _ in linkless.store.titles()]:
        joined = {end for into in (False, True) for link in linkless.store.links(note_id, into=into) for end in
                  (link.source, link.target)}  # fmt: skip
        assert not set(by_target(linkless, note_id)) & (joined | stubs | {note_id, "vault/inquiry"})
    assert suggest_links(linkless, "vault/inquiry") == [] == suggest_links(linkless, next(iter(stubs)))
    assert "vault/entropy-collapse" in by_target(linkless, "vault/training")
    dismiss(linkless.home, "vault/training", "vault/entropy-collapse")
    dismiss(linkless.home, "vault/entropy-collapse", "vault/training")
    assert "vault/entropy-collapse" not in by_target(linkless, "vault/training")
    assert "vault/training" not in by_target(linkless, "vault/entropy-collapse")
    undismiss(linkless.home, "vault/entropy-collapse", "vault/training")
    assert "vault/entropy-collapse" in by_target(linkless, "vault/training") and list_dismissed(linkless.home, "x") == set()


def test_a_lone_word_that_stands_everywhere_says_nothing(linkless: KnowledgeBase, add: Callable[[str, str], None]) -> None:
    add("Rails.md", "# Rails\n\nThey carry trains.\n")
    assert "mention" in by_target(linkless, "vault/rails").get("vault/beta", [])
    for number in range(12):
        add(f"Many {number}.md", f"# Many {number}\n\nNumber {number} tells of rails once more.\n")
    assert "mention" not in by_target(linkless, "vault/rails").get("vault/beta", [])


def test_better_grounds_come_first_and_an_unknown_note_is_refused(linkless: KnowledgeBase) -> None:
    scores = [entry.score for entry in suggest_links(linkless, "vault/entropy-collapse")]
    assert scores == sorted(scores, reverse=True) and all(0 < score <= 1 for score in scores)
    with pytest.raises(PasskbError, match="no note"):
        suggest_links(linkless, "vault/nowhere")


def test_a_damaged_list_of_dismissals_is_named(linkless: KnowledgeBase) -> None:
    for text in ("{}", "[1]", '[["a"]]', "nonsense"):
        (linkless.home / "dismissed.json").write_text(text)
        with pytest.raises(PasskbError, match=r"dismissed\.json cannot be read"):
            suggest_links(linkless, "vault/training")
