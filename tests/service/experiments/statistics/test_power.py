"""What a planned run would show: against simulation that is written apart, and against figures computed elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.experiments.statistics.comparison import compare
from service.experiments.statistics.decision import Question
from service.experiments.statistics.estimators import Counts
from service.experiments.statistics.intervals import paired_interval
from service.experiments.statistics.power import ASSUMED, plan, power, what_would_decide


def pilot(problems: int, n: int, lift: float, seed: int = 0) -> tuple[Counts, Counts]:
    """Base p are Beta(0.3, 1); the tuned model has (1-p)^lift chances of failure."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 1.0, problems)
    attempts = np.full(problems, n)
    return Counts(attempts, rng.binomial(n, p)), Counts(attempts, rng.binomial(n, 1 - (1 - p) ** lift))


def test_thirty_problems_hardly_ever_show_a_crossover_and_five_hundred_nearly_always_do() -> None:
    """A true crossing at k = 32 and a gap of 4 to 5 points at k = 128; another's simulation gave 11, 93 and 99 %."""
    question = Question("crossover", 1, 128)
    shown = [power(question, None, problems, 128) for problems in (30, 272, 500)]
    assert shown[0] < 0.2 and 0.7 < shown[1] < 0.97 and shown[2] > 0.9


def test_expected_widths_are_those_of_runs_to_come() -> None:
    first = pilot(400, 64, 2.0)
    found = plan(100, 64, [1, 8, 32], pilot=first)
    runs = [compare(*pilot(100, 64, 2.0, seed), [1, 8, 32], draws=10) for seed in range(1, 41)]
    for place, k in enumerate([1, 8, 32]):
        seen = np.mean([run.difference[place].high - run.difference[place].low for run in runs])
        assert found.difference_width[k] == pytest.approx(seen, rel=0.2)
        both = [max(side[place].high - side[place].low for side in (run.base_pass_at_k, run.tuned_pass_at_k)) for run in runs]
        assert found.pass_width[k] == pytest.approx(np.mean(both), rel=0.2)


def test_power_is_the_share_of_simulated_runs_that_decide() -> None:
    question = Question("higher", 8)
    foretold = power(question, pilot(1000, 64, 1.5), 40, 64)
    runs = [tuple(counts.pass_at_k([8])[0] for counts in pilot(40, 64, 1.5, seed)) for seed in range(1, 401)]
    assert foretold == pytest.approx(np.mean([paired_interval(base, tuned, 0.90).excludes(0) for base, tuned in runs]), abs=0.1)


def test_more_problems_beat_more_attempts_where_problems_are_few() -> None:
    found = plan(30, 64, [1, 32], Question("higher", 1), pilot(200, 64, 1.15))
    assert found.decided < 0.8 and found.decided_more_problems > found.decided_more_attempts + 0.03
    assert found.problems_needed is not None and found.problems_needed > 30
    assert "More problems help more" in found.advice and "as measured" in found.advice
    again = power(Question("higher", 1), pilot(200, 64, 1.15), found.problems_needed, 64)
    assert again == pytest.approx(0.8, abs=0.1)


def test_more_attempts_move_the_edge_to_where_a_late_crossing_shows() -> None:
    found = plan(272, 64, [1, 32], Question("crossover", 1, 32))
    assert found.decided_more_attempts > found.decided_more_problems
    assert "More attempts help more" in found.advice and ASSUMED in found.advice


def test_a_difference_that_is_not_there_is_not_promised() -> None:
    base, _ = pilot(60, 64, 1.0)
    found = plan(60, 64, [1], Question("higher", 1), (base, base))
    assert found.problems_needed is None or found.problems_needed > 1000


def test_screening_saves_attempts_and_counts_them() -> None:
    whole, screened = plan(200, 128, [1, 64]), plan(200, 128, [1, 64], screen=16)
    assert whole.completions == 200 * 128 * 2 and screened.completions < 0.6 * whole.completions
    assert screened.difference_width[64] == pytest.approx(whole.difference_width[64], rel=0.15)


def test_a_plan_without_a_question_or_with_too_few_attempts_says_so() -> None:
    assert math.isnan(plan(10, 8, [1, 4]).decided) and "No question" in plan(10, 8, [1, 4]).advice
    assert "too few for k = 64" in plan(10, 8, [1, 4, 64], Question("higher", 64)).advice
    assert list(plan(10, 8, [1, 4, 64]).pass_width) == [1, 4]
    assert "That is enough" in what_would_decide(Question("higher", 1), pilot(200, 64, 4.0))


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(40, 16, [1, 8], Question("higher", 1)) == plan(40, 16, [1, 8], Question("higher", 1))


def test_the_later_k_of_a_crossover_is_the_largest_up_to_half_of_the_attempts() -> None:
    assert plan(40, 64, [1, 8, 32, 64], Question("crossover")) == plan(40, 64, [1, 8, 32, 64], Question("crossover", 1, 32))
    with pytest.raises(ValueError, match="two k up to half of the 2 attempts"):
        plan(40, 2, [1, 2], Question("crossover"))


def test_nothing_to_plan_is_refused() -> None:
    for problems, attempts in ((0, 8), (8, 0)):
        with pytest.raises(ValueError, match="at least one"):
            plan(problems, attempts, [1])
