"""What stands behind an answer, as HTML: the opened source of each citation, and the list of sources. Pure.

An exchange is one question with its answer on a page that may show several; `key` names it, so that the third citation
of one is not taken for the third of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby

from kb.notes import Note, page_number
from service.answering.answer import Answer, Citation, SourceNote
from service.web.components.html import note_link, text
from service.web.components.markdown import NoteHref, inline, passage


@dataclass(frozen=True, slots=True)
class Finding:
    """What an evidence note says first, as a citation, and the curve of its run as SVG that we drew."""

    says: Citation | None
    curve: str = ""


def anchor(key: str, number: int) -> str:
    return f"source-{text(key)}-{number}"


def citations(answer: Answer, findings: Mapping[str, Finding] | None = None) -> list[Citation]:
    """Every citation of the answer and of what is found, by number."""
    found = [finding.says for finding in (findings or {}).values() if finding.says is not None]
    found += [c for s in answer.statements for c in s.citations]
    found += [c for d in answer.disagreements for c in (d.source_says, d.target_says) if c is not None]
    return sorted(dict.fromkeys(found), key=lambda c: (c.number, c.start))


def opened_html(
    answer: Answer,
    key: str,
    notes: Mapping[str, Note],
    hrefs: Callable[[str], NoteHref],
    findings: Mapping[str, Finding] | None = None,
) -> str:
    """One `<article>` a citation: the paragraph in its note, the cited sentence highlighted."""
    articles = []
    for number, group in groupby(citations(answer, findings), key=lambda c: c.number):
        found = list(group)
        note = notes.get(found[0].note_id)
        if note is None:
            continue
        page = page_number(note, found[0].start)
        where = f" · page {page}" if page else ""
        shown = "".join(_shown(note, c, hrefs(note.id)) for c in found)
        articles.append(
            f'<article class="opened" id="{anchor(key, number)}" data-number="{number}">'
            f'<p class="overline">Source {number} · {text(note.kind)}{where}</p>'
            f'<h3>{note_link(note.id, note.title)}</h3><div class="passage">{shown}</div>'
            f'<p class="walk">{note_link(note.id, "Open note")}</p></article>'
        )
    return "".join(articles)


def _shown(note: Note, citation: Citation, href: NoteHref) -> str:
    """The sentence in its paragraph, wherever it stands now: an answer may be older than its note."""
    start = citation.start if note.text[citation.start : citation.end] == citation.quote else note.text.find(citation.quote)
    if start < 0:
        gone = '<p class="message">The note has changed: this sentence no longer stands in it.</p>'
        return f"{gone}<blockquote>{inline(citation.quote)}</blockquote>"
    return passage(note.text, start, start + len(citation.quote), href)


def sources_html(answer: Answer, key: str = "") -> str:
    """The right column: a place for the opened source, then all sources, each with its gist."""
    if not answer.answered or not answer.sources:
        return slot_html(key=key)
    items = "".join(listed_source(entry) for entry in answer.sources)
    hint = '<p class="quiet hint">A number in the answer opens its sentence here, in its note.</p>'
    return f'{slot_html(hint, key)}<h3>Sources ({len(answer.sources)})</h3><ul class="source-list">{items}</ul>'


def slot_html(hint: str = "", key: str = "") -> str:
    """The place for the opened source, which earlier answers need also where the one on top has none. `key`: another for each
    exchange, so that the page sets it anew and what was opened before is gone."""
    close = '<button type="button" class="close" data-close aria-label="Close the sources">Close</button>'
    return f'{close}<div class="slot" data-of="{text(key)}" aria-live="polite">{hint}</div>'


def listed_source(entry: SourceNote) -> str:
    gist = f'<span class="gist">{inline(entry.gist)}</span>' if entry.gist else ""
    return f"<li>{note_link(entry.note_id, entry.title)} {gist}</li>"
