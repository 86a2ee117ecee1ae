"""The runs below an answer: how far, the verdict so far, and what a person can do about them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from service.experiments.execution.run_store import RunStatus
from service.web.components.html import run_link, text
from service.web.components.markdown import inline
from service.web.experiments.page import status_html
from service.web.experiments.run_view import RunView


def panel_html(shown: Sequence[RunView], trouble: str = "") -> str:
    """A block for each run, with the same elements whatever its status; empty without runs."""
    return "".join(_block(view, trouble) for view in shown)


def _block(view: RunView, trouble: str) -> str:
    told = view.status is RunStatus.SUCCEEDED and bool(view.evidence)
    title = "Done: the answer above now holds this result" if told else "Experiment"
    return (
        f'<section class="test{" told" if told else ""}" data-status="{view.status}"><h3>{title}</h3>'
        f'<p class="gist">{inline(view.spec.question or view.spec.name)}</p>'
        f'{status_html(view, trouble)}<p class="acts">{_stop(view)} {run_link(view.id, "Open the run")}</p></section>'
    )


def _stop(view: RunView) -> str:
    """One button: Cancel while it goes on, Resume when it stopped."""
    if view.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        return f'<button type="button" class="act" data-go-on="{text(view.id)}">Resume</button>'
    hidden = "" if view.status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED) else " hidden"
    return f'<button type="button" class="act" data-stop="{text(view.id)}"{hidden}>Cancel</button>'


def not_started_html(claim: str, run_id: str, status: str) -> str:
    """A run was asked for that is there already."""
    if status != RunStatus.SUCCEEDED:
        return f'<p class="message" role="alert">This experiment is {text(status)} already: {run_link(run_id, "open it")}.</p>'
    return (
        f'<p class="message" role="alert">This very experiment was run already: {run_link(run_id, "open it")}, or '
        f'<button type="button" class="act" data-start="{text(claim)}" data-again>Run again with a new seed</button></p>'
    )
