"""Starts, cancels, resumes and polls the runs below an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from service.experiments.execution import control
from service.web.ask import run_offers
from service.web.ask.conversation import Conversation
from service.web.ask.run_offers import WatchedRuns
from service.web.ask.runs_panel import not_started_html, runs_html
from service.web.components.messages import error_html
from service.web.experiments.run_view import RunView
from service.web.experiments.worker_process import WorkerSupervisor


def runs_values(views: Sequence[RunView], watched: WatchedRuns, worker_problem: str) -> tuple[Any, ...]:
    """Values for the runs panel and its timer, which is active while a run can change."""
    active = any(view.live for view in views) or bool(watched.newly_finished(views))
    return runs_html(views, worker_problem), gr.Timer(active=active)


def poll_runs(kb: KnowledgeBase, conversation: Conversation, worker_problem: str) -> tuple[Any, Any, bool]:
    """Values for the runs panel and its timer, and whether there is new evidence."""
    try:
        views = run_offers.load_views(kb.home, conversation.watched.runs)
    except Exception as error:
        return error_html(error), gr.Timer(active=False), False
    finished = conversation.watched.newly_finished(views)
    if finished:
        conversation.mark_reported(finished)
    panel, timer = runs_values(views, conversation.watched, worker_problem)
    return panel, timer, bool(finished)


def start_test(
    kb: KnowledgeBase, worker: WorkerSupervisor, conversation: Conversation, claim: str, *, again: bool = False
) -> tuple[Any, ...]:
    """Starts the test of `claim` (NOTE#ID). Returns values for the runs panel and its timer."""
    try:
        submitted = run_offers.start_run(kb, run_offers.load_claim_spec(kb, claim), again=again)
        if submitted.fresh:
            worker.wake()
        watched = conversation.watched
        conversation.watch(replace(watched, runs=tuple(dict.fromkeys([*watched.runs, submitted.run.id]))))
        views = run_offers.load_views(kb.home, conversation.watched.runs)
        if submitted.fresh:
            return runs_values(views, conversation.watched, worker.problem)
        conversation.mark_reported(conversation.watched.newly_finished(views))
        status = str(control.status_of(kb.home, submitted.run))
        panel, timer = runs_values(views, conversation.watched, worker.problem)
        return panel + not_started_html(claim, submitted.run.id, status), timer
    except Exception as error:
        views = run_offers.load_views(kb.home, conversation.watched.runs)
        panel, timer = runs_values(views, conversation.watched, worker.problem)
        return panel + error_html(error), timer


def change_run(kb: KnowledgeBase, conversation: Conversation, run_id: str, action: Callable[..., Any]) -> tuple[Any, ...]:
    """Applies `control.cancel` or `control.resume` to a run. Returns values for the runs panel and its timer."""
    message = ""
    try:
        action(kb.home, run_id)
    except Exception as error:
        message = error_html(error)
    panel, timer = runs_values(run_offers.load_views(kb.home, conversation.watched.runs), conversation.watched, "")
    return panel + message, timer
