"""What would settle an answer's open claims: the offer with its cost, the run that a person starts, its progress in the chat.

A run is named by the claim alone: its spec comes from the note, never from the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, PasskbError
from service.answering.answer import Answer, Citation
from service.answering.surroundings import Numbering, thesis_sentence
from service.experiments.claims import claim_named, spec_of
from service.experiments.execution import control
from service.experiments.execution.run_store import Runs, RunStatus
from service.experiments.spec import ExperimentSpec, from_mapping
from service.web.ask.answer import Offer
from service.web.ask.source_panel import Finding
from service.web.components.html import explained
from service.web.experiments.form import cost_of
from service.web.experiments.run_view import RunView, newest_of, run_view, stored_curve

_costs: dict[tuple[str, str, int], str] = {}


def spec_of_claim(kb: KnowledgeBase, claim: str) -> ExperimentSpec:
    """The test of `NOTE#ID`, read. Raises PasskbError or SpecError."""
    return from_mapping(spec_of(kb, claim[:1_000]), f"the test of {claim[:200]}")


def start(kb: KnowledgeBase, spec: ExperimentSpec, *, again: bool = False) -> control.Submitted:
    """Queues a run for a person who clicked. Raises PasskbError or SpecError, also for a claim that no note makes."""
    if spec.claim:
        claim_named(kb, spec.claim)
    return control.submit(kb.home, spec, again=again)


def offers(kb: KnowledgeBase, answer: Answer) -> dict[str, Offer]:
    """For each open claim of the answer: what its test costs, or why it can't be run as it stands."""
    running = newest_of(kb.home, [item.claim for item in answer.experiments])
    return {item.claim: _offer(kb, item.claim, running) for item in answer.experiments}


def _offer(kb: KnowledgeBase, claim: str, newest: Mapping[str, Any]) -> Offer:
    line = newest.get(claim)
    try:
        spec = spec_of_claim(kb, claim)
        return Offer(cost(spec, kb.home), ran=line is not None and line.status == RunStatus.SUCCEEDED)
    except Exception as error:  # one test that can't be offered must not take the answer along
        return Offer("", problem=explained(error))


def cost(spec: ExperimentSpec, home: Path) -> str:
    """What a run costs, in words; worked out again when a run was added."""
    from service.experiments.planning import plan

    key = str(home), spec.sha256, len(Runs(home).all())
    if key not in _costs:
        if len(_costs) > 200:
            _costs.clear()
        _costs[key] = cost_of(plan(spec, home))
    return _costs[key]


def to_watch(kb: KnowledgeBase, answer: Answer) -> tuple[str, ...]:
    """The runs of the answer's open claims that are shown with it: the newest of each, unless its evidence is told already."""
    told = {item.run_id for item in answer.evidence}
    newest = newest_of(kb.home, [item.claim for item in answer.experiments])
    return tuple(line.id for line in newest.values() if line.id not in told)


def views(home: Path, run_ids: Iterable[str]) -> list[RunView]:
    """The runs that can be read."""
    found = []
    for run_id in run_ids:
        try:
            found.append(run_view(home, run_id))
        except (PasskbError, OSError):
            continue
    return found


def findings(kb: KnowledgeBase, answer: Answer, notes: Mapping[str, Note]) -> dict[str, Finding]:
    """For each evidence note of the answer: its first sentence as a citation with a number of its own, and its run's curve."""
    cited = {(c.note_id, c.start, c.end): c.number for s in answer.statements for c in s.citations}
    said = [c for d in answer.disagreements for c in (d.source_says, d.target_says) if c is not None]
    cited |= {(c.note_id, c.start, c.end): c.number for c in said}
    found = {}
    for item in answer.evidence:
        note = notes.get(item.note_id)
        if note is None or item.note_id in found:
            continue
        found[item.note_id] = Finding(_cited(note, cited), stored_curve(kb.home, item.run_id))
    return found


def _cited(note: Note, numbers: dict[tuple[str, int, int], int]) -> Citation | None:
    first = thesis_sentence(note, Numbering())
    if first is None:
        return None
    number = numbers.setdefault((note.id, first.start, first.end), max(numbers.values(), default=0) + 1)
    return Citation(number, note.id, note.title, first.start, first.end, first.quote)


@dataclass(frozen=True, slots=True)
class Watched:
    """The runs that stand below an answer, and the question it answers."""

    question: str = ""
    runs: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def ended(self, shown: Sequence[RunView]) -> tuple[str, ...]:
        """The runs whose evidence has come since the answer was composed."""
        return tuple(view.id for view in shown if view.evidence and view.id not in self.told)
