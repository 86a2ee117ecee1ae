"""The experiments of an answer: the cost of testing its open claims, their newest runs, and the findings of its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, PasskbError
from service.answering.answer import Answer, Citation
from service.answering.surroundings import Numbering, thesis_sentence
from service.experiments.claims import claim_spec, find_claim
from service.experiments.execution import control
from service.experiments.execution.run_store import Runs, RunStatus
from service.experiments.spec import ExperimentSpec, from_mapping
from service.web.ask.answer import Offer
from service.web.ask.source_panel import Finding
from service.web.components.messages import error_text
from service.web.experiments.form import cost_text
from service.web.experiments.run_view import RunLine, RunView, load_curve, newest_runs, run_view

_costs: dict[tuple[str, str, int], str] = {}


def load_claim_spec(kb: KnowledgeBase, claim: str) -> ExperimentSpec:
    """The test of a claim (NOTE#ID). Takes it from the note, never from the page. Raises PasskbError or SpecError."""
    return from_mapping(claim_spec(kb, claim[:1_000]), f"the test of {claim[:200]}")


def start_run(kb: KnowledgeBase, spec: ExperimentSpec, *, again: bool = False) -> control.Submitted:
    """Queues a run. Raises PasskbError or SpecError, also if the spec names an unknown claim."""
    if spec.claim:
        find_claim(kb, spec.claim)
    return control.submit(kb.home, spec, again=again)


def claim_offers(kb: KnowledgeBase, answer: Answer) -> dict[str, Offer]:
    """For each open claim of the answer, the cost of its test or why it can't run."""
    newest = newest_runs(kb.home, [item.claim for item in answer.experiments])
    return {item.claim: _offer(kb, item.claim, newest) for item in answer.experiments}


def _offer(kb: KnowledgeBase, claim: str, newest: Mapping[str, RunLine]) -> Offer:
    line = newest.get(claim)
    try:
        spec = load_claim_spec(kb, claim)
        return Offer(_run_cost(spec, kb.home), has_run=line is not None and line.status == RunStatus.SUCCEEDED)
    except Exception as error:  # an unusable test must not hide the answer
        return Offer("", problem=error_text(error))


def _run_cost(spec: ExperimentSpec, home: Path) -> str:
    """The cost of a run in words, cached until a run is added."""
    from service.experiments.planning import plan

    key = str(home), spec.sha256, len(Runs(home).all())
    if key not in _costs:
        if len(_costs) > 200:
            _costs.clear()
        _costs[key] = cost_text(plan(spec, home))
    return _costs[key]


def runs_to_watch(kb: KnowledgeBase, answer: Answer) -> tuple[str, ...]:
    """The newest run of each open claim, without runs whose evidence the answer includes."""
    reported = {item.run_id for item in answer.evidence}
    newest = newest_runs(kb.home, [item.claim for item in answer.experiments])
    return tuple(line.id for line in newest.values() if line.id not in reported)


def load_views(home: Path, run_ids: Iterable[str]) -> list[RunView]:
    """The runs that can be read."""
    views = []
    for run_id in run_ids:
        try:
            views.append(run_view(home, run_id))
        except (PasskbError, OSError):
            continue
    return views


def evidence_findings(kb: KnowledgeBase, answer: Answer, notes: Mapping[str, Note]) -> dict[str, Finding]:
    """For each evidence note, its first sentence as a numbered citation and the curve of its run."""
    numbers = {(c.note_id, c.start, c.end): c.number for s in answer.statements for c in s.citations}
    disputed = [c for d in answer.disagreements for c in (d.source_says, d.target_says) if c is not None]
    numbers |= {(c.note_id, c.start, c.end): c.number for c in disputed}
    findings: dict[str, Finding] = {}
    for item in answer.evidence:
        note = notes.get(item.note_id)
        if note is not None and item.note_id not in findings:
            findings[item.note_id] = Finding(_cite(note, numbers), load_curve(kb.home, item.run_id))
    return findings


def _cite(note: Note, numbers: dict[tuple[str, int, int], int]) -> Citation | None:
    first = thesis_sentence(note, Numbering())
    if first is None:
        return None
    number = numbers.setdefault((note.id, first.start, first.end), max(numbers.values(), default=0) + 1)
    return Citation(number, note.id, note.title, first.start, first.end, first.quote)


@dataclass(frozen=True, slots=True)
class WatchedRuns:
    """The runs below an answer. `reported`: the runs whose evidence the answer includes."""

    question: str = ""
    runs: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()

    def newly_finished(self, views: Sequence[RunView]) -> tuple[str, ...]:
        """The runs with evidence that the answer does not include yet."""
        return tuple(view.id for view in views if view.evidence and view.id not in self.reported)
