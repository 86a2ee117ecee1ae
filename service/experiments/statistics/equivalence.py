"""Bounds and P-values for a mean of bounded differences that hold where few problems differ. Pure, seeded.

The bound is that of Learned-Miller and Thomas, "A New Confidence Interval for the Mean of a Bounded Random Variable" (2019,
arXiv:1905.06208). It assumes nothing about the distribution but its limits: with no difference seen in any of M problems, a
share of 1 - 0.05^(1/M) of problems may still differ by the whole range.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.experiments.statistics.estimators import Floats

_DRAWS = 2000
_CHUNK = 4_000_000  # numbers in memory at a time


def p_within(differences: ArrayLike, margin: float) -> Floats:
    """P of such differences, shape (..., problems), each from -1 to 1, if their population mean were `margin` or more from 0.

    Two one-sided tests, so no correction. NaN where a problem has no value."""
    values = np.asarray(differences, np.float64)
    return np.asarray(np.maximum(p_below(values, margin), p_below(-values, margin)), np.float64)


def p_below(differences: ArrayLike, limit: float) -> Floats:
    """P of such differences if their population mean were at least `limit`: small when it is below."""
    values = np.asarray(differences, np.float64)
    rows = values.reshape(-1, values.shape[-1])
    size = max(1, _CHUNK // _DRAWS)
    shares = [(_upper_means(rows[i : i + size]) >= limit).sum(axis=1) for i in range(0, len(rows), size)]
    p = (1 + np.concatenate(shares)) / (_DRAWS + 1) if rows.size else np.full(len(rows), np.nan)
    p = np.where(np.isnan(rows).any(axis=1), np.nan, p)
    return np.asarray(p.reshape(values.shape[:-1]), np.float64)


def mean_bounds(differences: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The lower and the upper bound of the mean, each of which holds with probability `level`; shape (problems,)."""
    values = np.asarray(differences, np.float64)[None]
    rank = min(_DRAWS, int(np.ceil(level * (_DRAWS + 1)))) - 1
    low, high = (float(np.sort(_upper_means(sign * values)[0])[rank]) for sign in (-1, 1))
    return -low, high


def _upper_means(rows: Floats) -> Floats:
    """The mean's upper limit for each draw of uniform order statistics, shape (rows, draws).

    Between two neighbouring values the distribution may lie as far up as the draw lets it: mean = 1 - sum of u_i * gap_i."""
    gaps = np.diff(np.sort(rows, axis=1), axis=1, append=1.0).astype(np.float32)
    return np.asarray(1.0 - gaps @ _order_statistics(rows.shape[1]).T, np.float64)


@lru_cache(maxsize=4)  # 80 MB for 10,000 problems
def _order_statistics(problems: int) -> NDArray[np.float32]:
    return np.sort(np.random.default_rng([19050, problems]).random((_DRAWS, problems), np.float32), axis=1)
