"""The view of an answer: statements with citations and grades, disagreements, evidence, open claims.

A page can show several exchanges (a question with its answer). `key` identifies one, to tell apart their citation numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from service.answering.answer import Answer, Citation, Statement, Support
from service.web.ask.generated_answer import fault_html
from service.web.ask.source_panel import Finding
from service.web.components.formatting import CLAIM_STATUSES
from service.web.components.templates import render

# A symbol of its own shape per grade, and its meaning as tooltip and label.
GRADES: Mapping[Support, tuple[str, str]] = {
    Support.SUPPORTED: ("✓", "supported by its sources"),
    Support.PARTIAL: ("◐", "only partly supported by its sources"),
    Support.UNSUPPORTED: ("✗", "not supported by its sources"),
    Support.QUOTED: ("”", "quoted word for word"),
}
_EVIDENCE_LABELS = {**CLAIM_STATUSES, "underpowered": "underpowered (too little data)"}


@dataclass(frozen=True, slots=True)
class Offer:
    """The test of an open claim. `problem`: why it can't run. `has_run`: a run succeeded, so that starting repeats it."""

    cost: str
    problem: str = ""
    has_run: bool = False


def answer_html(
    answer: Answer,
    key: str,
    shown: int | None = None,
    offers: Mapping[str, Offer] | None = None,
    findings: Mapping[str, Finding] | None = None,
    *,
    has_model: bool = False,
    extra: str = "",
) -> Markup:
    """The answer column. `shown`: while streaming, the number of statements to show, without the parts that follow them.

    `offers`: by claim. `findings`: by evidence note. `has_model`: a model could write the answer. `extra`: hidden HTML."""
    statements = answer.statements if shown is None else answer.statements[:shown]
    return render(
        "ask/answer.html",
        answer=answer,
        key=key,
        complete=shown is None,
        lede=[s for s in statements if s.part == "lede"],
        paragraphs=_paragraphs([s for s in statements if s.part != "lede"]),
        missing=[word for word in answer.missing if word not in answer.reason],
        disputes=_disputes(answer) if shown is None else (),
        fault=fault_html(answer),
        offers=offers or {},
        findings=findings or {},
        grades=GRADES,
        evidence_labels=_EVIDENCE_LABELS,
        legend="; ".join(" ".join(GRADES[grade]) for grade in dict.fromkeys(s.support for s in answer.statements)),
        cited_notes=len({c.note_id for s in answer.statements for c in s.citations}),
        has_model=has_model,
        extra=extra,
    )


def _paragraphs(statements: Sequence[Statement]) -> list[list[Statement]]:
    """The paragraphs of a written answer; consecutive quotes from one note form a paragraph."""

    def paragraph(statement: Statement) -> object:
        if statement.support is not Support.QUOTED:
            return statement.paragraph
        return statement.citations[0].note_id if statement.citations else ""

    return [list(group) for _, group in groupby(statements, key=paragraph)]


def _disputes(answer: Answer) -> list[dict[str, Any]]:
    """Each disputed note with the notes that disagree with it. Quotes that the answer shows already are not repeated."""
    quoted = {citation.number for statement in answer.statements for citation in statement.citations}

    def side(citation: Citation | None) -> dict[str, Any] | None:
        if citation is None:
            return None
        is_new = citation.number not in quoted
        quoted.add(citation.number)
        return {"citation": citation, "quote": citation.quote if is_new else ""}

    disputes = []
    for target in dict.fromkeys(entry.target for entry in answer.disagreements):
        entries = [entry for entry in answer.disagreements if entry.target == target]
        says = side(entries[0].target_says)
        against = [
            {"source": entry.source, "title": entry.source_title, "type": entry.type, "says": side(entry.source_says),
             "why": entry.why.strip().rstrip(".").removeprefix("because ")}
            for entry in entries
        ]  # fmt: skip
        disputes.append({"target": target, "title": entries[0].target_title, "says": says, "against": against})
    return disputes
