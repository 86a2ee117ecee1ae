"""The Ask tab: a question in, an answer that grows, sources beside it; the runs it was asked for; earlier questions below."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.answering.answer import Answer
from service.answering.quoting import ask
from service.experiments import control
from service.web import settling
from service.web.answers import answer_html, citations, opened_html, sources_html
from service.web.markup import ask_link, counted, explained, sentence, text
from service.web.notes_tab import href_of
from service.web.run_views import RunView
from service.web.runs_panel import not_started_html, panel_html
from service.web.settling import Watched
from service.web.turns import in_turn
from service.web.working import Working

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
    outputs: list[Any]
    past: Any
    tests: list[Any]
    watched: Any


def build_ask_tab(kb: KnowledgeBase, working: Working) -> AskTab:
    """Lays out the tab and wires its own box, button and timer; the bridge is wired by the app."""
    past, watched, came = gr.State([]), gr.State(Watched()), gr.State("")
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
            tests = gr.HTML(elem_id="ask-tests", apply_default_css=False)
            earlier = gr.HTML(elem_id="earlier", apply_default_css=False)
        with gr.Column(elem_classes="aside", elem_id="source-column"):
            sources = gr.HTML(elem_id="sources", apply_default_css=False)
    opened = gr.HTML(elem_id="opened-sources", elem_classes="offstage", apply_default_css=False)
    timer = gr.Timer(1.0, active=False)
    outputs = [box, hint, answer, earlier, sources, opened, past, tests, timer, watched]

    def asked(question: str, before: list[Exchange]) -> Iterator[tuple[Any, ...]]:
        yield from exchange(kb, question, before, working.problem)

    def again(key: str, before: list[Exchange], watching: Watched) -> Iterator[tuple[Any, ...]]:
        if not key or key != _to_answer(watching):  # meanwhile another question was asked
            yield (gr.skip(),) * len(outputs)
            return
        yield from exchange(kb, watching.question, before, working.problem, watching)

    events = [box.submit, button.click]
    gr.on(events, None, [box], None, js="(question) => window.passkb?.asked(question)")
    gr.on(events, asked, [box, past], outputs, **in_turn("ask"))
    told = [tests, timer, watched, came]
    timer.tick(lambda now: watch(kb, now, working.problem), [watched], told, **(in_turn("watch") | {"trigger_mode": "once"}))
    came.change(again, [came, past, watched], outputs, **in_turn("ask"))
    return AskTab(box, answer, outputs, past, [tests, timer, watched], watched)


def exchange(
    kb: KnowledgeBase, question: str, before: list[Exchange], trouble: str = "", watching: Watched | None = None
) -> Iterator[tuple[Any, ...]]:
    """Values for `outputs`, several times: what is being done, the growing answer, the whole of it. With `watching` the answer
    on the page is composed again, in place, because evidence came; its runs stay below it. `trouble`: with the worker."""
    question, keep = " ".join(str(question).split()), gr.skip()
    if problem := refused(question):
        yield keep, sentence(problem), *(keep,) * 8
        return
    others = [e for e in before if e.question != question][-_KEPT:]
    key = f"a{1 + max((int(e.key[1:]) for e in before), default=0)}"
    try:
        past, stored = earlier_html(others), "".join(e.opened for e in others)
        if watching is None:
            looking = _waiting(question, f"Looking through {counted(len(kb.store.titles()), 'note')}…")
            yield "", "", looking, past, "", stored, keep, "", gr.Timer(active=False), Watched()
        answer = ask(kb, question)
        yield from _shown(kb, answer, key, others, stored, watching, trouble)
    except Exception as error:
        failed = _waiting(question) + sentence(explained(error))
        yield keep, keep, failed, keep, "", keep, others, keep, keep, keep


def _shown(
    kb: KnowledgeBase, answer: Answer, key: str, others: list[Exchange], stored: str, watching: Watched | None, trouble: str
) -> Iterator[tuple[Any, ...]]:
    keep = gr.skip()
    ids = [*(citation.note_id for citation in citations(answer)), *(item.note_id for item in answer.evidence)]
    notes = kb.store.notes(dict.fromkeys(ids))
    findings = settling.findings(kb, answer, notes)
    opened = opened_html(answer, key, notes, lambda note_id: href_of(kb, note_id), findings)
    if watching is None:
        yield keep, keep, answer_html(answer, key, 1), keep, sources_html(answer), stored + opened, *(keep,) * 4
        for shown in range(2, len(answer.statements)):
            time.sleep(_PAUSE)
            yield keep, keep, answer_html(answer, key, shown), *(keep,) * 7
    if watching is None and answer.experiments:  # what they cost takes a moment
        yield keep, keep, answer_html(answer, key, None, None, findings), *(keep,) * 7
    whole = answer_html(answer, key, None, settling.offers(kb, answer), findings)
    exchanges = [*others, Exchange(key, answer.question, whole, opened)]
    runs = dict.fromkeys([*(watching.runs if watching else ()), *settling.to_watch(kb, answer)])
    told = [*(watching.told if watching else ()), *(item.run_id for item in answer.evidence)]
    now = Watched(answer.question, tuple(runs), tuple(dict.fromkeys(told)))
    below = _below(settling.views(kb.home, now.runs), now, trouble)
    yield keep, keep, whole, keep, sources_html(answer), stored + opened, exchanges, *below, now


def watch(kb: KnowledgeBase, watching: Watched, trouble: str = "") -> tuple[Any, ...]:
    """Values for the runs below the answer, their timer, what is watched, and, when evidence has come, what to answer again."""
    try:
        shown = settling.views(kb.home, watching.runs)
    except Exception as error:
        return sentence(explained(error)), gr.Timer(active=False), gr.skip(), gr.skip()
    if not (ended := watching.ended(shown)):
        return *_below(shown, watching, trouble), gr.skip(), gr.skip()
    now = replace(watching, told=(*watching.told, *ended))
    return *_below(shown, now, trouble), now, _to_answer(now)


def _below(shown: Sequence[RunView], watching: Watched, trouble: str) -> tuple[Any, ...]:
    """The tests, and the timer that is on while one goes on or is to be told yet."""
    on = any(view.live for view in shown) or bool(watching.ended(shown))
    return panel_html(shown, trouble), gr.Timer(active=on)


def _to_answer(watching: Watched) -> str:
    """Differs for each time that evidence came to a question."""
    return f"{watching.question}\n{len(watching.told)}"


def start_test(
    kb: KnowledgeBase, working: Working, past: Sequence[Exchange], claim: str, watching: Watched, again: bool = False
) -> tuple[Any, ...]:
    """Values for the tests, their timer and what is watched, after a click on the test of `claim` (NOTE#ID)."""
    try:
        submitted = settling.start(kb, settling.spec_of_claim(kb, claim), again=again)
        if submitted.fresh:
            working.look()
        question = watching.question or (past[-1].question if past else "")
        runs = tuple(dict.fromkeys([*watching.runs, submitted.run.id]))
        now = replace(watching, question=question, runs=runs)
        shown = settling.views(kb.home, now.runs)
        if submitted.fresh:
            return *_below(shown, now, working.problem), now
        now = replace(now, told=(*now.told, *now.ended(shown)))
        status = str(control.status_of(kb.home, submitted.run))
        tests, timer = _below(shown, now, working.problem)
        return tests + not_started_html(claim, submitted.run.id, status), timer, now
    except Exception as error:
        tests, timer = _below(settling.views(kb.home, watching.runs), watching, working.problem)
        return tests + sentence(explained(error)), timer, watching


def stop_test(kb: KnowledgeBase, run_id: str, watching: Watched, act: Callable[..., Any]) -> tuple[Any, ...]:
    """The same values, after a click on Cancel or Resume below the answer; `act` is control's function for it."""
    said = ""
    try:
        act(kb.home, run_id)
    except Exception as error:
        said = sentence(explained(error))
    tests, timer = _below(settling.views(kb.home, watching.runs), watching, "")
    return tests + said, timer, gr.skip()


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
