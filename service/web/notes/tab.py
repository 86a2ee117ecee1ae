"""The Notes tab: search as you type, a note's page, and the map around it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import gradio as gr

from kb.knowledge_base import KnowledgeBase, NoteView
from kb.notes import Hit, LinkType, NoteKind, PasskbError
from service.api.admission import Admission
from service.inquiries.note_text import list_source_ids
from service.inquiries.refresh import last_change
from service.inquiries.staleness import inquiry_status, list_inquiry_statuses
from service.suggestions.accepted_links import accepted_link_notes
from service.suggestions.ranking import suggest_links
from service.web.components.html import explained, note_link, sentence
from service.web.components.markdown import NoteHref
from service.web.event_effects import reads
from service.web.experiments.run_view import stored_curve
from service.web.notes.actions import Tended
from service.web.notes.inquiry import accepted_list_html, changes_html, linked_ids, standing_html, suggestions_html
from service.web.notes.map import map_html
from service.web.notes.page import Notes, links_html, named_in, results_html, start_html, text_html, title_html

_TARGET = re.compile(r"!?\[\[([^\[\]|#\n]*)|!?\[[^\]]*\]\(<?([^)#>\s]*(?:\s+[^)\"'#>]+)?)")
_ON_THE_MAP = 17


@dataclass(frozen=True, slots=True)
class NotesTab:
    search: Any
    outputs: list[Any]


def build_notes_tab(kb: KnowledgeBase, admission: Admission) -> NotesTab:
    """Lays out the tab and wires its search; walking is wired by the app."""
    with gr.Row(elem_id="note-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            search = gr.Textbox(
                elem_id="note-search", show_label=False, container=False, label="Search the notes", max_lines=1,
                placeholder="Search the notes", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            )  # fmt: skip
            results = gr.HTML(elem_id="note-results", apply_default_css=False)
            title = gr.HTML(elem_id="note-title", apply_default_css=False)
            body = gr.HTML(elem_id="note-text", apply_default_css=False)
        with gr.Column(elem_classes="aside"):
            chart = gr.HTML(elem_id="note-map", apply_default_css=False)
            links = gr.HTML(elem_id="note-links", apply_default_css=False)

    @reads
    def searched(query: str) -> str:
        try:
            with admission.place():
                return found_html(kb, query)
        except Exception as error:
            return sentence(explained(error))

    search.change(searched, [search], [results], show_progress="hidden", api_visibility="private", trigger_mode="always_last")
    return NotesTab(search, [search, results, title, body, links, chart])


def note_page(kb: KnowledgeBase, name: str, done: Tended | None = None, *, can_propose: bool = False) -> tuple[Any, ...]:
    """Values for `outputs`: the page of a note, by id, title or alias; without a name, where to begin. `done`: what a click on
    it has just done; `can_propose`: a model can be asked for types and reasons of suggested links."""
    name = str(name).strip()
    if not name:
        return gr.skip(), "", "<h1>Notes</h1>", start_page(kb), "", ""
    try:
        note_id = kb.find(name)
    except PasskbError as error:
        several = kb.store.ids_by_name(name)
        message = str(error) if several else f"There is no note “{name[:200]}”."
        return "", "", "<h1>No such note</h1>", sentence(message) + _nearest(kb, name, several), "", ""
    view = kb.view(note_id)
    near = kb.neighbourhood(note_id, 1, _ON_THE_MAP)
    if len(near.distances) < 8:
        near = kb.neighbourhood(note_id, 2, _ON_THE_MAP)
    points = kb.graph.layout(note_id, near) if len(near.distances) > 1 else {}
    notes = kb.store.notes([*named_in(view), *near.distances])
    href = href_of(kb, note_id)
    return (
        "",
        "",
        title_html(view),
        _above(kb, view, done) + _text(kb, view, notes, href),
        links_html(view, notes, accepted_link_notes(kb)) + _suggested(kb, note_id, done, can_propose),
        map_html(note_id, near, points, notes),
    )


def _text(kb: KnowledgeBase, view: NoteView, notes: Notes, href: NoteHref) -> str:
    html = text_html(view, notes, href, *kb.store.indexing_details(view.note.id), _pictures(kb, view))
    ids = list_source_ids(view.note.properties) if view.note.kind is NoteKind.INQUIRY else []
    return linked_ids(html, [note_id for note_id in ids if note_id in notes])


def _above(kb: KnowledgeBase, view: NoteView, done: Tended | None) -> str:
    """What was just done, whether an inquiry still stands on its sources, and what changed in it last."""
    told, kept = (done.told if done else ""), inquiry_status(kb, view.note)
    if view.note.id in accepted_link_notes(kb):
        links = [link for link in kb.store.links() if link.writer == view.note.id]
        ends = kb.store.notes(end for link in links for end in (link.source, link.target))
        return told + accepted_list_html(view.note.id, links, {i: note.title for i, note in ends.items()})
    if kept is None:
        return told
    changed = last_change(kb, view.note)
    fresh = done is not None and done.act in ("refresh", "replace")
    there = kb.store.notes(reason.note_id for reason in kept.reasons)
    return told + standing_html(kept, there) + (changes_html(changed, shown=fresh) if changed else "")


def _suggested(kb: KnowledgeBase, note_id: str, done: Tended | None, can_propose: bool) -> str:
    """A page without suggestions is better than none: whatever is wrong with them says so in their place."""
    try:
        found = suggest_links(kb, note_id) if done is None or done.found is None else done.found
    except PasskbError as error:
        return sentence(error)
    return suggestions_html(note_id, found, shown=done is not None and not done.act.startswith("re"), can_propose=can_propose)


def _pictures(kb: KnowledgeBase, view: NoteView) -> dict[str, str]:
    """The curve of an evidence note's run, under the name that its text embeds."""
    run_id = str(view.note.properties.get("run_id") or "") if view.note.kind is NoteKind.EVIDENCE else ""
    return (
        {f"{run_id}.svg": f'<span class="curve">{curve}</span>'} if run_id and (curve := stored_curve(kb.home, run_id)) else {}
    )


def _nearest(kb: KnowledgeBase, name: str, several: list[str]) -> str:
    """The notes that bear the name, or those with the nearest titles."""
    words = re.sub(r"[\W_]+", " ", name.rsplit("/", 1)[-1])[:200]
    near = [(note_id, note_id) for note_id in several] or kb.suggest_titles(words, 5)
    if not near and words.strip():
        near = list(dict.fromkeys((hit.note_id, hit.title) for hit in kb.search(words, 5, widen=False)[1]))
    listed = "".join(f"<li>{note_link(note_id, title)}</li>" for note_id, title in near)
    return f'<p>The nearest:</p><ul class="link-list">{listed}</ul>' if listed else ""


def start_page(kb: KnowledgeBase) -> str:
    titles = kb.store.titles()
    if not titles:
        return "<p>There are no notes here yet: <code>passkb ingest PATH</code> adds a folder of them.</p>"
    links = kb.store.links()
    degree = Counter(link.target for link in links if link.type is not LinkType.MENTIONS or link.why)
    stale = [entry.note.id for entry in list_inquiry_statuses(kb) if entry.reasons]
    inquiries = [note_id for note_id, _, kind, _ in titles if kind == NoteKind.INQUIRY]
    asked = list(dict.fromkeys([*stale, *inquiries]))[:6]
    most = [note_id for note_id, _ in degree.most_common(10)] or [row[0] for row in titles[:10]]
    dissent = [link for link in links if link.type is LinkType.CONTRADICTS and link.why][:5]
    notes = kb.store.notes([*asked, *most, *(end for link in dissent for end in (link.source, link.target))])
    return start_html(
        [notes[i] for i in asked],
        [(notes[i], degree[i]) for i in most if i in notes],
        [(link, notes[link.source], notes[link.target]) for link in dissent if {link.source, link.target} <= set(notes)],
        stale,
    )


def found_html(kb: KnowledgeBase, query: str) -> str:
    """Titles that hold the words, then passages; one entry a note."""
    query = str(query)[:300]
    if not query.strip():
        return ""
    titles = kb.suggest_titles(query, 6)
    seen: set[str] = {note_id for note_id, _ in titles}
    hits: list[Hit] = []
    for hit in kb.search(query, 20, widen=False)[1] if len(query.strip()) > 2 else ():
        if hit.note_id not in seen and len(hits) < 6:
            seen.add(hit.note_id)
            hits.append(hit)
    return results_html(query, titles, hits)


def href_of(kb: KnowledgeBase, note_id: str) -> NoteHref:
    """How the links in a note's text resolve: as they did when it was read, else by a title only one bears."""
    note = kb.store.note(note_id)
    known: dict[str, str] = {}
    for link in kb.store.links(note_id) if note else ():
        written = _TARGET.search(note.text[link.start : link.end]) if note and link.start >= 0 else None
        if written:
            known[(written[1] or unquote(written[2] or "")).strip().casefold()] = link.target

    def href(target: str) -> str | None:
        if target.casefold() in known:
            return known[target.casefold()]
        named = kb.store.ids_by_name(target)
        return named[0] if len(named) == 1 else None

    return href
