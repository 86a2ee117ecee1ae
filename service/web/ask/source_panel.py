"""The view of an answer's sources: the list of notes, and the paragraph around each cited sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from kb.notes import Note, page_number
from service.answering.answer import Answer, Citation
from service.web.components.markdown import NoteHref, passage
from service.web.components.templates import render

_EMPTY = Markup()


@dataclass(frozen=True, slots=True)
class Finding:
    """The first sentence of an evidence note as a citation, and the curve of its run as trusted SVG."""

    citation: Citation | None
    curve: Markup = _EMPTY


def citations(answer: Answer, findings: Mapping[str, Finding] | None = None) -> list[Citation]:
    """Every citation of the answer and of its evidence, by number."""
    cited = [finding.citation for finding in (findings or {}).values() if finding.citation is not None]
    cited += [c for s in answer.statements for c in s.citations]
    cited += [c for d in answer.disagreements for c in (d.source_says, d.target_says) if c is not None]
    return sorted(dict.fromkeys(cited), key=lambda c: (c.number, c.start))


def source_articles_html(
    answer: Answer,
    key: str,
    notes: Mapping[str, Note],
    note_hrefs: Callable[[str], NoteHref],
    findings: Mapping[str, Finding] | None = None,
) -> Markup:
    """An article per citation number: the paragraphs in the note, with the cited sentences highlighted."""
    sources = []
    for number, group in groupby(citations(answer, findings), key=lambda c: c.number):
        cited = list(group)
        if (note := notes.get(cited[0].note_id)) is not None:
            passages = [_passage(note, citation, note_hrefs(note.id)) for citation in cited]
            sources.append({"number": number, "note": note, "page": page_number(note, cited[0].start), "passages": passages})
    return render("ask/source_articles.html", key=key, sources=sources)


def _passage(note: Note, citation: Citation, note_href: NoteHref) -> tuple[Any, str]:
    """The paragraph with the highlighted quote, or the quote alone if the note no longer contains it."""
    start = citation.start if note.text[citation.start : citation.end] == citation.quote else note.text.find(citation.quote)
    if start < 0:
        return "", citation.quote
    return passage(note.text, start, start + len(citation.quote), note_href), ""


def sources_html(answer: Answer | None = None, key: str = "") -> Markup:
    """The right column: a slot for the opened source, then all sources. Without an answer only the slot."""
    return render("ask/sources.html", key=key, sources=answer.sources if answer and answer.answered else ())
