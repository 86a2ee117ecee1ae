"""The header of every page: how much is known, what goes on, and the panel that tells what is indexed and what failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from service.status import problems, survey
from service.web.components.html import explained, sentence
from service.web.components.index_panel import sources_html, summary_html, toggle_html
from service.web.event_effects import reads, writes
from service.web.experiments.worker_process import Working
from service.web.indexing_progress import Indexing, status_html

_SIGN_OUT = '<form method="post" action="/logout"><button type="submit" class="linkish">Sign out</button></form>'
_SLOWLY = 10.0  # seconds between two looks at whether the watcher has read something


@dataclass(frozen=True, slots=True)
class Masthead:
    """`line`: the status and its timer; `panel`: both, and the panel's summary, list and button."""

    line: list[Any]
    panel: list[Any]
    looked_at: Any  # whether the panel is open


def build_masthead(kb: KnowledgeBase, reading: Indexing, worker: Working, *, can_sign_out: bool = False) -> Masthead:
    """Lays out header and panel, and wires their timers and button; the bridge opens the panel."""
    with gr.Row(elem_id="masthead"):
        gr.HTML('<a class="brand" href="/">passkb</a>', elem_id="brand", apply_default_css=False)
        status = gr.HTML(elem_id="status", apply_default_css=False)
        gr.HTML(toggle_html(), elem_id="status-details", apply_default_css=False)
        if can_sign_out:
            gr.HTML(_SIGN_OUT, elem_id="sign-out", apply_default_css=False)
    with gr.Column(elem_id="sources-status"):
        with gr.Row(elem_id="sources-head"):
            summary = gr.HTML(elem_id="sources-summary", apply_default_css=False)
            again = gr.Button("Try again", elem_id="try-again", scale=0)
        listed = gr.HTML(elem_id="sources-list", apply_default_css=False)
    timer, slowly = gr.Timer(1.0, active=False), gr.Timer(_SLOWLY)
    looked_at, told = gr.State(False), gr.State("")
    panel = [status, timer, summary, listed, again]

    @reads
    def ticked(panel_is_shown: bool) -> tuple[Any, ...]:
        return *header(kb, reading, worker), *(_panel(kb, reading) if panel_is_shown else (gr.skip(),) * 3)

    @reads
    def glanced(before: str) -> tuple[Any, ...]:
        now, often = header(kb, reading, worker)
        return (gr.skip(),) * 3 if now == before and reading.finished else (now, often, now)

    @writes("read the sources again")
    def tried_again() -> tuple[Any, ...]:
        reading.start(kb)
        return header(kb, reading, worker)[0], gr.Timer(active=True), gr.skip(), gr.skip(), _again(busy=True)

    quietly = {"show_progress": "hidden", "api_visibility": "private"}
    timer.tick(ticked, [looked_at], panel, **quietly)
    slowly.tick(glanced, [told], [status, timer, told], **quietly)
    again.click(tried_again, None, panel, **quietly)
    return Masthead([status, timer], panel, looked_at)


def header(kb: KnowledgeBase, reading: Indexing, worker: Working) -> tuple[Any, Any]:
    """Values for the status and its timer."""
    try:
        return status_html(kb, reading, worker.waiting), gr.Timer(active=not reading.finished)
    except Exception as error:
        return sentence(explained(error)), gr.Timer(active=False)


def opened_panel(kb: KnowledgeBase, reading: Indexing, worker: Working) -> tuple[Any, ...]:
    """Values for `looked_at` and the whole panel, made anew because somebody opened it."""
    return True, *header(kb, reading, worker), *_panel(kb, reading, whole=True)


def _panel(kb: KnowledgeBase, reading: Indexing, *, whole: bool = False) -> tuple[Any, Any, Any]:
    """Values for summary, sources and button; while the notes are read only the button, unless `whole` is asked for."""
    again = _again(busy=not reading.finished)
    if not reading.finished and not whole:
        return gr.skip(), gr.skip(), again
    try:
        told = summary_html(reading.report, reading.ended), sources_html(survey(kb), reading.report, _problem(kb, reading))
    except Exception as error:
        return sentence(explained(error)), "", again
    return *told, again


def _problem(kb: KnowledgeBase, reading: Indexing) -> str:
    """Why the last reading stopped, and what is wrong with the home."""
    wrong = problems(kb) if reading.finished else []  # a reading makes good what it can
    return ". ".join([*filter(None, [reading.problem]), *wrong])


def _again(*, busy: bool) -> Any:
    return gr.Button("Reading…" if busy else "Try again", interactive=not busy)
