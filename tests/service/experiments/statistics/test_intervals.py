"""Intervals over problems: they agree with scipy where it applies, cover what they say, and own up where they can't."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.coverage import coverage, ours
from service.experiments.statistics.intervals import (
    ADDED,
    DIFFERENCE,
    SHARE,
    mean_interval,
    one_sided_p,
    paired_interval,
    simultaneous_band,
)

shares = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_amid_the_scale_it_is_students_t() -> None:
    values = np.random.default_rng(0).random(40)
    found = mean_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high)) and found.method == "t"
    assert found.estimate == values.mean() and found.excludes(0.1) and not found.excludes(found.estimate)


def test_near_the_ceiling_it_is_wider_than_students_t_and_says_so() -> None:
    values = np.array([1.0] * 28 + [0.9, 0.8])
    found = mean_interval(values)
    assert found.method == ADDED
    assert found.low < stats.ttest_1samp(values, 0).confidence_interval(0.95).low and found.high == 1.0


@settings(deadline=None)
@given(shares, st.sampled_from([0.8, 0.95, 0.99]))
def test_it_holds_the_estimate_keeps_to_the_bounds_and_mirrors(values: list[float], level: float) -> None:
    found, mirrored = mean_interval(values, level), mean_interval(1 - np.array(values), level)
    assert 0 <= found.low <= found.estimate + 1e-12 and found.estimate - 1e-12 <= found.high <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40), st.floats(-0.5, 0.5))
def test_p_is_below_five_percent_exactly_when_the_ninety_percent_interval_lies_above(values: list[float], null: float) -> None:
    found = mean_interval(values, 0.90, DIFFERENCE)
    assume(abs(found.low - null) > 1e-6 and found.low > -1)
    assert bool(one_sided_p(values, null) < 0.05) == (found.low > null)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.025 ** (1 / 30), 1.0), (0.0, 0.0, 1 - 0.025 ** (1 / 30))])
def test_all_problems_alike_is_no_certainty(value: float, low: float, high: float) -> None:
    """At 0 and 1 it is Clopper and Pearson's interval for 30 of 30."""
    found = mean_interval([value] * 30)
    assert (found.low, found.high) == pytest.approx((low, high)) and found.method == "exact, all problems alike"
    exact = stats.binomtest(int(30 * value), 30).proportion_ci(0.95)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_one_problem_says_next_to_nothing() -> None:
    inside, ceiling = mean_interval([0.4]), mean_interval([1.0])
    assert (inside.low, inside.high) == (0, 1) and (ceiling.low, ceiling.high) == pytest.approx((0.025, 1))
    assert one_sided_p([0.4]) == 1.0 and one_sided_p([1.0]) == 0.5


def test_what_is_undefined_is_nan_with_the_reason() -> None:
    for values, reason in (([], "no problems"), ([0.5, np.nan, 0.2], "1 of 3 problems")):
        found = mean_interval(values)
        assert np.isnan([found.estimate, found.low, found.high]).all() and reason in found.method
    assert np.isnan(one_sided_p([0.5, np.nan])) and np.isnan(one_sided_p([]))
    band = simultaneous_band([[0.1, 0.2, 0.4], [0.1, np.nan, 0.3]])
    assert not np.isnan(band[0].low) and np.isnan(band[1].low)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="lie between"):
        mean_interval([0.2, 1.2])
    with pytest.raises(ValueError, match="one value a problem"):
        mean_interval([[0.2]])
    with pytest.raises(ValueError, match="same problems"):
        paired_interval([0.2], [0.3, 0.4])


def test_pairing_by_problem_narrows_the_interval() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(60)
    tuned = np.clip(base + rng.normal(0.05, 0.02, 60), 0, 1)
    paired = paired_interval(base, tuned)
    apart = stats.ttest_ind(tuned, base).confidence_interval(0.95)
    assert paired.low > 0 and paired.high - paired.low < (apart.high - apart.low) / 5


def test_the_band_is_wider_than_each_interval_alone_and_narrower_than_bonferroni() -> None:
    values = np.cumsum(np.random.default_rng(2).normal(0, 0.05, (8, 60)), axis=0).clip(-1, 1)
    for row, found in zip(values, simultaneous_band(values), strict=True):
        alone, strict = (mean_interval(row, level, DIFFERENCE) for level in (0.95, 1 - 0.05 / 8))
        assert strict.low < found.low < alone.low and alone.high < found.high < strict.high
        assert found.method.startswith("max-t band")


def test_the_band_is_the_same_again_and_knows_rows_without_spread() -> None:
    values = np.vstack([np.random.default_rng(3).normal(0, 0.2, (2, 40)).clip(-1, 1), np.zeros((1, 40))])
    found = simultaneous_band(values)
    assert found == simultaneous_band(values) and found[2].method == "exact, all problems alike"
    assert found[2].low < 0 < found[2].high


def test_the_band_holds_all_rows_together() -> None:
    """Five correlated curves over 40 problems, true mean 0, 400 runs: 95 % within three standard errors of that share."""
    rng = np.random.default_rng(4)
    held = []
    for run in range(400):
        values = 0.2 * rng.normal(size=(1, 40)) + 0.2 * rng.normal(size=(5, 40))
        held.append(all(not found.excludes(0) for found in simultaneous_band(values.clip(-1, 1), draws=400, seed=run)))
    assert 0.92 <= np.mean(held) <= 0.985


@pytest.mark.parametrize("problems", [30, 272])
@pytest.mark.parametrize("difficulty", [(0.3, 1.0), (0.5, 0.5), (1.0, 3.0)])
def test_nominal_95_percent_intervals_cover_92_to_97(problems: int, difficulty: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    for n, k in ((64, 1), (64, 8), (64, 32), (128, 1), (128, 8)):
        found = coverage(rng, difficulty, problems, n, k, {"ours": ours}, 3000)["ours"]
        # Three standard errors of a share from 3,000 runs.
        assert 0.92 - 0.01 <= found <= 0.97 + 0.01, (n, k)


def test_where_hardly_any_problem_fails_it_errs_on_the_wide_side() -> None:
    """The true mean is 0.955, so 30 problems hold 1.3 failures' worth: Student's t covers 78 % there."""
    assert coverage(np.random.default_rng(6), (1.0, 3.0), 30, 128, 64, {"ours": ours}, 1000)["ours"] > 0.97


def test_the_bench_measures_the_interval_that_is_shown() -> None:
    values = np.random.default_rng(7).beta(3, 0.2, 30)
    low, high = ours(values[None], SHARE)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((low[0], min(1.0, high[0])))
