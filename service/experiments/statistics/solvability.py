"""What counts say about a problem's own chance p of a pass: posteriors instead of "solved if c > 0". Pure.

Knows nothing about k as an axis, about curves or about verdicts. Problems' p are taken as draws from one Beta distribution,
fitted to the counts; where many problems are hopeless for a model beside others that are not, that is only an approximation.
No number of failures shows that p is 0, and nothing here says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import minimize
from scipy.special import betaincc, betaincinv, betaln

from service.experiments.statistics.estimators import Floats, checked

_WIDE = 3.0


class Beta(NamedTuple):
    """The distribution of p over problems: density proportional to p^(a-1) (1-p)^(b-1)."""

    a: float
    b: float


JEFFREYS = Beta(0.5, 0.5)


@dataclass(frozen=True, slots=True)
class RecoveryDepth:
    """Attempts after which a pass has come up with 95 %, shape (problems,), with its credible interval; inf is possible."""

    k: Floats
    low: Floats
    high: Floats


def fit_beta(n: ArrayLike, c: ArrayLike) -> Beta:
    """The Beta distribution under which the counts, shape (problems,), are likeliest (beta-binomial likelihood).

    A wide normal prior on ln a and ln b (standard deviation 3) keeps it finite when all problems, or none, always pass. Without
    problems it is the Jeffreys prior. Counts from screened sampling may be given as they are: the stopping rule cancels out.
    """
    attempts, passes = checked(n, c)
    if attempts.sum() == 0:
        return JEFFREYS
    pairs, weights = np.unique(np.stack([passes, attempts - passes]), axis=1, return_counts=True)

    def loss(logs: Floats) -> float:
        a, b = np.exp(logs)
        likelihood = betaln(a + pairs[0], b + pairs[1]) - betaln(a, b)
        return float(-(weights * likelihood).sum() + (logs**2).sum() / (2 * _WIDE**2))

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", bounds=[(-9.0, 9.0)] * 2).x
    return Beta(float(np.exp(best[0])), float(np.exp(best[1])))


def probability_above(epsilon: float, n: ArrayLike, c: ArrayLike, prior: Beta | None = None) -> Floats:
    """P(p > epsilon | c of n passed) a problem, shape (problems,), under `prior` (default: fitted to these counts)."""
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is a chance from 0 to 1, not {epsilon}")
    attempts, passes = checked(n, c)
    a, b = prior or fit_beta(attempts, passes)
    return np.asarray(betaincc(a + passes, b + attempts - passes, epsilon), np.float64)


def cover_at_tau(n: ArrayLike, c: ArrayLike, taus: ArrayLike, prior: Beta | None = None) -> Floats:
    """Cover@tau (2510.08325): the expected share of problems with p >= tau, shape (taus,); counting c/n >= tau is biased."""
    attempts, passes = checked(n, c)
    fitted = prior or fit_beta(attempts, passes)
    return np.array([probability_above(float(tau), attempts, passes, fitted).mean() for tau in np.atleast_1d(taus)])


def recovery_depth(n: ArrayLike, c: ArrayLike, prior: Beta | None = None, level: float = 0.95) -> RecoveryDepth:
    """k95 = ln 0.05 / ln(1 - p) at the posterior's median p, and at the ends of its central `level` interval."""
    attempts, passes = checked(n, c)
    a, b = prior or fit_beta(attempts, passes)
    tail = (1 - level) / 2
    k, low, high = (_k95(betaincinv(a + passes, b + attempts - passes, share)) for share in (0.5, 1 - tail, tail))
    return RecoveryDepth(k, low, high)


def solvable_at(k: int) -> float:
    """The chance of a pass from which on k attempts hold one with 95 %: 1 - 0.05^(1/k)."""
    return float(-np.expm1(np.log(0.05) / max(1, k)))


def clopper_pearson(n: ArrayLike, c: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact interval for p a problem, no prior: (low, high), each of shape (problems,)."""
    attempts, passes = checked(n, c)
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(passes > 0, stats.beta.ppf(tail, passes, attempts - passes + 1), 0.0)
        high = np.where(passes < attempts, stats.beta.isf(tail, passes + 1, attempts - passes), 1.0)
    return low, high


def never_solved_bound(n: ArrayLike, level: float = 0.95) -> Floats:
    """The largest p that n failures in a row leave standing: 1 - (1-level)^(1/n), near 3/n at 95 % (rule of three)."""
    attempts = np.atleast_1d(np.asarray(n, np.float64))
    with np.errstate(divide="ignore"):
        bound: Floats = -np.expm1(np.log(1 - level) / attempts)
    return bound


def _k95(p: ArrayLike) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(1.0, np.log(0.05) / np.log1p(-np.asarray(p))), np.float64)
