"""A question on its way to an answer on the page: what is being done, words as they come, the checked whole.

The model, where there is one, writes in a thread of its own; whoever asks anew, presses Stop or leaves ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import gradio as gr

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
from service.web.ask.browser_storage import markdown_html, read_back, record_html
from service.web.ask.conversation import KEPT, Conversation, Exchange
from service.web.ask.generated_answer import edited_html, growing_html, kept_html, waiting_html
from service.web.ask.run_offers import Watched
from service.web.ask.runs import below
from service.web.ask.source_panel import citations, opened_html, slot_html, sources_html
from service.web.components.html import counted, explained, sentence, text
from service.web.experiments.worker_process import WorkerSupervisor
from service.web.notes.tab import href_of

LONGEST = 2_000  # characters of a question
WIDTH = 8  # values of an exchange: box, hint, answer, earlier, sources, opened sources, tests, their timer
_PAUSE = 0.06  # seconds between two statements, or two looks at what is written
GENERATED, QUOTED = "generated", "quoted"


@dataclass(frozen=True, slots=True)
class Desk:
    """What it takes to answer. `model`: writes; without one, answers are quotes. `admission`: the queue of questions."""

    kb: KnowledgeBase
    working: WorkerSupervisor
    model: Model | None = None
    admission: Admission = field(default_factory=Admission)


def refused(question: str) -> str:
    """Why a question is not asked, or nothing."""
    if not question:
        return "Write a question first, for instance one of your notes' titles."
    if len(question) > LONGEST:
        size = f"{len(question):,}"
        return f"A question may have {LONGEST:,} characters, this one has {size}: ask its core, in a sentence or two."
    return ""


def exchange(desk: Desk, talk: Conversation, question: str, mode: str = QUOTED) -> Iterator[tuple[Any, ...]]:
    """Values for the Ask tab (`WIDTH` of them), several times: what is being done, the growing answer, the whole of it."""
    question, keep = " ".join(str(question).split()), gr.skip()
    if problem := refused(question):
        yield keep, sentence(problem), *(keep,) * (WIDTH - 2)
        return
    with talk.turn() as over:
        talk.ask(question)
        writes = desk.model is not None and mode != QUOTED
        looking = f"Looking through {counted(len(desk.kb.store.titles()), 'note')}…"
        shown = waiting_html(question, looking, writing=writes)
        yield (
            "",
            "",
            shown,
            earlier_html(talk.earlier),
            slot_html(key=talk.new_key()),
            _stored(talk.earlier),
            "",
            gr.Timer(active=False),
        )
        try:
            if writes:
                answer = yield from _written(desk, talk, question, over)
                made = _made(desk, answer, talk.new_key(), _now())
            else:
                made = _quoted(desk, talk, question, over)
            answer = made.answer
            yield from _shown(desk, talk, made, growing=answer.mode == QUOTED and not answer.fault)
        except Cancelled:
            yield (keep,) * WIDTH
        except Exception as error:
            failed = waiting_html(question, "") + sentence(explained(error))
            yield keep, keep, failed, keep, slot_html(key=talk.new_key()), keep, keep, keep


def answered_again(desk: Desk, talk: Conversation, wanted: str) -> Iterator[tuple[Any, ...]]:
    """The same values for the answer on top, composed again in its place because evidence came; its runs stay below it.
    `wanted`: what `told_by` said when it came; nothing is done when the page has moved on."""
    keep = gr.skip()

    def moved_on() -> bool:
        top = talk.top
        return top is None or wanted != told_by(talk.watched) or top.question != talk.watched.question

    if moved_on():
        yield (keep,) * WIDTH
        return
    with talk.turn() as over:
        top = talk.top
        if top is None or moved_on():
            yield (keep,) * WIDTH
            return
        try:
            if desk.model is not None and top.answer.mode == GENERATED:
                coming = '<p class="message" role="status">New evidence has come: the answer is being written again.</p>'
                yield keep, coming, *(keep,) * (WIDTH - 2)
                answer = _pen(desk, talk, top.question, over).answer()
                if over():  # cut short: the answer that is there is the better one
                    yield (keep,) * WIDTH
                    return
                made = _made(desk, answer, talk.new_key(), top.at)
            else:
                made = _quoted(desk, talk, top.question, over, top.at)
            yield from _shown(desk, talk, made, growing=False, watching=talk.watched)
        except Cancelled:
            yield (keep,) * WIDTH
        except Exception as error:
            yield keep, sentence(explained(error)), *(keep,) * (WIDTH - 2)


def told_by(watched: Watched) -> str:
    """Differs for each time that evidence came to a question."""
    return f"{watched.question}\n{len(watched.told)}"


def restored(desk: Desk, talk: Conversation, records: Any) -> tuple[Any, ...]:
    """Values for the earlier questions and their opened sources, from what the browser remembers."""
    older = []
    for record in read_back(records, KEPT):
        try:
            older.append(_made(desk, record.answer, talk.new_key(), record.at))
        except Exception as error:  # one record that can't be shown must not take the others along
            explained(error)
    talk.restore(older)
    return earlier_html(talk.earlier), _stored(talk.exchanges)


def kept(desk: Desk, talk: Conversation, key: str, *, replace_edited: bool = False) -> tuple[Any, Any]:
    """Values for the answer and the earlier ones, after a click on Keep of the exchange `key`: where it is kept, or why not."""
    found = talk.found(key)
    if found is None:
        return gr.skip(), gr.skip()
    try:
        told = kept_html(save_inquiry(desk.kb, found.answer, replace_edited=replace_edited))
    except EditedByHand as error:
        told = edited_html(error)
    except Exception as error:
        told = sentence(explained(error))
    talk.amend(found, told)
    top = talk.top
    return top.shown if top and top.key == key else gr.skip(), earlier_html(talk.earlier)


def _quoted(desk: Desk, talk: Conversation, question: str, over: Callable[[], bool], at: str = "") -> Exchange:
    """The answer in quotes, as it is shown, when its turn has come. Raises Busy, or Abandoned once `over`."""
    with desk.admission.place(over):
        answer = _in_context(desk.kb, question, talk.turns(question))
        return _made(desk, answer, talk.new_key(), at or _now())


def _in_context(kb: KnowledgeBase, question: str, turns: Sequence[Turn]) -> Answer:
    """The answer in quotes. What is not answered as it stands, and leans on the question before, is asked together with it."""
    answer = ask(kb, question)
    if answer.answered or not turns or not needs_context(question):
        return answer
    joined = f"{turns[-1].question} {question}"
    together = ask(kb, joined) if len(joined) <= LONGEST else answer
    return replace(together, question=question, understood=joined) if together.answered else answer


class _Pen:
    """A written answer in the making. `text`: what of it can be shown so far."""

    def __init__(self, work: Callable[[Callable[[str], None], Callable[[], bool]], Answer]) -> None:
        self.text = ""
        self._left, self._done = threading.Event(), threading.Event()
        self._answer: Answer | None = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(work,), name="writing", daemon=True).start()

    def _run(self, work: Callable[[Callable[[str], None], Callable[[], bool]], Answer]) -> None:
        try:
            self._answer = work(self._show, self._left.is_set)
        except Exception as error:
            self._error = error
        finally:
            self._done.set()

    def _show(self, written: str) -> None:
        self.text = written

    def done(self, within: float) -> bool:
        return self._done.wait(within)

    def answer(self) -> Answer:
        """Waits for it. Raises what went wrong."""
        self._done.wait()
        if self._answer is None:
            raise self._error or RuntimeError("the answer was not written")
        return self._answer

    def leave(self) -> None:
        """Nobody reads it any more."""
        self._left.set()


def _pen(desk: Desk, talk: Conversation, question: str, over: Callable[[], bool]) -> _Pen:
    model, turns = desk.model, talk.turns(question)
    assert model is not None

    def work(show: Callable[[str], None], left: Callable[[], bool]) -> Answer:
        config = read_config(desk.kb.home)
        return write(
            desk.kb, question, model, history=turns, on_text=show, stop=lambda: over() or left(),
            judge=config.llm_judge, rescore=config.llm_rescore,
        )  # fmt: skip

    return _Pen(work)


def _written(
    desk: Desk, talk: Conversation, question: str, over: Callable[[], bool]
) -> Generator[tuple[Any, ...], None, Answer]:
    keep, shown = gr.skip(), ""
    pen = _pen(desk, talk, question, over)
    try:
        while not pen.done(_PAUSE):
            if pen.text != shown:
                shown = pen.text
                yield keep, keep, growing_html(question, shown), *(keep,) * (WIDTH - 3)
        return pen.answer()
    finally:
        pen.leave()


def _shown(
    desk: Desk, talk: Conversation, made: Exchange, *, growing: bool, watching: Watched | None = None
) -> Iterator[tuple[Any, ...]]:
    """The finished answer: its statements one after another where they are `growing`, then all that stands around them."""
    keep, kb, answer, at = gr.skip(), desk.kb, made.answer, made.at
    stored = _stored(talk.earlier) + made.opened
    if growing:
        for shown in range(1, len(answer.statements)):
            first = (sources_html(answer, made.key), stored) if shown == 1 else (keep, keep)
            yield keep, keep, answer_html(answer, made.key, shown), keep, *first, keep, keep
            time.sleep(_PAUSE)
    if watching is None and answer.experiments:  # what they cost takes a moment
        yield keep, keep, made.html, keep, sources_html(answer, made.key), stored, keep, keep
    whole = _made(desk, answer, made.key, at, run_offers.offers(kb, answer)) if answer.experiments else made
    talk.add(whole)
    runs = dict.fromkeys([*(watching.runs if watching else ()), *run_offers.to_watch(kb, answer)])
    talk.watch(Watched(answer.question, tuple(runs), watching.told if watching else ()))
    talk.told([item.run_id for item in answer.evidence])
    tests = below(run_offers.views(kb.home, talk.watched.runs), talk.watched, desk.working.problem)
    earlier, shown_html = earlier_html(talk.earlier), whole.html + record_html(answer, at)
    yield keep, "", shown_html, earlier, sources_html(answer, made.key), _stored(talk.exchanges), *tests


def _made(desk: Desk, answer: Answer, key: str, at: str, offers: Mapping[str, Offer] | None = None) -> Exchange:
    kb = desk.kb
    ids = [*(citation.note_id for citation in citations(answer)), *(item.note_id for item in answer.evidence)]
    notes = kb.store.notes(dict.fromkeys(ids))
    findings = run_offers.findings(kb, answer, notes)
    opened = opened_html(answer, key, notes, lambda note_id: href_of(kb, note_id), findings)
    extra = markdown_html(answer, at)
    html = answer_html(answer, key, None, offers, findings, writes=desk.model is not None, extra=extra)
    return Exchange(key, answer, html, opened, at)


def _stored(exchanges: Sequence[Exchange]) -> str:
    return "".join(entry.opened for entry in exchanges)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def earlier_html(exchanges: Sequence[Exchange]) -> str:
    """Questions asked before on this page or in this browser, newest first, folded."""
    folded = "".join(map(_folded, reversed(exchanges)))
    if not folded:
        return ""
    buttons = "".join(
        f'<button type="button" class="linkish" {attribute}>{words}</button>'
        for attribute, words in (("data-export", "Export all as Markdown"), ("data-forget", "Clear"))
    )
    acts = f'<p class="acts quiet"><span>Remembered by this browser only.</span> {buttons}</p>'
    return f'<section class="earlier"><h3>Asked earlier</h3>{folded}{acts}</section>'


def _folded(entry: Exchange) -> str:
    opened = " open" if entry.told else ""
    return f"<details{opened}><summary>{text(entry.question)}</summary>{entry.shown}</details>"
