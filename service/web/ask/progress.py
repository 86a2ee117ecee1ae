"""Answers a question on the page: progress, streamed draft, checked answer. Restores and saves answers.

A model writes in a thread of its own; a new question, the Stop button or leaving the page cancels it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import gradio as gr
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from service.answering.answer import Answer
from service.answering.extractive import ask
from service.answering.generate.writer import write
from service.answering.retrieve.question_rewrite import Turn, needs_context
from service.api.admission import Admission, Cancelled
from service.config import read_config
from service.inquiries.save import EditedByHand, save_inquiry
from service.llm.client import Model
from service.web.ask import run_offers
from service.web.ask.answer import Offer, answer_html
from service.web.ask.browser_storage import load_records, markdown_html, record_html
from service.web.ask.conversation import MAX_EXCHANGES, Conversation, Exchange
from service.web.ask.generated_answer import draft_html, edited_html, pending_html, saved_html
from service.web.ask.run_offers import WatchedRuns
from service.web.ask.runs import runs_values
from service.web.ask.source_panel import citations, source_articles_html, sources_html
from service.web.components.formatting import count
from service.web.components.messages import error_html, error_text, message_html
from service.web.components.templates import render
from service.web.experiments.worker_process import WorkerSupervisor
from service.web.notes.tab import note_link_resolver

MAX_QUESTION = 2_000  # characters
N_OUTPUTS = 8  # input, hint, answer, earlier questions, sources, source articles, runs, timer of the runs
_POLL_SECONDS = 0.06  # between two statements, or two looks at the draft
GENERATED, QUOTED = "generated", "quoted"

Values = tuple[Any, ...]
IsCancelled = Callable[[], bool]
Work = Callable[[Callable[[str], None], IsCancelled], Answer]


@dataclass(frozen=True, slots=True)
class AskServices:
    """What answering needs. `model`: writes answers; None: answers are quotes. `admission`: the queue of questions."""

    kb: KnowledgeBase
    worker: WorkerSupervisor
    model: Model | None = None
    admission: Admission = field(default_factory=Admission)


def question_problem(question: str) -> str:
    """Why a question can't be asked; empty if it can."""
    if not question:
        return "Enter a question first, for example the title of a note."
    if len(question) > MAX_QUESTION:
        return (
            f"A question can have at most {MAX_QUESTION:,} characters; this one has {len(question):,}. "
            "Shorten it to a sentence or two."
        )
    return ""


def answer_question(services: AskServices, conversation: Conversation, question: str, mode: str = QUOTED) -> Iterator[Values]:
    """Yields values for the Ask tab's outputs several times: progress, the growing answer, the complete answer."""
    question, skip = " ".join(str(question).split()), gr.skip()
    if problem := question_problem(question):
        yield skip, message_html(problem), *(skip,) * (N_OUTPUTS - 2)
        return
    with conversation.turn() as is_cancelled:
        conversation.begin(question)
        writes = services.model is not None and mode != QUOTED
        progress = f"Searching {count(len(services.kb.store.titles()), 'note')}…"
        pending = pending_html(question, progress, writing=writes)
        earlier = conversation.earlier
        slot = sources_html(key=conversation.new_key())
        yield "", "", pending, history_html(earlier), slot, _source_articles(earlier), "", gr.Timer(active=False)
        try:
            if writes:
                answer = yield from _stream_draft(services, conversation, question, is_cancelled)
                exchange = _render_exchange(services, answer, conversation.new_key(), _now())
            else:
                exchange = _answer_with_quotes(services, conversation, question, is_cancelled)
            answer = exchange.answer
            yield from _show(services, conversation, exchange, stream=answer.mode == QUOTED and not answer.fault)
        except Cancelled:
            yield (skip,) * N_OUTPUTS
        except Exception as error:
            failed = pending_html(question, "") + error_html(error)
            yield skip, skip, failed, skip, sources_html(key=conversation.new_key()), skip, skip, skip


def update_answer(services: AskServices, conversation: Conversation, version: str) -> Iterator[Values]:
    """Composes the current answer again because there is new evidence; its runs stay below it.

    `version`: the `evidence_version` at that time. Does nothing if the page has moved on."""
    skip = gr.skip()

    def is_outdated() -> bool:
        current, watched = conversation.current, conversation.watched
        return current is None or version != evidence_version(watched) or current.question != watched.question

    if is_outdated():
        yield (skip,) * N_OUTPUTS
        return
    with conversation.turn() as is_cancelled:
        current = conversation.current
        if current is None or is_outdated():
            yield (skip,) * N_OUTPUTS
            return
        try:
            if services.model is not None and current.answer.mode == GENERATED:
                yield skip, render("ask/updating.html"), *(skip,) * (N_OUTPUTS - 2)
                answer = _start_writer(services, conversation, current.question, is_cancelled).result()
                if is_cancelled():  # the existing answer is better than an incomplete one
                    yield (skip,) * N_OUTPUTS
                    return
                exchange = _render_exchange(services, answer, conversation.new_key(), current.asked_at)
            else:
                exchange = _answer_with_quotes(services, conversation, current.question, is_cancelled, current.asked_at)
            yield from _show(services, conversation, exchange, stream=False, watched=conversation.watched)
        except Cancelled:
            yield (skip,) * N_OUTPUTS
        except Exception as error:
            yield skip, error_html(error), *(skip,) * (N_OUTPUTS - 2)


def evidence_version(watched: WatchedRuns) -> str:
    """Changes whenever there is new evidence for the question."""
    return f"{watched.question}\n{len(watched.reported)}"


def restore_history(services: AskServices, conversation: Conversation, records: Any) -> Values:
    """Restores exchanges from the browser's records. Returns values for the earlier questions and their source articles."""
    older = []
    for record in load_records(records, MAX_EXCHANGES):
        try:
            older.append(_render_exchange(services, record.answer, conversation.new_key(), record.asked_at))
        except Exception as error:  # log it, and show the other records
            error_text(error)
    conversation.restore(older)
    return history_html(conversation.earlier), _source_articles(conversation.exchanges)


def save_answer(
    services: AskServices, conversation: Conversation, key: str, *, replace_edited: bool = False
) -> tuple[Any, Any]:
    """Saves the exchange `key` as an inquiry. Returns values for the answer and the earlier questions."""
    exchange = conversation.find(key)
    if exchange is None:
        return gr.skip(), gr.skip()
    try:
        notice = saved_html(save_inquiry(services.kb, exchange.answer, replace_edited=replace_edited))
    except EditedByHand as error:
        notice = edited_html(error)
    except Exception as error:
        notice = error_html(error)
    conversation.set_notice(key, notice)
    current = conversation.current
    shown = current.html + current.notice if current and current.key == key else gr.skip()
    return shown, history_html(conversation.earlier)


def _answer_with_quotes(
    services: AskServices, conversation: Conversation, question: str, is_cancelled: IsCancelled, asked_at: str = ""
) -> Exchange:
    """Waits in the queue, then answers with quotes. Raises Busy, or Cancelled."""
    with services.admission.place(is_cancelled):
        answer = _ask_in_context(services.kb, question, conversation.history(question))
        return _render_exchange(services, answer, conversation.new_key(), asked_at or _now())


def _ask_in_context(kb: KnowledgeBase, question: str, history: Sequence[Turn]) -> Answer:
    """The answer in quotes. An unanswered follow-up question is asked again together with the question before it."""
    answer = ask(kb, question)
    if answer.answered or not history or not needs_context(question):
        return answer
    joined = f"{history[-1].question} {question}"
    together = ask(kb, joined) if len(joined) <= MAX_QUESTION else answer
    return replace(together, question=question, understood=joined) if together.answered else answer


class _Writer:
    """Writes an answer in a thread. `draft`: the text so far."""

    def __init__(self, work: Work) -> None:
        self.draft = ""
        self._abandoned, self._done = threading.Event(), threading.Event()
        self._answer: Answer | None = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(work,), name="writing", daemon=True).start()

    def _run(self, work: Work) -> None:
        try:
            self._answer = work(self._set_draft, self._abandoned.is_set)
        except Exception as error:
            self._error = error
        finally:
            self._done.set()

    def _set_draft(self, draft: str) -> None:
        self.draft = draft

    def wait(self, timeout: float) -> bool:
        """Whether the answer is done after at most `timeout` seconds."""
        return self._done.wait(timeout)

    def result(self) -> Answer:
        """Waits for the answer. Raises the error that prevented it."""
        self._done.wait()
        if self._answer is None:
            raise self._error or RuntimeError("the answer was not written")
        return self._answer

    def abandon(self) -> None:
        """Stops writing, because the page no longer waits for the answer."""
        self._abandoned.set()


def _start_writer(services: AskServices, conversation: Conversation, question: str, is_cancelled: IsCancelled) -> _Writer:
    model, history = services.model, conversation.history(question)
    assert model is not None

    def work(on_text: Callable[[str], None], is_abandoned: IsCancelled) -> Answer:
        config = read_config(services.kb.home)
        return write(
            services.kb, question, model, history=history, on_text=on_text, stop=lambda: is_cancelled() or is_abandoned(),
            judge=config.llm_judge, rescore=config.llm_rescore,
        )  # fmt: skip

    return _Writer(work)


def _stream_draft(
    services: AskServices, conversation: Conversation, question: str, is_cancelled: IsCancelled
) -> Generator[Values, None, Answer]:
    skip, shown = gr.skip(), ""
    writer = _start_writer(services, conversation, question, is_cancelled)
    try:
        while not writer.wait(_POLL_SECONDS):
            if writer.draft != shown:
                shown = writer.draft
                yield skip, skip, draft_html(question, shown), *(skip,) * (N_OUTPUTS - 3)
        return writer.result()
    finally:
        writer.abandon()


def _show(
    services: AskServices,
    conversation: Conversation,
    exchange: Exchange,
    *,
    stream: bool,
    watched: WatchedRuns | None = None,
) -> Iterator[Values]:
    """The finished answer: with `stream` one statement after another, then everything around them."""
    skip, kb, answer = gr.skip(), services.kb, exchange.answer
    sources, articles = sources_html(answer, exchange.key), _source_articles(conversation.earlier) + exchange.source_articles
    if stream:
        for shown in range(1, len(answer.statements)):
            first = (sources, articles) if shown == 1 else (skip, skip)
            yield skip, skip, answer_html(answer, exchange.key, shown), skip, *first, skip, skip
            time.sleep(_POLL_SECONDS)
    if watched is None and answer.experiments:  # computing their cost takes a moment
        yield skip, skip, exchange.html, skip, sources, articles, skip, skip
    if answer.experiments:
        offers = run_offers.claim_offers(kb, answer)
        exchange = _render_exchange(services, answer, exchange.key, exchange.asked_at, offers)
    conversation.add(exchange)
    runs = dict.fromkeys([*(watched.runs if watched else ()), *run_offers.runs_to_watch(kb, answer)])
    conversation.watch(WatchedRuns(answer.question, tuple(runs), watched.reported if watched else ()))
    conversation.mark_reported([item.run_id for item in answer.evidence])
    views = run_offers.load_views(kb.home, conversation.watched.runs)
    panel = runs_values(views, conversation.watched, services.worker.problem)
    html = exchange.html + record_html(answer, exchange.asked_at)
    yield skip, "", html, history_html(conversation.earlier), sources, _source_articles(conversation.exchanges), *panel


def _render_exchange(
    services: AskServices, answer: Answer, key: str, asked_at: str, offers: Mapping[str, Offer] | None = None
) -> Exchange:
    kb = services.kb
    ids = [*(citation.note_id for citation in citations(answer)), *(item.note_id for item in answer.evidence)]
    notes = kb.store.notes(dict.fromkeys(ids))
    findings = run_offers.evidence_findings(kb, answer, notes)
    articles = source_articles_html(answer, key, notes, lambda note_id: note_link_resolver(kb, note_id), findings)
    html = answer_html(
        answer, key, None, offers, findings, has_model=services.model is not None, extra=markdown_html(answer, asked_at)
    )
    return Exchange(key, answer, html, articles, asked_at)


def _source_articles(exchanges: Sequence[Exchange]) -> Markup:
    return Markup().join(entry.source_articles for entry in exchanges)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def history_html(exchanges: Sequence[Exchange]) -> Markup:
    """The earlier questions of this page or browser, newest first, collapsed."""
    return render("ask/history.html", exchanges=exchanges[::-1])
