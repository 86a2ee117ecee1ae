"""When differences decide a question: the rules, as one p-value for it and one against it. Pure.

Knows nothing about counts, sentences or sample sizes. Differences are tuned minus base a problem; everything is vectorised over
leading axes, so that a simulation can ask for thousands of runs at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from service.experiments.statistics.equivalence import p_within
from service.experiments.statistics.estimators import Floats
from service.experiments.statistics.intervals import one_sided_p

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Question:
    """`crossover`: tuned ahead at `k1`, base ahead at `k2`. `higher`: the tuned model (`sign` 1) or the base one (-1) is ahead
    at `k1`. `no_difference`: less than `margin` between them at `k1`. All k are fixed before the run."""

    kind: str
    k1: int = 1
    k2: int = 0
    sign: int = 1
    margin: float = 0.0

    @property
    def ks(self) -> tuple[int, ...]:
        return (self.k1, self.k2) if self.kind == "crossover" else (self.k1,)


def p_for_and_against(question: Question, differences: Mapping[int, Floats]) -> tuple[Floats, Floats]:
    """P-values that the question is answered yes, and no; `differences` maps each of its ks to shape (..., problems).

    Crossover: both ends one-sided (intersection-union, so no correction), against it either end the other way. No difference:
    two one-sided tests within the margin, by a bound that holds for any bounded distribution (equivalence.py), because
    Student's t misses problems that are rare; against it one of them beyond. What can hold in two ways is corrected for two.
    Raises ValueError for another kind.
    """
    at = [differences[k] for k in question.ks]
    if question.kind == "crossover":
        yes = np.maximum(one_sided_p(at[0]), one_sided_p(-at[1]))
        return yes, either(one_sided_p(-at[0]), one_sided_p(at[1]))
    if question.kind == "higher":
        return one_sided_p(question.sign * at[0]), one_sided_p(-question.sign * at[0])
    if question.kind == "no_difference":
        beyond = either(one_sided_p(at[0], question.margin), one_sided_p(-at[0], question.margin))
        return p_within(at[0], question.margin), beyond
    raise ValueError(f"differences decide crossover, higher or no_difference, not {question.kind!r}")


def either(one: Floats, other: Floats) -> Floats:
    """The P-value that one of two things holds, corrected for there being two."""
    return np.asarray(np.minimum(1.0, 2 * np.minimum(one, other)), np.float64)


def holm(p_values: Sequence[float] | ArrayLike) -> Floats:
    """P-values adjusted for being several (Holm 1979), in their order; NaN stays NaN and counts as no comparison."""
    values = np.atleast_1d(np.asarray(p_values, np.float64))
    out = np.full(values.shape, np.nan)
    order = np.argsort(values)[: int((~np.isnan(values)).sum())]
    out[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)))
    return out
