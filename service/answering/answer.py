"""What an answer is: statements with citations, disagreements, evidence, experiments, sources.

Plain data and its JSON (CONTRACT: `ask`). Knows nothing about how an answer is found or shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Support(StrEnum):
    QUOTED = "quoted"
    SUPPORTED = "supported"
    PARTIAL = "partial"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Citation:
    """A span of a note: `quote == text[start:end]` of that note. `number` is its mark in the answer, from 1."""

    number: int
    note_id: str
    title: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence or two of the answer. In quoted mode `text` is its quotes, joined by a space. `part`: `lede` or `body`.

    Of written sentences, `reason` says why they are not supported, and `paragraph` counts from 0.
    """

    text: str
    support: Support
    citations: tuple[Citation, ...]
    part: str = "body"
    reason: str = ""
    paragraph: int = 0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A dissenting link between two notes; each side in a verbatim sentence of its own (empty when it has none)."""

    source: str
    target: str
    type: str
    why: str
    source_title: str
    target_title: str
    source_says: Citation | None
    target_says: Citation | None


@dataclass(frozen=True, slots=True)
class EvidenceItem:
    """An evidence note on a claim that the answer touches. `run_id` is empty for evidence that no run of passkb made."""

    note_id: str
    title: str
    run_id: str
    claim: str
    claim_text: str
    status: str
    date: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """What would settle an open claim. `claim` is `NOTE#ID`; `settles` the author's words; `spec` the test as written."""

    claim: str
    claim_text: str
    question: str
    settles: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SourceNote:
    note_id: str
    title: str
    kind: str
    gist: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything said about a question. `answered` False: no statements, and `nearest` lists the closest notes.

    `missing` holds the question's words that no note knows, in its own spelling; `reason` says in a sentence why there is no
    answer. `follow_ups` are questions that these notes do answer; `inquiries` kept answers to like questions.

    `understood` is a follow-up as it was searched for. Of a written answer, `dropped` are sentences that their sources go
    against, `incomplete` says that the model did not come to its end, `fault` what went wrong with it (also when the answer
    is in quotes for that reason), and `reasoning` what it thought beforehand, which nobody checked. `remarks` are sentences on
    how it was checked and ordered where that went otherwise than asked.
    """

    question: str
    answered: bool
    statements: tuple[Statement, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    evidence: tuple[EvidenceItem, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    sources: tuple[SourceNote, ...] = ()
    nearest: tuple[SourceNote, ...] = ()
    follow_ups: tuple[str, ...] = ()
    inquiries: tuple[SourceNote, ...] = ()
    missing: tuple[str, ...] = ()
    reason: str = ""
    mode: str = "quoted"
    model: str | None = None
    seconds: float = 0.0
    understood: str = ""
    dropped: tuple[Statement, ...] = ()
    incomplete: bool = False
    fault: str = ""
    reasoning: str = ""
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "answered": self.answered,
            "mode": self.mode,
            "model": self.model,
            "statements": [_statement(statement) for statement in self.statements],
            "disagreements": [_disagreement(entry) for entry in self.disagreements],
            "evidence": [
                {"note_id": e.note_id, "title": e.title, "run_id": e.run_id, "claim": e.claim, "claim_text": e.claim_text,
                 "status": e.status, "date": e.date}
                for e in self.evidence
            ],
            "experiments": [
                {"claim": e.claim, "claim_text": e.claim_text, "question": e.question, "settles": e.settles,
                 "spec": dict(e.spec)}
                for e in self.experiments
            ],
            "sources": [_source(entry) for entry in self.sources],
            "nearest": [_source(entry) for entry in self.nearest],
            "follow_ups": list(self.follow_ups),
            "inquiries": [_source(entry) for entry in self.inquiries],
            "missing": list(self.missing),
            "reason": self.reason,
            "understood": self.understood,
            "dropped": [_statement(statement) for statement in self.dropped],
            "incomplete": self.incomplete,
            "fault": self.fault,
            "reasoning": self.reasoning,
            "remarks": list(self.remarks),
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


def _citation(entry: Citation) -> dict[str, Any]:
    return {
        "number": entry.number,
        "note_id": entry.note_id,
        "title": entry.title,
        "start": entry.start,
        "end": entry.end,
        "quote": entry.quote,
    }


def _statement(entry: Statement) -> dict[str, Any]:
    citations = [_citation(citation) for citation in entry.citations]
    return {
        "text": entry.text,
        "support": str(entry.support),
        "part": entry.part,
        "reason": entry.reason,
        "paragraph": entry.paragraph,
        "citations": citations,
    }


def _disagreement(entry: Disagreement) -> dict[str, Any]:
    return {
        "source": entry.source,
        "target": entry.target,
        "type": entry.type,
        "why": entry.why,
        "source_title": entry.source_title,
        "target_title": entry.target_title,
        "source_says": _citation(entry.source_says) if entry.source_says else None,
        "target_says": _citation(entry.target_says) if entry.target_says else None,
    }


def _source(entry: SourceNote) -> dict[str, Any]:
    return {"note_id": entry.note_id, "title": entry.title, "kind": entry.kind, "gist": entry.gist}
