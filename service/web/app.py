"""The web app: the tabs Ask, Notes, Claims and Experiments, and the server that serves them.

The app loads no engine: it queues runs, and reads their progress from files that a worker process writes.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.api.admission import Admission
from service.api.operations import Access
from service.auth.accounts import Accounts
from service.config import read_config
from service.llm.client import Model
from service.log import logger
from service.web.ask.conversation import Conversations
from service.web.ask.events import connect_ask_events
from service.web.ask.progress import AskServices
from service.web.ask.tab import build_ask_tab, welcome_html
from service.web.claims.tab import build_claims_tab, ledger_html
from service.web.components.event_order import in_parallel, one_at_a_time
from service.web.components.messages import error_html
from service.web.event_effects import protect, reads, writes
from service.web.experiments.form import form_values
from service.web.experiments.tab import build_experiments_tab, refresh_values, run_values, start_values
from service.web.experiments.worker_process import WorkerSupervisor
from service.web.header import build_header, header_values, open_panel_values
from service.web.indexing_progress import Indexing
from service.web.middleware import middleware_stack
from service.web.notes.actions import ActionResult, apply_action
from service.web.notes.tab import build_notes_tab, error_page, note_page
from service.web.security.session_token import SessionTokens
from service.web.security.sessions import Sessions
from service.web.server.health import HealthCheck
from service.web.server.uploads import upload_folder
from service.web.watcher import watch_sources

_STATIC = Path(__file__).parent / "static"
# The events that the page's script sends. Gradio accepts only names that occur in this text.
_BRIDGE = """
const names = ['ask_question', 'cancel_run', 'change_note', 'clear_history', 'fill_form', 'open_note', 'open_run',
  'open_sources', 'restore_history', 'resume_run', 'save_answer', 'start_run'];
window.passkbSend = (name, data) => names.includes(name) && trigger(name, data);
document.dispatchEvent(new Event("passkb-ready"));
"""
_log = logger("web")
_MAX_FILE_SIZE = "50mb"  # of an imported file


def build(
    kb: KnowledgeBase,
    indexing: Indexing | None = None,
    worker: WorkerSupervisor | None = None,
    model: Model | None = None,
    sessions: Sessions | None = None,
    admission: Admission | None = None,
    *,
    can_sign_out: bool = False,
) -> Any:
    """The app as `gr.Blocks`.

    `worker`: executes queued runs; None: nothing does. `model`: writes answers; None: answers are quotes. `sessions`: whose
    pages may write. `admission`: the queue that questions and pages share with the APIs."""
    indexing, worker = indexing or Indexing(), worker or WorkerSupervisor(kb.home, allowed=False)
    services, conversations = AskServices(kb, worker, model, admission or Admission()), Conversations()
    with gr.Blocks(title="passkb", analytics_enabled=False, fill_width=True) as blocks:
        header = build_header(kb, indexing, worker, can_sign_out=can_sign_out)
        bridge = gr.HTML(elem_id="bridge", elem_classes="offstage", js_on_load=_BRIDGE, apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Ask", id="ask", elem_id="tab-ask", render_children=True) as ask:
                ask_tab = build_ask_tab(services, conversations)
            with gr.Tab("Notes", id="notes", elem_id="tab-notes", render_children=True) as notes:
                notes_tab = build_notes_tab(kb, services.admission)
            with gr.Tab("Claims", id="claims", elem_id="tab-claims", render_children=True) as claims:
                claims_tab = build_claims_tab(kb)
            with gr.Tab("Experiments", id="experiments", elem_id="tab-experiments", render_children=True) as experiments:
                experiments_tab = build_experiments_tab(kb, worker)

        @reads
        def load(request: gr.Request) -> tuple[Any, ...]:
            query = dict(request.query_params)
            welcome = gr.skip() if query.get("q", "").strip() else _welcome(services, indexing)
            run = run_values(kb, query.get("run", ""), worker.problem)
            page = _note_page(services, query.get("note", ""))
            return *header_values(kb, indexing, worker), welcome, *page, ledger_html(kb), *run

        @reads
        def open_note(event: gr.EventData) -> tuple[Any, ...]:
            return _note_page(services, str(event._data.get("note", "")))

        @writes("accept, dismiss or remove a link, or ask an inquiry again")
        def change_note(event: gr.EventData) -> tuple[Any, ...]:
            return _note_page(services, str(event._data.get("of", "")), apply_action(kb, event._data, model))

        @reads
        def unload(request: gr.Request) -> None:
            conversations.close(request.session_hash)

        @reads
        def open_run(event: gr.EventData) -> tuple[Any, ...]:
            return run_values(kb, str(event._data.get("run", "")), worker.problem)

        @reads
        def fill_form(event: gr.EventData) -> tuple[Any, ...]:
            fields = {name: str(event._data.get(name) or "") for name in ("claim", "preset", "spec")}
            return *start_values(kb), *form_values(kb, **fields)

        hidden = {"show_progress": "hidden", "api_visibility": "private"}
        page = [*header.line, ask_tab.answer, *notes_tab.outputs, claims_tab.table, *experiments_tab.outputs]
        blocks.load(load, None, page, **hidden)
        blocks.unload(unload)
        panel = [header.panel_is_open, *header.panel]
        bridge.open_sources(reads(lambda: open_panel_values(kb, indexing, worker)), None, panel, **hidden)
        bridge.open_note(open_note, None, notes_tab.outputs, **one_at_a_time("open_note"))
        bridge.change_note(change_note, None, notes_tab.outputs, **in_parallel("change_note"))
        connect_ask_events(bridge, services, conversations, ask_tab)
        run_outputs = experiments_tab.outputs
        bridge.open_run(open_run, None, run_outputs, **one_at_a_time("run"))
        bridge.fill_form(fill_form, None, [*run_outputs, *experiments_tab.form], **one_at_a_time("run"))
        filter_claims = reads(lambda words, status: ledger_html(kb, words, status))
        claims.select(filter_claims, claims_tab.filters, claims_tab.table, **hidden)
        refresh = reads(lambda shown: refresh_values(kb, shown, worker.problem))
        experiments.select(refresh, experiments_tab.shown, run_outputs, **one_at_a_time("run"))
        experiments.select(*experiments_tab.check, **one_at_a_time("check"))
        for other_tab in (ask, notes, claims):
            other_tab.select(reads(lambda: gr.Timer(active=False)), None, experiments_tab.timer, **hidden)
    protect(blocks, (sessions or Sessions(SessionTokens())).refusal)
    return blocks


def _welcome(services: AskServices, indexing: Indexing) -> Markup:
    try:
        return welcome_html(services.kb, not indexing.finished, services.model is not None)
    except Exception as error:
        return error_html(error)


def _note_page(services: AskServices, name: str, result: ActionResult | None = None) -> tuple[Any, ...]:
    try:
        with services.admission.place():
            return note_page(services.kb, name, result, can_propose=services.model is not None)
    except Exception as error:
        return error_page("Cannot show this note", error_html(error))


def appearance() -> dict[str, Any]:
    """Theme and style for `Blocks.launch`, with local fonts only."""
    fonts = [gr.themes.Font(name) for name in ("system-ui", "sans-serif")]
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=fonts, font_mono=[gr.themes.Font("monospace")])
    style = Markup((_STATIC / "style.css").read_text("utf-8"))
    return {"theme": theme, "head": str(Markup("<style>{}</style>").format(style))}


def serve(
    kb: KnowledgeBase,
    host: str,
    port: int,
    accounts: Accounts | None = None,
    *,
    worker: bool = True,
    model: Model | None = None,
) -> None:
    """Serves the app until SIGINT or SIGTERM, and syncs the registered sources in the background.

    `accounts`: who may sign in; None: no sign-in. `worker`: run queued experiments in a worker process. `model`: writes
    answers, also for the APIs. Raises PasskbError if the port is in use.
    """
    # Without this, uvicorn takes client addresses from X-Forwarded-For, and a client could evade the sign-in limit.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    with upload_folder():
        _serve(kb, host, port, accounts, worker=worker, model=model)


def _serve(kb: KnowledgeBase, host: str, port: int, accounts: Accounts | None, *, worker: bool, model: Model | None) -> None:
    indexing, supervisor = Indexing(), WorkerSupervisor(kb.home, allowed=worker)
    sessions, launched = Sessions(SessionTokens()), threading.Event()
    max_waiting = read_config(kb.home).max_waiting
    admission = Admission(waiting=max_waiting)
    blocks = build(kb, indexing, supervisor, model, sessions, admission, can_sign_out=accounts is not None)
    access = Access(kb, lambda: model, f"http://{host}:{port}", admission)
    health = HealthCheck(kb.home, lambda: indexing.ready)
    middleware = middleware_stack(host, access, accounts, sessions, launched, health)
    # Gradio queues events of its own beyond 16 running questions. Beyond `max_size` it reports that it is busy.
    blocks.queue(api_open=False, default_concurrency_limit=8, max_size=max(1, max_waiting))
    try:
        blocks.launch(
            server_name=host, server_port=port, share=False, quiet=True, ssr_mode=False, footer_links=[],
            run_history=False, enable_monitoring=False, pwa=False, mcp_server=False, show_error=False, inbrowser=False,
            prevent_thread_lock=True, max_file_size=_MAX_FILE_SIZE, app_kwargs={"middleware": middleware}, **appearance(),
        )  # fmt: skip
    except OSError as error:
        in_use = "Cannot find empty port" in str(error)
        reason = "is in use or not allowed" if in_use else f"cannot be opened ({error})"
        raise PasskbError(f"port {port} on {host} {reason}: choose another with --port") from None
    stop = threading.Event()
    watcher = threading.Thread(target=watch_sources, args=(kb, indexing, stop), name="watching", daemon=True)
    try:  # an interrupt from here on must close the server, whose thread would keep the process alive
        launched.set()
        print(f"passkb: http://{host}:{port}", flush=True)
        _log.info("serving %s at http://%s:%d, %d questions at once", kb.home, host, port, admission.running)
        indexing.start(kb)
        supervisor.start()
        watcher.start()
        _wait_for_sigterm()
    finally:
        stop.set()
        supervisor.stop()
        blocks.close(verbose=False)
        if watcher.is_alive():
            watcher.join(timeout=10)


def _wait_for_sigterm() -> None:
    """Returns after SIGTERM. A keyboard interrupt raises KeyboardInterrupt."""
    terminated = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: terminated.set())
    while not terminated.wait(1.0):
        pass
