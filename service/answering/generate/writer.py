"""Answers written by a language model: search, offer, write, check, compose, in this order; `write` is the whole of it.

The model chooses words and nothing else: what it is shown, what it may cite, what is shown of it and what stands around it are
decided here. Knows nothing about servers, and can start nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.answering.answer import Answer, Statement, Support
from service.answering.check.entailment import Checker, EmbeddedChecker
from service.answering.check.judge import judge
from service.answering.extractive import ask, checked, refusal
from service.answering.generate.citations import NO_ANSWER, Written, pattern, renumbered, written
from service.answering.generate.composition import composed
from service.answering.generate.context import Offer, Passage, offer, select
from service.answering.generate.prompts import REWRITING, WRITING, rewriting, writing
from service.answering.generate.rerank import rescored
from service.answering.generate.sentence_grades import MOST_SENTENCES, settled, without_chatter
from service.answering.retrieve.candidates import Candidate, Gathered, gather
from service.answering.retrieve.question_rewrite import Turn, understood
from service.answering.retrieve.sufficiency import judge as judged
from service.llm.client import Exhausted, Interrupted, Model, ModelError, Stopped
from service.llm.completion import completed
from service.llm.prompt_text import BYTES_A_TOKEN, tokens
from service.llm.sanitize import cleaned
from service.log import logger

_log = logger("ask")
BUDGET = 3000  # tokens of a prompt
_ANSWER = 4096  # tokens of an answer, with whatever the model thinks beforehand
_SHARE = 0.6  # of a small context window that the prompt may take
_LEAST = 400  # tokens of passages below which there is no point in asking
_OVERHEAD = 350  # tokens of a prompt beside rules and passages: titles, dissent, the question
_SCORES = 2048  # tokens of a list of scores, with whatever the model thinks beforehand
_SCORING = 30.0  # seconds that it gets to score passages, before anything is written
_LOOK = 0.03  # seconds between two looks at what has come: a fast server sends a thousand pieces a second
_REASONING = 20_000  # characters kept of what a model thought
_SAYS_NO = re.compile(
    r"(?:unfortunately,? |sorry,? )?(?:the|these|your|none of the) (?:provided |given )?(?:passages?|notes?|sources?|context)"
    r"(?: provided| given)? (?:do(?:es)? not|don[’']t|doesn[’']t|cannot|can not|contain no|say nothing)\b",
    re.I,
)
_NUMBERED = re.compile(r"^[^\w\n]*(\d{1,2})\s*[.):]\s*(\S.*)$", re.M)

Shown = Callable[[str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a model wrote, cleaned. `fault`: why that is not all, or nothing; `exhausted`: it would not come to an end."""

    text: str
    reasoning: str
    fault: str = ""
    exhausted: bool = False

    @property
    def declines(self) -> bool:
        """Whether it says that the passages hold no answer, and nothing else."""
        bare = self.text.strip(" \n.*_\"“”'`")
        return bare.upper().startswith(NO_ANSWER) or bool(_SAYS_NO.match(bare))


@dataclass(frozen=True, slots=True)
class _Task:
    """What stays the same from one step of an answer to the next."""

    kb: KnowledgeBase
    model: Model
    exclude: Collection[str]
    on_text: Shown
    stop: Stop
    checker: Checker
    budget: int
    judge: bool
    rescore: bool


def write(
    kb: KnowledgeBase,
    question: str,
    model: Model,
    *,
    history: Sequence[Turn] = (),
    exclude: Collection[str] = (NoteKind.INQUIRY,),
    on_text: Shown | None = None,
    stop: Stop | None = None,
    checker: Checker | None = None,
    budget: int = BUDGET,
    judge: bool = False,
    rescore: bool = False,
) -> Answer:
    """The answer to a question in a model's words, each sentence checked against the spans it cites.

    `on_text` gets the whole text so far each time that more of it can be shown (plain text, not escaped, keys numbered in
    order; it may become shorter, when what was shown turns out to be reasoning). `stop` is asked many times a second; what
    is written by then stays. `budget`: tokens of the prompt, less where the model's window is small. `judge`: the model grades
    the sentences too, under the veto of `checker`. `rescore`: it scores the passages before it writes.

    A question that the notes do not answer is refused without asking the model, as `ask` refuses it. Where the model fails
    before its first word, comes to no end, or writes nothing that the notes bear out, the answer is in quotes (`mode`), and its
    `fault` says why. Raises PasskbError for a question that can not be asked.
    """
    started = time.perf_counter()
    asked = checked(question)
    embedded = checker or EmbeddedChecker(kb.sentence_vectors)
    task = _Task(kb, model, exclude, on_text or (lambda _: None), stop or (lambda: False), embedded, budget, judge, rescore)
    try:
        searched = understood(asked, history, model, task.stop)
        answer = _answered(task, searched)
    except Stopped:
        reason = "You stopped before the model had written anything."
        answer, searched = Answer(asked, False, reason=reason, mode="generated", incomplete=True, fault="stopped"), asked
    shown = searched if searched != asked else ""
    return replace(answer, question=asked, understood=shown, seconds=time.perf_counter() - started)


def _answered(task: _Task, question: str) -> Answer:
    kb, exclude = task.kb, task.exclude
    with kb.reading():
        began = time.perf_counter()
        gathered = gather(kb, question, exclude)
        verdict = judged(gathered)
        _log.debug("write: retrieval %.0f ms", 1000 * (time.perf_counter() - began))
        if not verdict.enough:
            return refusal(kb, gathered, verdict.reason, exclude)
    try:
        name, began = task.model.name, time.perf_counter()
        chosen, remark = _chosen(task, gathered)
        offered, draft = _drafted(task, gathered, chosen)
        _log.debug("write: answer of the model %.0f ms", 1000 * (time.perf_counter() - began))
    except Stopped:
        raise
    except ModelError as error:
        return replace(ask(kb, question, exclude), fault=str(error))
    remarks = [remark] if remark else []
    sentences = without_chatter(written(draft.text, offered.keys))
    if draft.declines and not any(sentence.keys for sentence in sentences):
        with kb.reading():
            reason = "The notes touch on this, and the model found no answer in their passages."
            declined = refusal(kb, gathered, reason, exclude)
        return replace(declined, mode="generated", model=name, reasoning=draft.reasoning, fault=draft.fault)
    fault = draft.fault
    if len(sentences) > MOST_SENTENCES:
        fault = fault or f"the model wrote {len(sentences)} sentences: the first {MOST_SENTENCES} are shown"
        sentences = sentences[:MOST_SENTENCES]

    def rewrite(weak: Sequence[tuple[str, str, Sequence[Passage]]]) -> list[Written | None]:
        return _rewritten(task, weak, offered)

    by_model = judge(task.model, task.checker, task.stop) if task.judge and not (draft.fault or task.stop()) else None
    again = None if draft.fault or task.stop() else rewrite
    began = time.perf_counter()
    graded = settled(sentences, offered, by_model or task.checker, kb.sentence_vectors, again, task.checker)
    _log.debug("write: check of %d sentences %.0f ms", len(sentences), 1000 * (time.perf_counter() - began))
    remarks += by_model.remarks() if by_model else []
    answer = replace(composed(kb, gathered, exclude, offered, graded), reasoning=draft.reasoning, remarks=tuple(remarks))
    # What a person stopped, or a server that died, stays whatever it is; what would not end has to stand on something.
    kept = bool(draft.fault) and not draft.exhausted
    if answer.statements and (kept or any(map(_stands, answer.statements))):
        return replace(answer, model=name, incomplete=bool(fault), fault=fault)
    reason = "the model wrote nothing that the notes bear out" if graded else "the model wrote nothing"
    told, unshown = f"{draft.fault or reason}: these are the notes’ own words", (*answer.statements, *answer.dropped)
    return replace(ask(kb, question, exclude), fault=told, reasoning=draft.reasoning, dropped=unshown)


def _chosen(task: _Task, gathered: Gathered) -> tuple[Sequence[Candidate], str]:
    """The passages to offer, best first, and what there is to remark about their order. Raises Stopped."""
    chosen = select(gathered)
    if not task.rescore:
        return chosen, ""

    def complete(system: str, user: str, held: str) -> str:
        return completed(task.model, system, user, max_tokens=_SCORES, pattern=held, stop=task.stop, limit=_SCORING)

    return rescored(gathered.question, chosen, complete)


def _stands(statement: Statement) -> bool:
    return bool(statement.citations) and statement.support is not Support.UNSUPPORTED


def _drafted(task: _Task, gathered: Gathered, chosen: Sequence[Candidate]) -> tuple[Offer, _Draft]:
    """What was offered and what was written. A prompt that turns out too long is halved once. Raises ModelError."""
    window, budget = task.model.context, task.budget
    most = min(budget, int(window * _SHARE)) if window else budget
    while True:
        room = most - tokens(WRITING) - tokens(gathered.question) - min(_OVERHEAD, most // 8)
        if room < _LEAST // 2:
            raise ModelError(
                f"a context window of {window or most:,} tokens is too small to write answers from: use another model"
            )
        with task.kb.reading():
            offered = offer(task.kb, gathered, task.exclude, int(room * BYTES_A_TOKEN), chosen)
        prompt = writing(gathered.question, offered)
        left = window - tokens(WRITING) - tokens(prompt) if window else _ANSWER
        try:
            return offered, _draft(task, prompt, offered, max(min(left, _ANSWER), 128))
        except ModelError as error:
            if not error.too_long or most <= budget // 2:
                raise
            most //= 2


def _draft(task: _Task, prompt: str, offered: Offer, most: int) -> _Draft:
    """Streams. Raises ModelError when nothing came, Stopped when nothing that could be shown had come."""
    raw = thoughts = shown = fault = ""
    exhausted, looked = False, 0.0

    def show(ended: bool) -> None:
        nonlocal shown, looked
        if not ended and time.monotonic() - looked < _LOOK:
            return
        looked = time.monotonic()
        text = renumbered(cleaned(raw, ended=ended).text, offered.keys)
        undecided = not ended and NO_ANSWER.startswith(text.upper())
        if text != shown and not undecided:
            shown = text
            task.on_text(text)

    held = pattern(len(offered.passages))
    try:
        for piece in task.model.stream(WRITING, prompt, max_tokens=most, pattern=held, stop=task.stop):
            if piece.thought:
                thoughts += piece.text
            else:
                raw += piece.text
                show(ended=False)
    except Stopped:
        if not shown:
            raise
        fault = "stopped before the model came to its end"
    except Interrupted as error:
        fault, exhausted = str(error), isinstance(error, Exhausted)
    show(ended=True)
    final = cleaned(raw, ended=True)
    reasoning = "\n\n".join(filter(None, (thoughts.strip(), final.reasoning)))
    return _Draft(final.text, reasoning[:_REASONING], fault, exhausted)


def _rewritten(task: _Task, weak: Sequence[tuple[str, str, Sequence[Passage]]], offered: Offer) -> list[Written | None]:
    """One more attempt at sentences that their passages do not support; None for one without a better wording."""
    out: list[Written | None] = [None] * len(weak)
    try:
        text = completed(task.model, REWRITING, rewriting(weak), max_tokens=_ANSWER, stop=task.stop)
    except ModelError:
        return out
    for number, line in _NUMBERED.findall(text):
        at = int(number) - 1
        if 0 <= at < len(weak) and not line.upper().startswith("DROP"):
            found = written(line, offered.keys)
            out[at] = found[0] if len(found) == 1 else None
    return out
