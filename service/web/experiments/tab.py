"""The Experiments tab: the list of runs, the page of a run, and the form that starts one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import yaml
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.experiments.execution import control
from service.experiments.execution.run_store import RunStatus
from service.web.components.event_order import one_at_a_time
from service.web.components.messages import error_html, error_text
from service.web.components.templates import render
from service.web.event_effects import reads, writes
from service.web.experiments import form
from service.web.experiments.page import list_html, status_html, title_html
from service.web.experiments.results import results_html
from service.web.experiments.run_view import CURVE_SIZE, RunView, run_lines, run_view
from service.web.experiments.worker_process import WorkerSupervisor

_IMPORT_TYPES = [".csv", ".jsonl", ".json", ".eval", ".gz"]
_N_OUTPUTS = 9


@dataclass(frozen=True, slots=True)
class ExperimentsTab:
    """Gradio components. `outputs`: a run or the form. `form`: the editor and its message. `shown`: the open run and the
    version of its page. `check`: handler, inputs and outputs of the check when the tab opens."""

    outputs: list[Any]
    form: list[Any]
    shown: Any
    timer: Any
    check: tuple[Any, list[Any], list[Any]]


def build_experiments_tab(kb: KnowledgeBase, worker: WorkerSupervisor) -> ExperimentsTab:
    """Lays out the tab, and connects its buttons."""
    shown = gr.State(("", ""))
    checked_text = gr.State("")
    with gr.Row(elem_id="experiment-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            with gr.Column(elem_id="experiment-form"):
                gr.HTML(form.presets_html(), apply_default_css=False)
                spec = gr.Textbox(
                    form.PRESETS["pair"][1], elem_id="experiment-spec", label="Spec (YAML)", container=False,
                    lines=12, max_lines=28, html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
                )  # fmt: skip
                plan = gr.HTML(elem_id="experiment-check", apply_default_css=False)
                with gr.Row(elem_id="experiment-acts"):
                    start_button = gr.Button("Start", elem_id="experiment-start", variant="primary", scale=0)
                    again_button = gr.Button("Run again with a new seed", elem_id="experiment-again", visible="hidden", scale=0)
                message = gr.HTML(elem_id="experiment-told", apply_default_css=False)
                *import_fields, import_button, import_message = _import_form()
            with gr.Column(elem_id="experiment-run"):
                title = gr.HTML(elem_id="experiment-title", apply_default_css=False)
                status = gr.HTML(elem_id="experiment-status", apply_default_css=False)
                with gr.Row(elem_id="experiment-controls"):
                    cancel_button = gr.Button("Cancel", elem_id="experiment-cancel", visible="hidden", scale=0)
                    resume_button = gr.Button("Resume", elem_id="experiment-resume", visible="hidden", scale=0)
                curve = gr.HTML(elem_id="experiment-curve", apply_default_css=False)
                results = gr.HTML(elem_id="experiment-results", apply_default_css=False)
        with gr.Column(elem_classes="aside"):
            runs = gr.HTML(elem_id="experiment-list", apply_default_css=False)
    timer = gr.Timer(1.0, active=False)
    outputs = [title, status, cancel_button, resume_button, curve, results, runs, timer, shown]
    assert len(outputs) == _N_OUTPUTS
    unchanged = (gr.skip(),) * _N_OUTPUTS

    @reads
    def check(text: str) -> tuple[Any, ...]:
        html, can_run = form.check_spec(kb, text)
        return html, gr.Button(interactive=can_run), gr.Button(visible="hidden"), text

    @reads
    def check_on_open(text: str, last_text: str) -> tuple[Any, ...]:
        """Skips the check if the user has typed something else in the meantime."""
        return (gr.skip(),) * 3 if last_text not in ("", text) else check(text)[:3]

    @writes("start a run")
    def start(text: str, again: bool = False) -> tuple[Any, ...]:
        try:
            submitted = control.submit(kb.home, form.parse_spec(kb, text), again=again)
        except Exception as error:
            return *unchanged, error_html(error), gr.Button(visible="hidden")
        if not submitted.fresh:
            notice = render("experiments/started_before.html", run_id=submitted.run.id)
            return *unchanged, notice, gr.Button(visible=True)
        worker.wake()
        return *run_values(kb, submitted.run.id, worker.problem), "", gr.Button(visible="hidden")

    def change_run(shown_run: tuple[str, str], action: Any) -> tuple[Any, ...]:
        try:
            action(kb.home, shown_run[0])
            worker.wake()
        except Exception as error:
            return run_values(kb, shown_run[0], error_text(error))
        return run_values(kb, shown_run[0], worker.problem)

    @writes("import results")
    def import_results(files: Sequence[str] | None, claim: str, base: str, tuned: str, prediction: str) -> tuple[Any, ...]:
        try:
            run_id = import_run(kb, [Path(name) for name in files or ()], claim, base, tuned, prediction)
        except Exception as error:
            return *unchanged, error_html(error)
        return *run_values(kb, run_id), ""

    hidden = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "once"}
    checks = [plan, start_button, again_button]
    spec.change(check, spec, [*checks, checked_text], **(one_at_a_time("check") | {"trigger_mode": "always_last"}))
    expect_run = "(...values) => (window.passkb?.expectRun(), values)"
    start_again = writes("start a run again")(lambda text: start(text, True))
    again_button.click(start_again, spec, [*outputs, message, again_button], js=expect_run, **hidden)
    start_button.click(start, spec, [*outputs, message, again_button], js=expect_run, **hidden)
    turn = one_at_a_time("run") | {"trigger_mode": "once"}  # the run that was opened last stays open
    cancel_button.click(writes("cancel a run")(lambda now: change_run(now, control.cancel)), shown, outputs, **turn)
    resume_button.click(writes("resume a run")(lambda now: change_run(now, control.resume)), shown, outputs, **turn)
    timer.tick(reads(lambda now: poll_values(kb, now, worker.problem)), shown, outputs, **turn)
    import_button.click(import_results, import_fields, [*outputs, import_message], js=expect_run, **hidden)
    return ExperimentsTab(outputs, [spec, message], shown, timer, (check_on_open, [spec, checked_text], checks))


def _import_form() -> list[Any]:
    """Files, claim, names, prediction; button; message."""
    with gr.Accordion("Import counts or completions", open=False, elem_id="experiment-import"):
        gr.HTML(render("experiments/import_intro.html"), apply_default_css=False)
        files = gr.File(
            file_count="multiple", file_types=_IMPORT_TYPES, elem_id="import-files", label="Files", show_label=False,
            height=120,
        )  # fmt: skip
        claim = gr.Textbox(elem_id="import-claim", label="Claim (NOTE#ID, optional)", max_lines=1)
        with gr.Row():
            base = gr.Textbox(elem_id="import-base", label="Name of the base model", max_lines=1)
            tuned = gr.Textbox(elem_id="import-tuned", label="Name of the tuned model", max_lines=1)
        prediction = gr.Textbox(elem_id="import-prediction", label="Prediction (YAML, default: crossover)", max_lines=1)
        button = gr.Button("Import", elem_id="import-button", scale=0)
        message = gr.HTML(elem_id="import-told", apply_default_css=False)
    return [files, claim, base, tuned, prediction, button, message]


def import_run(kb: KnowledgeBase, files: Sequence[Path], claim: str, base: str, tuned: str, prediction: str) -> str:
    """Imports files as a run with an evidence note. Returns the run's id. Raises PasskbError."""
    from service.experiments.importers.import_run import import_files
    from service.experiments.report.evidence import publish

    if not files:
        raise PasskbError("choose one or more files to import")
    try:
        parsed_prediction = yaml.safe_load(prediction) if prediction.strip() else None
    except yaml.YAMLError as error:
        raise PasskbError(f"the prediction is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    names = {"claim": claim.strip(), "base": base.strip(), "tuned": tuned.strip()}
    run = import_files(kb.home, list(files), **names, prediction=parsed_prediction)
    publish(kb.home, run, lambda home: KnowledgeBase(home, kb.embedder))
    return str(run.id)


def start_values(kb: KnowledgeBase) -> tuple[Any, ...]:
    """Values for `outputs`: the form and the list of runs."""
    return _without_run(kb, "", "")


def run_values(kb: KnowledgeBase, run_id: str, worker_problem: str = "") -> tuple[Any, ...]:
    """Values for `outputs`: a run's page, or the form without an id."""
    if not run_id.strip():
        return start_values(kb)
    try:
        return _page(kb, run_view(kb.home, run_id.strip()[:300]), worker_problem)
    except Exception as error:
        return _without_run(kb, render("components/heading.html", title="Cannot show this run"), error_html(error))


def _without_run(kb: KnowledgeBase, title: str, status: str) -> tuple[Any, ...]:
    no_button = gr.Button(visible="hidden")
    return title, status, no_button, no_button, "", "", _run_list(kb, ""), gr.Timer(active=False), ("", "")


def refresh_values(kb: KnowledgeBase, shown: tuple[str, str], worker_problem: str = "") -> tuple[Any, ...]:
    """Values for `outputs` when the user opens the tab: the current state of the open run or of the list of runs."""
    if shown[0]:
        return run_values(kb, shown[0], worker_problem)
    return *(gr.skip(),) * 6, _run_list(kb, ""), gr.skip(), gr.skip()


def poll_values(kb: KnowledgeBase, shown: tuple[str, str], worker_problem: str = "") -> tuple[Any, ...]:
    """Values for `outputs` every second; no updates unless the run has changed."""
    unchanged = (gr.skip(),) * _N_OUTPUTS
    if not shown[0]:
        return *unchanged[:7], gr.Timer(active=False), gr.skip()
    try:
        view = run_view(kb.home, shown[0])
    except (PasskbError, OSError):
        return unchanged
    return unchanged if _version(view, worker_problem) == shown[1] else _page(kb, view, worker_problem)


def _page(kb: KnowledgeBase, view: RunView, worker_problem: str) -> tuple[Any, ...]:
    can_cancel = view.status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED)
    can_resume = view.status in (RunStatus.FAILED, RunStatus.CANCELLED)
    return (
        title_html(view),
        status_html(view, worker_problem),
        gr.Button(visible=True if can_cancel else "hidden"),
        gr.Button(visible=True if can_resume else "hidden"),
        curve_html(view),
        results_html(view),
        _run_list(kb, view.id),
        gr.Timer(active=view.live),
        (view.id, _version(view, worker_problem)),
    )


def curve_html(view: RunView) -> Markup:
    """The curve with its band; empty before the first counts."""
    from service.experiments.report.curve import curve_svg

    points = [point for model in view.result.models for point in model.pass_at_k] if view.result else []
    if not view.result or all(point.estimate is None for point in points):
        return Markup()
    return render("experiments/curve.html", svg=Markup(curve_svg(view.result, *CURVE_SIZE)))


def _version(view: RunView, worker_problem: str) -> str:
    return f"{view.version} {worker_problem}"


def _run_list(kb: KnowledgeBase, shown: str) -> Markup:
    try:
        return list_html(run_lines(kb.home), shown)
    except Exception as error:
        return error_html(error)
