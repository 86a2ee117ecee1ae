"""Intervals for a mean over problems: one value a problem, problems drawn from a population of such problems. Pure.

Knows nothing about k, models or counts. The sampling noise of a problem's attempts is already in the spread between
problems, so nothing is added for it.

The interval is Student's t, except where there is little to go by: where the problems hold fewer than five passes' or fewer
than five failures' worth between them, t and BCa both come out too narrow (30 problems, true mean 0.93: they cover 84 and
90 % instead of 95 %), because the rare problem that would have widened them is not in the sample. There, half a made-up problem
is put at each bound, as Agresti and Coull (1998) do for a proportion. Differences with fewer than five whole gains and losses
are treated alike, half a problem at plus and minus the largest one seen. bench/coverage.py measures what that covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
SHARE = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)
FEW = 5.0
_ALIKE = 1e-12
ADDED = "t, half a problem added at either end"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its two-sided interval; all three are NaN, or the bounds alone, where they are undefined.

    `method` says how it came about: `t`, `t, half a problem added at either end`, `exact, all problems alike`, or why not."""

    estimate: float
    low: float
    high: float
    method: str
    level: float = 0.95

    def excludes(self, value: float) -> bool:
        return value < self.low or value > self.high


def mean_interval(values: ArrayLike, level: float = 0.95, bounds: Bounds = SHARE) -> Interval:
    """Of the population mean of values within `bounds`, from shape (problems,).

    All problems alike (or only one): an exact bound, from how large the share of other problems can be and go unseen. A NaN
    among the values, or no values, leaves the interval undefined: dropping a problem would change what is estimated.
    """
    sample = _sample(values, bounds)
    if sample.size == 0 or np.isnan(sample).any():
        return Interval(np.nan, np.nan, np.nan, _why_undefined(sample), level)
    reach = float(stats.t.ppf((1 + level) / 2, sample.size - 1)) if sample.size > 1 else np.nan
    return _around(sample, reach, level, bounds)


def paired_interval(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Interval:
    """Of the mean of `second - first`, paired by problem; values are shares, shape (problems,). Raises ValueError on shapes."""
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise ValueError(f"paired values want the same problems on both sides, not {one.shape} and {other.shape}")
    return mean_interval(other - one, level, DIFFERENCE)


def one_sided_p(values: ArrayLike, null: float = 0.0) -> Floats:
    """P of such differences, shape (..., problems), if their population mean were at most `null`: small when it is above.

    Agrees with `mean_interval`: below 0.05 exactly when the 90 % interval lies above `null`. NaN where a problem has no value.
    """
    sample = np.asarray(values, np.float64)
    problems = sample.shape[-1]
    if not problems:
        return np.full(sample.shape[:-1], np.nan)
    centre, error = centre_and_error(sample, DIFFERENCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf((centre - null) / error, max(1, problems - 1))
    value = sample[..., 0]
    # All alike: the most that problems at this value can weigh when the others sit at -1 and the mean is `null`.
    weight = np.clip((null + 1) / (np.maximum(value, null) + 1), 0.0, 1.0)
    alike = weight ** np.where(1 - value < _ALIKE, problems, problems - 1)
    return np.asarray(np.where(np.isnan(centre), np.nan, np.where(error > 0, p, alike)), np.float64)


def simultaneous_band(
    values: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0, bounds: Bounds = DIFFERENCE
) -> list[Interval]:
    """One interval a row of `values`, shape (ks, problems); all hold together with probability `level`.

    The largest standardised deviation over rows (max-t) in `draws` joint resamples of the problems, carried over to
    Student's t; never narrower than the interval of a row alone. Rows without spread get their exact bound, by Bonferroni.
    """
    rows = [_sample(row, bounds) for row in np.atleast_2d(np.asarray(values, np.float64))]
    varied = [row for row in rows if row.size and not np.isnan(row).any() and np.ptp(row) >= _ALIKE]
    strict = 1 - (1 - level) / max(1, len(rows))
    reach = _max_t(np.stack(varied), level, draws, seed) if varied else np.nan
    in_band = {id(row) for row in varied}
    return [
        _around(row, reach, level, bounds, "max-t band, ") if id(row) in in_band else mean_interval(row, strict, bounds)
        for row in rows
    ]


def centre_and_error(values: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    """Centre and standard error of the mean over the last axis, shape (..., problems); error 0 where all problems are alike."""
    problems = values.shape[-1]
    largest = np.abs(values).max(axis=-1)
    ends = (-largest, largest) if bounds == DIFFERENCE else bounds
    added = np.where(_worth(values, bounds) < FEW, 1.0, 0.0)
    centre = (problems * values.mean(axis=-1) + added * (ends[0] + ends[1]) / 2) / (problems + added)
    squares = ((values - centre[..., None]) ** 2).sum(axis=-1)
    squares = squares + added / 2 * ((ends[0] - centre) ** 2 + (ends[1] - centre) ** 2)
    error = np.sqrt(squares / (problems + added) / np.maximum(1, problems + added - 1))
    return centre, np.where(np.ptp(values, axis=-1) < _ALIKE, 0.0, error)


def resampled_means(values: Floats, draws: int, seed: int) -> Floats:
    """Means of each row of `values`, shape (ks, problems), in `draws` joint resamples of the problems: shape (draws, ks)."""
    problems = values.shape[1]
    weights = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), size=draws)
    means: Floats = weights.astype(np.float64) @ values.T / problems
    return means


def _max_t(table: Floats, level: float, draws: int, seed: int) -> float:
    problems = table.shape[1]
    error = table.std(axis=1) / np.sqrt(problems)
    deviations = np.abs(resampled_means(table, draws, seed) - table.mean(axis=1)) / error
    normal = float(np.quantile(deviations.max(axis=1), level))
    alone = float(stats.t.ppf((1 + level) / 2, problems - 1))
    return max(alone, float(stats.t.isf(stats.norm.sf(normal), problems - 1)))


def _sample(values: ArrayLike, bounds: Bounds) -> Floats:
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1:
        raise ValueError(f"one value a problem is wanted, shape (problems,), not {sample.shape}")
    if (sample < bounds[0] - 1e-9).any() or (sample > bounds[1] + 1e-9).any():
        raise ValueError(f"values lie between {bounds[0]:g} and {bounds[1]:g}")
    return sample


def _worth(values: Floats, bounds: Bounds) -> Floats:
    """Whole passes that values add up to, or failures if fewer, over the last axis; for differences, whole gains and losses."""
    if bounds == DIFFERENCE:
        return np.asarray(np.abs(values).sum(axis=-1))
    return np.asarray(np.minimum((values - bounds[0]).sum(axis=-1), (bounds[1] - values).sum(axis=-1)))


def _around(sample: Floats, reach: float, level: float, bounds: Bounds, prefix: str = "") -> Interval:
    """`reach` standard errors to either side, within the bounds; the exact bound where there is no spread."""
    centre, error = (float(part) for part in centre_and_error(sample, bounds))
    if error == 0:
        value = float(sample[0])
        return Interval(value, *_alike(value, sample.size, level, bounds), "exact, all problems alike", level)
    estimate = float(sample.mean())
    low, high = max(bounds[0], min(centre - reach * error, estimate)), min(bounds[1], max(centre + reach * error, estimate))
    return Interval(estimate, low, high, prefix + ("t" if _worth(sample, bounds) >= FEW else ADDED), level)


def _alike(value: float, problems: int, level: float, bounds: Bounds) -> tuple[float, float]:
    """If problems unlike these had weight w, `problems` alike would be seen with probability (1-w)^problems: this bounds w, and
    w is put at either bound. A value that is a bound could have been named beforehand; any other costs the first problem."""
    free = problems if min(abs(value - bound) for bound in bounds) < _ALIKE else problems - 1
    alike = ((1 - level) / 2) ** (1 / free) if free else 0.0
    return alike * value + (1 - alike) * bounds[0], alike * value + (1 - alike) * bounds[1]


def _why_undefined(sample: Sequence[float] | Floats) -> str:
    missing = int(np.isnan(np.asarray(sample)).sum())
    return f"undefined: {missing} of {len(sample)} problems have no value" if missing else "undefined: there are no problems"
