"""Bounds that hold where few problems differ: hand-computed cases, and the share of wrong decisions by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from service.experiments.statistics.decision import ALPHA, Question, p_for_and_against
from service.experiments.statistics.equivalence import mean_bounds, p_below, p_within
from service.experiments.statistics.estimators import Floats, pass_at_k


@pytest.mark.parametrize("problems", [30, 60, 148, 160])
def test_without_any_difference_only_the_number_of_problems_counts(problems: int) -> None:
    """A share of 2 % that differs by 1 stays unseen in all of them with probability 0.98^problems."""
    expected = 0.98**problems
    assert float(p_within(np.zeros(problems), 0.02)) == pytest.approx(expected, abs=0.012 + 0.02 * expected)


def test_the_upper_bound_of_zeros_and_ones_is_that_of_clopper_and_pearson() -> None:
    """Three of 50 problems differ by 1, the others by -1, the other end of the range: the exact binomial bound."""
    values = np.where(np.arange(50) < 3, 1.0, -1.0)
    exact = 2 * stats.beta.ppf(0.95, 4, 47) - 1
    assert mean_bounds(values)[1] == pytest.approx(exact, abs=0.02)
    assert mean_bounds(-values)[0] == pytest.approx(-exact, abs=0.02)


def test_bounds_and_p_agree() -> None:
    values = np.random.default_rng(2).normal(0.0, 0.05, 200)
    low, high = mean_bounds(values)
    assert low < values.mean() < high
    assert float(p_below(values, high + 0.001)) < 0.05 < float(p_below(values, high - 0.001))
    assert float(p_below(-values, -low + 0.001)) < 0.05 < float(p_below(-values, -low - 0.001))


def test_a_problem_without_a_value_gives_no_p() -> None:
    assert np.isnan(p_within(np.array([[0.0, np.nan], [0.0, np.nan]]), 0.5)).all()
    assert p_within(np.zeros((3, 20)), 0.5).shape == (3,)


def _lost(share: float, problems: int, n: int, k: int, runs: int, seed: int, a: float = 0.0) -> Floats:
    """Differences of pass@k, shape (runs, problems): the tuned model never solves a share of problems and equals the base
    model on the others, whose chances are 0.9, or drawn from Beta(a, 1)."""
    rng = np.random.default_rng(seed)
    base = rng.beta(a, 1.0, (runs, problems)) if a else np.full((runs, problems), 0.9)
    tuned = np.where(rng.random((runs, problems)) < share, 0.0, base)
    flat = [pass_at_k(np.full(p.size, n), rng.binomial(n, p).ravel(), [k])[0] for p in (base, tuned)]
    return np.asarray((flat[1] - flat[0]).reshape(runs, problems), np.float64)


@pytest.mark.parametrize(
    ("share", "problems", "n", "k", "a"),
    [(0.03, 30, 64, 8, 0.0), (0.03, 164, 64, 8, 0.0), (0.05, 100, 64, 8, 0.3), (0.1, 200, 32, 8, 0.3)],
)
def test_a_sparse_difference_as_large_as_the_margin_is_seldom_called_none(
    share: float, problems: int, n: int, k: int, a: float
) -> None:
    """The error of `no_difference` in designs where Student's t erred in 39, 13, 4 and 7 % of runs."""
    differences = _lost(share, problems, n, k, 1000, seed=4, a=a)
    margin = abs(float(differences.mean())) * 0.999
    yes, _ = p_for_and_against(Question("no_difference", k, margin=margin), {k: differences})
    assert (yes < ALPHA).mean() <= 0.05


def test_equal_models_are_found_equal_with_enough_problems() -> None:
    differences = _lost(0.0, 500, 64, 8, 200, seed=5, a=0.3)
    yes, no = p_for_and_against(Question("no_difference", 8, margin=0.03), {8: differences})
    assert (yes < ALPHA).mean() > 0.9 and (no < ALPHA).mean() == 0.0
