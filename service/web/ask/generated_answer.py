"""What only written answers have, as HTML: words that are still coming, what went wrong, what was left out. Pure.

Whatever a model wrote is text: it is escaped, and nothing in it is fetched, followed or run.
"""

from __future__ import annotations

import re

from service.answering.answer import Answer, Statement
from service.inquiries.save import EditedByHand, SavedInquiry
from service.web.components.html import note_link, text
from service.web.components.markdown import inline

_KEYS = re.compile(r"[ \t]?\[(\d{1,3})\]")


def growing_html(question: str, written: str) -> str:
    """A question and what is written of its answer so far, before any of it is checked. Half-open marks stay text."""
    paragraphs = [line for line in re.split(r"\n\s*\n", written.strip()) if line.strip()]
    shown = "".join(f'<p class="{"lede" if i == 0 else "more"}">{_with_keys(p)}</p>' for i, p in enumerate(paragraphs))
    return (
        f'<article class="exchange writing" aria-busy="true"><h2 class="question">{text(question)}</h2>'
        f'<div class="growing">{shown}</div><p class="looking" role="status">Being written, not checked yet.</p></article>'
    )


def _with_keys(paragraph: str) -> str:
    return _KEYS.sub(lambda found: f'<span class="cite pending">{found[1]}</span>', text(paragraph))


def waiting_html(question: str, words: str, *, writing: bool = False) -> str:
    """A question, and what is being done about it. `writing`: it can be stopped."""
    said = f'<p class="looking" role="status">{text(words)}</p>' if words else ""
    state = ' class="exchange writing" aria-busy="true"' if writing else ' class="exchange"'
    return f'<article{state}><h2 class="question">{text(question)}</h2>{said}</article>'


def kept_html(kept: SavedInquiry) -> str:
    """Where an answer is kept."""
    link = note_link(kept.id, kept.title)
    if kept.unchanged:
        said = f"This answer is kept already: {link}"
    elif kept.fresh:
        said = f"Kept as an inquiry: {link}"
    else:
        said = f"Kept in place of the earlier answer, which is set aside: {link}"
    return f'<p class="kept" role="status">{said}</p>'


def edited_html(error: EditedByHand) -> str:
    """A person has changed the inquiry: it gives way only to another click."""
    words = text(str(error)[:1].upper() + str(error)[1:])
    again = '<button type="button" class="act" data-keep data-replace>Keep this answer, and set the edited one aside</button>'
    return f'<p class="fault kept" role="alert"><span class="message">{words}.</span> {again}</p>'


def understood_html(answer: Answer) -> str:
    return f'<p class="understood quiet">Understood as: {text(answer.understood)}</p>' if answer.understood else ""


def fault_html(answer: Answer) -> str:
    """What went wrong with a written answer, and the button that tries again."""
    if not answer.fault:
        return ""
    fault = answer.fault if not answer.fault.startswith("http") else f"the model’s server {answer.fault}"
    cut = answer.incomplete and not fault.startswith("stopped")
    told = f"Incomplete: {fault}" if cut else fault[:1].upper() + fault[1:]
    again = f'<button type="button" class="act" data-ask="{text(answer.question)}" data-mode="generated">Try again</button>'
    return f'<p class="fault" role="status"><span class="message">{text(told.rstrip("."))}.</span> {again}</p>'


def remarks_html(answer: Answer) -> str:
    """What is to be said of how the answer was made."""
    return "".join(f'<p class="quiet">{text(remark)}</p>' for remark in answer.remarks)


def dropped_html(answer: Answer) -> str:
    """The sentences that were left out, folded: what the model wrote against its sources."""
    if not answer.dropped:
        return ""
    number = len(answer.dropped)
    title = "One sentence was left out" if number == 1 else f"{number} sentences were left out"
    items = "".join(f"<li>{_dropped(statement)}</li>" for statement in answer.dropped)
    return (
        f'<details class="dropped"><summary>{title}: to the check, what {"it cites says" if number == 1 else "they cite says"} '
        f"something else</summary><ul>{items}</ul></details>"
    )


def _dropped(statement: Statement) -> str:
    said = f"<s>{inline(statement.text)}</s> <span class='quiet'>✗ {text(statement.reason or 'not supported')}</span>"
    quotes = "".join(f"<br>{note_link(c.note_id, c.title, 'quiet')}: <q>{inline(c.quote)}</q>" for c in statement.citations)
    return said + quotes


def reasoning_html(answer: Answer) -> str:
    """What the model thought beforehand, folded; nobody checked it."""
    if not answer.reasoning.strip():
        return ""
    return (
        '<details class="reasoning"><summary>What the model thought beforehand, unchecked</summary>'
        f'<div class="thoughts">{text(answer.reasoning)}</div></details>'
    )
