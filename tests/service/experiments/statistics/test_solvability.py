"""What counts say about a problem's own chance of a pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.experiments.statistics.solvability import (
    JEFFREYS,
    clopper_pearson,
    cover_at_tau,
    fit_beta,
    never_solved_bound,
    probability_above,
    recovery_depth,
    solvable_at,
)


@pytest.mark.parametrize(("a", "b"), [(0.3, 1.0), (2.0, 5.0), (0.5, 0.5)])
def test_the_fit_finds_the_distribution_that_counts_come_from(a: float, b: float) -> None:
    rng = np.random.default_rng(0)
    fitted = fit_beta(64, rng.binomial(64, rng.beta(a, b, 4000)))
    assert fitted == pytest.approx((a, b), rel=0.1)


def test_the_fit_is_the_same_from_screened_counts() -> None:
    """Problems that passed among their first 16 attempts got no more: the stopping rule does not bias the likelihood."""
    rng = np.random.default_rng(1)
    p = rng.beta(0.3, 1.0, 4000)
    first = rng.binomial(16, p)
    n = np.where(first > 0, 16, 128)
    assert fit_beta(n, first + rng.binomial(n - 16, p)) == pytest.approx((0.3, 1.0), rel=0.12)


@pytest.mark.parametrize("c", [[0] * 50, [100] * 50, [0], [30] * 40])
def test_extreme_counts_have_a_fit_all_the_same(c: list[int]) -> None:
    a, b = fit_beta(100, c)
    assert 0 < a < 1e4 and 0 < b < 1e4 and a / (a + b) == pytest.approx(c[0] / 100, abs=0.05)
    assert fit_beta([0, 0], [0, 0]) == JEFFREYS


def test_a_problem_without_a_pass_keeps_some_chance() -> None:
    above = probability_above(0.005, [64, 64, 1024], [0, 3, 0])
    assert 0 < above[2] < above[0] < above[1] < 1


def test_the_posterior_is_right_on_average_where_counting_passes_is_not() -> None:
    rng = np.random.default_rng(2)
    p = rng.beta(0.3, 1.0, 4000)
    c = rng.binomial(16, p)
    for tau in (0.02, 0.2):
        truth = float((p >= tau).mean())
        assert cover_at_tau(16, c, [tau])[0] == pytest.approx(truth, abs=0.025)
    assert abs(float((c / 16 >= 0.02).mean()) - float((p >= 0.02).mean())) > 0.05


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0.5, 0.999))
def test_the_rule_of_three_is_where_n_failures_are_just_that_likely(n: int, level: float) -> None:
    bound = float(never_solved_bound(n, level)[0])
    assert (1 - bound) ** n == pytest.approx(1 - level)
    assert float(clopper_pearson(n, 0, 2 * level - 1)[1][0]) == pytest.approx(bound)


def test_the_rule_of_three_is_near_three_over_n() -> None:
    assert never_solved_bound(1024)[0] == pytest.approx(3 / 1024, rel=0.01) and never_solved_bound(0)[0] == 1


@given(st.integers(1, 200), st.data())
def test_clopper_pearson_is_scipys(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    exact = stats.binomtest(c, n).proportion_ci(0.95)
    low, high = clopper_pearson(n, c)
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_recovery_depth_falls_with_passes_and_holds_its_point() -> None:
    found = recovery_depth([100] * 4, [0, 1, 50, 100], JEFFREYS)
    assert (np.diff(found.k) < 0).all() and (found.low <= found.k).all() and (found.k <= found.high).all()
    assert found.k[2] == pytest.approx(math.log(0.05) / math.log(0.5), rel=0.02) and found.k[3] == 1


def test_recovery_depth_of_known_chances_lies_in_its_interval_as_often_as_said() -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(0.5, 2.0, 3000)
    found = recovery_depth(64, rng.binomial(64, p))
    truth = np.maximum(1, math.log(0.05) / np.log1p(-p))
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=0.015)


@given(st.integers(1, 5000))
def test_solvable_at_k_means_a_pass_in_k_attempts_with_95_percent(k: int) -> None:
    assert 1 - (1 - solvable_at(k)) ** k == pytest.approx(0.95)


def test_bad_arguments_are_refused() -> None:
    for epsilon in (-0.1, 1.1):
        with pytest.raises(ValueError, match="epsilon"):
            probability_above(epsilon, 4, 1)
    with pytest.raises(ValueError, match="passes c"):
        fit_beta(3, 4)
