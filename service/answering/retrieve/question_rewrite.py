"""Rewrites a follow-up as a standalone question for retrieval, with a language model.

Standalone questions need no model call. Earlier answers are never cited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kb.store.fulltext import content_words, stems
from service.llm.client import Model, ModelError, Stopped
from service.llm.completion import complete
from service.llm.prompt_text import escape_prompt

MAX_QUESTION = 2000  # characters
_TURNS = 3
_MAX_TURN = 300  # characters per question or answer in the prompt
_REFERENCE = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|she|his|hers?|this|that|these|those|such|there|the (?:former|latter|others?|same|"
    r"first|second|third|last)(?: one)?|ones?|both|neither|instead|otherwise|previous|above|you (?:said|mentioned))\b",
    re.I,
)
_CONTINUATION = re.compile(
    r"\s*(?:and|but|so|then|also|or|what about|how about|why\W*$|why not|how so|for example|more|go on|really)\b", re.I
)
_LABEL = re.compile(r"(?i)\A(?:the )?(?:follow-up|standalone|rewritten|question)[\w ]{0,40}:\s*")
_MAX_TOKENS = 1024  # for reasoning models; the question needs a few dozen


SYSTEM_PROMPT = """You rewrite a follow-up question so that it can be understood without the conversation before it.
Keep its meaning and its language. Write only the question, on one line. Do not answer it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A previous question and its answer."""

    question: str
    answer: str


def needs_context(question: str) -> bool:
    """Whether a question depends on the conversation.

    >>> needs_context("What about larger k?"), needs_context("What does pass@k measure?")
    (True, False)
    """
    return bool(_CONTINUATION.match(question) or _REFERENCE.search(question)) or len(content_words(question)) < 2


def rewrite_question(question: str, history: Sequence[Turn], model: Model, stop: Callable[[], bool] | None = None) -> str:
    """The question to search for. Falls back to the previous question followed by this one."""
    if not history or not needs_context(question):
        return question
    recent = list(history)[-_TURNS:]
    joined = f"{recent[-1].question.strip()} {question}"
    fallback = joined if len(joined) <= MAX_QUESTION else question
    try:
        text = complete(model, SYSTEM_PROMPT, _prompt(question, recent), max_tokens=_MAX_TOKENS, stop=stop)
    except Stopped:
        raise
    except ModelError:
        return fallback
    return _parse_rewrite(text, question, recent) or fallback


def _parse_rewrite(written: str, question: str, history: Sequence[Turn]) -> str:
    """The model's question, if it is short and mostly made of words of the conversation; otherwise empty."""
    lines = [line for line in (_LABEL.sub("", line.strip()).strip("\"“”'* ") for line in written.splitlines()) if line]
    text = lines[-1] if lines else ""
    known = stems(" ".join([question, *(f"{turn.question} {turn.answer}" for turn in history)]))
    own = stems(text)
    fits = any(map(str.isalnum, text)) and len(text) <= 400 and len(own & known) * 2 >= len(own) and len(own) > 0
    return text if fits else ""


def _prompt(question: str, history: Sequence[Turn]) -> str:
    lines = []
    for turn in history:
        lines += [f"Asked: {escape_prompt(turn.question)[:_MAX_TURN]}", f"Answered: {escape_prompt(turn.answer)[:_MAX_TURN]}"]
    return "\n".join([*lines, "", f"Follow-up: {escape_prompt(question)}", "The follow-up as a question of its own:"])
