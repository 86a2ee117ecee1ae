"""An Answer as HTML: the answer column. Pure.

An exchange is one question with its answer on a page that may show several; `key` names it, so that the third citation
of one is not taken for the third of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import quote

from service.answering.answer import (
    Answer,
    Citation,
    EvidenceItem,
    Experiment,
    SourceNote,
    Statement,
    Support,
)
from service.web.ask.generated_answer import dropped_html, fault_html, reasoning_html, remarks_html, understood_html
from service.web.ask.source_panel import Finding, anchor, listed_source
from service.web.components.formatting import day
from service.web.components.html import ask_link, counted, note_link, run_link, text, verb
from service.web.components.markdown import inline

# A sign of its own shape for each grade, and what it says to those who hover or listen.
_GRADES: Mapping[Support, tuple[str, str]] = {
    Support.QUOTED: ("”", "quoted word for word"),
    Support.SUPPORTED: ("✓", "supported by what it cites"),
    Support.PARTIAL: ("◐", "only partly supported by what it cites"),
    Support.UNSUPPORTED: ("✗", "not supported by what it cites"),
}
_STATUS = {
    "supported": "supported",
    "refuted": "refuted",
    "underpowered": "underpowered: too little data to tell",
    "untested": "not tested yet",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A test that can be run from the answer: what it costs, or why it can't be run. `ran`: it was, so it would be repeated."""

    cost: str
    problem: str = ""
    ran: bool = False


def answer_html(
    answer: Answer,
    key: str,
    shown: int | None = None,
    offers: Mapping[str, Offer] | None = None,
    findings: Mapping[str, Finding] | None = None,
    *,
    writes: bool = False,
    extra: str = "",
) -> str:
    """The answer column. `shown`: only the first so many statements and nothing after them, while it streams. `offers` by
    claim, `findings` by evidence note. `writes`: a model could write it; `extra`: HTML that stands in it unseen."""
    statements = answer.statements if shown is None else answer.statements[:shown]
    parts = [f'<h2 class="question">{text(answer.question)}</h2>', understood_html(answer)]
    if shown is None and answer.mode != "generated":
        parts.append(fault_html(answer))
    if not answer.answered:
        parts.append(_refusal(answer))
    else:
        parts += [_lede(statements, key), _body(statements, key, "What the notes say" if answer.mode == "quoted" else "")]
    if shown is None:
        parts += [
            fault_html(answer) if answer.mode == "generated" else "",
            remarks_html(answer),
            dropped_html(answer),
            reasoning_html(answer),
            _section("Where they disagree", _disputes(answer, key)),
            _section("Fresh evidence", (_evidence(e, key, (findings or {}).get(e.note_id)) for e in answer.evidence)),
            _section("What would settle it", (_experiment(e, (offers or {}).get(e.claim)) for e in answer.experiments)),
            _section("Asked before", map(_inquiry, answer.inquiries)),
            _section("Ask next", (f"<p>{ask_link(question)}</p>" for question in answer.follow_ups), cls="next"),
            _foot(answer, writes),
        ]
    return f'<article class="exchange" data-exchange="{text(key)}">{"".join(parts)}{extra}</article>'


def _section(title: str, items: Iterable[str], after: str = "", cls: str = "") -> str:
    inner = "".join(items)
    heading = f"<h3>{title}</h3>" if title else ""
    return f'<section class="part {cls}">{heading}{inner}{after}</section>' if inner else ""


def _lede(statements: Sequence[Statement], key: str) -> str:
    lede = " ".join(_statement(s, key) for s in statements if s.part == "lede")
    return f'<p class="lede">{lede}</p>' if lede else ""


def _body(statements: Sequence[Statement], key: str, title: str) -> str:
    """Statements in their order. Written ones stand in their paragraphs; neighbouring quotes of one note share one."""
    body = [s for s in statements if s.part != "lede"]

    def paragraph(statement: Statement) -> object:
        quoted = statement.support is Support.QUOTED
        return (statement.citations[0].note_id if statement.citations else "") if quoted else statement.paragraph

    paragraphs = (f"<p>{' '.join(_statement(s, key) for s in group)}</p>" for _, group in groupby(body, key=paragraph))
    return _section(title, paragraphs, cls="says")


def _statement(statement: Statement, key: str) -> str:
    """Its words, its marks, and its grade: a sign of its own shape, with the reason where it is not wholly supported."""
    sign, meaning = _GRADES[statement.support]
    marks = "".join(_mark(citation, key) for citation in statement.citations)
    said = f"{meaning}: {statement.reason}" if statement.reason else meaning
    reason = f" {text(statement.reason)}" if statement.reason else ""
    named = f'role="img" aria-label="{text(said)}" title="{text(said)}"'
    grade = f'<span class="grade {statement.support}" {named}>{sign}{reason}</span>'
    return f'<span class="statement">{inline(statement.text)}<span class="marks">{marks}{grade}</span></span>'


def _mark(citation: Citation, key: str) -> str:
    label = f"Source {citation.number}: {citation.title}"
    return (
        f'<a class="cite" href="#{anchor(key, citation.number)}" data-cite="{citation.number}" '
        f'aria-label="{text(label)}" title="{text(citation.title)}">{citation.number}</a>'
    )


def _disputes(answer: Answer, key: str) -> Iterable[str]:
    """Each note that is disagreed with, once, and under it what the others say against it and why.

    A sentence that stands further up already is pointed to by its number, not read out again.
    """
    read = {citation.number for statement in answer.statements for citation in statement.citations}

    def says(citation: Citation | None, before: str) -> str:
        if citation is None:
            return ""
        mark = f'<span class="marks">{_mark(citation, key)}</span>'
        if citation.number in read:
            return f" {mark}"
        read.add(citation.number)
        return f"{before} <q>{inline(citation.quote)}</q>{mark}"

    for target in dict.fromkeys(entry.target for entry in answer.disagreements):
        against = [entry for entry in answer.disagreements if entry.target == target]
        said = says(against[0].target_says, " says")
        answers = "".join(
            f'<p class="against">{note_link(e.source, e.source_title, "title")} <em>{verb(e.type)}</em> it'
            f"{says(e.source_says, ':')}{_because(e.why)}</p>"
            for e in against
        )
        yield f'<div class="dispute"><p>{note_link(target, against[0].target_title, "title")}{said}</p>{answers}</div>'


def _because(why: str) -> str:
    why = why.strip().rstrip(".").removeprefix("because ")
    return f' <span class="why">because {inline(why)}.</span>' if why else ""


def _evidence(item: EvidenceItem, key: str, finding: Finding | None) -> str:
    """What was measured, cited; when and on which claim; the curve."""
    status = text(_STATUS.get(item.status, item.status))
    date = f'<time datetime="{text(item.date)}">{text(day(item.date))}</time>, ' if item.date else ""
    says = finding.says if finding else None
    quoted = f'<q>{inline(says.quote)}</q><span class="marks">{_mark(says, key)}</span><br>' if says else ""
    curve = f'<div class="curve">{finding.curve}</div>' if finding and finding.curve else ""
    run = f" {run_link(item.run_id, 'The run', 'quiet')}" if item.run_id else ""
    return (
        f'<div class="evidence"><p>{note_link(item.note_id, item.title, "title")} '
        f'<span class="status {text(item.status)}">{status}</span></p>'
        f'<p>{quoted}<span class="quiet">{date}on the claim</span> {inline(item.claim_text or item.claim)}{run}</p>'
        f"{curve}</div>"
    )


def _experiment(item: Experiment, offer: Offer | None) -> str:
    """The claim, what its author says would settle it, what a test costs, and the button that runs it."""
    note_id = item.claim.rsplit("#", 1)[0]
    where = note_link(note_id, "where it is claimed", "quiet")
    claim = f'{inline(item.claim_text)} <span class="quiet">({where})</span>'
    problem = f'<span class="message">{text(offer.problem)}</span>' if offer and offer.problem else ""
    rows = [("Claim", claim), ("Settled by", inline(item.settles)), ("Costs", text(offer.cost if offer else ""))]
    rows.append(("Can not be run", problem))
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f'<dl class="open">{listed}</dl>{_button(item, offer)}'


def _button(item: Experiment, offer: Offer | None) -> str:
    if offer is None or offer.problem:
        return ""
    address = f"/?claim={quote(item.claim, safe='')}"
    see = f'<a class="quiet" href="{address}" data-fill="{text(item.claim)}">See or change it first</a>'
    words, again = ("Run it again with a new seed", " data-again") if offer.ran else ("Run this experiment", "")
    label = text(f"{words}: {item.claim_text}")
    return (
        f'<p class="run-it"><button type="button" class="act" data-start="{text(item.claim)}"{again} aria-label="{label}">'
        f"{words}</button> {see}</p>"
    )


def _inquiry(entry: SourceNote) -> str:
    return f"<p>{note_link(entry.note_id, entry.title, 'title')}</p>"


def _refusal(answer: Answer) -> str:
    """Plainly: no answer, why, which words no note knows, and the notes that come nearest."""
    untold = [word for word in answer.missing if word not in answer.reason]
    words = [f"<strong>{text(word)}</strong>" for word in untold]
    missing = f"<p>No note mentions {_listed(words)}.</p>" if words else ""
    near = "".join(listed_source(entry) for entry in answer.nearest)
    nearest = f'<h3>The nearest notes</h3><ul class="source-list">{near}</ul>' if near else ""
    reason = answer.reason or "The notes do not answer this."
    return f'<section class="refusal"><p class="lede">{text(reason)}</p>{missing}{nearest}</section>'


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _foot(answer: Answer, writes: bool) -> str:
    """What can be done with the answer, then what it is made of."""
    other = ("quoted", "In the notes’ own words") if answer.mode == "generated" else ("generated", "As a written answer")
    acts = [("data-copy", "Copy as Markdown"), ("data-keep", "Keep")] if answer.answered else []
    if writes or answer.mode == "generated":
        acts.append((f'data-ask="{text(answer.question)}" data-mode="{other[0]}"', other[1]))
    if answer.mode == "generated":
        acts.append((f'data-ask="{text(answer.question)}" data-mode="generated"', "Write again"))
    row = "".join(f'<button type="button" class="linkish" {attributes}>{words}</button>' for attributes, words in acts)
    shown = f'<p class="acts">{row}</p>' if row else ""
    return f'<div class="foot">{shown}{_made_of(answer)}</div>' if shown or answer.answered else ""


def _made_of(answer: Answer) -> str:
    if not answer.answered:
        return ""
    notes = len({c.note_id for s in answer.statements for c in s.citations})
    said = f"{counted(len(answer.statements), 'statement')} from {counted(notes, 'note')}, in {answer.seconds:.1f} s"
    grades = {s.support: None for s in answer.statements}
    legend = "; ".join(f"{_GRADES[grade][0]} {_GRADES[grade][1]}" for grade in grades)
    sheet = f'<button type="button" class="linkish sheet" data-sheet>Sources ({len(answer.sources)})</button>'
    by = f"Written by {text(answer.model or 'a model')}, each sentence checked: " if answer.mode == "generated" else ""
    return f'<p>{sheet} <span>{by}{said}.</span> <span>{legend}.</span> <a href="#help">How answers are checked</a></p>'
