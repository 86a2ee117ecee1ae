"""The Ask tab: question, streamed answer with its sources, the answer's runs, earlier questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.web.ask.conversation import Conversations
from service.web.ask.help import help_html
from service.web.ask.progress import (
    GENERATED,
    N_OUTPUTS,
    QUOTED,
    AskServices,
    answer_question,
    evidence_version,
    update_answer,
)
from service.web.ask.runs import poll_runs
from service.web.ask.source_panel import sources_html
from service.web.components.event_order import in_parallel, one_at_a_time
from service.web.components.templates import render
from service.web.event_effects import reads, writes


@dataclass(frozen=True, slots=True)
class AskTab:
    """Gradio components. `outputs`: what an answer updates. `mode`: written or quoted. `runs`: the runs panel and its timer."""

    mode: Any
    answer: Any
    earlier: Any
    source_articles: Any
    outputs: list[Any]
    runs: list[Any]


def build_ask_tab(services: AskServices, conversations: Conversations) -> AskTab:
    """Lays out the tab, and connects its text box, buttons and timer."""
    version = gr.State("")
    with gr.Row(elem_id="ask-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            with gr.Row(elem_id="ask-row"):
                box = gr.Textbox(
                    elem_id="ask-input", lines=1, max_lines=8, show_label=False, container=False, label="Your question",
                    placeholder="Ask your notes a question", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )  # fmt: skip
                ask_button = gr.Button("Ask", elem_id="ask-button", variant="primary", min_width=80, scale=0)
                stop_button = gr.Button("Stop", elem_id="ask-stop", min_width=80, scale=0)
            modes = [("Written answer, each sentence checked", GENERATED), ("Quotes only", QUOTED)]
            mode = gr.Radio(
                modes, value=GENERATED if services.model else QUOTED, show_label=False, container=False,
                label="How to answer", elem_id="ask-mode", visible=services.model is not None,
            )  # fmt: skip
            hint = gr.HTML(elem_id="ask-hint", apply_default_css=False)
            answer = gr.HTML(elem_id="answer", apply_default_css=False)
            runs = gr.HTML(elem_id="ask-tests", apply_default_css=False)
            earlier = gr.HTML(elem_id="earlier", apply_default_css=False)
            gr.HTML(reads(lambda: help_html(services.kb.home)), elem_id="ask-help", apply_default_css=False)
        with gr.Column(elem_classes="aside", elem_id="source-column"):
            sources = gr.HTML(sources_html(), elem_id="sources", apply_default_css=False)
    source_articles = gr.HTML(elem_id="opened-sources", elem_classes="offstage", apply_default_css=False)
    timer = gr.Timer(1.0, active=False)
    outputs = [box, hint, answer, earlier, sources, source_articles, runs, timer]
    assert len(outputs) == N_OUTPUTS

    @reads
    def ask(question: str, chosen_mode: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield from answer_question(services, conversations.get(request.session_hash), question, chosen_mode)

    @reads
    def update(new_version: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield from update_answer(services, conversations.get(request.session_hash), new_version)

    @writes("stop an answer")
    def stop(request: gr.Request) -> None:
        conversations.get(request.session_hash).cancel()

    @reads
    def poll(request: gr.Request) -> tuple[Any, ...]:
        conversation = conversations.get(request.session_hash)
        panel, timer_update, is_new = poll_runs(services.kb, conversation, services.worker.problem)
        return panel, timer_update, evidence_version(conversation.watched) if is_new else gr.skip()

    submit = [box.submit, ask_button.click]
    gr.on(submit, None, [box], None, js="(question) => window.passkb?.rememberQuestion(question)")
    gr.on(submit, ask, [box, mode], outputs, **in_parallel("ask"))
    stop_button.click(stop, None, None, queue=False, show_progress="hidden", api_visibility="private")
    timer.tick(poll, None, [runs, timer, version], **(one_at_a_time("watch") | {"trigger_mode": "once"}))
    version.change(update, [version], outputs, **in_parallel("ask"))
    return AskTab(mode, answer, earlier, source_articles, outputs, [runs, timer])


def welcome_html(kb: KnowledgeBase, indexing: bool, has_model: bool = False) -> Markup:
    """What the tab shows before the first question: example questions, or how to add notes."""
    has_notes = any(kind != NoteKind.STUB for _, _, kind, _ in kb.store.titles())
    questions = example_questions(kb) if has_notes else []
    return render("ask/welcome.html", has_notes=has_notes, indexing=indexing, has_model=has_model, questions=questions)


def example_questions(kb: KnowledgeBase, limit: int = 3) -> list[str]:
    """Titles that are questions: the newest inquiry, then the notes with most links to them."""
    degree = Counter(link.target for link in kb.store.links())
    titles = [(note_id, title, kind) for note_id, title, kind, _ in kb.store.titles() if title.rstrip().endswith("?")]
    inquiries = [title for _, title, kind in titles if kind == NoteKind.INQUIRY]
    ranked = sorted((-degree[note_id], title) for note_id, title, kind in titles if kind == NoteKind.NOTE)
    return list(dict.fromkeys([*inquiries[-1:], *(title for _, title in ranked)]))[:limit]
