"""The web app: tabs Ask, Notes, Claims and Experiments over a KnowledgeBase. The pure renderers beside it make what is shown.

It holds no GPU: runs are queued here and read from their files; a worker process executes them.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.experiments import control
from service.llm import Model
from service.programs.operations import Access
from service.status import survey
from service.watching import keep_up
from service.web.ask_runs import start_test, stop_test
from service.web.ask_tab import build_ask_tab, welcome_html
from service.web.asking import Desk, exchange, kept, restored
from service.web.claims_tab import build_claims_tab, ledger
from service.web.conversation import Conversations
from service.web.experiment_form import filled
from service.web.experiments_tab import build_experiments_tab, reopened, run_page, start_page
from service.web.guards import guards
from service.web.indexing import Indexing, status_html
from service.web.markup import explained, sentence
from service.web.notes_tab import build_notes_tab, note_page
from service.web.sources_panel import sources_html, summary_html, toggle_html
from service.web.tending import Tended, tend
from service.web.turns import by_page, in_turn
from service.web.working import Working

_HERE = Path(__file__).parent
# Events that the page sends over the bridge: the names stand here so that Gradio knows them.
_BRIDGE = """
const names = ['walk', 'question', 'sources', 'start', 'stop', 'resume', 'run', 'fill', 'restore', 'forget', 'keep', 'tend'];
window.passkbSend = (name, data) => names.includes(name) && trigger(name, data);
document.dispatchEvent(new Event("passkb-ready"));
"""
_SLOWLY = 10.0  # seconds between two looks at whether the watcher has read something
_LARGEST = "50mb"  # of a file that is imported


def build(
    kb: KnowledgeBase, indexing: Indexing | None = None, working: Working | None = None, model: Model | None = None
) -> Any:
    """The app as `gr.Blocks`. `indexing`: shown in the header while it runs. `working`: told when a run is queued; without it
    nothing works on them. `model`: writes answers; without it they are quotes."""
    reading, worker = indexing or Indexing(), working or Working(kb.home, allowed=False)
    desk, talks = Desk(kb, worker, model), Conversations()
    with gr.Blocks(title="passkb", analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="masthead"):
            gr.HTML('<a class="brand" href="/">passkb</a>', elem_id="brand", apply_default_css=False)
            status = gr.HTML(elem_id="status", apply_default_css=False)
            gr.HTML(toggle_html(), elem_id="status-details", apply_default_css=False)
        with gr.Column(elem_id="sources-status"):
            with gr.Row(elem_id="sources-head"):
                summary = gr.HTML(elem_id="sources-summary", apply_default_css=False)
                again = gr.Button("Try again", elem_id="try-again", scale=0)
            listed = gr.HTML(elem_id="sources-list", apply_default_css=False)
        bridge = gr.HTML(elem_id="bridge", elem_classes="offstage", js_on_load=_BRIDGE, apply_default_css=False)
        timer, slowly = gr.Timer(1.0, active=False), gr.Timer(_SLOWLY)
        looked_at, told = gr.State(False), gr.State("")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Ask", id="ask", elem_id="tab-ask", render_children=True) as ask:
                ask_tab = build_ask_tab(desk, talks)
            with gr.Tab("Notes", id="notes", elem_id="tab-notes", render_children=True) as notes:
                notes_tab = build_notes_tab(kb)
            with gr.Tab("Claims", id="claims", elem_id="tab-claims", render_children=True) as claims:
                claims_tab = build_claims_tab(kb)
            with gr.Tab("Experiments", id="experiments", elem_id="tab-experiments", render_children=True) as experiments:
                experiments_tab = build_experiments_tab(kb, worker)

        def opened(request: gr.Request) -> tuple[Any, ...]:
            wanted = dict(request.query_params)
            welcome = gr.skip() if wanted.get("q", "").strip() else _welcome(desk, reading)
            runs = run_page(kb, wanted.get("run", ""), worker.problem)
            page = _page(kb, wanted.get("note", ""), model is not None)
            return *_header(kb, reading, worker), welcome, *page, ledger(kb), *runs

        def ticked(panel_is_shown: bool) -> tuple[Any, ...]:
            return *_header(kb, reading, worker), *(_panel(kb, reading) if panel_is_shown else (gr.skip(),) * 3)

        def looked() -> tuple[Any, ...]:
            return True, *_header(kb, reading, worker), *_panel(kb, reading, whole=True)

        def tried_again() -> tuple[Any, ...]:
            reading.start(kb)
            return _header(kb, reading, worker)[0], gr.Timer(active=True), gr.skip(), gr.skip(), _again(busy=True)

        def glanced(before: str) -> tuple[Any, ...]:
            now, often = _header(kb, reading, worker)
            return (gr.skip(),) * 3 if now == before and reading.finished else (now, often, now)

        def walked(event: gr.EventData) -> tuple[Any, ...]:
            return _page(kb, str(event._data.get("note", "")), model is not None)

        def tended(event: gr.EventData) -> tuple[Any, ...]:
            return _page(kb, str(event._data.get("of", "")), model is not None, tend(kb, event._data, model))

        def questioned(mode: str, event: gr.EventData, request: gr.Request) -> Iterator[tuple[Any, ...]]:
            question, wanted = str(event._data.get("question", "")), str(event._data.get("mode") or mode)
            yield from exchange(desk, talks.of(request.session_hash), question, wanted)

        def remembered(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
            return restored(desk, talks.of(request.session_hash), event._data.get("records"))

        def keeps(event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
            key, anyway = str(event._data.get("key", "")), event._data.get("replace") is True
            return kept(desk, talks.of(request.session_hash), key, replace_edited=anyway)

        def forgotten(request: gr.Request) -> str:
            talks.of(request.session_hash).forget()
            return ""

        def started(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
            claim, anew = str(event._data.get("claim", "")), event._data.get("again") is True
            return start_test(kb, worker, talks.of(request.session_hash), claim, anew)

        def stopped(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
            return stop_test(kb, talks.of(request.session_hash), str(event._data.get("run", "")), control.cancel)

        def resumed(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
            shown = stop_test(kb, talks.of(request.session_hash), str(event._data.get("run", "")), control.resume)
            worker.look()
            return shown

        def left(request: gr.Request) -> None:
            talks.close(request.session_hash)

        def run_opened(event: gr.EventData) -> tuple[Any, ...]:
            return run_page(kb, str(event._data.get("run", "")), worker.problem)

        def form_filled(event: gr.EventData) -> tuple[Any, ...]:
            given = {name: str(event._data.get(name) or "") for name in ("claim", "preset", "spec")}
            return *start_page(kb), *filled(kb, **given)

        quietly = {"show_progress": "hidden", "api_visibility": "private"}
        everything = [status, timer, ask_tab.answer, *notes_tab.outputs, claims_tab.table, *experiments_tab.outputs]
        blocks.load(opened, None, everything, **quietly)
        panel = [status, timer, summary, listed, again]
        timer.tick(ticked, [looked_at], panel, **quietly)
        slowly.tick(glanced, [told], [status, timer, told], **quietly)
        again.click(tried_again, None, panel, **quietly)
        bridge.sources(looked, None, [looked_at, *panel], **quietly)
        bridge.walk(walked, None, notes_tab.outputs, **in_turn("walk"))
        bridge.tend(tended, None, notes_tab.outputs, **by_page("tend"))
        bridge.question(questioned, [ask_tab.mode], ask_tab.outputs, **by_page("ask"))
        bridge.restore(remembered, None, [ask_tab.earlier, ask_tab.opened], **by_page("ask"))
        bridge.keep(keeps, None, [ask_tab.answer, ask_tab.earlier], **by_page("ask"))
        bridge.forget(forgotten, None, [ask_tab.earlier], **by_page("ask"))
        bridge.start(started, None, ask_tab.tests, **in_turn("watch"))
        bridge.stop(stopped, None, ask_tab.tests, **in_turn("watch"))
        bridge.resume(resumed, None, ask_tab.tests, **in_turn("watch"))
        blocks.unload(left)
        bridge.run(run_opened, None, experiments_tab.outputs, **in_turn("run"))
        bridge.fill(form_filled, None, [*experiments_tab.outputs, *experiments_tab.form], **in_turn("run"))
        claims.select(lambda words, status: ledger(kb, words, status), claims_tab.filters, claims_tab.table, **quietly)
        shown, pages = experiments_tab.shown, experiments_tab.outputs
        experiments.select(lambda now: reopened(kb, now, worker.problem), shown, pages, **in_turn("run"))
        experiments.select(*experiments_tab.check, **in_turn("check"))
        for elsewhere in (ask, notes, claims):
            elsewhere.select(lambda: gr.Timer(active=False), None, experiments_tab.timer, **quietly)
    return blocks


def _header(kb: KnowledgeBase, reading: Indexing, worker: Working) -> tuple[Any, Any]:
    try:
        return status_html(kb, reading, worker.waiting), gr.Timer(active=not reading.finished)
    except Exception as error:
        return sentence(explained(error)), gr.Timer(active=False)


def _panel(kb: KnowledgeBase, reading: Indexing, *, whole: bool = False) -> tuple[Any, Any, Any]:
    """Values for summary, sources and button; while the notes are read only the button, unless `whole` is asked for."""
    again = _again(busy=not reading.finished)
    if not reading.finished and not whole:
        return gr.skip(), gr.skip(), again
    try:
        return *_shown(kb, reading), again
    except Exception as error:
        return sentence(explained(error)), "", again


def _shown(kb: KnowledgeBase, reading: Indexing) -> tuple[str, str]:
    return summary_html(reading.report, reading.ended), sources_html(survey(kb), reading.report, reading.problem)


def _again(*, busy: bool) -> Any:
    return gr.Button("Reading…" if busy else "Try again", interactive=not busy)


def _welcome(desk: Desk, reading: Indexing) -> str:
    try:
        return welcome_html(desk.kb, not reading.finished, desk.model is not None)
    except Exception as error:
        return sentence(explained(error))


def _page(kb: KnowledgeBase, name: str, can_propose: bool, done: Tended | None = None) -> tuple[Any, ...]:
    try:
        return note_page(kb, name, done, can_propose=can_propose)
    except Exception as error:
        return "", "", "<h1>This note can not be shown</h1>", sentence(explained(error)), "", ""


def look() -> dict[str, Any]:
    """Theme, style and behaviour, for `launch`: local fonts only, nothing fetched from elsewhere."""
    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=[gr.themes.Font(f) for f in fonts],
                           font_mono=[gr.themes.Font("monospace")])  # fmt: skip
    style, behaviour = (_HERE / "style.css").read_text("utf-8"), (_HERE / "behaviour.js").read_text("utf-8")
    return {"theme": theme, "head": f"<style>{style}</style><script>{behaviour}</script>"}


def serve(
    kb: KnowledgeBase,
    host: str,
    port: int,
    auth: tuple[str, str] | None = None,
    *,
    worker: bool = True,
    model: Model | None = None,
) -> None:
    """Serves until interrupted or terminated, reads the registered sources again in the background, and, with `worker`, keeps a
    worker process alive while runs wait. `model`: writes answers, also for other programs.

    Raises PasskbError for a port that is in use.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    reading, working = Indexing(), Working(kb.home, allowed=worker)
    blocks = build(kb, reading, working, model)
    access = Access(kb, lambda: model, f"http://{host}:{port}")
    blocks.queue(api_open=False, default_concurrency_limit=8)
    try:
        blocks.launch(
            server_name=host, server_port=port, auth=auth, share=False, quiet=True, ssr_mode=False, footer_links=[],
            run_history=False, enable_monitoring=False, pwa=False, mcp_server=False, show_error=False, inbrowser=False,
            prevent_thread_lock=True, max_file_size=_LARGEST, app_kwargs={"middleware": guards(host, access, auth)}, **look(),
        )  # fmt: skip
    except OSError as error:
        taken = "Cannot find empty port" in str(error)
        reason = "is in use or not allowed" if taken else f"can not be opened ({error})"
        raise PasskbError(f"port {port} on {host} {reason}: choose another with --port") from None
    print(f"passkb: http://{host}:{port}", flush=True)
    reading.start(kb)
    working.begin()
    stop = threading.Event()
    watching = threading.Thread(target=keep_up, args=(kb, reading, stop), name="watching", daemon=True)
    watching.start()
    try:
        _until_ended()
    finally:
        stop.set()
        working.end()
        blocks.close(verbose=False)
        watching.join(timeout=10)


def _until_ended() -> None:
    """Until SIGTERM; an interrupt from the keyboard is raised as such."""
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    while not ended.wait(1.0):
        pass
