"""From a run that succeeded to its evidence note: written into the home, indexed like any note, linked to its claim.

Each run has a note of its own, whatever came out; a later one stands beside it, and the newest gives the claim its status.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ingest.app_notes import index_own, own_notes
from kb.files import write_atomic
from kb.knowledge_base import KnowledgeBase
from kb.notes import LinkType, PasskbError
from kb.os_errors import explanation
from service.experiments.claims import claim_named
from service.experiments.execution.run_store import Run, RunStatus, write_json
from service.experiments.report.curve import curve_svg
from service.experiments.report.disclaimers import scripted, toys
from service.experiments.report.evidence_note import evidence_markdown
from service.experiments.report.result import result

_log = logging.getLogger("passkb")


def publish(home: Path, run: Run, open_kb: Callable[[Path], KnowledgeBase] = KnowledgeBase) -> str:
    """Writes and indexes the evidence note of a run, and gives its id. Doing it again changes nothing.

    Beside the note stands its curve; the run's folder gets result.json and curve.svg, and run.json the note's id, the verdict
    and the claim as it was found. Raises PasskbError for a run that has not succeeded, or when its note can't be written.
    """
    if run.state["status"] != RunStatus.SUCCEEDED:
        raise PasskbError(f"{run.id} has not succeeded: only a finished run becomes evidence")
    folder = own_notes(home) / "evidence"
    with open_kb(home) as kb:
        claim, text = _claim(kb, run)
        run.note(claim=claim, toys=run.state.get("toys", toys(run.spec)))
        found = result(run, RunStatus.SUCCEEDED)
        svg = curve_svg(found)
        try:
            write_atomic(folder / f"{run.id}.svg", svg)
            write_atomic(folder / f"{run.id}.md", evidence_markdown(run, found, text))
            write_atomic(run.folder / "curve.svg", svg)
        except OSError as error:
            cause = explanation(error, "make room, and try again")
            raise PasskbError(f"{folder} can not be written {cause}") from error
        note_id = index_own(kb, folder / f"{run.id}.md")
        if claim and not _linked(kb, note_id, claim):
            _log.warning(
                "%s: its claim %s is in no note that is indexed; the link is there, and holds once it is", note_id, claim
            )
    prediction = found["prediction"] or {}
    p_value = None if scripted(run.spec) else prediction.get("p_value")  # what decides no claim is no comparison either
    run.note(evidence_note_id=note_id, verdict=prediction.get("verdict") or "", p_value=p_value)
    write_json(run.folder / "result.json", result(run, RunStatus.SUCCEEDED))
    return note_id


def _claim(kb: KnowledgeBase, run: Run) -> tuple[str, str]:
    """`NOTE#ID` with the note's id, and what the claim says; as it was written, where no such claim is known."""
    claim = run.spec.claim
    if not claim:
        return "", ""
    try:
        note_id, found = claim_named(kb, claim)
    except PasskbError:
        return claim, ""
    return f"{note_id}#{found.id}", found.text


def _linked(kb: KnowledgeBase, note_id: str, claim: str) -> bool:
    target, _, anchor = claim.partition("#")
    return any(
        link.target == target and link.anchor == anchor and link.type is LinkType.EVIDENCE_FOR
        for link in kb.store.links(note_id)
    )


__all__ = ["evidence_markdown", "publish"]
