"""Two models on the same problems: difference of their pass@k, where the curves cross, which problems each one solves. Pure.

Knows nothing about predictions, verdicts or names. A difference is tuned minus base, paired by problem. The crossing looked for
is the base model overtaking: tuned ahead at small k, base ahead at larger k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from service.experiments.statistics.estimators import Counts, Floats
from service.experiments.statistics.intervals import DIFFERENCE, Interval, mean_interval, resampled_means, simultaneous_band
from service.experiments.statistics.solvability import probability_above, solvable_at

_STEPS_PER_OCTAVE = 8


@dataclass(frozen=True, slots=True)
class Crossover:
    """`k` where the difference turns from above 0 to below, NaN if it does not. `low`..`high`: where it does in resampled
    problems, the middle 95 %; a sample where the tuned model stays ahead counts as infinity, one where it never was ahead as
    the smallest k. `probability_none`: the share of samples without a crossing."""

    k: float
    low: float
    high: float
    probability_none: float


@dataclass(frozen=True, slots=True)
class SolvedSets:
    """How many problems are solved by both models, one, or neither; expected numbers, when solved is only probable.

    The ratios are those of 2507.14843; NaN where nothing is solved that they divide by."""

    both: float
    base_only: float
    tuned_only: float
    neither: float

    @property
    def support_retention_rate(self) -> float:
        """SRR: of what the base model solves, the share that the tuned one solves."""
        return _ratio(self.both, self.both + self.base_only)

    @property
    def net_discovery_rate(self) -> float:
        """NDR: of what the tuned model solves, the share that the base one does not."""
        return _ratio(self.tuned_only, self.both + self.tuned_only)

    @property
    def net_support_change_rate(self) -> float:
        """NSCR: what was gained minus what was lost, of all that either solves."""
        return _ratio(self.tuned_only - self.base_only, self.both + self.base_only + self.tuned_only)

    @property
    def support_dynamic_score(self) -> float:
        """SDS: the harmonic mean of SRR and NDR."""
        retained, discovered = self.support_retention_rate, self.net_discovery_rate
        return _ratio(2 * retained * discovered, retained + discovered)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything between two models at `ks`. `edge` is the largest k about which anything may be claimed, n/2.

    `expected`: epsilon -> expected solved sets, solved meaning p > epsilon. `mcnemar_p`: exact, two-sided, on c > 0; NaN where
    the two had different numbers of attempts at a problem that stayed unsolved."""

    base: Counts
    tuned: Counts
    ks: tuple[int, ...]
    base_pass_at_k: tuple[Interval, ...]
    tuned_pass_at_k: tuple[Interval, ...]
    difference: tuple[Interval, ...]
    band: tuple[Interval, ...]
    crossover: Crossover
    solved: SolvedSets
    expected: Mapping[float, SolvedSets]
    mcnemar_p: float
    edge: int

    @property
    def problems(self) -> int:
        return int(self.base.n.size)

    def differences(self, k: int) -> Floats:
        """tuned - base a problem at any k, shape (problems,)."""
        return np.asarray(_differences(self.base, self.tuned, [k])[0])


def compare(
    base: Counts,
    tuned: Counts,
    ks: Sequence[int],
    *,
    level: float = 0.95,
    epsilons: Sequence[float] = (),
    draws: int = 2000,
    seed: int = 0,
) -> Comparison:
    """All that the counts of two models on the same problems say. Raises ValueError when they are not the same in number.

    `epsilons` default to the p that n/2 attempts solve with 95 %. A crossing is sought up to n/2, on a grid finer than `ks`.
    """
    if base.n.shape != tuned.n.shape or not base.n.size:
        raise ValueError(f"two models are compared on the same problems, not on {base.n.size} and {tuned.n.size}")
    edge = min(base.edge, tuned.edge)
    sizes = sorted({int(k) for k in ks})
    apart = _differences(base, tuned, sizes)
    grid = log_grid(edge)
    return Comparison(
        base,
        tuned,
        tuple(sizes),
        tuple(mean_interval(row, level) for row in base.pass_at_k(sizes)),
        tuple(mean_interval(row, level) for row in tuned.pass_at_k(sizes)),
        tuple(mean_interval(row, level, DIFFERENCE) for row in apart),
        tuple(simultaneous_band(apart, level, draws, seed)),
        find_crossover(grid, _differences(base, tuned, grid), level, draws, seed),
        solved_sets(base.c > 0, tuned.c > 0),
        {epsilon: _expected_sets(base, tuned, epsilon) for epsilon in epsilons or (solvable_at(edge),)},
        _mcnemar(base, tuned),
        edge,
    )


def log_grid(most: int) -> list[int]:
    """Whole numbers from 1 to `most`, eight to a doubling where there are so many."""
    steps = int(np.ceil(np.log2(max(1, most)) * _STEPS_PER_OCTAVE))
    return sorted({min(most, round(2 ** (step / _STEPS_PER_OCTAVE))) for step in range(steps + 1)})


def find_crossover(
    ks: Sequence[int], differences: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Crossover:
    """The first k at which the mean of `differences`, shape (ks, problems), turns from above 0 to below, between neighbours by
    a straight line in ln k; with its distribution over `draws` joint resamples of the problems. Undefined with NaN values."""
    table = np.asarray(differences, np.float64)
    if np.isnan(table).any() or table.shape[1] == 0:
        return Crossover(np.nan, np.nan, np.nan, np.nan)
    crossing = _crossings(ks, table.mean(axis=1)[None])[0]
    curves = resampled_means(table, draws, seed)
    crossings = _crossings(ks, curves)
    none = np.isnan(crossings)
    behind_from_the_start = ~(curves > 0).any(axis=1) & (curves[:, -1] < 0)
    placed = np.where(none, np.where(behind_from_the_start, float(ks[0]), np.inf), crossings)
    low, high = np.quantile(placed, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Crossover(float(crossing), float(low), float(high), float(none.mean()))


def solved_sets(base: ArrayLike, tuned: ArrayLike) -> SolvedSets:
    """From the chance, 0 to 1, that each model solves each problem, shape (problems,); True and False for c > 0."""
    one, other = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    parts = one * other, one * (1 - other), (1 - one) * other, (1 - one) * (1 - other)
    return SolvedSets(*(float(part.sum()) for part in parts))


def exact_mcnemar(base_only: int, tuned_only: int) -> float:
    """Two-sided P that the discordant problems fall at least so unevenly by tosses of a fair coin (McNemar 1947, exact)."""
    discordant = base_only + tuned_only
    return float(stats.binomtest(base_only, discordant).pvalue) if discordant else 1.0


def _mcnemar(base: Counts, tuned: Counts) -> float:
    most = max(base.planned, tuned.planned)
    if any((counts.n[counts.c == 0] < most).any() for counts in (base, tuned)):
        return float("nan")
    return exact_mcnemar(int(((base.c > 0) & (tuned.c == 0)).sum()), int(((base.c == 0) & (tuned.c > 0)).sum()))


def _expected_sets(base: Counts, tuned: Counts, epsilon: float) -> SolvedSets:
    return solved_sets(*(probability_above(epsilon, counts.n, counts.c) for counts in (base, tuned)))


def _differences(base: Counts, tuned: Counts, ks: Sequence[int]) -> Floats:
    return tuned.pass_at_k(ks) - base.pass_at_k(ks)


def _crossings(ks: Sequence[int], curves: Floats) -> Floats:
    """k* of each curve, shape (curves, ks) to (curves,); NaN without one."""
    columns = np.arange(len(ks))
    ahead_before = np.maximum.accumulate(curves > 0, axis=1)
    behind_after = (curves < 0) & ahead_before
    at = behind_after.argmax(axis=1)
    crosses = behind_after.any(axis=1)
    before = np.where((curves > 0) & (columns < at[:, None]), columns, -1).max(axis=1)
    rows, after = np.arange(len(curves)), np.minimum(before + 1, len(ks) - 1)
    logs = np.log(np.asarray(ks, np.float64))
    start, end = curves[rows, before], curves[rows, after]
    share = np.where(crosses, start, 0.0) / np.where(crosses, start - end, 1.0)
    out: Floats = np.where(crosses, np.exp(logs[before] + share * (logs[after] - logs[before])), np.nan)
    return out


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
