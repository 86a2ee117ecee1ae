"""pass@k beyond the attempts made, against counts whose truth is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import betaln

from service.experiments.statistics.estimators import Ints
from service.experiments.statistics.extrapolation import MODELS, extrapolate


@pytest.fixture(scope="session")
def codegen(data: Path) -> Ints:
    lines = (data / "passk-counts" / "codegen16b_humaneval_T0.8_n100_counts.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["c"] for line in lines])


def test_the_back_test_on_codegen_is_near_the_truth_where_the_plug_in_is_not(codegen: Ints) -> None:
    """pass@100 of HumanEval from 10 of 100 attempts, 40 times over; another's computation gave .715, .707, .743."""
    found = extrapolate(100, codegen, [1000], repeats=40).back_tests
    assert {(test.attempts, test.k) for test in found.values()} == {(10, 100)}
    foretold = [found[name].predicted for name in ("beta-binomial", "zero-inflated beta-binomial", "power law")]
    assert foretold == pytest.approx([0.715, 0.707, 0.743], abs=0.03)
    assert all(test.observed == pytest.approx(0.741, abs=0.0005) and test.rmse < 0.1 for test in found.values())
    drawn = np.random.default_rng(0).hypergeometric(codegen, 100 - codegen, 10)
    assert abs((1 - (1 - drawn / 10) ** 100).mean() - 0.741) > 0.2


def test_from_twenty_attempts_the_models_come_closer(codegen: Ints) -> None:
    found = extrapolate(100, codegen, [500], repeats=40).back_tests
    foretold = [found[name].predicted for name in ("beta-binomial", "zero-inflated beta-binomial", "power law")]
    assert found["power law"].attempts == 20 and foretold == pytest.approx([0.716, 0.714, 0.737], abs=0.02)


def test_beta_counts_are_continued_as_a_beta_would() -> None:
    rng = np.random.default_rng(1)
    c = rng.binomial(64, rng.beta(0.5, 2.0, 2000))
    ks = [64, 256, 1024]
    found = extrapolate(64, c, ks, repeats=2)
    truth = [1 - math.exp(betaln(0.5, 2.0 + k) - betaln(0.5, 2.0)) for k in ks]
    assert found.curves["beta-binomial"] == pytest.approx(truth, abs=0.02)
    assert (found.low <= found.curves["beta-binomial"]).all() and (found.curves["beta-binomial"] <= found.high).all()
    assert (np.diff(found.high - found.low) > -1e-9).all()


def test_a_share_without_a_chance_is_told_by_the_zero_inflated_model_alone() -> None:
    rng = np.random.default_rng(2)
    c = rng.binomial(64, np.where(rng.random(2000) < 0.3, 0.0, rng.beta(2.0, 4.0, 2000)))
    found = extrapolate(64, c, [10_000], repeats=2)
    assert found.curves["zero-inflated beta-binomial"][0] == pytest.approx(0.7, abs=0.03)
    assert found.curves["beta-binomial"][0] > 0.75


@pytest.mark.parametrize("c", [[0] * 20, [10] * 20])
def test_a_curve_without_a_slope_has_no_power_law_but_two_models_are_left(c: list[int]) -> None:
    found = extrapolate(10, c, [100])
    assert np.isnan(found.curves["power law"]).all() and not np.isnan(found.low).any()
    assert 0 <= found.low[0] <= found.high[0] <= 1
    assert set(found.curves) == set(MODELS)


def test_with_few_attempts_there_is_no_back_test() -> None:
    assert extrapolate(3, [1, 0, 3], [30]).back_tests == {}


def test_nothing_to_extrapolate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        extrapolate([], [], [10])
