"""Stale: what an inquiry stood on is looked up again whenever it is read; asked again, it says what changed and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.pipeline import ingest, sync
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.answering.extractive import ask
from service.inquiries.front_matter import StaleReason
from service.inquiries.refresh import last_change, refresh
from service.inquiries.save import EditedByHand, save_inquiry
from service.inquiries.staleness import inquiry_status, list_inquiry_statuses
from service.llm.client import LanguageModel
from tests.service.answering.scripted_server import Reply, serving
from tests.service.answering.zebras import FLIES, HEAT, KEY, QUESTION, QUICK, TRIAL, writes, written

Edit = Callable[[str, str, str], None]
NEW = "Zebra stripes keep most biting flies from landing at noon."


def reasons(kb: KnowledgeBase, note_id: str) -> tuple[StaleReason, ...]:
    note = kb.store.note(note_id)
    found = inquiry_status(kb, note) if note else None
    assert found
    return found.reasons


def test_a_changed_sentence_is_told_with_what_it_says_now(stripes: KnowledgeBase, edit: Edit) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    edit("flies.md", FLIES, NEW)
    (reason,) = [reason for reason in reasons(stripes, made.id) if reason.was == FLIES]
    assert (reason.kind, reason.note_id, reason.now) == ("changed", "vault/flies", NEW) and FLIES in reason.text
    assert [entry.note.id for entry in list_inquiry_statuses(stripes) if entry.reasons] == [made.id]
    edit("flies.md", NEW, FLIES)
    assert reasons(stripes, made.id) == ()


def test_a_sentence_that_only_moved_still_stands_and_the_note_has_changed(stripes: KnowledgeBase, edit: Edit) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    edit("flies.md", FLIES, f"First some words on savannas. {FLIES}")
    (reason,) = reasons(stripes, made.id)
    assert reason.kind == "changed" and "quotes are unchanged" in reason.text and reason.was == ""


def test_a_deleted_a_moved_and_a_returned_source(stripes: KnowledgeBase, tmp_path: Path) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    heat = tmp_path / "vault" / "heat.md"
    heat.rename(tmp_path / "heat.md")
    sync(stripes)
    assert [(reason.kind, reason.note_id) for reason in reasons(stripes, made.id)] == [("deleted", "vault/heat")]
    (tmp_path / "heat.md").rename(tmp_path / "vault" / "warmth.md")
    sync(stripes)
    (reason,) = reasons(stripes, made.id)
    assert reason.kind == "moved" and "vault/warmth" in reason.text
    (tmp_path / "vault" / "warmth.md").rename(heat)
    sync(stripes)
    assert reasons(stripes, made.id) == ()


def test_new_evidence_on_a_claim_it_touched_and_evidence_that_goes(stripes: KnowledgeBase, tmp_path: Path) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    (tmp_path / "more").mkdir()
    later = tmp_path / "more" / "later.md"
    later.write_text(
        "---\ntitle: Later evidence\nkind: evidence\ndate: 2026-11-27\nstatus: refuted\nlinks:\n"
        "  - {to: '[[vault/flies#c]]', type: evidence_for, why: counted again}\n---\nNothing kept flies away.\n",
        "utf-8",
    )
    ingest(stripes, [tmp_path / "more"])
    (reason,) = reasons(stripes, made.id)
    assert (reason.kind, reason.note_id, reason.now) == ("evidence", "more/later", "refuted")
    assert "new evidence of 2026-11-27" in reason.text and "refuted" in reason.text
    done = refresh(stripes, made.id)
    assert any("new evidence of 2026-11-27" in told for told in done.changes.because) and reasons(stripes, made.id) == ()
    later.unlink()
    sync(stripes)
    assert [reason.kind for reason in reasons(stripes, made.id)] == ["deleted", "evidence"]


def test_a_claim_that_its_author_decides_or_drops(stripes: KnowledgeBase, edit: Edit, tmp_path: Path) -> None:
    (tmp_path / "vault" / "evidence.md").unlink()
    sync(stripes)
    answer = ask(stripes, QUESTION)
    assert not answer.evidence
    edit("flies.md", "{id: c,", "{id: c, test: {problems: {set: countdown}},")
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    edit("flies.md", "{id: c,", "{id: c, status: refuted,")
    (reason,) = reasons(stripes, made.id)
    assert (reason.kind, reason.was, reason.now) == ("status", "untested", "refuted")
    edit("flies.md", "{id: c,", "{id: d,")
    assert "was removed" in reasons(stripes, made.id)[0].text


def test_refreshing_says_which_sentences_came_and_went_and_why(stripes: KnowledgeBase, edit: Edit) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    before = Path(made.path).read_bytes()
    edit("flies.md", FLIES, NEW)
    done = refresh(stripes, made.id)
    assert done.saved.id == made.id and reasons(stripes, made.id) == ()
    (gone,) = [entry for entry in done.changes.removed if entry.text == FLIES]
    (come,) = [entry for entry in done.changes.added if entry.text == NEW]
    assert NEW in gone.why and "has changed" in come.why and done.changes.unchanged
    assert any(FLIES in told and NEW in told for told in done.changes.because)
    assert (Path(made.path).parent / done.saved.earlier).read_bytes() == before
    note = stripes.store.note(made.id)
    assert note and last_change(stripes, note) == done.changes and NEW in note.text and FLIES not in note.text


def test_refreshing_what_has_not_changed_writes_nothing(stripes: KnowledgeBase) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    before = Path(made.path).read_bytes()
    done = refresh(stripes, made.id)
    assert done.saved.unchanged and not done.changes.added and not done.changes.removed
    assert Path(made.path).read_bytes() == before


def test_a_written_answer_is_written_again_by_the_model_and_quoted_without_one(stripes: KnowledgeBase, edit: Edit) -> None:
    text = f"{FLIES[:-1]} [{{flies}}]. {TRIAL[:-1]} [{{trial}}].\n\n{HEAT[:-1]} [{{heat}}]."
    with serving(writes(text)) as server:
        made = save_inquiry(stripes, written(stripes, server))
    edit("heat.md", "15 degrees", "16 degrees")
    with serving(writes(text.replace(" {TRIAL[:-1]} [{{trial}}].", ""))) as server:
        done = refresh(stripes, made.id, LanguageModel(server.url, "scripted", KEY, QUICK))
    assert done.record.mode == "generated" and done.record.model == "scripted" and FLIES in done.changes.to_json()["unchanged"]  # type: ignore[operator]
    edit("heat.md", "16 degrees", "17 degrees")
    with (
        serving(Reply(status=500, error="out of order")) as server,
        pytest.raises(PasskbError, match="the inquiry is unchanged"),
    ):
        refresh(stripes, made.id, LanguageModel(server.url, "scripted", KEY, QUICK))
    assert refresh(stripes, made.id).record.mode == "quoted"


def test_refreshing_keeps_the_inquiry_when_the_notes_no_longer_answer(stripes: KnowledgeBase, tmp_path: Path) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    before = Path(made.path).read_bytes()
    for name in ("flies.md", "heat.md", "season.md", "evidence.md"):
        (tmp_path / "vault" / name).write_text("Bread proves overnight in a cool kitchen.\n", "utf-8")
    sync(stripes)
    with pytest.raises(PasskbError, match="the inquiry is unchanged"):
        refresh(stripes, made.id)
    assert Path(made.path).read_bytes() == before and len(reasons(stripes, made.id)) >= 4


def test_only_what_passkb_kept_is_refreshed_and_not_over_a_persons_words(
    stripes: KnowledgeBase, edit: Edit, tmp_path: Path
) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    forged = tmp_path / "vault" / "forged.md"
    forged.write_text(Path(made.path).read_text("utf-8"), "utf-8")
    sync(stripes)
    for name in ("vault/flies", "vault/forged", "nowhere"):
        with pytest.raises(PasskbError, match="is not a saved inquiry"):
            refresh(stripes, name)
    note = stripes.store.note("vault/forged")
    assert note and inquiry_status(stripes, note) is None
    edit("flies.md", FLIES, NEW)
    Path(made.path).write_text(Path(made.path).read_text("utf-8") + "Mine.\n", "utf-8")
    with pytest.raises(EditedByHand):
        refresh(stripes, made.id)
    refresh(stripes, made.id, replace_edited=True)
    assert reasons(stripes, made.id) == ()


def test_an_earlier_version_that_leads_elsewhere_is_not_read(stripes: KnowledgeBase, tmp_path: Path) -> None:
    made = save_inquiry(stripes, ask(stripes, QUESTION))
    path = Path(made.path)
    (tmp_path / "secret.md").write_text(path.read_text("utf-8"), "utf-8")
    path.write_text(path.read_text("utf-8").replace("written:", f"  earlier: {tmp_path}/secret.md\nwritten:"), "utf-8")
    sync(stripes)
    note = stripes.store.note(made.id)
    assert note and last_change(stripes, note) is None
