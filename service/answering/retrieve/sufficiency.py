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
from service.answering.retrieve.candidates import Candidate, Gathered, share

_DETAIL = re.compile(
    r"\b(?:how (?:many|much|large|big|often|far|long|high|low|fast)|who(?:se|m)?|when (?:was|were|did|is|will)|"
    r"(?:what|which) (?:year|date|month)|(?:what|which) (?:\S+ ){0,4}?(?:percent|percentage|share|rate|score|number|figure|"
    r"value|fraction|size|accuracy|cost|price|coefficient|temperature))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Measures:
    """`sentence`, `chunk`: cosine of the nearest sentence and chunk. `unknown`: share of the question's weight (inverse
    document frequency) in words that no note has. `paragraph`: the share that one of the best candidates' paragraphs carries,
    its note's names included. `detail`: 1 when it asks for a figure, a person or a date."""

    sentence: float
    chunk: float
    unknown: float
    paragraph: float
    detail: float


WEIGHTS = Measures(sentence=8.96, chunk=6.26, unknown=-3.18, paragraph=1.93, detail=-1.16)
BIAS = -8.26
_BEST = 4


@dataclass(frozen=True, slots=True)
class Sufficiency:
    """`enough` when `margin` (log-odds, roughly) is not negative; else `reason` says what is lacking, in a sentence."""

    enough: bool
    margin: float
    reason: str = ""


def judge(gathered: Gathered) -> Sufficiency:
    if not gathered.candidates:
        return Sufficiency(False, float("-inf"), "The notes hold nothing on this.")
    margin = BIAS + sum(weight * value for weight, value in zip(astuple(WEIGHTS), astuple(measures(gathered)), strict=True))
    if margin >= 0:
        return Sufficiency(True, margin)
    if gathered.unknown:
        words = ", ".join(f"“{word}”" for word in gathered.unknown[:4])
        return Sufficiency(False, margin, f"The notes do not answer this: none of them mentions {words}.")
    return Sufficiency(False, margin, "The notes do not answer this: they use its words, but no passage is about it.")


def measures(gathered: Gathered) -> Measures:
    total = sum(gathered.weights.values())
    strangest = max(gathered.weights.values(), default=0.0)
    return Measures(
        sentence=max((candidate.cosine for candidate in gathered.candidates), default=0.0),
        chunk=gathered.nearest_chunk,
        unknown=min(1.0, len(gathered.unknown) * strangest / total) if total else 1.0,
        paragraph=max((share(_paragraph(gathered, c), gathered.weights) for c in gathered.candidates[:_BEST]), default=0.0),
        detail=float(bool(_DETAIL.search(gathered.question))),
    )


def _paragraph(gathered: Gathered, candidate: Candidate) -> frozenset[str]:
    """The question's stems that stand in the paragraph around a candidate, or in the title and aliases of its note."""
    note = gathered.notes[candidate.note_id]
    start = note.text.rfind("\n\n", 0, candidate.start) + 1
    end = note.text.find("\n\n", candidate.end)
    words = stems(" ".join((note.title, *note.aliases, note.text[start : end if end >= 0 else len(note.text)])))
    return words & gathered.weights.keys()
