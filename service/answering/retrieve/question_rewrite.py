"""A follow-up as a question of its own, for the search. What was answered before helps to understand, and is never cited.

Knows nothing about notes. A question that stands alone costs no model call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kb.store.fulltext import content_words, stems
from service.llm.client import Model, ModelError, Stopped
from service.llm.completion import completed
from service.llm.prompt_text import inert

LONGEST_QUESTION = 2000  # characters
_TURNS = 3
_LONGEST_TURN = 300  # characters of each that a prompt shows
_REFERS = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|she|his|hers?|this|that|these|those|such|there|the (?:former|latter|others?|same|"
    r"first|second|third|last)(?: one)?|ones?|both|neither|instead|otherwise|previous|above|you (?:said|mentioned))\b",
    re.I,
)
_CONTINUES = re.compile(
    r"\s*(?:and|but|so|then|also|or|what about|how about|why\W*$|why not|how so|for example|more|go on|really)\b", re.I
)
_LABEL = re.compile(r"(?i)\A(?:the )?(?:follow-up|standalone|rewritten|question)[\w ]{0,40}:\s*")
_TOKENS = 1024  # a model that reasons needs them; the question itself takes a few dozen


SYSTEM_PROMPT = """You rewrite a follow-up question so that it can be understood without the conversation before it.
Keep its meaning and its language. Write only the question, on one line. Do not answer it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question that was asked before, and what was answered."""

    question: str
    said: str


def needs_context(question: str) -> bool:
    """Whether a question leans on what was said before it.

    >>> needs_context("What about larger k?"), needs_context("What does pass@k measure?")
    (True, False)
    """
    return bool(_CONTINUES.match(question) or _REFERS.search(question)) or len(content_words(question)) < 2


def understood(question: str, history: Sequence[Turn], model: Model, stop: Callable[[], bool] | None = None) -> str:
    """The question to search for. Where the model gives none that can be used, the last question is put before this one."""
    if not history or not needs_context(question):
        return question
    recent = list(history)[-_TURNS:]
    joined = f"{recent[-1].question.strip()} {question}"
    fallback = joined if len(joined) <= LONGEST_QUESTION else question
    try:
        text = completed(model, SYSTEM_PROMPT, _prompt(question, recent), max_tokens=_TOKENS, stop=stop)
    except Stopped:
        raise
    except ModelError:
        return fallback
    return _usable(text, question, recent) or fallback


def _usable(written: str, question: str, history: Sequence[Turn]) -> str:
    """The model's question, if it is one line, no longer than a question, and made of words of the conversation."""
    lines = [line for line in (_LABEL.sub("", line.strip()).strip("\"“”'* ") for line in written.splitlines()) if line]
    text = lines[-1] if lines else ""
    known = stems(" ".join([question, *(f"{turn.question} {turn.said}" for turn in history)]))
    own = stems(text)
    fits = any(map(str.isalnum, text)) and len(text) <= 400 and len(own & known) * 2 >= len(own) and len(own) > 0
    return text if fits else ""


def _prompt(question: str, history: Sequence[Turn]) -> str:
    lines = []
    for turn in history:
        lines += [f"Asked: {inert(turn.question)[:_LONGEST_TURN]}", f"Answered: {inert(turn.said)[:_LONGEST_TURN]}"]
    return "\n".join([*lines, "", f"Follow-up: {inert(question)}", "The follow-up as a question of its own:"])
