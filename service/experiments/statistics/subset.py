"""Is everything the tuned model solves also solved by the base model? Evidence against it, and a bound for it. Pure.

Knows nothing about sentences or other predictions. Solved means: the chance p of a pass is at least `epsilon`, at which n/2
attempts hold a pass with 95 %; with n attempts made, the data can tell that apart from less. A problem below it is not called
unsolvable: it may be solved with more attempts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from service.experiments.statistics.estimators import Counts
from service.experiments.statistics.solvability import clopper_pearson, solvable_at

_MISTAKEN = 0.025


@dataclass(frozen=True, slots=True)
class SubsetEvidence:
    """`witnesses`: problems the base model never passed while the tuned one passed at least `repeatedly` times (of all n).
    `p_value`: that many or more, if no problem is solved by the tuned model alone. `open_problems`: those not shown to be
    otherwise. `bound`: 95 % upper bound on the share of problems solved by the tuned model alone. `p_support`: P of so few open
    problems if that share were the margin. `problems_needed`: how many, with none left open, bring the bound down to the
    margin."""

    k: int
    epsilon: float
    repeatedly: int
    witnesses: int
    p_value: float
    open_problems: int
    bound: float
    p_support: float
    problems_needed: int


def subset_evidence(base: Counts, tuned: Counts, margin: float) -> SubsetEvidence:
    """What the counts of two models on the same problems say. Raises ValueError for a margin that is not a share.

    A problem that is no counterexample becomes a witness with probability at most q, either because a base p of epsilon or more
    failed n times, (1-epsilon)^n, or because a tuned p below epsilon passed repeatedly, a binomial tail that is made no larger;
    so witnesses are at most binomial with q. A counterexample is closed by mistake with probability at most 5 %.
    """
    if not 0 < margin < 1:
        raise ValueError(f"the margin is a share of problems between 0 and 1, not {margin}")
    k, problems = min(base.edge, tuned.edge), base.n.size
    epsilon = solvable_at(k)
    q = float((1 - epsilon) ** (2 * k))
    repeatedly = stats.binom.isf(q, tuned.n, epsilon) + 1
    witness = (base.c == 0) & (base.n >= 2 * k) & (tuned.c >= repeatedly)
    # Screened counts come about in two ways, each with its own chance of a mistake.
    base_mistaken, tuned_mistaken = (_MISTAKEN / (2 if counts.screen else 1) for counts in (base, tuned))
    base_solves = stats.binom.sf(base.c - 1, base.n, epsilon) <= base_mistaken
    tuned_does_not = stats.binom.cdf(tuned.c, tuned.n, epsilon) <= tuned_mistaken
    still_open = int(np.sum(~base_solves & ~tuned_does_not))
    bound = min(1.0, float(clopper_pearson([problems], [still_open], 0.90)[1][0]) / (1 - 2 * _MISTAKEN))
    return SubsetEvidence(
        k,
        epsilon,
        int(stats.binom.isf(q, 2 * k, epsilon)) + 1,
        int(np.sum(witness)),
        float(stats.binom.sf(int(np.sum(witness)) - 1, problems, q)),
        still_open,
        bound,
        float(stats.binom.cdf(still_open, problems, margin * (1 - 2 * _MISTAKEN))),
        int(np.ceil(np.log(0.05) / np.log1p(-margin * (1 - 2 * _MISTAKEN)))),
    )
