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
from service.answering.checking import Checker, EmbeddedChecker
from service.answering.cleaning import cleaned
from service.answering.composing import composed
from service.answering.gathering import Gathered, gather
from service.answering.keys import NO_ANSWER, Written, pattern, renumbered, written
from service.answering.offering import Offer, Passage, offer
from service.answering.prompting import BYTES_A_TOKEN, REWRITING, WRITING, Turn, rewriting, tokens, writing
from service.answering.quoting import ask, checked, refusal
from service.answering.settling import MOST_SENTENCES, settled, without_chatter
from service.answering.sufficiency import judge
from service.answering.understanding import understood
from service.llm import Interrupted, Model, ModelError, Stopped

BUDGET = 3000  # tokens of a prompt
_ANSWER = 4096  # tokens of an answer, with whatever the model thinks beforehand
_SHARE = 0.6  # of a small context window that the prompt may take
_LEAST = 400  # tokens of passages below which there is no point in asking
_OVERHEAD = 350  # tokens of a prompt beside rules and passages: titles, dissent, the question
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
    """What a model wrote, cleaned. `fault`: why that is not all, or nothing."""

    text: str
    reasoning: str
    fault: str = ""

    @property
    def declines(self) -> bool:
        """Whether it says that the passages hold no answer, and nothing else."""
        bare = self.text.strip(" \n.*_\"“”'`")
        return bare.upper().startswith(NO_ANSWER) or bool(_SAYS_NO.match(bare))


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
) -> Answer:
    """The answer to a question in a model's words, each sentence checked against the spans it cites.

    `on_text` gets the whole text so far each time that more of it can be shown (plain text, not escaped, keys numbered in
    order; it may become shorter, when what was shown turns out to be reasoning). `stop` is asked many times a second; what
    is written by then stays. `budget`: tokens of the prompt, less where the model's window is small.

    A question that the notes do not answer is refused without asking the model, as `ask` refuses it. Where the model fails
    before its first word, or writes nothing that the notes bear out, the answer is in quotes (`mode`), and its `fault` says
    why. Raises PasskbError for a question that can not be asked.
    """
    started = time.perf_counter()
    asked = checked(question)
    halt = stop or (lambda: False)
    try:
        searched = understood(asked, history, model, halt)
        answer = _answered(
            kb,
            searched,
            model,
            exclude,
            on_text or (lambda _: None),
            halt,
            checker or EmbeddedChecker(kb.sentence_vectors),
            budget,
        )
    except Stopped:
        reason = "You stopped before the model had written anything."
        answer, searched = Answer(asked, False, reason=reason, mode="generated", incomplete=True, fault="stopped"), asked
    shown = searched if searched != asked else ""
    return replace(answer, question=asked, understood=shown, seconds=time.perf_counter() - started)


def _answered(
    kb: KnowledgeBase,
    question: str,
    model: Model,
    exclude: Collection[str],
    on_text: Shown,
    stop: Stop,
    checker: Checker,
    budget: int,
) -> Answer:
    with kb.reading():
        gathered = gather(kb, question, exclude)
        verdict = judge(gathered)
        if not verdict.enough:
            return refusal(kb, gathered, verdict.reason, exclude)
    try:
        name = model.name
        offered, draft = _drafted(kb, gathered, model, exclude, on_text, stop, budget)
    except Stopped:
        raise
    except ModelError as error:
        return replace(ask(kb, question, exclude), fault=str(error))
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
        return _rewritten(model, weak, offered, stop)

    graded = settled(sentences, offered, checker, kb.sentence_vectors, None if draft.fault or stop() else rewrite)
    answer = composed(kb, gathered, exclude, offered, graded)
    if answer.statements and (draft.fault or any(map(_stands, answer.statements))):
        return replace(answer, model=name, incomplete=bool(fault), fault=fault, reasoning=draft.reasoning)
    reason = "the model wrote nothing that the notes bear out" if graded else "the model wrote nothing"
    told, unshown = f"{draft.fault or reason}: these are the notes’ own words", (*answer.statements, *answer.dropped)
    return replace(ask(kb, question, exclude), fault=told, reasoning=draft.reasoning, dropped=unshown)


def _stands(statement: Statement) -> bool:
    return bool(statement.citations) and statement.support is not Support.UNSUPPORTED


def _drafted(
    kb: KnowledgeBase, gathered: Gathered, model: Model, exclude: Collection[str], on_text: Shown, stop: Stop, budget: int
) -> tuple[Offer, _Draft]:
    """What was offered and what was written. A prompt that turns out too long is halved once. Raises ModelError."""
    window = model.context
    most = min(budget, int(window * _SHARE)) if window else budget
    while True:
        room = most - tokens(WRITING) - tokens(gathered.question) - min(_OVERHEAD, most // 8)
        if room < _LEAST // 2:
            raise ModelError(
                f"a context window of {window or most:,} tokens is too small to write answers from: use another model"
            )
        with kb.reading():
            offered = offer(kb, gathered, exclude, int(room * BYTES_A_TOKEN))
        prompt = writing(gathered.question, offered)
        left = window - tokens(WRITING) - tokens(prompt) if window else _ANSWER
        try:
            return offered, _draft(model, prompt, offered, max(min(left, _ANSWER), 128), on_text, stop)
        except ModelError as error:
            if not error.too_long or most <= budget // 2:
                raise
            most //= 2


def _draft(model: Model, prompt: str, offered: Offer, most: int, on_text: Shown, stop: Stop) -> _Draft:
    """Streams. Raises ModelError when nothing came, Stopped when nothing that could be shown had come."""
    raw = thoughts = shown = fault = ""
    looked = 0.0

    def show(ended: bool) -> None:
        nonlocal shown, looked
        if not ended and time.monotonic() - looked < _LOOK:
            return
        looked = time.monotonic()
        text = renumbered(cleaned(raw, ended=ended).text, offered.keys)
        undecided = not ended and NO_ANSWER.startswith(text.upper())
        if text != shown and not undecided:
            shown = text
            on_text(text)

    try:
        for piece in model.stream(WRITING, prompt, max_tokens=most, pattern=pattern(len(offered.passages)), stop=stop):
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
        fault = str(error)
    show(ended=True)
    final = cleaned(raw, ended=True)
    reasoning = "\n\n".join(filter(None, (thoughts.strip(), final.reasoning)))
    return _Draft(final.text, reasoning[:_REASONING], fault)


def _rewritten(
    model: Model, weak: Sequence[tuple[str, str, Sequence[Passage]]], offered: Offer, stop: Stop
) -> list[Written | None]:
    """One more attempt at sentences that their passages do not support; None for one without a better wording."""
    out: list[Written | None] = [None] * len(weak)
    try:
        raw = "".join(
            piece.text for piece in model.stream(REWRITING, rewriting(weak), max_tokens=_ANSWER, stop=stop) if not piece.thought
        )
    except ModelError:
        return out
    for number, text in _NUMBERED.findall(cleaned(raw, ended=True).text):
        at = int(number) - 1
        if 0 <= at < len(weak) and not text.upper().startswith("DROP"):
            found = written(text, offered.keys)
            out[at] = found[0] if len(found) == 1 else None
    return out
