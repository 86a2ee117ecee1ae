"""The ledger of claims as HTML: a line a claim with its status, its evidence and its test. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from kb.notes import Claim, Note
from service.web.components.formatting import day
from service.web.components.html import counted, note_link, run_link, text
from service.web.components.markdown import inline
from service.web.experiments.run_view import RunLine

STATUSES: Mapping[str, str] = {
    "untested": "not tested yet", "supported": "supported", "refuted": "refuted", "underpowered": "underpowered",
}  # fmt: skip
_EXAMPLE = """---
title: Does the tuned model solve what its base can not?
claims:
  - id: crossover
    text: The base model overtakes the tuned one at large k.
    premise: What is never sampled is unavailable, not merely rare.
    settles: A problem that the tuned model solves and the base model does not in a million draws.
    test:
      problems: {set: countdown, limit: 200}
      models: {base: ./models/base, tuned: ./models/tuned}
      sampling: {n: 64}
      prediction: {kind: crossover}
---"""

Ledger = Sequence[tuple[str, Claim]]


def chosen(ledger: Ledger, notes: Mapping[str, Note], status: str = "", words: str = "") -> list[tuple[str, Claim]]:
    """The claims of that status whose text, premise or note's title holds all the words."""
    wanted = words.casefold().split()

    def fits(note_id: str, claim: Claim) -> bool:
        title = notes[note_id].title if note_id in notes else note_id
        told = " ".join((claim.text, claim.premise, claim.settles, claim.id, title)).casefold()
        return (not status or claim.status == status) and all(word in told for word in wanted)

    return [(note_id, claim) for note_id, claim in ledger if fits(note_id, claim)]


def claims_html(shown: Ledger, number: int, notes: Mapping[str, Note], runs: Mapping[str, RunLine]) -> str:
    """The table. `number`: of claims before any filter; `runs`: the newest run of each claim (NOTE#ID) that has one."""
    if not number:
        return (
            '<p class="lede">No note makes a claim yet.</p><p>A claim is a sentence that can be true or false, written in the '
            "front matter of a note, with what would settle it. With a <code>test</code> it can be run from here:</p>"
            f"<pre><code>{text(_EXAMPLE)}</code></pre>"
        )
    if not shown:
        return '<p class="quiet">No claim fits these words and this status.</p>'
    rows = "".join(_row(note_id, claim, notes, runs.get(f"{note_id}#{claim.id}")) for note_id, claim in shown)
    count = counted(number, "claim") if len(shown) == number else f"{len(shown)} of {counted(number, 'claim')}"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Claim", "Status", "Evidence"))
    return (
        f'<p class="quiet" role="status">{count}</p><table class="ledger"><thead><tr>{head}<td></td></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(note_id: str, claim: Claim, notes: Mapping[str, Note], run: RunLine | None) -> str:
    title = notes[note_id].title if note_id in notes else note_id
    status = f'<span class="status {text(claim.status)}">{text(STATUSES.get(claim.status, claim.status))}</span>'
    reason = f'<p class="quiet">{text(claim.status_reason)}</p>' if len(claim.evidence) > 1 else ""
    return (
        f'<tr data-claim="{text(f"{note_id}#{claim.id}")}"><td>{inline(claim.text)} {note_link(note_id, title, "from")}</td>'
        f"<td>{status}{reason}</td><td>{_evidence(claim, notes)}{_run(run)}</td><td>{_test(note_id, claim)}</td></tr>"
    )


def _evidence(claim: Claim, notes: Mapping[str, Note]) -> str:
    """The newest evidence note by its date; how many there are besides."""
    if not claim.evidence:
        return ""
    note = notes.get(claim.evidence[-1])
    date = day(str(note.properties.get("date") or "")) if note else ""
    more = f' <span class="quiet">and {len(claim.evidence) - 1} before</span>' if len(claim.evidence) > 1 else ""
    origin = str(note.properties.get("origin") or "") if note else ""
    made_by = f' <span class="quiet">from {text(origin)}</span>' if origin else ""
    return note_link(claim.evidence[-1], date or (note.title if note else claim.evidence[-1])) + made_by + more


def _run(run: RunLine | None) -> str:
    """A run that goes on, or that went wrong; one that succeeded is the evidence."""
    if run is None or run.status == "succeeded":
        return ""
    return f" {run_link(run.id, f'run {run.status}', 'quiet')}"


def _test(note_id: str, claim: Claim) -> str:
    if not claim.test:
        return ""
    name = f"{note_id}#{claim.id}"
    return (
        f'<a class="act" href="/?claim={quote(name, safe="")}" data-fill="{text(name)}" '
        f'aria-label="Test: {text(claim.text)}">Test</a>'
    )


def note_ids(ledger: Ledger) -> list[str]:
    """The ids of all notes that the table names."""
    return list(dict.fromkeys(entry for note_id, claim in ledger for entry in (note_id, *claim.evidence)))
