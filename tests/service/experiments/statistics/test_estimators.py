"""Point estimates against exact fractions, enumeration, an independent library, and published figures."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments.statistics.estimators import (
    Counts,
    g_pass_at_k,
    mean_g_pass_at_k,
    pass_at_k,
    pass_hat_k,
    screened_pass_at_k,
    unknown_bounds,
)
from service.experiments.statistics.majority import maj_at_k


@st.composite
def n_c_k(draw: st.DrawFn, most: int = 10_000) -> tuple[int, int, int]:
    n = draw(st.integers(1, most))
    few = st.integers(0, min(n, 30))
    return n, draw(st.one_of(st.integers(0, n), few)), draw(st.one_of(st.integers(1, n), few.filter(bool)))


@settings(deadline=None, max_examples=60)
@given(n_c_k())
def test_pass_at_k_is_exact_to_thirteen_digits(drawn: tuple[int, int, int]) -> None:
    n, c, k = drawn
    truth = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    found = Fraction(float(pass_at_k(n, c, k)[0, 0]))
    assert found == truth if truth in (0, 1) else abs(found / truth - 1) < Fraction(1, 10**13)


@settings(deadline=None, max_examples=60)
@given(n_c_k(400), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 1.0]))
def test_the_relatives_of_pass_at_k_are_hypergeometric_tails(drawn: tuple[int, int, int], tau: float) -> None:
    n, c, k = drawn

    def tail(least: int) -> Fraction:
        ways = sum(math.comb(c, j) * math.comb(n - c, k - j) for j in range(least, k + 1))
        return Fraction(ways, math.comb(n, k))

    least = max(1, math.ceil(Fraction(str(tau)) * k))
    assert g_pass_at_k(n, c, k, tau)[0, 0] == pytest.approx(float(tail(least)), rel=1e-10, abs=1e-300)
    assert pass_hat_k(n, c, k)[0, 0] == pytest.approx(float(tail(k)), rel=1e-10, abs=1e-300)
    if 1 < k <= 40:
        mean = 2 * sum(tail(i) for i in range(math.ceil(k / 2) + 1, k + 1)) / k
        assert mean_g_pass_at_k(n, c, k)[0, 0] == pytest.approx(float(mean), rel=1e-10, abs=1e-300)


@given(n_c_k(200), st.integers(1, 5))
def test_pass_at_k_grows_with_k_and_with_passes(drawn: tuple[int, int, int], more: int) -> None:
    n, c, k = drawn
    low, high = pass_at_k(n, c, [k, min(n, k + more)])[:, 0]
    assert 0 <= low <= high + 1e-15 <= 1 + 2e-15 and low <= pass_at_k(n, min(n, c + more), k)[0, 0] + 1e-15


def test_k_beyond_n_is_not_a_number_and_shapes_are_ks_by_problems() -> None:
    found = pass_at_k([2, 4, 8], [1, 4, 0], [1, 4, 8])
    assert found.shape == (3, 3)
    assert np.isnan(found).tolist() == [[False] * 3, [True, False, False], [True, True, False]]
    for other in (
        pass_hat_k([2], [2], 3),
        g_pass_at_k([2], [2], 3, 0.5),
        mean_g_pass_at_k([2], [2], [1, 3]),
        maj_at_k([{"a": 2}], ["a"], [3]),
    ):
        assert np.isnan(other).all()


@pytest.mark.parametrize(("n", "c"), [(3, 4), (3, -1), (2.5, 1), ([4, 4], [1, 5])])
def test_impossible_counts_are_refused(n: object, c: object) -> None:
    with pytest.raises(ValueError, match=r"passes c|whole numbers"):
        pass_at_k(n, c, 1)  # type: ignore[arg-type]


def test_other_bad_arguments_are_refused() -> None:
    for call in (
        lambda: pass_at_k(4, 1, -1),
        lambda: g_pass_at_k(4, 1, 2, 1.5),
        lambda: maj_at_k([{"a": 1}], [], [1]),
        lambda: maj_at_k([{"a": -1}], [{"a"}], [1]),
        lambda: Counts(np.array([4]), np.array([1]), screen=2),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("side", ["input", "output"])
def test_cruxeval_as_published(data: Path, side: str) -> None:
    counts = json.loads((data / "passk-counts" / f"cruxeval_{side}_codellama7b_n10_counts.json").read_text())
    found = 100 * pass_at_k(counts["n"], list(counts["c"].values()), [1, 5]).mean(axis=1)
    assert found == pytest.approx([counts["published"]["pass_at_1"], counts["published"]["pass_at_5"]], rel=1e-13)


def test_tau_bench_as_published(data: Path) -> None:
    counts = json.loads((data / "passk-counts" / "taubench_gpt4o_airline_trials.json").read_text())
    passes = [sum(trials) for trials in counts["trials"].values()]
    assert pass_hat_k(4, passes, [1, 2, 3, 4]).mean(axis=1).round(3).tolist() == [0.42, 0.273, 0.22, 0.2]


def test_an_independent_library_agrees() -> None:
    oracle = pytest.importorskip("scorio.eval")
    table = (np.random.default_rng(0).random((20, 12)) < np.linspace(0, 1, 20)[:, None]).astype(int)
    n, c = 12, table.sum(axis=1)
    for k in (1, 2, 5, 12):
        assert pass_at_k(n, c, k).mean() == pytest.approx(oracle.pass_at_k(table, k))
        assert pass_hat_k(n, c, k).mean() == pytest.approx(oracle.pass_hat_k(table, k))
        assert g_pass_at_k(n, c, k, 0.5).mean() == pytest.approx(oracle.g_pass_at_k_tau(table, k, 0.5))
    assert mean_g_pass_at_k(n, c, 5).mean() == pytest.approx(oracle.mg_pass_at_k(table, 5))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 5), st.fractions(0, 1, max_denominator=20))
def test_screened_pass_at_k_is_unbiased(n1: int, n2: int, p: Fraction) -> None:
    """The mean over every outcome of the two stages, weighted by its chance, is 1 - (1-p)^k exactly."""
    ks = list(range(1, n1 + n2 + 1))
    total = np.zeros(len(ks))
    for c1 in range(n1 + 1):
        for c2 in range(n2 + 1):
            chance = math.comb(n1, c1) * p**c1 * (1 - p) ** (n1 - c1) * math.comb(n2, c2) * p**c2 * (1 - p) ** (n2 - c2)
            total += float(chance) * screened_pass_at_k(n1, [c1], n2, [c2], ks)[:, 0]
    assert total == pytest.approx([float(1 - (1 - p) ** k) for k in ks], abs=1e-12)


def test_screened_counts_know_what_was_planned() -> None:
    """The second problem passed at once and got no more attempts; its value is known up to the 12 planned all the same."""
    counts = Counts(np.array([12, 4, 6]), np.array([1, 2, 0]), planned=12, screen=4, screened=np.array([0, 2, 0]))
    found = counts.pass_at_k([2, 4, 8, 12, 13])
    assert found[:, 0] == pytest.approx([0, 0, 0.5, 1, np.nan], nan_ok=True)
    assert found[:, 1] == pytest.approx([1 - 1 / 6, 1, 1, 1, np.nan], nan_ok=True)
    assert np.isnan(found[:, 2]).tolist() == [False, False, True, True, True] and counts.edge == 6


def test_unknown_verdicts_bound_pass_at_k() -> None:
    low, high = unknown_bounds([10, 10], [2, 0], [3, 10], [1, 5])
    assert low[0].tolist() == pytest.approx([0.2, 0.0]) and high[0].tolist() == pytest.approx([0.5, 1.0])
    assert (low <= high).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=8), st.data())
def test_maj_at_k_is_what_enumeration_says(given_answers: list[str], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(given_answers)))
    scores = []
    for drawn in combinations(given_answers, k):
        votes = Counter(answer for answer in drawn if answer)
        leaders = [answer for answer, count in votes.items() if count == max(votes.values())]
        scores.append(Fraction(leaders.count("a"), len(leaders)) if leaders else Fraction(0))
    found = maj_at_k([Counter(given_answers)], [{"a"}], [k])[0, 0]
    assert found == pytest.approx(float(sum(scores) / len(scores)), abs=1e-12)


def test_maj_at_k_by_sampling_agrees_with_binomial_tails() -> None:
    """Of very many attempts 60 % are right and each wrong answer is given once, so two right ones of five always win."""
    answers = {"right": 600} | {f"wrong{i}": 1 for i in range(400)}
    at_least_two = 1 - 0.4**5 - 5 * 0.6 * 0.4**4
    only_one = 5 * 0.6 * 0.4**4 / 5
    found = maj_at_k([answers], [{"right"}], [5], draws=20_000)[0, 0]
    assert found == pytest.approx(at_least_two + only_one, abs=0.01)
    assert found == maj_at_k([answers], [{"right"}], [5], draws=20_000)[0, 0]
