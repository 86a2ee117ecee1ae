"""Accepting writes a link into passkb's own notes, and into no other; it lasts, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.pipeline import rebuild, sync
from kb.knowledge_base import KnowledgeBase
from kb.notes import Link, LinkType, Origin, PasskbError
from service.suggestions.accepted_links import accept_link, accepted_link_notes, clean_reason, remove_link
from service.suggestions.ranking import links_between, suggest_links
from tests.service.suggestions.conftest import VAULT

A, B = "vault/alpha", "vault/beta"


def links(kb: KnowledgeBase) -> list[Link]:
    return links_between(kb, A, B)


def test_an_accepted_link_is_a_link_that_says_who_wrote_it(linkless: KnowledgeBase, tmp_path: Path) -> None:
    made = accept_link(linkless, A, B, LinkType.EXTENDS, "both sing: \"on\" 'rails' #x [[Hub]]\nsupports:: [[Hub]]")
    assert (made.source, made.target, made.type, made.origin) == (A, B, LinkType.EXTENDS, Origin.AUTHORED)
    assert made.why == "both sing: \"on\" 'rails' #x [Hub] supports:: [Hub]" and {made.writer} == accepted_link_notes(linkless)
    assert links(linkless) == [made] and linkless.store.links(made.writer) == []
    assert {name: (tmp_path / "vault" / name).read_text("utf-8") for name in VAULT} == VAULT
    assert B not in {entry.other for entry in suggest_links(linkless, A)}
    assert [step.link for step in linkless.path(A, B) or ()] == [made]


def test_it_outlives_sync_rebuild_and_changes_of_its_notes(linkless: KnowledgeBase, tmp_path: Path) -> None:
    made = accept_link(linkless, A, B)
    for change in ("More.\n", f"extends:: [[{B}]]\n", "related:: [[Beta]] because they say so\n", "None of it.\n"):
        (tmp_path / "vault" / "Alpha.md").write_text(f"# Alpha\n\nWhales sing. {change}\n\n{change}", "utf-8")
        sync(linkless)
        assert made in links(linkless) or (change.startswith("related") and links(linkless))
    assert links(linkless) == [made]
    rebuild(linkless.home)
    assert links(linkless) == [made]
    (tmp_path / "vault" / "Beta.md").unlink()
    sync(linkless)
    assert links(linkless) == [] and linkless.store.notes([A, "stub/vault-beta"]).keys() == {A}
    assert [entry.target for entry in linkless.store.unresolved() if entry.source == made.writer] == [B]
    (tmp_path / "vault" / "Beta.md").write_text(VAULT["Beta.md"], "utf-8")
    sync(linkless)
    assert links(linkless) == [made]


def test_several_are_kept_in_one_note_and_each_can_be_taken_back(linkless: KnowledgeBase) -> None:
    accept_link(linkless, A, B)
    other = accept_link(linkless, A, "vault/training", LinkType.SUPPORTS)
    assert len(accepted_link_notes(linkless)) == 1
    assert [link.target for link in remove_link(linkless, B, A)] == [B] and links(linkless) == []
    assert links_between(linkless, A, "vault/training") == [other]
    assert B in {entry.other for entry in suggest_links(linkless, A)}
    remove_link(linkless, A, "vault/training")
    assert accepted_link_notes(linkless) == set() and list((linkless.home / "notes" / "links").iterdir()) == []
    with pytest.raises(PasskbError, match="there is no accepted link"):
        remove_link(linkless, A, B)


def test_what_can_not_be_linked_is_refused(linkless: KnowledgeBase) -> None:
    accept_link(linkless, A, B)
    for one, other, said in ((A, B, "already linked"), (B, A, "already"), (A, A, "itself"), (A, "vault/no", "not an existing"),
                             (A, "stub/nobody-wrote-this", "not an existing note")):  # fmt: skip
        with pytest.raises(PasskbError, match=said):
            accept_link(linkless, one, other)


def test_a_list_that_a_person_broke_is_left_as_it_is(linkless: KnowledgeBase) -> None:
    made = accept_link(linkless, A, B)
    path = next((linkless.home / "notes" / "links").glob("*.md"))
    path.write_text(path.read_text("utf-8").replace("links:", "links: ["), "utf-8")
    broken = path.read_text("utf-8")
    for act in (lambda: accept_link(linkless, A, "vault/training"), lambda: remove_link(linkless, A, B)):
        with pytest.raises(PasskbError, match="correct it"):
            act()
    assert path.read_text("utf-8") == broken and made in links(linkless)


def test_an_entry_that_a_person_removes_takes_its_link_back(linkless: KnowledgeBase) -> None:
    accept_link(linkless, A, B)
    accept_link(linkless, A, "vault/training")
    path = next((linkless.home / "notes" / "links").glob("*.md"))
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if B not in line), "utf-8")
    sync(linkless)
    assert links(linkless) == [] and links_between(linkless, A, "vault/training")


def test_a_link_of_a_third_note_needs_both_ends(linkless: KnowledgeBase, add: Callable[[str, str], None]) -> None:
    add("Third.md", "---\nlinks:\n  - {from: '[[Alpha]]', to: '[[Beta]]', type: explains, why: x}\n"
                    "  - {from: '[[No such]]', to: '[[Beta]]'}\n"
                    "  - {from: '[[Alpha]]', to: '[[Neither]]'}\n---\nWords.\n")  # fmt: skip
    assert [(link.type, link.writer) for link in links(linkless)] == [(LinkType.EXPLAINS, "vault/third")]
    assert {entry.target for entry in linkless.store.unresolved() if entry.source == "vault/third"} == {"Beta", "Neither"}


def test_a_reason_is_one_short_line() -> None:
    assert clean_reason(" a\n\u2028b [[c]]\0 ") == "a b [c]" and len(clean_reason("word " * 200)) <= 300
