"""The view of the runs below an answer: progress, verdict and buttons."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from service.experiments.execution.run_store import RunStatus
from service.web.components.templates import render
from service.web.experiments.page import status_html
from service.web.experiments.run_view import RunView

_CANCELLABLE = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED)
_RESUMABLE = (RunStatus.FAILED, RunStatus.CANCELLED)


def runs_html(views: Sequence[RunView], worker_problem: str = "") -> Markup:
    """A section per run, with the same elements in every status, so that keyboard focus survives updates."""
    runs = [
        {
            "view": view,
            "in_answer": view.status is RunStatus.SUCCEEDED and bool(view.evidence),
            "status_html": status_html(view, worker_problem),
            "can_cancel": view.status in _CANCELLABLE,
            "can_resume": view.status in _RESUMABLE,
        }
        for view in views
    ]
    return render("ask/runs_panel.html", runs=runs)


def not_started_html(claim: str, run_id: str, status: str) -> Markup:
    """Why no run was started: the same experiment exists."""
    return render("ask/not_started.html", claim=claim, run_id=run_id, status=status)
