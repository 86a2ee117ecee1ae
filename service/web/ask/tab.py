"""The Ask tab: a question in, an answer that grows, sources beside it; the runs it was asked for; earlier questions below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.web.ask.conversation import Conversations
from service.web.ask.help import help_html
from service.web.ask.progress import GENERATED, QUOTED, WIDTH, Desk, answered_again, exchange, told_by
from service.web.ask.runs import look
from service.web.ask.source_panel import slot_html
from service.web.components.event_order import in_parallel, one_at_a_time
from service.web.components.html import ask_link
from service.web.event_effects import reads, writes


@dataclass(frozen=True, slots=True)
class AskTab:
    """`outputs`: an exchange's values; `mode`: how answers are made; `tests`: the runs below and their timer."""

    input: Any
    mode: Any
    hint: Any
    answer: Any
    earlier: Any
    opened: Any
    outputs: list[Any]
    tests: list[Any]


def build_ask_tab(desk: Desk, talks: Conversations) -> AskTab:
    """Lays out the tab and wires its own box, buttons and timer; the bridge is wired by the app."""
    came = gr.State("")
    with gr.Row(elem_id="ask-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            with gr.Row(elem_id="ask-row"):
                box = gr.Textbox(
                    elem_id="ask-input", lines=1, max_lines=8, show_label=False, container=False, label="Your question",
                    placeholder="Ask your notes a question", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )  # fmt: skip
                button = gr.Button("Ask", elem_id="ask-button", variant="primary", min_width=80, scale=0)
                stop = gr.Button("Stop", elem_id="ask-stop", min_width=80, scale=0)
            ways = [("Written, each sentence checked", GENERATED), ("Quotes only", QUOTED)]
            mode = gr.Radio(
                ways, value=GENERATED if desk.model else QUOTED,
                show_label=False, container=False, label="How to answer", elem_id="ask-mode", visible=desk.model is not None,
            )  # fmt: skip
            hint = gr.HTML(elem_id="ask-hint", apply_default_css=False)
            answer = gr.HTML(elem_id="answer", apply_default_css=False)
            tests = gr.HTML(elem_id="ask-tests", apply_default_css=False)
            earlier = gr.HTML(elem_id="earlier", apply_default_css=False)
            gr.HTML(reads(lambda: help_html(desk.kb.home)), elem_id="ask-help", apply_default_css=False)
        with gr.Column(elem_classes="aside", elem_id="source-column"):
            sources = gr.HTML(slot_html(), elem_id="sources", apply_default_css=False)
    opened = gr.HTML(elem_id="opened-sources", elem_classes="offstage", apply_default_css=False)
    timer = gr.Timer(1.0, active=False)
    outputs = [box, hint, answer, earlier, sources, opened, tests, timer]
    assert len(outputs) == WIDTH

    @reads
    def asked(question: str, how: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield from exchange(desk, talks.of(request.session_hash), question, how)

    @reads
    def again(key: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield from answered_again(desk, talks.of(request.session_hash), key)

    @writes("stop an answer")
    def stopped(request: gr.Request) -> None:
        talks.of(request.session_hash).end()

    @reads
    def ticked(request: gr.Request) -> tuple[Any, ...]:
        talk = talks.of(request.session_hash)
        shown, often, news = look(desk.kb, talk, desk.working.problem)
        return shown, often, told_by(talk.watched) if news else gr.skip()

    events = [box.submit, button.click]
    gr.on(events, None, [box], None, js="(question) => window.passkb?.asked(question)")
    gr.on(events, asked, [box, mode], outputs, **in_parallel("ask"))
    stop.click(stopped, None, None, queue=False, show_progress="hidden", api_visibility="private")
    timer.tick(ticked, None, [tests, timer, came], **(one_at_a_time("watch") | {"trigger_mode": "once"}))
    came.change(again, [came], outputs, **in_parallel("ask"))
    return AskTab(box, mode, hint, answer, earlier, opened, outputs, [tests, timer])


def welcome_html(kb: KnowledgeBase, reading: bool, writes: bool = False) -> str:
    """Before the first question: three to try, or how notes come in."""
    titles = kb.store.titles()
    if not any(kind != NoteKind.STUB for _, _, kind, _ in titles):
        if reading:
            return '<div class="welcome" data-reading><p class="lede">Your notes are being read. Ask in a moment.</p></div>'
        return (
            '<div class="welcome"><p class="lede">There are no notes here yet.</p>'
            "<p>Add a folder of Markdown notes, then reload this page:</p>"
            "<pre><code>passkb ingest PATH</code></pre></div>"
        )
    questions = "".join(f"<li>{ask_link(question)}</li>" for question in examples(kb))
    said = (
        "Answers are written from your notes, and each sentence is checked against the sentences it cites."
        if writes
        else "Answers are quotes from your notes. Every sentence opens at its place in the note it was taken from."
    )
    return f'<div class="welcome"><p class="lede">{said}</p>' + (
        f'<h3>For instance</h3><ul class="plain-list">{questions}</ul></div>' if questions else "</div>"
    )


def examples(kb: KnowledgeBase, most: int = 3) -> list[str]:
    """Titles that are questions: an inquiry first, then the best linked notes."""
    degree: dict[str, int] = {}
    for link in kb.store.links():
        degree[link.target] = degree.get(link.target, 0) + 1
    asked = [(note_id, title, kind) for note_id, title, kind, _ in kb.store.titles() if title.rstrip().endswith("?")]
    inquiries = [title for _, title, kind in asked if kind == NoteKind.INQUIRY]
    ranked = sorted((-degree.get(note_id, 0), title) for note_id, title, kind in asked if kind == NoteKind.NOTE)
    return list(dict.fromkeys([*inquiries[-1:], *(title for _, title in ranked)]))[:most]
