"""Do the notes answer the question? A judgement from what was gathered, before anything is said.

Three measures, none of which needs a language model: how near the best sentences come to the question (cosine), how much of
the question's weight (inverse document frequency) the best few sentences carry together, and whether a telling word
of the question is in no note at all. The weights were fitted on `tests/service/answering/questions_dev.jsonl` and judged on
`questions.jsonl`.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.answering.gathering import Gathered, share

_BEST = 5
NEARNESS, COVERAGE, TOGETHER, KNOWN, BIAS = 1.0, 0.5, 0.3, 0.3, -1.1


@dataclass(frozen=True, slots=True)
class Sufficiency:
    """`enough` when `margin` is not negative; `reason` says what is lacking, in a sentence."""

    enough: bool
    margin: float
    reason: str = ""


def judge(gathered: Gathered) -> Sufficiency:
    if not gathered.candidates:
        return Sufficiency(False, -1.0, "The notes hold no sentence on this.")
    margin = BIAS + sum(
        weight * value for weight, value in zip((NEARNESS, COVERAGE, TOGETHER, KNOWN), measures(gathered), strict=True)
    )
    if margin >= 0:
        return Sufficiency(True, margin)
    if gathered.unknown:
        words = ", ".join(f"“{word}”" for word in gathered.unknown[:4])
        return Sufficiency(False, margin, f"The notes do not answer this: none of them mentions {words}.")
    return Sufficiency(False, margin, "The notes do not answer this: they touch its words, but no passage is about it.")


def measures(gathered: Gathered) -> tuple[float, float, float, float]:
    """Nearness of the best sentence; coverage by the best single sentence; by the best few together; known share."""
    best = gathered.candidates[:_BEST]
    nearness = max(candidate.cosine for candidate in gathered.candidates)
    single = max(share(candidate.covers, gathered.weights) for candidate in best)
    together = share(frozenset().union(*(candidate.covers for candidate in best)), gathered.weights)
    total = sum(gathered.weights.values())
    known = 1.0 - len(gathered.unknown) * max(gathered.weights.values(), default=0.0) / total if total else 0.0
    return nearness, single, together, max(0.0, known)
