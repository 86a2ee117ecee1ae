"""The web app: tabs Ask, Notes, Claims and Experiments over a KnowledgeBase. The pure renderers beside it make what is shown.

It holds no GPU: runs are queued here and read from their files; a worker process executes them.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.api.admission import Admission
from service.api.operations import Access
from service.auth.accounts import Accounts
from service.config import read_config
from service.llm.client import Model
from service.log import logger
from service.web.ask.conversation import Conversations
from service.web.ask.events import listen_for_questions
from service.web.ask.progress import Desk
from service.web.ask.tab import build_ask_tab, welcome_html
from service.web.claims.tab import build_claims_tab, ledger
from service.web.components.event_order import in_parallel, one_at_a_time
from service.web.components.html import explained, sentence
from service.web.event_effects import protect, reads, writes
from service.web.experiments.form import filled
from service.web.experiments.tab import build_experiments_tab, reopened, run_page, start_page
from service.web.experiments.worker_process import WorkerSupervisor
from service.web.header import build_header, header_values, open_panel_values
from service.web.indexing_progress import Indexing
from service.web.middleware import middleware_stack
from service.web.notes.actions import Tended, tend
from service.web.notes.tab import build_notes_tab, note_page
from service.web.security.session_token import SessionTokens
from service.web.security.sessions import Sessions
from service.web.server.health import HealthCheck
from service.web.server.uploads import upload_folder
from service.web.watcher import watch_sources

_STATIC = Path(__file__).parent / "static"
# Events that the page sends over the bridge: the names stand here so that Gradio knows them.
_BRIDGE = """
const names = ['walk', 'question', 'sources', 'start', 'stop', 'resume', 'run', 'fill', 'restore', 'forget', 'keep', 'tend'];
window.passkbSend = (name, data) => names.includes(name) && trigger(name, data);
document.dispatchEvent(new Event("passkb-ready"));
"""
_log = logger("web")
_LARGEST = "50mb"  # of a file that is imported


def build(
    kb: KnowledgeBase,
    indexing: Indexing | None = None,
    working: WorkerSupervisor | None = None,
    model: Model | None = None,
    sessions: Sessions | None = None,
    admission: Admission | None = None,
    *,
    can_sign_out: bool = False,
) -> Any:
    """The app as `gr.Blocks`. `indexing`: shown in the header while it runs. `working`: told when a run is queued; without it
    nothing works on them. `model`: writes answers; without it they are quotes. `sessions`: whose pages may start and write.
    `admission`: the queue that questions and pages wait in, with whoever else uses this knowledge base."""
    reading, worker = indexing or Indexing(), working or WorkerSupervisor(kb.home, allowed=False)
    desk, talks = Desk(kb, worker, model, admission or Admission()), Conversations()
    with gr.Blocks(title="passkb", analytics_enabled=False, fill_width=True) as blocks:
        header = build_header(kb, reading, worker, can_sign_out=can_sign_out)
        bridge = gr.HTML(elem_id="bridge", elem_classes="offstage", js_on_load=_BRIDGE, apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Ask", id="ask", elem_id="tab-ask", render_children=True) as ask:
                ask_tab = build_ask_tab(desk, talks)
            with gr.Tab("Notes", id="notes", elem_id="tab-notes", render_children=True) as notes:
                notes_tab = build_notes_tab(kb, desk.admission)
            with gr.Tab("Claims", id="claims", elem_id="tab-claims", render_children=True) as claims:
                claims_tab = build_claims_tab(kb)
            with gr.Tab("Experiments", id="experiments", elem_id="tab-experiments", render_children=True) as experiments:
                experiments_tab = build_experiments_tab(kb, worker)

        @reads
        def opened(request: gr.Request) -> tuple[Any, ...]:
            wanted = dict(request.query_params)
            welcome = gr.skip() if wanted.get("q", "").strip() else _welcome(desk, reading)
            runs = run_page(kb, wanted.get("run", ""), worker.problem)
            page = _page(desk, wanted.get("note", ""))
            return *header_values(kb, reading, worker), welcome, *page, ledger(kb), *runs

        @reads
        def walked(event: gr.EventData) -> tuple[Any, ...]:
            return _page(desk, str(event._data.get("note", "")))

        @writes("accept, dismiss or take back a link, or ask an inquiry again")
        def tended(event: gr.EventData) -> tuple[Any, ...]:
            return _page(desk, str(event._data.get("of", "")), tend(kb, event._data, model))

        @reads
        def left(request: gr.Request) -> None:
            talks.close(request.session_hash)

        @reads
        def run_opened(event: gr.EventData) -> tuple[Any, ...]:
            return run_page(kb, str(event._data.get("run", "")), worker.problem)

        @reads
        def form_filled(event: gr.EventData) -> tuple[Any, ...]:
            given = {name: str(event._data.get(name) or "") for name in ("claim", "preset", "spec")}
            return *start_page(kb), *filled(kb, **given)

        quietly = {"show_progress": "hidden", "api_visibility": "private"}
        everything = [*header.line, ask_tab.answer, *notes_tab.outputs, claims_tab.table, *experiments_tab.outputs]
        blocks.load(opened, None, everything, **quietly)
        looked = [header.panel_is_open, *header.panel]
        bridge.sources(reads(lambda: open_panel_values(kb, reading, worker)), None, looked, **quietly)
        bridge.walk(walked, None, notes_tab.outputs, **one_at_a_time("walk"))
        bridge.tend(tended, None, notes_tab.outputs, **in_parallel("tend"))
        listen_for_questions(bridge, desk, talks, ask_tab)
        blocks.unload(left)
        bridge.run(run_opened, None, experiments_tab.outputs, **one_at_a_time("run"))
        bridge.fill(form_filled, None, [*experiments_tab.outputs, *experiments_tab.form], **one_at_a_time("run"))
        claims.select(reads(lambda words, status: ledger(kb, words, status)), claims_tab.filters, claims_tab.table, **quietly)
        shown, pages = experiments_tab.shown, experiments_tab.outputs
        experiments.select(reads(lambda now: reopened(kb, now, worker.problem)), shown, pages, **one_at_a_time("run"))
        experiments.select(*experiments_tab.check, **one_at_a_time("check"))
        for elsewhere in (ask, notes, claims):
            elsewhere.select(reads(lambda: gr.Timer(active=False)), None, experiments_tab.timer, **quietly)
    protect(blocks, (sessions or Sessions(SessionTokens())).refusal)
    return blocks


def _welcome(desk: Desk, reading: Indexing) -> str:
    try:
        return welcome_html(desk.kb, not reading.finished, desk.model is not None)
    except Exception as error:
        return sentence(explained(error))


def _page(desk: Desk, name: str, done: Tended | None = None) -> tuple[Any, ...]:
    try:
        with desk.admission.place():
            return note_page(desk.kb, name, done, can_propose=desk.model is not None)
    except Exception as error:
        return "", "", "<h1>This note can not be shown</h1>", sentence(explained(error)), "", ""


def look() -> dict[str, Any]:
    """Theme and style, for `launch`: local fonts only, nothing fetched from elsewhere."""
    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=[gr.themes.Font(f) for f in fonts],
                           font_mono=[gr.themes.Font("monospace")])  # fmt: skip
    return {"theme": theme, "head": f"<style>{(_STATIC / 'style.css').read_text('utf-8')}</style>"}


def serve(
    kb: KnowledgeBase,
    host: str,
    port: int,
    accounts: Accounts | None = None,
    *,
    worker: bool = True,
    model: Model | None = None,
) -> None:
    """Serves until interrupted or terminated, reads the registered sources again in the background, and, with `worker`, keeps a
    worker process alive while runs wait. `accounts`: who may sign in; None where nobody needs to. `model`: writes
    answers, also for other programs.

    Raises PasskbError for a port that is in use.
    """
    # Otherwise uvicorn believes every local process that names another client address, and the limit of sign-ins with it.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    with upload_folder():
        _serve(kb, host, port, accounts, worker=worker, model=model)


def _serve(kb: KnowledgeBase, host: str, port: int, accounts: Accounts | None, *, worker: bool, model: Model | None) -> None:
    reading, working = Indexing(), WorkerSupervisor(kb.home, allowed=worker)
    sessions, launched = Sessions(SessionTokens()), threading.Event()
    waiting = read_config(kb.home).max_waiting
    admission = Admission(waiting=waiting)
    blocks = build(kb, reading, working, model, sessions, admission, can_sign_out=accounts is not None)
    access = Access(kb, lambda: model, f"http://{host}:{port}", admission)
    before = middleware_stack(host, access, accounts, sessions, launched, HealthCheck(kb.home, lambda: reading.ready))
    # Events that Gradio holds back (16 questions are let through at once) are limited as well: beyond, it says that it is busy.
    blocks.queue(api_open=False, default_concurrency_limit=8, max_size=max(1, waiting))
    try:
        blocks.launch(
            server_name=host, server_port=port, share=False, quiet=True, ssr_mode=False, footer_links=[],
            run_history=False, enable_monitoring=False, pwa=False, mcp_server=False, show_error=False, inbrowser=False,
            prevent_thread_lock=True, max_file_size=_LARGEST, app_kwargs={"middleware": before}, **look(),
        )  # fmt: skip
    except OSError as error:
        taken = "Cannot find empty port" in str(error)
        reason = "is in use or not allowed" if taken else f"can not be opened ({error})"
        raise PasskbError(f"port {port} on {host} {reason}: choose another with --port") from None
    stop = threading.Event()
    watching = threading.Thread(target=watch_sources, args=(kb, reading, stop), name="watching", daemon=True)
    try:  # from here on an interrupt must close the server: its thread would keep the process alive
        launched.set()
        print(f"passkb: http://{host}:{port}", flush=True)
        _log.info("serving %s at http://%s:%d, %d questions at once", kb.home, host, port, admission.running)
        reading.start(kb)
        working.start()
        watching.start()
        _until_ended()
    finally:
        stop.set()
        working.stop()
        blocks.close(verbose=False)
        if watching.is_alive():
            watching.join(timeout=10)


def _until_ended() -> None:
    """Until SIGTERM; an interrupt from the keyboard is raised as such."""
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    while not ended.wait(1.0):
        pass
