"""Generated answers: `write` retrieves, builds the context, streams a draft, checks it and composes the answer.

The model only words the answer. This module decides what it sees, what it can cite and what is shown.
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
from service.answering.check.judge import make_judge
from service.answering.extractive import ask, refuse, validate_question
from service.answering.generate.citations import NO_ANSWER, DraftSentence, answer_pattern, parse_draft, renumber_keys
from service.answering.generate.composition import compose_answer
from service.answering.generate.context import Context, Passage, build_context, select_passages
from service.answering.generate.prompts import ANSWER_RULES, CORRECTION_RULES, answer_prompt, correction_prompt
from service.answering.generate.rerank import rerank
from service.answering.generate.sentence_grades import MAX_SENTENCES, grade_sentences, remove_chatter
from service.answering.retrieve.candidates import Candidate, Retrieval, retrieve
from service.answering.retrieve.question_rewrite import Turn, rewrite_question
from service.answering.retrieve.sufficiency import assess as judged
from service.llm.client import Exhausted, Interrupted, Model, ModelError, Stopped
from service.llm.completion import complete
from service.llm.prompt_text import BYTES_PER_TOKEN, estimate_tokens
from service.llm.sanitize import sanitize
from service.log import logger

_log = logger("ask")
PROMPT_TOKENS = 3000  # tokens of a prompt
_ANSWER_TOKENS = 4096  # tokens of an answer, including reasoning
_PROMPT_SHARE = 0.6  # of a small context window that the prompt may take
_MIN_PASSAGE_TOKENS = 400  # minimum tokens for passages
_OVERHEAD_TOKENS = 350  # tokens for titles, disagreements and the question
_SCORE_TOKENS = 2048  # tokens of a list of scores, including reasoning
_SCORING_SECONDS = 30.0  # timeout of the ranking, in seconds
_UPDATE_SECONDS = 0.03  # minimum seconds between updates: fast servers send a thousand pieces per second
_MAX_REASONING = 20_000  # characters of reasoning
_REFUSAL = re.compile(
    r"(?:unfortunately,? |sorry,? )?(?:the|these|your|none of the) (?:provided |given )?(?:passages?|notes?|sources?|context)"
    r"(?: provided| given)? (?:do(?:es)? not|don[’']t|doesn[’']t|cannot|can not|contain no|say nothing)\b",
    re.I,
)
_NUMBERED = re.compile(r"^[^\w\n]*(\d{1,2})\s*[.):]\s*(\S.*)$", re.M)

OnText = Callable[[str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Draft:
    """The sanitized output. `fault`: why it is incomplete; `exhausted`: the model reached its token limit."""

    text: str
    reasoning: str
    fault: str = ""
    exhausted: bool = False

    @property
    def declines(self) -> bool:
        """Whether the model says that the passages contain no answer."""
        bare = self.text.strip(" \n.*_\"“”'`")
        return bare.upper().startswith(NO_ANSWER) or bool(_REFUSAL.match(bare))


@dataclass(frozen=True, slots=True)
class _Task:
    """The arguments shared by all steps of an answer."""

    kb: KnowledgeBase
    model: Model
    exclude: Collection[str]
    on_text: OnText
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
    on_text: OnText | None = None,
    stop: Stop | None = None,
    checker: Checker | None = None,
    budget: int = PROMPT_TOKENS,
    judge: bool = False,
    rescore: bool = False,
) -> Answer:
    """Answers a question in a model's words, with each sentence checked against the spans it cites.

    `on_text` receives the whole text so far (plain text with numbered citations; it may become shorter). `stop` is polled;
    text written before it returns true is kept. `budget`: maximum tokens of the prompt. `judge`: the model also grades the
    sentences, under the veto of `checker`. `rescore`: the model ranks the passages first.

    Unanswerable questions are refused without a model call. If the model fails or writes nothing that the notes support,
    the answer is in quotes (`mode`) and `fault` says why. Raises PasskbError for an invalid question.
    """
    started = time.perf_counter()
    text = validate_question(question)
    checker_ = checker or EmbeddedChecker(kb.sentence_vectors)
    task = _Task(kb, model, exclude, on_text or (lambda _: None), stop or (lambda: False), checker_, budget, judge, rescore)
    try:
        searched = rewrite_question(text, history, model, task.stop)
        answer = _answer(task, searched)
    except Stopped:
        reason = "You stopped the model before it wrote anything."
        answer, searched = Answer(text, False, reason=reason, mode="generated", incomplete=True, fault="stopped"), text
    understood = searched if searched != text else ""
    return replace(answer, question=text, understood=understood, seconds=time.perf_counter() - started)


def _answer(task: _Task, question: str) -> Answer:
    kb, exclude = task.kb, task.exclude
    with kb.reading():
        began = time.perf_counter()
        retrieval = retrieve(kb, question, exclude)
        verdict = judged(retrieval)
        _log.debug("write: retrieval %.0f ms", 1000 * (time.perf_counter() - began))
        if not verdict.enough:
            return refuse(kb, retrieval, verdict.reason, exclude)
    try:
        name, began = task.model.name, time.perf_counter()
        chosen, remark = _select_passages(task, retrieval)
        context, draft = _write_draft(task, retrieval, chosen)
        _log.debug("write: answer of the model %.0f ms", 1000 * (time.perf_counter() - began))
    except Stopped:
        raise
    except ModelError as error:
        return replace(ask(kb, question, exclude), fault=str(error))
    remarks = [remark] if remark else []
    sentences = remove_chatter(parse_draft(draft.text, context.keys))
    if draft.declines and not any(sentence.keys for sentence in sentences):
        with kb.reading():
            reason = "The notes are related to this question, but the model found no answer in them."
            declined = refuse(kb, retrieval, reason, exclude)
        return replace(declined, mode="generated", model=name, reasoning=draft.reasoning, fault=draft.fault)
    fault = draft.fault
    if len(sentences) > MAX_SENTENCES:
        fault = fault or f"the model wrote {len(sentences)} sentences; only the first {MAX_SENTENCES} are shown"
        sentences = sentences[:MAX_SENTENCES]

    def rewrite(weak: Sequence[tuple[str, str, Sequence[Passage]]]) -> list[DraftSentence | None]:
        return _correct(task, weak, context)

    judge = make_judge(task.model, task.checker, task.stop) if task.judge and not (draft.fault or task.stop()) else None
    correct = None if draft.fault or task.stop() else rewrite
    began = time.perf_counter()
    graded = grade_sentences(sentences, context, judge or task.checker, kb.sentence_vectors, correct, task.checker)
    _log.debug("write: check of %d sentences %.0f ms", len(sentences), 1000 * (time.perf_counter() - began))
    remarks += judge.remarks() if judge else []
    answer = replace(compose_answer(kb, retrieval, exclude, context, graded), reasoning=draft.reasoning, remarks=tuple(remarks))
    # Keep an interrupted answer as it is; an exhausted one needs at least one supported statement.
    is_partial = bool(draft.fault) and not draft.exhausted
    if answer.statements and (is_partial or any(map(_is_supported, answer.statements))):
        return replace(answer, model=name, incomplete=bool(fault), fault=fault)
    reason = "the model wrote nothing that the notes support" if graded else "the model wrote nothing"
    message, rejected = f"{draft.fault or reason}: the answer quotes the notes instead", (*answer.statements, *answer.dropped)
    return replace(ask(kb, question, exclude), fault=message, reasoning=draft.reasoning, dropped=rejected)


def _select_passages(task: _Task, retrieval: Retrieval) -> tuple[Sequence[Candidate], str]:
    """The passages, best first, and a remark about their order (usually empty). Raises Stopped."""
    chosen = select_passages(retrieval)
    if not task.rescore:
        return chosen, ""

    def ask_model(system: str, user: str, pattern: str) -> str:
        return complete(
            task.model, system, user, max_tokens=_SCORE_TOKENS, pattern=pattern, stop=task.stop, limit=_SCORING_SECONDS
        )

    return rerank(retrieval.question, chosen, ask_model)


def _is_supported(statement: Statement) -> bool:
    return bool(statement.citations) and statement.support is not Support.UNSUPPORTED


def _write_draft(task: _Task, retrieval: Retrieval, chosen: Sequence[Candidate]) -> tuple[Context, _Draft]:
    """The context and the draft. Halves the budget once if the prompt is too long. Raises ModelError."""
    window, budget = task.model.context, task.budget
    limit = min(budget, int(window * _PROMPT_SHARE)) if window else budget
    while True:
        room = limit - estimate_tokens(ANSWER_RULES) - estimate_tokens(retrieval.question) - min(_OVERHEAD_TOKENS, limit // 8)
        if room < _MIN_PASSAGE_TOKENS // 2:
            raise ModelError(
                f"a context window of {window or limit:,} tokens is too small for written answers: use another model"
            )
        with task.kb.reading():
            context = build_context(task.kb, retrieval, task.exclude, int(room * BYTES_PER_TOKEN), chosen)
        prompt = answer_prompt(retrieval.question, context)
        remaining = window - estimate_tokens(ANSWER_RULES) - estimate_tokens(prompt) if window else _ANSWER_TOKENS
        try:
            return context, _stream_draft(task, prompt, context, max(min(remaining, _ANSWER_TOKENS), 128))
        except ModelError as error:
            if not error.too_long or limit <= budget // 2:
                raise
            limit //= 2


def _stream_draft(task: _Task, prompt: str, context: Context, max_tokens: int) -> _Draft:
    """Streams the draft. Raises ModelError if there is no output, Stopped if there is none to show."""
    raw = thoughts = shown = fault = ""
    exhausted, shown_at = False, 0.0

    def show(ended: bool) -> None:
        nonlocal shown, shown_at
        if not ended and time.monotonic() - shown_at < _UPDATE_SECONDS:
            return
        shown_at = time.monotonic()
        text = renumber_keys(sanitize(raw, ended=ended).text, context.keys)
        undecided = not ended and NO_ANSWER.startswith(text.upper())
        if text != shown and not undecided:
            shown = text
            task.on_text(text)

    pattern = answer_pattern(len(context.passages))
    try:
        for piece in task.model.stream(ANSWER_RULES, prompt, max_tokens=max_tokens, pattern=pattern, stop=task.stop):
            if piece.is_reasoning:
                thoughts += piece.text
            else:
                raw += piece.text
                show(ended=False)
    except Stopped:
        if not shown:
            raise
        fault = "stopped before the model finished"
    except Interrupted as error:
        fault, exhausted = str(error), isinstance(error, Exhausted)
    show(ended=True)
    final = sanitize(raw, ended=True)
    reasoning = "\n\n".join(filter(None, (thoughts.strip(), final.reasoning)))
    return _Draft(final.text, reasoning[:_MAX_REASONING], fault, exhausted)


def _correct(task: _Task, weak: Sequence[tuple[str, str, Sequence[Passage]]], context: Context) -> list[DraftSentence | None]:
    """Asks the model to correct unsupported sentences; None for each without a correction."""
    out: list[DraftSentence | None] = [None] * len(weak)
    try:
        text = complete(task.model, CORRECTION_RULES, correction_prompt(weak), max_tokens=_ANSWER_TOKENS, stop=task.stop)
    except ModelError:
        return out
    for number, line in _NUMBERED.findall(text):
        at = int(number) - 1
        if 0 <= at < len(weak) and not line.upper().startswith("DROP"):
            sentences = parse_draft(line, context.keys)
            out[at] = sentences[0] if len(sentences) == 1 else None
    return out
