"""The Ask tab: a question in, an answer that grows, sources beside it, earlier questions below."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.answering.quoting import ask
from service.web.answers import answer_html, citations, opened_html, sources_html
from service.web.markup import ask_link, counted, explained, sentence, text
from service.web.notes_tab import href_of

LONGEST = 2_000  # characters of a question
_KEPT = 20  # earlier questions on one page
_PAUSE = 0.06  # seconds between two statements, so that they are seen to come


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question that was answered on this page, as it is shown."""

    key: str
    question: str
    answer: str
    opened: str


@dataclass(frozen=True, slots=True)
class AskTab:
    input: Any
    answer: Any
    sources: Any
    outputs: list[Any]
    past: Any


def build_ask_tab(kb: KnowledgeBase) -> AskTab:
    """Lays out the tab and wires its own box and button; the bridge is wired by the app."""
    past = gr.State([])
    with gr.Row(elem_id="ask-columns", elem_classes="columns"):
        with gr.Column(elem_classes="reading"):
            with gr.Row(elem_id="ask-row"):
                box = gr.Textbox(
                    elem_id="ask-input", lines=1, max_lines=8, show_label=False, container=False, label="Your question",
                    placeholder="Ask your notes a question", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )  # fmt: skip
                button = gr.Button("Ask", elem_id="ask-button", variant="primary", min_width=80, scale=0)
            hint = gr.HTML(elem_id="ask-hint", apply_default_css=False)
            answer = gr.HTML(elem_id="answer", apply_default_css=False)
            earlier = gr.HTML(elem_id="earlier", apply_default_css=False)
        with gr.Column(elem_classes="aside", elem_id="source-column"):
            sources = gr.HTML(elem_id="sources", apply_default_css=False)
    opened = gr.HTML(elem_id="opened-sources", elem_classes="offstage", apply_default_css=False)
    outputs = [box, hint, answer, earlier, sources, opened, past]

    def asked(question: str, before: list[Exchange]) -> Iterator[tuple[Any, ...]]:
        yield from exchange(kb, question, before)

    events = [box.submit, button.click]
    gr.on(events, None, [box], None, js="(question) => window.passkb?.asked(question)")
    gr.on(events, asked, [box, past], outputs, **in_turn("ask"))
    return AskTab(box, answer, sources, outputs, past)


def in_turn(name: str) -> dict[str, Any]:
    """Options of an event that is handled one at a time, in order: whoever clicks twice sees what was clicked last."""
    return {
        "show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple", "concurrency_id": name,
        "concurrency_limit": 1,
    }  # fmt: skip


def exchange(kb: KnowledgeBase, question: str, before: list[Exchange]) -> Iterator[tuple[Any, ...]]:
    """Values for `outputs`, several times: what is being done, the growing answer, the whole of it."""
    question, keep = " ".join(str(question).split()), gr.skip()
    if problem := refused(question):
        yield keep, sentence(problem), keep, keep, keep, keep, keep
        return
    others = [e for e in before if e.question != question][-_KEPT:]
    key = f"a{1 + max((int(e.key[1:]) for e in before), default=0)}"
    try:
        past, stored = earlier_html(others), "".join(e.opened for e in others)
        looking = _waiting(question, f"Looking through {counted(len(kb.store.titles()), 'note')}…")
        yield "", "", looking, past, "", stored, keep
        answer = ask(kb, question)
        notes = kb.store.notes(citation.note_id for citation in citations(answer))
        opened = opened_html(answer, key, notes, lambda note_id: href_of(kb, note_id))
        whole = answer_html(answer, key)
        yield keep, keep, answer_html(answer, key, 1), keep, sources_html(answer), stored + opened, keep
        for shown in range(2, len(answer.statements)):
            time.sleep(_PAUSE)
            yield keep, keep, answer_html(answer, key, shown), keep, keep, keep, keep
        yield keep, keep, whole, keep, keep, keep, [*others, Exchange(key, question, whole, opened)]
    except Exception as error:
        yield keep, keep, _waiting(question) + sentence(explained(error)), keep, "", keep, others


def refused(question: str) -> str:
    """Why a question is not asked, or nothing."""
    if not question:
        return "Write a question first, for instance one of your notes' titles."
    if len(question) > LONGEST:
        size = f"{len(question):,}"
        return f"A question may have {LONGEST:,} characters, this one has {size}: ask its core, in a sentence or two."
    return ""


def _waiting(question: str, words: str = "") -> str:
    said = f'<p class="looking" role="status">{text(words)}</p>' if words else ""
    return f'<article class="exchange"><h2 class="question">{text(question)}</h2>{said}</article>'


def earlier_html(exchanges: Sequence[Exchange]) -> str:
    """Questions asked before on this page, newest first, folded."""
    folded = "".join(f"<details><summary>{text(e.question)}</summary>{e.answer}</details>" for e in reversed(exchanges))
    return f'<section class="earlier"><h3>Asked earlier</h3>{folded}</section>' if folded else ""


def welcome_html(kb: KnowledgeBase, reading: bool) -> str:
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
    return (
        '<div class="welcome"><p class="lede">Answers are quotes from your notes. '
        "Every sentence opens at its place in the note it was taken from.</p>"
        + (f'<h3>For instance</h3><ul class="plain-list">{questions}</ul></div>' if questions else "</div>")
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
