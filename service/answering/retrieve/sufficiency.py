"""Do the notes answer the question? A judgement from what was gathered, before anything is said.

Linear in five measures, none of which needs a language model. `python -m bench.run refusal` fits weights and threshold by
logistic regression, both kinds of error counting alike, on the development questions beside the tests; `questions.jsonl`,
written apart from them, judges the result. It tells whether the notes treat what is asked; whether they hold one particular
detail of it, it often can not tell.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass

from kb.store.fulltext import stems
from service.answering.retrieve.candidates import Candidate, Retrieval, weight_share

_DETAIL = re.compile(
    r"\b(?:how (?:many|much|large|big|often|far|long|high|low|fast)|who(?:se|m)?|when (?:was|were|did|is|will)|"
    r"(?:what|which) (?:year|date|month)|(?:what|which) (?:\S+ ){0,4}?(?:percent|percentage|share|rate|score|number|figure|"
    r"value|fraction|size|accuracy|cost|price|coefficient|temperature))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Features:
    """`sentence`, `chunk`: cosine of the nearest sentence and chunk. `unknown`: share of the question's weight (inverse
    document frequency) in words that no note has. `paragraph`: the share that one of the best candidates' paragraphs carries,
    its note's names included. `detail`: 1 when it asks for a figure, a person or a date."""

    sentence: float
    chunk: float
    unknown: float
    paragraph: float
    detail: float


WEIGHTS = Features(sentence=8.96, chunk=6.26, unknown=-3.18, paragraph=1.93, detail=-1.16)
BIAS = -8.26
_TOP_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Sufficiency:
    """`enough` when `margin` (log-odds, roughly) is not negative; else `reason` says what is lacking, in a sentence."""

    enough: bool
    margin: float
    reason: str = ""


def assess(retrieval: Retrieval) -> Sufficiency:
    if not retrieval.candidates:
        return Sufficiency(False, float("-inf"), "The notes hold nothing on this.")
    margin = BIAS + sum(
        weight * value for weight, value in zip(astuple(WEIGHTS), astuple(extract_features(retrieval)), strict=True)
    )
    if margin >= 0:
        return Sufficiency(True, margin)
    if retrieval.unknown:
        words = ", ".join(f"“{word}”" for word in retrieval.unknown[:4])
        return Sufficiency(False, margin, f"The notes do not answer this: none of them mentions {words}.")
    return Sufficiency(False, margin, "The notes do not answer this: they use its words, but no passage is about it.")


def extract_features(retrieval: Retrieval) -> Features:
    total = sum(retrieval.weights.values())
    strangest = max(retrieval.weights.values(), default=0.0)
    return Features(
        sentence=max((candidate.cosine for candidate in retrieval.candidates), default=0.0),
        chunk=retrieval.nearest_chunk,
        unknown=min(1.0, len(retrieval.unknown) * strangest / total) if total else 1.0,
        paragraph=max(
            (weight_share(_paragraph_stems(retrieval, c), retrieval.weights) for c in retrieval.candidates[:_TOP_CANDIDATES]),
            default=0.0,
        ),
        detail=float(bool(_DETAIL.search(retrieval.question))),
    )


def _paragraph_stems(retrieval: Retrieval, candidate: Candidate) -> frozenset[str]:
    """The question's stems that stand in the paragraph around a candidate, or in the title and aliases of its note."""
    note = retrieval.notes[candidate.note_id]
    start = note.text.rfind("\n\n", 0, candidate.start) + 1
    end = note.text.find("\n\n", candidate.end)
    words = stems(" ".join((note.title, *note.aliases, note.text[start : end if end >= 0 else len(note.text)])))
    return words & retrieval.weights.keys()
