"""The view of a note: title, text, claims, links with reasons. Also search results and the start page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from kb.knowledge_base import NoteView
from kb.markdown.blocks import plain
from kb.notes import Hit, Link, LinkType, Note, NoteKind
from service.web.components.formatting import link_verb
from service.web.components.markdown import NoteHref
from service.web.components.markdown import render as render_markdown
from service.web.components.templates import render
from service.web.notes.map import LEGEND_ORDER

Notes = Mapping[str, Note]

_MAX_LINKS = 8  # of one type that are shown without a click
_MAX_EXCERPT = 170  # characters


def referenced_ids(view: NoteView) -> list[str]:
    """The ids of all notes that the page shows by title."""
    ids = [link.target for link in view.links] + [link.source for link in view.backlinks]
    ids += [note_id for note_id, _ in view.similar] + list(view.inquiries)
    ids += [note_id for claim in view.note.claims for note_id in claim.evidence]
    return list(dict.fromkeys(ids))


def title_html(view: NoteView) -> Markup:
    note = view.note
    gist = "" if note.kind is NoteKind.STUB or _starts_with_gist(note) else note.gist
    return render("notes/title.html", note=note, gist=gist, is_question=note.title.rstrip().endswith("?"))


def _starts_with_gist(note: Note) -> bool:
    return note.gist.rstrip(" .…")[:60] in note.text[:400]


def text_html(
    view: NoteView,
    notes: Notes,
    note_href: NoteHref,
    warnings: Sequence[str] = (),
    passages: int = 0,
    pictures: Mapping[str, str] | None = None,
) -> Markup:
    """The text with claims and inquiries. `warnings`: from reading its file. `passages`: the number of indexed passages.
    `pictures`: trusted HTML of embedded pictures, by name."""
    note, body = view.note, Markup()
    if note.text.strip():
        body = render_markdown(note.text, note_href=note_href, title_of=lambda other: _title(other, notes), pictures=pictures)
    return render(
        "notes/text.html",
        note=note,
        notes=notes,
        body=body,
        referrers=_deduplicate(view.backlinks, by_source=True),
        inquiries=view.inquiries,
        origin=str(note.properties.get("original") or note.path),
        passages=passages,
        warnings=warnings,
        run_id=str(note.properties.get("run_id") or "") if note.kind is NoteKind.EVIDENCE else "",
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A linked note in a list. `phrase`: how it links here. `score`: its similarity. `accepted_in`: the note of an accepted
    link."""

    note_id: str
    title: str
    css_class: str = ""
    phrase: str = ""
    why: str = ""
    score: float | None = None
    accepted_in: str = ""
    link: Link | None = None


def links_html(view: NoteView, notes: Notes, accepted_in: Collection[str] = ()) -> Markup:
    """Links by type, disagreement first; then backlinks and similar notes. `accepted_in`: the notes of accepted links."""

    def entry(link: Link, other: str, phrase: str = "") -> _Entry:
        note = notes.get(other)
        css_class = "stub" if note and note.kind is NoteKind.STUB else ""
        writer = link.writer if link.writer in accepted_in else ""
        return _Entry(other, note.title if note else other, css_class, phrase, link.why, None, writer, link)

    links = _deduplicate(view.links)
    groups = [
        _group(link_verb(link_type), [entry(link, link.target) for link in links if link.type is link_type], str(link_type))
        for link_type in LEGEND_ORDER
    ]
    backlinks = sorted(_deduplicate(view.backlinks, by_source=True), key=lambda link: LEGEND_ORDER.index(link.type))
    groups.append(_group("linked from", [entry(link, link.source, f"{link_verb(link.type)} this") for link in backlinks]))
    similar = [_Entry(note_id, _title(note_id, notes) or note_id, score=score) for note_id, score in view.similar]
    groups.append(_group("similar in meaning", similar, unit="cosine"))
    return render("notes/links.html", note_id=view.note.id, groups=[group for group in groups if group["entries"]])


def _group(title: str, items: Sequence[_Entry], css_class: str = "", unit: str = "") -> dict[str, Any]:
    shown = _MAX_LINKS if len(items) > _MAX_LINKS + 2 else len(items)
    return {"title": title, "entries": items, "class": css_class, "unit": unit, "shown": shown}


def _deduplicate(links: Iterable[Link], by_source: bool = False) -> list[Link]:
    """One link per other note and type, preferably with a reason; no mentions of notes that are linked with another type."""
    best: dict[tuple[str, LinkType], Link] = {}
    for link in links:
        key = (link.source if by_source else link.target, link.type)
        if key not in best or (link.why and not best[key].why):
            best[key] = link
    typed = {other for other, link_type in best if link_type is not LinkType.MENTIONS}
    return [link for (other, link_type), link in best.items() if link_type is not LinkType.MENTIONS or other not in typed]


def _title(note_id: str, notes: Notes) -> str:
    return notes[note_id].title if note_id in notes else ""


# -- search, and the start page ----------------------------------------------------------------------------------------


def results_html(query: str, titles: Sequence[tuple[str, str]], hits: Sequence[Hit]) -> Markup:
    """Search results: matching titles, then matching passages."""
    if not query.strip():
        return Markup()
    excerpts = [(hit, _excerpt(hit.text)) for hit in hits]
    return render("notes/results.html", query=query.strip()[:80], titles=titles, hits=excerpts)


def _excerpt(passage: str) -> str:
    """The first words of a passage, without its heading."""
    words = plain(re.sub(r"\A(?:\s*#{1,6} [^\n]*\n)+", "", passage)[:400])
    return words if len(words) <= _MAX_EXCERPT else f"{words[:_MAX_EXCERPT].rsplit(' ', 1)[0]}…"


def start_html(
    inquiries: Sequence[Note],
    most_linked: Sequence[tuple[Note, int]],
    disputes: Sequence[tuple[Link, Note, Note]],
    stale: Collection[str] = (),
) -> Markup:
    """Where to start: inquiries (`stale` ones marked), the most linked notes, and contradictions."""
    return render("notes/start.html", inquiries=inquiries, most_linked=most_linked, disputes=disputes, stale=stale)
