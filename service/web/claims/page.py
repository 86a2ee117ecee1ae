"""The view of all claims: a row per claim with its status, its evidence and its test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from kb.notes import Claim, Note
from service.web.components.formatting import day
from service.web.components.templates import render
from service.web.experiments.run_view import RunLine

_EXAMPLE = """---
title: Does the tuned model solve problems that its base cannot?
claims:
  - id: crossover
    text: The base model overtakes the tuned one at large k.
    premise: A solution that is never sampled is unavailable, not merely rare.
    settles: A problem that the tuned model solves and the base model does not in a million draws.
    test:
      problems: {set: countdown, limit: 200}
      models: {base: ./models/base, tuned: ./models/tuned}
      sampling: {n: 64}
      prediction: {kind: crossover}
---"""

Ledger = Sequence[tuple[str, Claim]]  # the id of the note, and its claim


def filter_claims(ledger: Ledger, notes: Mapping[str, Note], status: str = "", query: str = "") -> list[tuple[str, Claim]]:
    """The claims with this status whose text, premise or note title contains all words of the query."""
    words = query.casefold().split()

    def matches(note_id: str, claim: Claim) -> bool:
        title = notes[note_id].title if note_id in notes else note_id
        text = " ".join((claim.text, claim.premise, claim.settles, claim.id, title)).casefold()
        return (not status or claim.status == status) and all(word in text for word in words)

    return [(note_id, claim) for note_id, claim in ledger if matches(note_id, claim)]


def claims_html(shown: Ledger, total: int, notes: Mapping[str, Note], runs: Mapping[str, RunLine]) -> Markup:
    """The table. `total`: number of claims without filters. `runs`: the newest run by claim (NOTE#ID)."""
    rows = [_row(note_id, claim, notes, runs.get(f"{note_id}#{claim.id}")) for note_id, claim in shown]
    return render("claims/ledger.html", rows=rows, total=total, example=_EXAMPLE)


def _row(note_id: str, claim: Claim, notes: Mapping[str, Note], run: RunLine | None) -> dict[str, Any]:
    return {
        "name": f"{note_id}#{claim.id}",
        "note_id": note_id,
        "title": notes[note_id].title if note_id in notes else note_id,
        "claim": claim,
        "evidence": _newest_evidence(claim, notes),
        "run": run if run and run.status != "succeeded" else None,  # a successful run is the evidence
    }


def _newest_evidence(claim: Claim, notes: Mapping[str, Note]) -> dict[str, Any] | None:
    if not claim.evidence:
        return None
    note_id = claim.evidence[-1]
    note = notes.get(note_id)
    properties = note.properties if note else {}
    return {
        "note_id": note_id,
        "label": day(str(properties.get("date") or "")) or (note.title if note else note_id),
        "origin": str(properties.get("origin") or ""),
        "more": len(claim.evidence) - 1,
    }


def note_ids(ledger: Ledger) -> list[str]:
    """The ids of all notes that the table shows."""
    return list(dict.fromkeys(entry for note_id, claim in ledger for entry in (note_id, *claim.evidence)))
