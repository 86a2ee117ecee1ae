"""Evidence notes: written from counts alone, indexed, linked to their claim, and shown where an answer touches it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from ingest.pipeline import ingest
from ingest.sources import Registry
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import ClaimStatus, LinkType, NoteKind, PasskbError
from service.answering.extractive import ask
from service.experiments.execution.run_store import Run, Runs, RunStatus, Tally
from service.experiments.importers.import_run import import_files
from service.experiments.report.evidence import evidence_markdown, publish
from service.experiments.report.result import result
from service.experiments.spec import from_mapping

NOTE = """---
title: Does tuning select?
claims:
  - {id: crossover, text: The base model overtakes its tuned version at large k., premise: p, settles: s}
---
Tuning moves probability to what the base model could do already.
"""
CROSSING = {"base": [12, 9, 15, 8, 11, 14, 10, 13] * 4, "tuned": [64, 64, 63, 0, 0, 64, 0, 64] * 4}
AHEAD = {"base": [1, 0, 2, 0] * 8, "tuned": [60, 64, 62, 64] * 8}
FEW = {"base": [3, 4], "tuned": [8, 0]}


def words_only(home: Path) -> KnowledgeBase:
    return KnowledgeBase(home, HashedWords())


def counts(path: Path, found: dict[str, list[int]], n: int = 64) -> Path:
    rows = [f"{model},p{i},{n},{c}" for model, passed in found.items() for i, c in enumerate(passed)]
    path.write_text("\n".join(["model,problem_id,n,c", *rows]))
    return path


@pytest.fixture
def claimed(home: Path, tmp_path: Path) -> str:
    """A home in which a note with a claim is indexed; the claim."""
    folder = tmp_path / "vault"
    folder.mkdir()
    (folder / "Does tuning select.md").write_text(NOTE)
    with words_only(home) as kb:
        ingest(kb, [folder])
    return "vault/does-tuning-select#crossover"


def test_a_run_becomes_a_note_that_decides_its_claim_and_a_later_one_stands_beside_it(
    home: Path, tmp_path: Path, claimed: str
) -> None:
    first = import_files(home, [counts(tmp_path / "one.csv", CROSSING)], claim=claimed)
    note_id = publish(home, first, words_only)
    with words_only(home) as kb:
        note = kb.store.note(note_id)
        assert note is not None and note.kind is NoteKind.EVIDENCE and note.properties["run_id"] == first.id
        link = next(link for link in kb.store.links(note_id) if link.type is LinkType.EVIDENCE_FOR)
        assert (link.target, link.anchor) == tuple(claimed.split("#")) and "supported" in link.why
        assert [(c.status, c.evidence) for c in kb.store.claims("vault/does-tuning-select")] == [
            (ClaimStatus.SUPPORTED, (note_id,))
        ]
        hits = kb.search("base model behind ahead curves cross")[1]
        assert note_id in [hit.note_id for hit in hits]
        assert not kb.store.unresolved(), "the curve that the note shows is no missing note"
    second = import_files(home, [counts(tmp_path / "two.csv", AHEAD)], claim=claimed)
    second.update(finished="2999-01-01T00:00:00+00:00")
    later = publish(home, second, words_only)
    with words_only(home) as kb:
        (claim,) = kb.store.claims("vault/does-tuning-select")
        assert claim.status is ClaimStatus.UNDERPOWERED and claim.evidence == (note_id, later)
        assert claim.status_reason == "The runs disagree: of 2, some support the claim and some refute it."
    assert (
        second.state["verdict"] == "refuted" and (prediction := result(second).prediction) and prediction.comparisons_made == 2
    )
    assert (home / "notes" / "evidence" / f"{first.id}.md").exists()


def test_an_answer_that_touches_the_claim_shows_the_evidence_with_its_date(
    home: Path, tmp_path: Path, meaningful: KnowledgeBase
) -> None:
    folder = tmp_path / "vault"
    folder.mkdir()
    (folder / "tuning.md").write_text(NOTE)
    ingest(meaningful, [folder])
    run = import_files(home, [counts(tmp_path / "one.csv", CROSSING)], claim="vault/tuning#crossover")
    publish(home, run, lambda home: KnowledgeBase(home, meaningful.embedder))
    found = ask(meaningful, "Does the base model overtake its tuned version at large k?")
    (item,) = found.evidence
    assert (item.run_id, item.status, item.claim) == (run.id, "supported", "vault/tuning#crossover")
    assert item.date == run.state["finished"]


def test_the_note_is_the_same_again_and_its_figures_are_those_of_the_result(home: Path, tmp_path: Path, claimed: str) -> None:
    run = import_files(home, [counts(tmp_path / "one.csv", CROSSING)], claim=claimed)
    note_id = publish(home, run, words_only)
    path = home / "notes" / "evidence" / f"{run.id}.md"
    text = path.read_text()
    assert publish(home, run, words_only) == note_id and path.read_text() == text
    kept = json.loads((run.folder / "result.json").read_text())
    assert kept["evidence_note_id"] == note_id == run.state["evidence_note_id"] and kept == result(run).to_json()
    front, body = yaml.safe_load(text.split("---\n")[1]), text.split("---\n", 2)[2]
    assert body.startswith(kept["prediction"]["sentence"]), "the first paragraph can be quoted"
    assert (front["engine"], front["claim"], front["status"]) == ("imported", claimed, "supported")
    for row in kept["comparison"]["difference"]:
        assert f"| {row['k']}{'*' if row['k'] == 64 else ''} |" in body
    assert f"![[{run.id}.svg]]" in body and f"sha256 `{run.state['imported']['files'][0]['sha256']}`" in body
    for svg in (path.with_suffix(".svg"), run.folder / "curve.svg"):
        ET.fromstring(svg.read_text())
    assert "passkb experiment import" in body and "cannot confirm that the prediction came before" in body


def test_what_is_not_decided_has_a_note_too_that_says_what_would_decide(home: Path, tmp_path: Path, claimed: str) -> None:
    run = import_files(home, [counts(tmp_path / "few.csv", FEW, 8)], claim=claimed)
    publish(home, run, words_only)
    with words_only(home) as kb:
        (claim,) = kb.store.claims("vault/does-tuning-select")
    assert claim.status is ClaimStatus.UNDERPOWERED
    body = (home / "notes" / "evidence" / f"{run.id}.md").read_text()
    assert "Verdict: underpowered." in body and "with 2 problems ×" in body


def a_run(home: Path, model: str, engine: str = "transformers", **spec: object) -> Run:
    given = {"problems": {"set": "countdown"}, "models": {"base": {"model": model, "engine": engine}}, **spec}
    run = Runs(home).create(from_mapping({"sampling": {"n": 4}, **given}), problems_sha256="ab12")
    run.append("base", [(Tally("p1", 0, 4, 2, {"pass": 2, "fail": 2}), ()), (Tally("p2", 0, 4, 0, {"fail": 4}), ())])
    about = {"engine": engine, "engine_version": "5.23", "device": "cpu", "effective": {"dtype": "float32"},
             "differs": {"max_tokens": [512, 128]}}  # fmt: skip
    run.update(status=RunStatus.SUCCEEDED, environment={"base": about}, finished="2026-01-02T03:04:05+00:00")
    return run


def test_a_run_without_claim_or_prediction_says_what_was_run_and_how_to_repeat_it(home: Path) -> None:
    run = a_run(home, "Qwen/Qwen2.5", question="How often\nis it right?", direct=0)
    with words_only(home) as kb:
        assert kb.store.counts()[0] == {}
    note_id = publish(home, run, words_only)
    with words_only(home) as kb:
        note = kb.store.note(note_id)
        assert note is not None and note.title == "Evidence of 2026-01-02 03:04: How often is it right?"
        assert not kb.store.links(note_id) and "status" not in note.properties
    text = (home / "notes" / "evidence" / f"{run.id}.md").read_text()
    assert "transformers 5.23, on cpu; max_tokens 128 instead of the requested 512" in text and "sha256 `ab12`" in text
    fenced = text.split("```yaml\n")[1].split("```")[0]
    assert from_mapping(yaml.safe_load(fenced)) == run.spec, "the spec in the note repeats the run"


def test_toys_and_scripted_runs_say_so_in_what_can_be_quoted(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "organism"
    folder.mkdir()
    (folder / "organism.json").write_text("{}")
    run = a_run(home, str(folder), name="toy")
    first = evidence_markdown(run, result(run)).split("---\n", 2)[2].split("\n\n")[0]
    assert "Toy model: " in first and "says nothing about large models" in first
    front = yaml.safe_load(evidence_markdown(run, result(run)).split("---\n")[1])
    assert front["origin"] == "toy models" and front["title"].startswith("Evidence of 2026-01-02 03:04, from toy models: ")
    scripted = a_run(home, "rate:0.5", "scripted", name="scripted")
    assert "No model was run" in evidence_markdown(scripted, result(scripted)).split("---\n", 2)[2].split("\n\n")[0]
    plain = a_run(home, "Qwen/Qwen2.5", name="plain")
    assert "Toy model: " not in evidence_markdown(plain, result(plain))


def test_made_up_completions_decide_no_claim(home: Path, claimed: str) -> None:
    pair = {name: {"model": "rate:0.5", "engine": "scripted"} for name in ("base", "tuned")}
    asked = {"problems": {"set": "countdown"}, "models": pair, "sampling": {"n": 8}, "prediction": {"kind": "crossover"}}
    run = Runs(home).create(from_mapping({**asked, "claim": claimed}))
    for name in pair:
        run.append(name, [(Tally(f"p{i}", 0, 8, i % 8), ()) for i in range(16)])
    run.update(status=RunStatus.SUCCEEDED, finished="2026-01-02T03:04:05+00:00")
    note_id = publish(home, run, words_only)
    with words_only(home) as kb:
        (claim,) = kb.store.claims("vault/does-tuning-select")
    assert claim.status is ClaimStatus.UNTESTED and claim.evidence == (note_id,) and run.state["verdict"] == "underpowered"


def test_a_claim_that_is_not_indexed_yet_is_linked_all_the_same(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = a_run(home, "x", claim="vault/does-tuning-select#crossover")
    note_id = publish(home, run, words_only)
    assert "no indexed note has its claim" in caplog.text
    folder = home.parent / "vault"
    folder.mkdir()
    (folder / "Does tuning select.md").write_text(NOTE)
    with words_only(home) as kb:
        ingest(kb, [folder])
        (claim,) = kb.store.claims("vault/does-tuning-select")
    assert claim.evidence == (note_id,)


def test_a_home_inside_a_registered_folder_still_has_its_evidence(tmp_path: Path) -> None:
    outer = tmp_path / "project"
    (outer / "notes").mkdir(parents=True)
    (outer / "notes" / "a.md").write_text("# A\n\nText.")
    home = outer / ".passkb"
    with words_only(home) as kb:
        ingest(kb, [outer])
    note_id = publish(home, a_run(home, "x"), words_only)
    assert len(Registry(home).all()) == 2
    with words_only(home) as kb:
        assert kb.store.note(note_id) is not None


def test_only_a_run_that_succeeded_becomes_evidence(home: Path) -> None:
    run = a_run(home, "x")
    run.update(status=RunStatus.CANCELLED)
    with pytest.raises(PasskbError, match="has not succeeded"):
        publish(home, run, words_only)
    run.update(status=RunStatus.SUCCEEDED)
    (home / "notes").mkdir(parents=True)
    (home / "notes" / "evidence").write_text("in the way")
    with pytest.raises(PasskbError, match="cannot be written"):
        publish(home, run, words_only)
