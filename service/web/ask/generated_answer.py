"""The views of a question in progress, of a draft that a model is writing, of its faults, and of saving the answer."""

from __future__ import annotations

import re

from markupsafe import Markup

from service.answering.answer import Answer
from service.inquiries.save import EditedByHand, SavedInquiry
from service.web.components.formatting import upper_first
from service.web.components.templates import render

_CITATION = re.compile(r"[ \t]?\[(\d{1,3})\]")


def draft_html(question: str, draft: str) -> Markup:
    """A question and the unchecked draft of its answer. Markup in the draft is shown as text."""
    paragraphs = [line for line in re.split(r"\n\s*\n", draft.strip()) if line.strip()]
    return render("ask/draft.html", question=question, paragraphs=[_split_citations(paragraph) for paragraph in paragraphs])


def _split_citations(paragraph: str) -> list[tuple[str, str]]:
    """Pairs of text and the citation number after it; the last number is empty."""
    pieces = [*_CITATION.split(paragraph), ""]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def pending_html(question: str, message: str, *, writing: bool = False) -> Markup:
    """A question and its progress. `writing`: a model writes the answer, and the user can stop it."""
    return render("ask/pending.html", question=question, message=message, writing=writing)


def saved_html(inquiry: SavedInquiry) -> Markup:
    """The note in which an answer is saved."""
    message = "Saved as an inquiry" if inquiry.fresh else "Saved. The earlier version is archived"
    if inquiry.unchanged:
        message = "This answer is already saved"
    return render("ask/saved.html", message=message, inquiry=inquiry)


def edited_html(error: EditedByHand) -> Markup:
    """Asks for confirmation before an answer replaces an inquiry that the user has edited."""
    return render("ask/edited.html", message=error)


def fault_html(answer: Answer) -> Markup:
    """What went wrong with a written answer, and a button to try again; empty if nothing did."""
    if not answer.fault:
        return Markup()
    fault = f"the model server {answer.fault}" if answer.fault.startswith("http") else answer.fault
    is_cut = answer.incomplete and not fault.startswith("stopped")
    message = (f"Incomplete: {fault}" if is_cut else upper_first(fault)).rstrip(".")
    return render("ask/fault.html", message=message, question=answer.question)
