"""The Notes tab: search as you type, a note's page, and the map around it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import gradio as gr
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase, NoteView
from kb.notes import Hit, LinkType, NoteKind, PasskbError
from service.api.admission import Admission
from service.inquiries.note_text import list_source_ids
from service.inquiries.refresh import last_change
from service.inquiries.staleness import inquiry_status, list_inquiry_statuses
from service.suggestions.accepted_links import accepted_link_notes
from service.suggestions.ranking import suggest_links
from service.web.components.markdown import NoteHref
from service.web.components.messages import error_html, message_html
from service.web.components.templates import render
from service.web.event_effects import reads
from service.web.experiments.run_view import load_curve
from service.web.notes.actions import ActionResult
from service.web.notes.inquiry import accepted_links_html, changes_html, link_note_ids, staleness_html, suggestions_html
from service.web.notes.map import map_html
from service.web.notes.page import Notes, links_html, referenced_ids, results_html, start_html, text_html, title_html

_TARGET = re.compile(r"!?\[\[([^\[\]|#\n]*)|!?\[[^\]]*\]\(<?([^)#>\s]*(?:\s+[^)\"'#>]+)?)")
_MAX_ON_MAP = 17  # notes
_MIN_ON_MAP = 8


@dataclass(frozen=True, slots=True)
class NotesTab:
    """Gradio components. `outputs`: search box, search results, title, text, links, map."""

    outputs: list[Any]


def build_notes_tab(kb: KnowledgeBase, admission: Admission) -> NotesTab:
    """Lays out the tab, and connects its search."""
    with gr.Row(elem_id="note-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            search_box = gr.Textbox(
                elem_id="note-search", show_label=False, container=False, label="Search the notes", max_lines=1,
                placeholder="Search the notes", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            )  # fmt: skip
            results = gr.HTML(elem_id="note-results", apply_default_css=False)
            title = gr.HTML(elem_id="note-title", apply_default_css=False)
            text = gr.HTML(elem_id="note-text", apply_default_css=False)
        with gr.Column(elem_classes="aside"):
            note_map = gr.HTML(elem_id="note-map", apply_default_css=False)
            links = gr.HTML(elem_id="note-links", apply_default_css=False)

    @reads
    def search(query: str) -> Markup:
        try:
            with admission.place():
                return search_html(kb, query)
        except Exception as error:
            return error_html(error)

    hidden = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
    search_box.change(search, [search_box], [results], **hidden)
    return NotesTab([search_box, results, title, text, links, note_map])


def note_page(
    kb: KnowledgeBase, name: str, result: ActionResult | None = None, *, can_propose: bool = False
) -> tuple[Any, ...]:
    """Values for `outputs`: the note with this id, title or alias; the start page without a name.

    `result`: of a button on the page. `can_propose`: a model can propose types and reasons of suggested links."""
    name = str(name).strip()
    if not name:
        return gr.skip(), "", render("components/heading.html", title="Notes"), start_page(kb), "", ""
    try:
        note_id = kb.find(name)
    except PasskbError as error:
        same_name = kb.store.ids_by_name(name)
        message = str(error) if same_name else f"There is no note “{name[:200]}”."
        return error_page("No such note", message_html(message) + _closest(kb, name, same_name))
    view = kb.view(note_id)
    near = kb.neighbourhood(note_id, 1, _MAX_ON_MAP)
    if len(near.distances) < _MIN_ON_MAP:
        near = kb.neighbourhood(note_id, 2, _MAX_ON_MAP)
    points = kb.graph.layout(note_id, near) if len(near.distances) > 1 else {}
    notes = kb.store.notes([*referenced_ids(view), *near.distances])
    return (
        "",
        "",
        title_html(view),
        _notices(kb, view, result) + _text(kb, view, notes),
        links_html(view, notes, accepted_link_notes(kb)) + _suggestions(kb, note_id, result, can_propose),
        map_html(note_id, near, points, notes),
    )


def error_page(title: str, message: Markup) -> tuple[Any, ...]:
    """Values for `outputs` when a note can't be shown."""
    return "", "", render("components/heading.html", title=title), message, "", ""


def _text(kb: KnowledgeBase, view: NoteView, notes: Notes) -> Markup:
    warnings, passages = kb.store.indexing_details(view.note.id)
    href = note_link_resolver(kb, view.note.id)
    html = text_html(view, notes, href, warnings, passages, _pictures(kb, view))
    ids = list_source_ids(view.note.properties) if view.note.kind is NoteKind.INQUIRY else []
    return link_note_ids(html, [note_id for note_id in ids if note_id in notes])


def _notices(kb: KnowledgeBase, view: NoteView, result: ActionResult | None) -> Markup:
    """The result of the last action, and an inquiry's staleness and last changes."""
    message, status = (result.message if result else Markup()), inquiry_status(kb, view.note)
    if view.note.id in accepted_link_notes(kb):
        links = [link for link in kb.store.links() if link.writer == view.note.id]
        ends = kb.store.notes(end for link in links for end in (link.source, link.target))
        return message + accepted_links_html(view.note.id, links, {i: note.title for i, note in ends.items()})
    if status is None:
        return message
    changes = last_change(kb, view.note)
    is_refreshed = result is not None and result.action in ("refresh", "replace")
    known = kb.store.notes(reason.note_id for reason in status.reasons)
    message += staleness_html(status, known)
    return message + changes_html(changes, is_open=is_refreshed) if changes else message


def _suggestions(kb: KnowledgeBase, note_id: str, result: ActionResult | None, can_propose: bool) -> Markup:
    """Suggested links; an error in them must not hide the page."""
    try:
        proposed = result.suggestions if result else None
        suggestions = suggest_links(kb, note_id) if proposed is None else proposed
    except PasskbError as error:
        return error_html(error)
    is_open = result is not None and result.action not in ("refresh", "replace")
    return suggestions_html(note_id, suggestions, is_open=is_open, can_propose=can_propose)


def _pictures(kb: KnowledgeBase, view: NoteView) -> dict[str, str]:
    """The curve of an evidence note's run, by the name that its text embeds."""
    run_id = str(view.note.properties.get("run_id") or "") if view.note.kind is NoteKind.EVIDENCE else ""
    curve = load_curve(kb.home, run_id)
    return {f"{run_id}.svg": Markup('<span class="curve">{}</span>').format(curve)} if curve else {}


def _closest(kb: KnowledgeBase, name: str, same_name: list[str]) -> Markup:
    """The notes with this name, or with similar titles."""
    words = re.sub(r"[\W_]+", " ", name.rsplit("/", 1)[-1])[:200]
    closest = [(note_id, note_id) for note_id in same_name] or kb.suggest_titles(words, 5)
    if not closest and words.strip():
        closest = list(dict.fromkeys((hit.note_id, hit.title) for hit in kb.search(words, 5, widen=False)[1]))
    return render("notes/closest.html", notes=closest)


def start_page(kb: KnowledgeBase) -> Markup:
    """The page without a chosen note: inquiries, the most linked notes, contradictions."""
    titles = kb.store.titles()
    if not titles:
        return render("notes/empty.html")
    links = kb.store.links()
    degree = Counter(link.target for link in links if link.type is not LinkType.MENTIONS or link.why)
    stale = [entry.note.id for entry in list_inquiry_statuses(kb) if entry.reasons]
    inquiries = [note_id for note_id, _, kind, _ in titles if kind == NoteKind.INQUIRY]
    shown_inquiries = list(dict.fromkeys([*stale, *inquiries]))[:6]
    most_linked = [note_id for note_id, _ in degree.most_common(10)] or [row[0] for row in titles[:10]]
    contradictions = [link for link in links if link.type is LinkType.CONTRADICTS and link.why][:5]
    ends = [end for link in contradictions for end in (link.source, link.target)]
    notes = kb.store.notes([*shown_inquiries, *most_linked, *ends])
    return start_html(
        [notes[i] for i in shown_inquiries],
        [(notes[i], degree[i]) for i in most_linked if i in notes],
        [(link, notes[link.source], notes[link.target]) for link in contradictions if {link.source, link.target} <= set(notes)],
        stale,
    )


def search_html(kb: KnowledgeBase, query: str) -> Markup:
    """Titles that contain the words, then passages, with each note once."""
    query = str(query)[:300]
    if not query.strip():
        return Markup()
    titles = kb.suggest_titles(query, 6)
    shown: set[str] = {note_id for note_id, _ in titles}
    hits: list[Hit] = []
    for hit in kb.search(query, 20, widen=False)[1] if len(query.strip()) > 2 else ():
        if hit.note_id not in shown and len(hits) < 6:
            shown.add(hit.note_id)
            hits.append(hit)
    return results_html(query, titles, hits)


def note_link_resolver(kb: KnowledgeBase, note_id: str) -> NoteHref:
    """Resolves the links in a note's text as the index did, otherwise by a title that only one note has."""
    note = kb.store.note(note_id)
    indexed: dict[str, str] = {}
    for link in kb.store.links(note_id) if note else ():
        match = _TARGET.search(note.text[link.start : link.end]) if note and link.start >= 0 else None
        if match:
            indexed[(match[1] or unquote(match[2] or "")).strip().casefold()] = link.target

    def resolve(target: str) -> str | None:
        if target.casefold() in indexed:
            return indexed[target.casefold()]
        matches = kb.store.ids_by_name(target)
        return matches[0] if len(matches) == 1 else None

    return resolve
