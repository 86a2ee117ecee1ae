"""The Experiments tab: the runs, one run's page that follows it, and the form that starts one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import yaml

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.experiments.execution import control
from service.experiments.execution.run_store import RunStatus
from service.web.components.event_order import one_at_a_time
from service.web.components.html import explained, run_link, sentence
from service.web.event_effects import reads, writes
from service.web.experiments import form
from service.web.experiments.page import list_html, status_html, title_html
from service.web.experiments.results import results_html
from service.web.experiments.run_view import CURVE, RunView, run_lines, run_view
from service.web.experiments.worker_process import WorkerSupervisor

_KINDS = [".csv", ".jsonl", ".json", ".eval", ".gz"]


@dataclass(frozen=True, slots=True)
class ExperimentsTab:
    """`outputs` show a run or the form; `form` are the editor and what is said of it; `check` reads what is written there."""

    outputs: list[Any]
    form: list[Any]
    shown: Any
    timer: Any
    check: tuple[Any, list[Any], list[Any]]


def build_experiments_tab(kb: KnowledgeBase, working: WorkerSupervisor) -> ExperimentsTab:
    """Lays out the tab and wires its own buttons; opening a run or the form is wired by the app."""
    shown = gr.State(("", ""))  # the open run, and the mark of what is shown of it
    judged = gr.State("")  # the spec that was checked last since it was changed
    with gr.Row(elem_id="experiment-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            with gr.Column(elem_id="experiment-form"):
                gr.HTML("<h1>New experiment</h1>" + form.presets_html(), apply_default_css=False)
                spec = gr.Textbox(
                    form.PRESETS["pair"][1], elem_id="experiment-spec", label="The spec, as YAML", container=False,
                    lines=12, max_lines=28, html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
                )  # fmt: skip
                said = gr.HTML(elem_id="experiment-check", apply_default_css=False)
                with gr.Row(elem_id="experiment-acts"):
                    start = gr.Button("Start", elem_id="experiment-start", variant="primary", scale=0)
                    anew = gr.Button("Run again with a new seed", elem_id="experiment-again", visible="hidden", scale=0)
                told = gr.HTML(elem_id="experiment-told", apply_default_css=False)
                bring = _import_form()
            with gr.Column(elem_id="experiment-run"):
                title = gr.HTML(elem_id="experiment-title", apply_default_css=False)
                status = gr.HTML(elem_id="experiment-status", apply_default_css=False)
                with gr.Row(elem_id="experiment-controls"):
                    cancel = gr.Button("Cancel", elem_id="experiment-cancel", visible="hidden", scale=0)
                    resume = gr.Button("Resume", elem_id="experiment-resume", visible="hidden", scale=0)
                curve = gr.HTML(elem_id="experiment-curve", apply_default_css=False)
                results = gr.HTML(elem_id="experiment-results", apply_default_css=False)
        with gr.Column(elem_classes="aside"):
            runs = gr.HTML(elem_id="experiment-list", apply_default_css=False)
    timer = gr.Timer(1.0, active=False)
    outputs = [title, status, cancel, resume, curve, results, runs, timer, shown]
    once = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "once"}

    @reads
    def checked(written: str) -> tuple[Any, ...]:
        html, fits = form.checked_html(kb, written)
        return html, gr.Button(interactive=fits), gr.Button(visible="hidden"), written

    @reads
    def opened(written: str, last: str) -> tuple[Any, ...]:
        """Opening the tab asks, too, and may be heard after what was typed there since: the later text stands."""
        return (gr.skip(),) * 3 if last not in ("", written) else checked(written)[:3]

    @writes("start a run")
    def started(written: str, again: bool = False) -> tuple[Any, ...]:
        try:
            submitted = control.submit(kb.home, form.read(kb, written), again=again)
        except Exception as error:
            return *(gr.skip(),) * len(outputs), sentence(explained(error)), gr.Button(visible="hidden")
        if not submitted.fresh:
            open_it = run_link(submitted.run.id, "open its run")
            words = f'<p class="message" role="alert">This very experiment was started before: {open_it}, or repeat it.</p>'
            return *(gr.skip(),) * len(outputs), words, gr.Button(visible=True)
        working.wake()
        return *run_page(kb, submitted.run.id, working.problem), "", gr.Button(visible="hidden")

    def acted(now: tuple[str, str], act: Any) -> tuple[Any, ...]:
        try:
            act(kb.home, now[0])
            working.wake()
        except Exception as error:
            return run_page(kb, now[0], explained(error))
        return run_page(kb, now[0], working.problem)

    @writes("import results")
    def brought(files: Sequence[str] | None, claim: str, base: str, tuned: str, prediction: str) -> tuple[Any, ...]:
        try:
            run_id = imported(kb, [Path(name) for name in files or ()], claim, base, tuned, prediction)
        except Exception as error:
            return *(gr.skip(),) * len(outputs), sentence(explained(error))
        return *run_page(kb, run_id), ""

    spec.change(checked, spec, [said, start, anew, judged], **(one_at_a_time("check") | {"trigger_mode": "always_last"}))
    opening = "(spec) => (window.passkb?.opened(), spec)"
    again = writes("start a run again")(lambda written: started(written, True))
    anew.click(again, spec, [*outputs, told, anew], js=opening, **once)
    start.click(started, spec, [*outputs, told, anew], js=opening, **once)
    turn = one_at_a_time("run") | {"trigger_mode": "once"}  # what shows a run takes turns, so that the one opened last stays
    cancel.click(writes("cancel a run")(lambda now: acted(now, control.cancel)), shown, outputs, **turn)
    resume.click(writes("resume a run")(lambda now: acted(now, control.resume)), shown, outputs, **turn)
    timer.tick(reads(lambda now: followed(kb, now, working.problem)), shown, outputs, **turn)
    *given, button, heard = bring
    button.click(brought, given, [*outputs, heard], js="(...given) => (window.passkb?.opened(), given)", **once)
    return ExperimentsTab(outputs, [spec, told], shown, timer, (opened, [spec, judged], [said, start, anew]))


def _import_form() -> list[Any]:
    """Files, claim, names, prediction; the button; what is said."""
    with gr.Accordion("Import counts or completions", open=False, elem_id="experiment-import"):
        about = (
            "<p>Counts as CSV with the columns <code>model,problem_id,n,c</code>, or completions with verdicts as JSONL, in "
            "the layouts of human-eval, evalplus and lm-eval. They get the same page, verdict and evidence note as a run.</p>"
        )
        gr.HTML(about, apply_default_css=False)
        files = gr.File(
            file_count="multiple", file_types=_KINDS, elem_id="import-files", label="Files", show_label=False, height=120
        )
        claim = gr.Textbox(elem_id="import-claim", label="Claim it is evidence for (NOTE#ID, may stay empty)", max_lines=1)
        with gr.Row():
            base = gr.Textbox(elem_id="import-base", label="Which model is the base", max_lines=1)
            tuned = gr.Textbox(elem_id="import-tuned", label="Which is the tuned one", max_lines=1)
        prediction = gr.Textbox(elem_id="import-prediction", label="Prediction, as YAML (crossover if empty)", max_lines=1)
        button = gr.Button("Import", elem_id="import-button", scale=0)
        heard = gr.HTML(elem_id="import-told", apply_default_css=False)
    return [files, claim, base, tuned, prediction, button, heard]


def imported(kb: KnowledgeBase, files: Sequence[Path], claim: str, base: str, tuned: str, prediction: str) -> str:
    """The id of the run that the files became, with its evidence note written. Raises PasskbError."""
    from service.experiments.importers.import_run import import_files
    from service.experiments.report.evidence import publish

    if not files:
        raise PasskbError("choose one or more files to import")
    try:
        foreseen = yaml.safe_load(prediction) if prediction.strip() else None
    except yaml.YAMLError as error:
        raise PasskbError(f"the prediction is not YAML: {' '.join(str(error).split())[:200]}") from error
    names = {"claim": claim.strip(), "base": base.strip(), "tuned": tuned.strip()}
    run = import_files(kb.home, list(files), **names, prediction=foreseen)
    publish(kb.home, run, lambda home: KnowledgeBase(home, kb.embedder))
    return str(run.id)


def start_page(kb: KnowledgeBase) -> tuple[Any, ...]:
    """Values for `outputs`: the form and the runs."""
    none = gr.Button(visible="hidden")
    return (
        "", "", none, none, "", "", _listed(kb, ""),
        gr.Timer(active=False), ("", ""),
    )  # fmt: skip


def run_page(kb: KnowledgeBase, run_id: str, trouble: str = "") -> tuple[Any, ...]:
    """Values for `outputs`: a run's page; without an id, or with one that is not there, the form."""
    if not run_id.strip():
        return start_page(kb)
    try:
        return _page(kb, run_view(kb.home, run_id.strip()[:300]), trouble)
    except Exception as error:
        none = gr.Button(visible="hidden")
        return (
            "<h1>This run can not be shown</h1>",
            sentence(explained(error)), none, none, "", "", _listed(kb, ""), gr.Timer(active=False), ("", ""),
        )  # fmt: skip


def reopened(kb: KnowledgeBase, now: tuple[str, str], trouble: str = "") -> tuple[Any, ...]:
    """Values for `outputs` when the tab is shown again: the open run as it is now, or the newest list beside the form."""
    if now[0]:
        return run_page(kb, now[0], trouble)
    return *(gr.skip(),) * 6, _listed(kb, ""), gr.skip(), gr.skip()


def followed(kb: KnowledgeBase, now: tuple[str, str], trouble: str = "") -> tuple[Any, ...]:
    """Values for `outputs` after a second: nothing, unless something of the run has changed."""
    skipped = (gr.skip(),) * 9
    if not now[0]:
        return *skipped[:7], gr.Timer(active=False), gr.skip()
    try:
        view = run_view(kb.home, now[0])
    except (PasskbError, OSError):
        return skipped
    return skipped if _mark(view, trouble) == now[1] else _page(kb, view, trouble)


def _page(kb: KnowledgeBase, view: RunView, trouble: str) -> tuple[Any, ...]:
    going = view.status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED)
    stopped = view.status in (RunStatus.FAILED, RunStatus.CANCELLED)
    return (
        title_html(view),
        status_html(view, trouble),
        gr.Button(visible=True if going else "hidden"),
        gr.Button(visible=True if stopped else "hidden"),
        curve_html(view),
        results_html(view),
        _listed(kb, view.id),
        gr.Timer(active=view.live),
        (view.id, _mark(view, trouble)),
    )


def curve_html(view: RunView) -> str:
    """The curve with its band, as far as there are counts."""
    from service.experiments.report.curve import curve_svg

    if not any(entry["estimate"] is not None for model in view.result.get("models") or () for entry in model["pass_at_k"]):
        return ""
    return f'<div class="curve">{curve_svg(view.result, *CURVE)}</div>'


def _mark(view: RunView, trouble: str) -> str:
    return f"{view.mark} {trouble}"


def _listed(kb: KnowledgeBase, shown: str) -> str:
    try:
        return list_html(run_lines(kb.home), shown)
    except Exception as error:
        return sentence(explained(error))
