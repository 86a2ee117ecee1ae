"""Grades the sentences of a draft against the passages they cite, and corrects unsupported ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kb.embedding import Vectors
from service.answering.answer import Support
from service.answering.check.entailment import Checker, Pair, Reason
from service.answering.generate.citations import DraftSentence
from service.answering.generate.context import Context, Passage

MAX_SENTENCES = 40
_MAX_CORRECTIONS = 8
_MAX_NEAREST = 2
_MIN_COSINE = 0.45  # cosine below which a passage is not related to a sentence
_MAX_LEAD_IN = 3  # uncited sentences before the first citation that are kept
_CHATTER = re.compile(
    r"(?:sure|certainly|of course|okay|ok|great question|absolutely|alright|here(?:['’]s| is| are)|let(?:['’]s| me)|"
    r"i(?:['’]ll| will| need| can| hope| have| am|['’]m)|in summary\W*$|answer\W*$|note that this answer|please (?:let|note)|"
    r"based on (?:the|your) (?:provided |given )?(?:passages|notes|context|information)\W*$|if you (?:have|need|would)|"
    r"feel free)\b",
    re.I,
)
_CONTRADICTIONS = frozenset((Reason.NUMBER, Reason.DIRECTION))  # reasons for which a sentence is dropped

Embed = Callable[[Sequence[str]], Vectors]


Rewrite = Callable[[Sequence[tuple[str, str, Sequence[Passage]]]], Sequence[DraftSentence | None]]


@dataclass(frozen=True, slots=True)
class GradedSentence:
    """A sentence with its citation keys, its grade and the reason for it."""

    sentence: DraftSentence
    keys: tuple[int, ...]
    grade: Support
    reason: str

    @property
    def contradicted(self) -> bool:
        """Whether the cited passages contradict the sentence."""
        return self.grade is Support.UNSUPPORTED and self.reason in _CONTRADICTIONS


def grade_sentences(
    sentences: Sequence[DraftSentence],
    context: Context,
    checker: Checker,
    vectors: Embed,
    rewrite: Rewrite | None,
    mover: Checker | None = None,
) -> list[GradedSentence]:
    """Grades the sentences. An unsupported one is first checked against the nearest other passages with `mover` (default:
    `checker`), which corrects wrong or missing keys, then rewritten once."""
    graded = _grade([(sentence, sentence.keys) for sentence in sentences], context, checker)
    graded = _try_other_passages(graded, context, mover or checker, vectors)
    return _correct(graded, context, checker, rewrite) if rewrite else graded


def remove_chatter(sentences: Sequence[DraftSentence]) -> list[DraftSentence]:
    """Removes polite openings and closings, and a long preamble before the first citation."""
    first = next((i for i, sentence in enumerate(sentences) if sentence.keys), None)
    remaining = []
    for i, sentence in enumerate(sentences):
        empty = not sentence.keys and (_CHATTER.match(sentence.text) or sentence.text.endswith(":"))
        if not empty and (first is None or i >= first or first <= _MAX_LEAD_IN):
            remaining.append(sentence)
    return remaining


def _grade(
    sentences: Sequence[tuple[DraftSentence, tuple[int, ...]]], context: Context, checker: Checker
) -> list[GradedSentence]:
    cited = [i for i, (_, keys) in enumerate(sentences) if keys]
    pairs = [Pair(sentences[i][0].text, [context.at(key).text for key in sentences[i][1]]) for i in cited]
    results = dict(zip(cited, checker.check(pairs), strict=True)) if pairs else {}
    out = []
    for i, (sentence, keys) in enumerate(sentences):
        grade, reason = (
            (results[i].grade, results[i].reason) if i in results else (Support.UNSUPPORTED, str(Reason.NO_CITATION))
        )
        out.append(GradedSentence(sentence, keys, grade, "" if grade is Support.SUPPORTED else reason))
    return out


def _try_other_passages(
    graded: Sequence[GradedSentence], context: Context, checker: Checker, vectors: Embed
) -> list[GradedSentence]:
    weak = [i for i, entry in enumerate(graded) if entry.grade is Support.UNSUPPORTED and not entry.sentence.cut]
    if not weak:
        return list(graded)
    near = vectors([graded[i].sentence.text[:600] for i in weak]) @ vectors([p.text[:600] for p in context.passages]).T
    tried: list[tuple[int, int]] = []
    for row, i in zip(near, weak, strict=True):
        keys = [int(at) + 1 for at in np.argsort(-row, kind="stable")[:_MAX_NEAREST] if row[at] >= _MIN_COSINE]
        following = graded[i + 1] if i + 1 < len(graded) else None
        if following and following.sentence.paragraph == graded[i].sentence.paragraph:
            keys += following.keys
        tried += [(i, key) for key in dict.fromkeys(keys) if (key,) != graded[i].keys]
    pairs = [Pair(graded[i].sentence.text, [context.at(key).text]) for i, key in tried]
    results = checker.check(pairs) if pairs else []
    out = list(graded)
    for (i, key), result in zip(tried, results, strict=True):
        if result.grade is Support.SUPPORTED and out[i].grade is Support.UNSUPPORTED:
            out[i] = replace(out[i], keys=(key,), grade=Support.SUPPORTED, reason="")
    return out


def _correct(graded: Sequence[GradedSentence], context: Context, checker: Checker, rewrite: Rewrite) -> list[GradedSentence]:
    weak = [i for i, entry in enumerate(graded) if entry.grade is Support.UNSUPPORTED and entry.keys and not entry.sentence.cut]
    weak = weak[:_MAX_CORRECTIONS]
    if not weak:
        return list(graded)
    requests = [(graded[i].sentence.text, graded[i].reason, [context.at(key) for key in graded[i].keys]) for i in weak]
    corrections = [(i, text) for i, text in zip(weak, rewrite(requests), strict=True) if text is not None]
    again = []
    for i, text in corrections:
        keys = tuple(key for key in text.keys if key in graded[i].keys) or graded[i].keys
        again.append((replace(text, paragraph=graded[i].sentence.paragraph), keys))
    out = list(graded)
    for (i, _), better in zip(corrections, _grade(again, context, checker), strict=True):
        if better.grade is not Support.UNSUPPORTED:
            out[i] = better
    return out
