"""Two models on the same problems: where their curves cross, what each one solves; on made-up and on measured counts."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.statistics.comparison import SolvedSets, compare, exact_mcnemar, find_crossover, log_grid, solved_sets
from service.experiments.statistics.estimators import Counts

KS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


@pytest.fixture(scope="session")
def organism(data: Path) -> dict[str, Counts]:
    with (data / "passk-counts" / "organism_countdown_n512.csv").open() as file:
        rows = list(csv.DictReader(file))
    counts = {
        model: [(int(row["n"]), int(row["c"])) for row in rows if row["model"] == model]
        for model in ("base", "tuned", "distilled")
    }
    return {model: Counts(np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for model, pairs in counts.items()}


def test_the_organisms_curves_cross_near_twelve(organism: dict[str, Counts]) -> None:
    found = compare(organism["base"], organism["tuned"], KS)
    assert 11 < found.crossover.k < 13 and 8 <= found.crossover.low < 12 < found.crossover.high < 20
    assert found.crossover.probability_none == 0 and found.edge == 256 and found.problems == 128
    assert (found.solved.both, found.solved.base_only, found.solved.tuned_only) == (90, 38, 0)
    assert found.mcnemar_p == pytest.approx(2 * 0.5**38)
    assert found.difference[0].low > 0 > found.difference[-1].high
    for alone, together in zip(found.difference, found.band, strict=True):
        assert together.low <= alone.low and alone.high <= together.high
    assert found.crossover == compare(organism["base"], organism["tuned"], KS).crossover


def test_a_crossing_that_is_not_certain_has_a_share_without_one(organism: dict[str, Counts]) -> None:
    found = compare(organism["base"], organism["distilled"], KS).crossover
    assert 0.1 < found.probability_none < 0.9 and math.isinf(found.high)


def test_a_crossing_lies_between_its_neighbours_on_a_log_axis() -> None:
    found = find_crossover([1, 4, 16], np.array([[0.3, 0.3], [0.1, 0.1], [-0.1, -0.1]]))
    assert found.k == pytest.approx(8) and found.low == found.high == found.k and found.probability_none == 0
    flat_between = find_crossover([1, 2, 4, 8], [[0.2], [0.0], [0.0], [-0.2]])
    assert flat_between.k == pytest.approx(2)


@pytest.mark.parametrize(
    ("curve", "low", "high"),
    [
        ([0.3, 0.2, 0.1], np.inf, np.inf),
        ([-0.1, -0.2, -0.3], 1, 1),
        ([-0.2, 0.1, 0.2], np.inf, np.inf),
        ([0.1, 0.0, 0.0], np.inf, np.inf),
    ],
)
def test_no_crossing_says_on_which_side(curve: list[float], low: float, high: float) -> None:
    """The tuned model stays ahead, was never ahead, overtakes, or ends level."""
    found = find_crossover([1, 2, 4], [[value] * 5 for value in curve])
    assert math.isnan(found.k) and (found.low, found.high, found.probability_none) == (low, high, 1)


def test_a_run_that_is_not_complete_leaves_the_rest_standing() -> None:
    base = Counts(np.array([8, 8, 4]), np.array([1, 0, 2]), planned=8)
    found = compare(base, Counts(np.array([8, 8, 8]), np.array([4, 0, 2])), [1, 4, 8])
    assert [math.isnan(interval.estimate) for interval in found.difference] == [False, False, True]
    assert not math.isnan(found.crossover.low)


def test_mcnemar_wants_the_same_number_of_attempts_where_nothing_passed() -> None:
    base, tuned = Counts(np.array([4, 4]), np.array([0, 1])), Counts(np.array([8, 8]), np.array([1, 1]))
    assert math.isnan(compare(base, tuned, [1]).mcnemar_p)
    screened = Counts(np.array([8, 4]), np.array([0, 1]), planned=8, screen=4, screened=np.array([0, 1]))
    assert compare(screened, tuned, [1]).mcnemar_p == 1.0


@pytest.mark.parametrize(("base_only", "tuned_only", "p"), [(4, 0, 0.125), (4, 1, 0.375), (0, 0, 1.0), (5, 5, 1.0)])
def test_exact_mcnemar(base_only: int, tuned_only: int, p: float) -> None:
    assert exact_mcnemar(base_only, tuned_only) == pytest.approx(p)


def test_ratios_of_solved_sets() -> None:
    sets = solved_sets([True] * 6 + [False] * 4, [True] * 4 + [False] * 2 + [True] + [False] * 3)
    assert sets == SolvedSets(4, 2, 1, 3)
    assert sets.support_retention_rate == pytest.approx(4 / 6) and sets.net_discovery_rate == pytest.approx(1 / 5)
    assert sets.net_support_change_rate == pytest.approx(-1 / 7)
    assert sets.support_dynamic_score == pytest.approx(2 / (6 / 4 + 5))
    assert math.isnan(SolvedSets(0, 0, 0, 5).support_retention_rate)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_expected_sets_share_out_all_problems(chances: list[tuple[float, float]]) -> None:
    base, tuned = zip(*chances, strict=True)
    sets = solved_sets(base, tuned)
    assert sets.both + sets.base_only + sets.tuned_only + sets.neither == pytest.approx(len(chances))
    assert sets.both + sets.base_only == pytest.approx(sum(base))


def test_models_on_different_problems_are_refused() -> None:
    one, two = Counts(np.array([4]), np.array([1])), Counts(np.array([4, 4]), np.array([1, 1]))
    for base, tuned in ((one, two), (Counts(np.array([]), np.array([])), Counts(np.array([]), np.array([])))):
        with pytest.raises(ValueError, match="same problems"):
            compare(base, tuned, [1])


@given(st.integers(1, 20_000))
def test_the_grid_runs_from_one_to_the_edge(most: int) -> None:
    grid = log_grid(most)
    assert grid[0] == 1 and grid[-1] == most and grid == sorted(set(grid)) and len(grid) <= 8 * math.log2(most) + 2
    assert all(later <= max(earlier + 1, 1.2 * earlier) for earlier, later in pairwise(grid))
