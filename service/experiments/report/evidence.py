"""Publishes the evidence note of a succeeded run: writes it into the home, indexes it, links it to its claim.

Every run has its own note, whatever its verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ingest.app_notes import app_notes_folder, index_app_note
from kb.files import write_atomic
from kb.knowledge_base import KnowledgeBase
from kb.notes import LinkType, PasskbError
from kb.os_errors import explanation
from service.experiments.claims import find_claim
from service.experiments.execution.run_store import Run, RunStatus, write_json
from service.experiments.report.curve import curve_svg
from service.experiments.report.disclaimers import scripted, toys
from service.experiments.report.evidence_note import evidence_markdown
from service.experiments.report.result import result

_log = logging.getLogger("passkb")


def publish(home: Path, run: Run, open_kb: Callable[[Path], KnowledgeBase] = KnowledgeBase) -> str:
    """Writes and indexes the evidence note of a run and returns its id. Publishing again changes nothing.

    Writes the curve beside the note, result.json and curve.svg into the run's folder, and the note's id, the verdict and the
    resolved claim into run.json. Raises PasskbError for a run that has not succeeded, or when the note cannot be written.
    """
    if run.state["status"] != RunStatus.SUCCEEDED:
        raise PasskbError(f"{run.id} has not succeeded: only a succeeded run gets an evidence note")
    folder = app_notes_folder(home) / "evidence"
    with open_kb(home) as kb:
        claim, text = _claim(kb, run)
        run.update(claim=claim, toys=run.state.get("toys", toys(run.spec)))
        finished = result(run, RunStatus.SUCCEEDED)
        svg = curve_svg(finished)
        try:
            write_atomic(folder / f"{run.id}.svg", svg)
            write_atomic(folder / f"{run.id}.md", evidence_markdown(run, finished, text))
            write_atomic(run.folder / "curve.svg", svg)
        except OSError as error:
            cause = explanation(error, "make room, then try again")
            raise PasskbError(f"{folder} cannot be written {cause}") from error
        note_id = index_app_note(kb, folder / f"{run.id}.md")
        if claim and not _linked(kb, note_id, claim):
            _log.warning("%s: no indexed note has its claim %s; the link resolves once one does", note_id, claim)
    prediction = finished.prediction
    p_value = prediction.p_value if prediction and not scripted(run.spec) else None
    run.update(evidence_note_id=note_id, verdict=(prediction and prediction.verdict) or "", p_value=p_value)
    write_json(run.folder / "result.json", result(run, RunStatus.SUCCEEDED).to_json())
    return note_id


def _claim(kb: KnowledgeBase, run: Run) -> tuple[str, str]:
    """`NOTE#ID` with the note's id, and the claim's text; an unknown claim as it is written in the spec, without a text."""
    claim = run.spec.claim
    if not claim:
        return "", ""
    try:
        note_id, match = find_claim(kb, claim)
    except PasskbError:
        return claim, ""
    return f"{note_id}#{match.id}", match.text


def _linked(kb: KnowledgeBase, note_id: str, claim: str) -> bool:
    target, _, anchor = claim.partition("#")
    return any(
        link.target == target and link.anchor == anchor and link.type is LinkType.EVIDENCE_FOR
        for link in kb.store.links(note_id)
    )


__all__ = ["evidence_markdown", "publish"]
