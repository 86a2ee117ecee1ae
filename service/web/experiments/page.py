"""The view of one run (title, status) and the list of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from service.experiments.execution.run_store import RunStatus
from service.web.components.formatting import count, duration, percent
from service.web.components.templates import render
from service.web.experiments.run_view import RunLine, RunView

_STATES: Mapping[str, str] = {
    "queued": "Waiting for a worker",
    "running": "Running",
    "succeeded": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled. Completed attempts are saved",
    "interrupted": "Interrupted. It resumes when a worker starts",
}
_MAX_SUMMARY = 220  # characters
_TOY = "Toy models: {} trained from scratch to show a mechanism. The result says nothing about large models."
_SCRIPTED = "Dry run: the scripted engine generates completions by a rule. The result says nothing about any model."


def list_html(lines: Sequence[RunLine], shown: str = "") -> Markup:
    """The runs, newest first. `shown`: the id of the open run."""
    return render("experiments/list.html", runs=lines, shown=shown)


def title_html(view: RunView) -> Markup:
    """The name, the question and the claim of a run."""
    return render("experiments/title.html", view=view, created=str(view.state.get("created", "")))


def status_html(view: RunView, worker_problem: str = "") -> Markup:
    """The verdict in a sentence, the progress, and problems with what to do about them."""
    is_done = view.status is RunStatus.SUCCEEDED
    summary, details = _interim_summary(view), ""
    if is_done:
        summary, details = split_summary(view.prediction.sentence if view.prediction else "")
    error = str(view.state.get("error") or "") if view.status is RunStatus.FAILED else ""
    needs_worker = view.status in (RunStatus.QUEUED, RunStatus.INTERRUPTED)
    share = _share(view)
    return render(
        "experiments/status.html",
        summary=summary,
        details=details,
        verdict=(view.prediction.verdict or "") if is_done and view.prediction else "",
        progress=_progress_text(view),
        is_live=view.live,
        share=share,
        announcement=_announcement(view, share),
        problems=[problem for problem in (error, view.problem, worker_problem if needs_worker else "") if problem],
        disclaimer=_disclaimer(view),
    )


def split_summary(text: str) -> tuple[str, str]:
    """The first sentence, or two if they are short, and the rest."""
    sentences = re.split(r"(?<=[.:]) (?=[A-Z])", text)
    first = 1 + (len(sentences) > 1 and len(sentences[0]) + len(sentences[1]) <= _MAX_SUMMARY)
    return " ".join(sentences[:first]), " ".join(sentences[first:])


def _interim_summary(view: RunView) -> str:
    """pass@k so far at the smallest and largest claimed k. No verdict, because looking at interim verdicts biases them."""
    models = view.result.models if view.result else ()
    curves = {model.name: {point.k: point.estimate for point in model.pass_at_k} for model in models}
    curves = {name: curve for name, curve in curves.items() if any(value is not None for value in curve.values())}
    ks = [k for k in view.spec.claimed_ks if all(curve.get(k) is not None for curve in curves.values())] if curves else []
    parts = (
        f"pass@{k}: " + ", ".join(f"{name} {percent(curve[k])}" for name, curve in curves.items())
        for k in dict.fromkeys((*ks[:1], *ks[-1:]))
    )
    return f"So far {'; '.join(parts)}." if ks else ""


def _disclaimer(view: RunView) -> str:
    if view.toys:
        return _TOY.format(f"{' and '.join(view.toys)} {'were' if len(view.toys) > 1 else 'was'}")
    return _SCRIPTED if any(model.engine == "scripted" for model in view.spec.models.values()) and not view.imported else ""


def _share(view: RunView) -> float:
    total = view.progress.get("total") or 0
    return min(1.0, view.progress.get("done", 0) / total) if total else 0.0


def _progress_text(view: RunView) -> str:
    """`Running, base: 3,200 of 6,400 attempts, 120 attempts/s, about 30 s left, 12,000 tokens.`"""
    state, progress = _STATES[view.status], view.progress
    if view.status is RunStatus.SUCCEEDED and not view.evidence:
        state = "All attempts are done. The evidence note is being written"
    if not progress or view.status is RunStatus.QUEUED:
        return f"{state}."
    if view.status is RunStatus.RUNNING:
        state += f", {progress.get('model', '')}{' (starting)' if progress.get('doing') == 'starting' else ''}"
    done, total = progress.get("done", 0), progress.get("total", 0)
    attempts = f"{done:,} of {count(total, 'attempt')}" if done < total else count(done, "attempt")
    parts = [f"{state}: {attempts}"]
    if view.status is RunStatus.RUNNING and progress.get("rate"):
        parts.append(f"{progress['rate']:,.0f} attempts/s")
    if view.status is RunStatus.RUNNING and progress.get("eta_s") is not None:
        parts.append(f"about {duration(progress['eta_s'])} left")
    if progress.get("tokens"):
        parts.append(count(progress["tokens"], "token"))
    if view.status in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED) and view.state.get("seconds"):
        parts.append(duration(float(view.state["seconds"])))
    return f"{', '.join(parts)}."


def _announcement(view: RunView, share: float) -> str:
    """For screen readers: changes with the status and every 10 percent, not with every attempt."""
    if view.status is RunStatus.RUNNING:
        return f"Running, {10 * int(10 * share)} percent"
    return _STATES[view.status]
