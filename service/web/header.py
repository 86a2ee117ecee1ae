"""The header of every page: the index status, and the panel with the state of every source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from service.status import problems, survey
from service.web.components.index_panel import sources_html, summary_html
from service.web.components.messages import error_html
from service.web.components.templates import render
from service.web.event_effects import reads, writes
from service.web.experiments.worker_process import WorkerSupervisor
from service.web.indexing_progress import Indexing, status_html

_IDLE_POLL_SECONDS = 10.0  # to notice what the watcher synced


@dataclass(frozen=True, slots=True)
class Header:
    """Gradio components. `line`: the status and its timer. `panel`: both, and the panel's summary, list and button."""

    line: list[Any]
    panel: list[Any]
    panel_is_open: Any


def build_header(kb: KnowledgeBase, indexing: Indexing, worker: WorkerSupervisor, *, can_sign_out: bool = False) -> Header:
    """Lays out the header and its panel, and connects their timers and button."""
    with gr.Row(elem_id="masthead"):
        gr.HTML(render("components/brand.html"), elem_id="brand", apply_default_css=False)
        status = gr.HTML(elem_id="status", apply_default_css=False)
        gr.HTML(render("components/index_toggle.html"), elem_id="status-details", apply_default_css=False)
        if can_sign_out:
            gr.HTML(render("components/sign_out.html"), elem_id="sign-out", apply_default_css=False)
    with gr.Column(elem_id="sources-status"):
        with gr.Row(elem_id="sources-head"):
            summary = gr.HTML(elem_id="sources-summary", apply_default_css=False)
            sync_button = gr.Button("Sync now", elem_id="try-again", scale=0)
        sources = gr.HTML(elem_id="sources-list", apply_default_css=False)
    timer, idle_timer = gr.Timer(1.0, active=False), gr.Timer(_IDLE_POLL_SECONDS)
    panel_is_open, last_status = gr.State(False), gr.State("")
    panel = [status, timer, summary, sources, sync_button]

    @reads
    def poll(is_open: bool) -> tuple[Any, ...]:
        return *header_values(kb, indexing, worker), *(_panel_values(kb, indexing) if is_open else (gr.skip(),) * 3)

    @reads
    def poll_idle(before: str) -> tuple[Any, ...]:
        now, timer_update = header_values(kb, indexing, worker)
        return (gr.skip(),) * 3 if now == before and indexing.finished else (now, timer_update, now)

    @writes("sync the sources")
    def start_sync() -> tuple[Any, ...]:
        indexing.start(kb)
        return header_values(kb, indexing, worker)[0], gr.Timer(active=True), gr.skip(), gr.skip(), _sync_button(busy=True)

    hidden = {"show_progress": "hidden", "api_visibility": "private"}
    timer.tick(poll, [panel_is_open], panel, **hidden)
    idle_timer.tick(poll_idle, [last_status], [status, timer, last_status], **hidden)
    sync_button.click(start_sync, None, panel, **hidden)
    return Header([status, timer], panel, panel_is_open)


def header_values(kb: KnowledgeBase, indexing: Indexing, worker: WorkerSupervisor) -> tuple[Any, Any]:
    """Values for the status and its timer."""
    try:
        return status_html(kb, indexing, worker.pending), gr.Timer(active=not indexing.finished)
    except Exception as error:
        return error_html(error), gr.Timer(active=False)


def open_panel_values(kb: KnowledgeBase, indexing: Indexing, worker: WorkerSupervisor) -> tuple[Any, ...]:
    """Values for `panel_is_open` and `panel` when the user opens the panel."""
    return True, *header_values(kb, indexing, worker), *_panel_values(kb, indexing, during_sync=True)


def _panel_values(kb: KnowledgeBase, indexing: Indexing, *, during_sync: bool = False) -> tuple[Any, Any, Any]:
    """Values for summary, sources and button. While a sync runs, updates only the button, unless `during_sync`."""
    button = _sync_button(busy=not indexing.finished)
    if not indexing.finished and not during_sync:
        return gr.skip(), gr.skip(), button
    try:
        sources = sources_html(survey(kb), indexing.report, _problem(kb, indexing))
        return summary_html(indexing.report, indexing.ended), sources, button
    except Exception as error:
        return error_html(error), "", button


def _problem(kb: KnowledgeBase, indexing: Indexing) -> str:
    """Why the last sync stopped, and the problems of the home."""
    home_problems = problems(kb) if indexing.finished else []  # a running sync may repair them
    return ". ".join([*filter(None, [indexing.problem]), *home_problems])


def _sync_button(*, busy: bool) -> Any:
    return gr.Button("Syncing…" if busy else "Sync now", interactive=not busy)
