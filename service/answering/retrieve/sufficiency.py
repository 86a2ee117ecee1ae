"""Decides whether the notes can answer a question, by a linear model of five features.

`python -m bench.run refusal` fits it by logistic regression on the development questions in tests/service/answering;
`questions.jsonl` is the test set. It recognizes topics; it often cannot tell whether a particular detail is present.
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
    """`sentence`, `chunk`: highest cosine of a sentence and a chunk. `unknown`: share of the question's weight (inverse
    document frequency) in words that no note contains. `paragraph`: highest share in the paragraph of a top candidate,
    including title and aliases. `detail`: 1 if the question asks for a number, person or date."""

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
    """`enough` if `margin` (approximately log-odds) is not negative. Otherwise `reason` says why, in a sentence."""

    enough: bool
    margin: float
    reason: str = ""


def assess(retrieval: Retrieval) -> Sufficiency:
    if not retrieval.candidates:
        return Sufficiency(False, float("-inf"), "The notes contain nothing about this question.")
    margin = BIAS + sum(
        weight * value for weight, value in zip(astuple(WEIGHTS), astuple(extract_features(retrieval)), strict=True)
    )
    if margin >= 0:
        return Sufficiency(True, margin)
    if retrieval.unknown:
        words = ", ".join(f"“{word}”" for word in retrieval.unknown[:4])
        return Sufficiency(False, margin, f"The notes do not answer this question: none of them mentions {words}.")
    return Sufficiency(False, margin, "The notes do not answer this question: they contain its words, but no passage about it.")


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
    """The question's stems in the paragraph of a candidate and in the title and aliases of its note."""
    note = retrieval.notes[candidate.note_id]
    start = note.text.rfind("\n\n", 0, candidate.start) + 1
    end = note.text.find("\n\n", candidate.end)
    words = stems(" ".join((note.title, *note.aliases, note.text[start : end if end >= 0 else len(note.text)])))
    return words & retrieval.weights.keys()
