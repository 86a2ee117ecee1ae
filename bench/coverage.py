"""How often passkb's intervals hold the truth, and how often its verdicts are wrong, in simulated runs whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import betaln

from bench.figures import Figure
from service.experiments.statistics.decision import ALPHA, Question, p_for_and_against
from service.experiments.statistics.estimators import pass_at_k
from service.experiments.statistics.intervals import SHARE, Bounds, centre_and_error

Floats = NDArray[np.float64]
Method = Callable[[Floats, Bounds], tuple[Floats, Floats]]
REPLICATES = 2000
SIZES = (30, 272)
ATTEMPTS = (64, 128)
DIFFICULTIES = ((0.3, 1.0), (0.5, 0.5), (1.0, 3.0))


def measure(scratch: Path) -> list[Figure]:
    rng = np.random.default_rng(0)
    return [*_intervals(rng), *_false_verdicts(rng)]


def mean_pass_at_k(a: float, b: float, k: int) -> float:
    """E pass@k of problems whose p are Beta(a, b): 1 - B(a, b+k) / B(a, b)."""
    return float(-np.expm1(betaln(a, b + k) - betaln(a, b)))


def simulated(rng: np.random.Generator, chances: Floats, n: int, k: int) -> Floats:
    """Unbiased pass@k of runs with n attempts, in the shape of `chances`."""
    return np.asarray(pass_at_k(n, rng.binomial(n, chances).ravel(), k)[0].reshape(chances.shape))


def ours(values: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    """Ends of passkb's 95 % interval for the mean over the last axis."""
    return _ends(*centre_and_error(values, bounds), values.shape[-1])


def student(values: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    """Ends of Student's t interval."""
    problems = values.shape[-1]
    return _ends(values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(problems), problems)


def bca(values: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    """Ends of the bias-corrected and accelerated bootstrap interval (Efron 1987), 1,000 resamples."""
    rng = np.random.default_rng(0)
    problems = values.shape[-1]
    weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=1000) / problems
    ends = np.array([_bca(row, np.sort(weights @ row)) for row in values])
    return ends[:, 0], ends[:, 1]


def coverage(
    rng: np.random.Generator,
    difficulty: tuple[float, float],
    problems: int,
    n: int,
    k: int,
    how: Mapping[str, Method],
    replicates: int = REPLICATES,
) -> dict[str, float]:
    """Share of simulated runs whose 95 % interval holds the population's mean pass@k, by method."""
    values = simulated(rng, rng.beta(*difficulty, size=(replicates, problems)), n, k)
    truth = mean_pass_at_k(*difficulty, k)
    ends = {name: method(values, SHARE) for name, method in how.items()}
    return {name: float(((low <= truth) & (truth <= high)).mean()) for name, (low, high) in ends.items()}


def level_at(rng: np.random.Generator, shape: tuple[int, int], k: int, kind: str) -> tuple[Floats, Floats]:
    """Chances of a base and a tuned model whose mean pass@k are the same at `k`. `identical`: at every k. `sharpened`: problem
    by problem, in the same order of difficulty. `lossy`: four times the attempts' worth, and a share of the problems lost."""
    base = rng.beta(1.0, 3.0, size=shape)
    if kind == "identical":
        return base, base
    if kind == "lossy":
        lost = 1 - mean_pass_at_k(1, 3, k) / mean_pass_at_k(1, 3, 4 * k)
        return base, np.where(rng.random(shape) < lost, 0.0, 1 - (1 - base) ** 4)
    b = brentq(lambda b: mean_pass_at_k(0.12, b, k) - mean_pass_at_k(1, 3, k), 1e-6, 50)
    return base, stats.beta.ppf(stats.beta.cdf(base, 1.0, 3.0), 0.12, b)


def false_crossovers(
    rng: np.random.Generator, problems: int, n: int, kind: str, replicates: int = REPLICATES
) -> tuple[float, float]:
    """Shares of runs in which a crossover at k = 1 and n/2 is called supported, and refuted, though at n/2 both are level."""
    k = n // 2
    base, tuned = level_at(rng, (replicates, problems), k, kind)
    passes = [rng.binomial(n, chances).ravel() for chances in (base, tuned)]
    apart = {size: np.subtract(*(pass_at_k(n, c, size)[0] for c in passes[::-1])).reshape(base.shape) for size in (1, k)}
    yes, no = p_for_and_against(Question("crossover", 1, k), apart)
    return float((yes < ALPHA).mean()), float((no < ALPHA).mean())


def _intervals(rng: np.random.Generator) -> list[Figure]:
    figures = []
    how: dict[str, Method] = {"ours": ours, "t": student, "BCa": bca}
    for problems in SIZES:
        for n in ATTEMPTS:
            for a, b in DIFFICULTIES:
                for k in (1, 8, n // 2):
                    found = coverage(rng, (a, b), problems, n, k, how)
                    truth = mean_pass_at_k(a, b, k)
                    what = f"95 % interval of pass@{k} ({truth:.3f}), {problems} problems, n = {n}, Beta({a:g}, {b:g})"
                    text = ", ".join(f"{name} {100 * share:.1f} %" for name, share in found.items())
                    figures.append(Figure(what, text, "92 to 97 %", 0.92 <= found["ours"] <= 0.97))
    return figures


def _false_verdicts(rng: np.random.Generator) -> list[Figure]:
    figures = []
    for problems in SIZES:
        for n in ATTEMPTS:
            for kind in ("identical", "sharpened", "lossy"):
                supported, refuted = false_crossovers(rng, problems, n, kind)
                what = f"false crossover, {problems} problems, n = {n}, models level at n/2, {kind}"
                noise = 2 * np.sqrt(ALPHA * (1 - ALPHA) / REPLICATES)
                figures.append(Figure(what, f"{100 * supported:.1f} %", "at most 5 %", supported <= ALPHA + noise))
                figures.append(Figure(f"{what}: called refuted", f"{100 * refuted:.1f} %"))
    return figures


def _ends(centre: Floats, error: Floats, problems: int) -> tuple[Floats, Floats]:
    reach = stats.t.ppf(0.975, problems - 1) * error
    return centre - reach, centre + reach


def _bca(row: Floats, means: Floats) -> Floats:
    mean = row.mean()
    below = (np.searchsorted(means, mean, "left") + np.searchsorted(means, mean, "right")) / 2 / means.size
    bias = stats.norm.ppf(np.clip(below, 1 / means.size, 1 - 1 / means.size))
    apart = row - mean
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    return np.asarray(np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z))))
