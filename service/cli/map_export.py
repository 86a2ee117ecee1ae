"""The graph of notes as JSON, GraphML or a self-contained HTML page."""

from __future__ import annotations

import html
import json

from kb.graph import graphml
from kb.knowledge_base import KnowledgeBase
from kb.notes import Link

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
li {{ margin: .3rem 0 }} small {{ opacity: .7 }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def export_map(kb: KnowledgeBase, suffix: str, around: str | None, depth: int) -> tuple[str, int, int]:
    """The text of the file, and its number of notes and links. `around` None: the whole graph."""
    titles = {note_id: (title, kind) for note_id, title, kind, _ in kb.store.titles()}
    if around is None:
        ids, links = list(titles), kb.graph.links
    else:
        near = kb.neighbourhood(around, depth, limit=len(titles))
        ids, links = list(near.distances), list(near.links)
    notes = [(note_id, *titles[note_id]) for note_id in ids]
    if suffix == ".graphml":
        text = graphml(notes, links)
    elif suffix == ".html":
        text = _page(notes, links, titles[around][0] if around else "Notes and their links")
    else:
        text = json.dumps(_json(notes, links), ensure_ascii=False, indent=1)
    return text, len(notes), len(links)


def _json(notes: list[tuple[str, str, str]], links: list[Link]) -> dict[str, list[dict[str, str]]]:
    return {
        "notes": [{"id": note_id, "title": title, "kind": kind} for note_id, title, kind in notes],
        "links": [
            {
                "source": link.source,
                "target": link.target,
                "type": str(link.type),
                "why": link.why,
                "origin": str(link.origin),
            }
            for link in links
        ],
    }


def _page(notes: list[tuple[str, str, str]], links: list[Link], title: str) -> str:
    """Every note as a heading with a list of its links."""
    names = {note_id: name for note_id, name, _ in notes}
    anchors = {note_id: f"n{i}" for i, (note_id, _, _) in enumerate(notes)}
    out: dict[str, list[str]] = {note_id: [] for note_id in names}
    for link in links:
        target = f'<a href="#{anchors[link.target]}">{html.escape(names[link.target])}</a>'
        why = f" <small>{html.escape(link.why)}</small>" if link.why else ""
        out[link.source].append(f"<li>{html.escape(link.type.replace('_', ' '))} {target}{why}</li>")
    sections = [
        f'<h2 id="{anchors[note_id]}">{html.escape(name)}</h2>\n<p><small>{kind}</small></p>\n<ul>{"".join(out[note_id])}</ul>'
        for note_id, name, kind in notes
    ]
    return _PAGE.format(title=html.escape(title), body="\n".join(sections))
