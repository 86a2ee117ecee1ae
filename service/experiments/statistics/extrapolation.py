"""pass@k for k beyond the attempts made, by several models, each tested on the attempts there are. Pure, seeded.

Knows nothing about comparisons or claims: what it gives is a guess that rests on a model, and is never claimed. The plug-in
1 - (1 - c/n)^k is not among the models; it takes "not yet" for "never". Not for screened counts, whose n depends on c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import betaln, expit

from service.experiments.statistics.estimators import Floats, Ints, checked, pass_at_k
from service.experiments.statistics.solvability import fit_beta

_FARTHEST = 10


@dataclass(frozen=True, slots=True)
class BackTest:
    """pass@k predicted from `attempts` of the attempts, drawn without replacement: the mean over draws, the observed value, and
    the root mean square error."""

    attempts: int
    k: int
    predicted: float
    observed: float
    rmse: float


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """`curves`: model -> mean pass@k over these problems, shape (ks,), NaN where it has no fit. `low`, `high`: the least and
    the greatest over the models; sampling error is not in them. `back_tests` is empty with fewer than 4 attempts."""

    ks: tuple[int, ...]
    curves: Mapping[str, Floats]
    low: Floats
    high: Floats
    back_tests: Mapping[str, BackTest]


def extrapolate(n: ArrayLike, c: ArrayLike, ks: Sequence[int], repeats: int = 20, seed: int = 0) -> Extrapolation:
    """Mean pass@k at `ks` by every model of `MODELS`, from counts of shape (problems,).

    The back-test goes as far beyond its attempts as `ks` goes beyond n, ten times at most. Raises ValueError without problems.
    """
    attempts, passes = checked(n, c)
    if not attempts.size:
        raise ValueError("extrapolation wants the counts of at least one problem")
    sizes = np.asarray(ks, np.int64)
    curves = {name: model(attempts, passes, sizes) for name, model in MODELS.items()}
    table = np.stack([curve for curve in curves.values() if not np.isnan(curve).any()])
    low, high = table.min(axis=0), table.max(axis=0)
    return Extrapolation(tuple(sizes.tolist()), curves, low, high, _back_tests(attempts, passes, sizes, repeats, seed))


def beta_binomial(n: Ints, c: Ints, ks: Ints) -> Floats:
    """Each problem's posterior predictive 1 - B(a+c, b+n-c+k) / B(a+c, b+n-c) under a fitted Beta, averaged; shape (ks,)."""
    a, b = fit_beta(n, c)
    return np.asarray(_foreseen(a, b, n, c, ks).mean(axis=1))


def zero_inflated_beta_binomial(n: Ints, c: Ints, ks: Ints) -> Floats:
    """The same where a fitted share of the problems has p = 0; counts alone hardly distinguish it from a small p."""
    a, b, share = _fit_zero_inflated(n, c)
    silent = np.exp(betaln(a, b + n) - betaln(a, b))
    alive = np.where(c > 0, 1.0, (1 - share) * silent / (share + (1 - share) * silent))
    return np.asarray((alive * _foreseen(a, b, n, c, ks)).mean(axis=1))


def power_law(n: Ints, c: Ints, ks: Ints) -> Floats:
    """-ln pass@k = A k^-B (Brown et al. 2407.21787), least squares of the logarithms over k = 1..n; NaN without two points."""
    known = np.arange(1, int(n.min()) + 1)
    curve = pass_at_k(n, c, known.tolist()).mean(axis=1)
    inside = (curve > 0) & (curve < 1 - 1e-12)
    if inside.sum() < 2:
        return np.full(ks.shape, np.nan)
    slope, start = np.polyfit(np.log(known[inside]), np.log(-np.log(curve[inside])), 1)
    return np.asarray(np.exp(-np.exp(start + slope * np.log(ks))), np.float64)


MODELS: Mapping[str, Callable[[Ints, Ints, Ints], Floats]] = {
    "beta-binomial": beta_binomial,
    "zero-inflated beta-binomial": zero_inflated_beta_binomial,
    "power law": power_law,
}


def _foreseen(a: float, b: float, n: Ints, c: Ints, ks: Ints) -> Floats:
    """Posterior predictive pass@k a problem, shape (ks, problems)."""
    return np.asarray(-np.expm1(betaln(a + c, b + n - c + ks[:, None]) - betaln(a + c, b + n - c)))


def _fit_zero_inflated(n: Ints, c: Ints) -> tuple[float, float, float]:
    """a, b and the share of problems at p = 0, by likelihood, with the wide prior of `fit_beta` on a and b."""
    pairs, weights = np.unique(np.stack([c, n - c]), axis=1, return_counts=True)

    def loss(point: Floats) -> float:
        a, b = np.exp(point[:2])
        share = expit(point[2])
        spread = np.log1p(-share) + betaln(a + pairs[0], b + pairs[1]) - betaln(a, b)
        likelihood = np.where(pairs[0] == 0, np.logaddexp(np.log(share), spread), spread)
        return float(-(weights * likelihood).sum() + (point[:2] ** 2).sum() / 18)

    best = minimize(loss, np.array([0.0, 0.0, -2.0]), method="Nelder-Mead", bounds=[(-9.0, 9.0)] * 3).x
    return float(np.exp(best[0])), float(np.exp(best[1])), float(expit(best[2]))


def _back_tests(n: Ints, c: Ints, ks: Ints, repeats: int, seed: int) -> dict[str, BackTest]:
    k = int(n.min())
    farther = min(_FARTHEST, max(2, int(ks.max(initial=1)) // max(1, k)))
    attempts = max(2, k // farther)
    if k < 4 or repeats < 1:
        return {}
    observed = float(pass_at_k(n, c, k).mean())
    rng = np.random.default_rng(seed)
    fewer = [rng.hypergeometric(c, n - c, attempts) for _ in range(repeats)]
    out = {}
    for name, model in MODELS.items():
        predictions = np.array([model(np.full(n.shape, attempts), drawn, np.array([k]))[0] for drawn in fewer])
        out[name] = BackTest(
            attempts, k, float(predictions.mean()), observed, float(np.sqrt(((predictions - observed) ** 2).mean()))
        )
    return out
