"""Verdicts and their sentences: decided where the counts decide, wrong no oftener than said, silent beyond n/2."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.coverage import false_crossovers
from service.experiments.statistics.comparison import Comparison, compare
from service.experiments.statistics.decision import Question, holm, p_for_and_against
from service.experiments.statistics.estimators import Counts, Floats
from service.experiments.statistics.solvability import solvable_at
from service.experiments.statistics.subset import subset_evidence
from service.experiments.statistics.verdicts import REFUTED, SUPPORTED, UNDERPOWERED, judge

KS = [1, 2, 4, 8, 16, 32, 64]


def compared(base: Floats, tuned: Floats, n: int = 128, seed: int = 0) -> Comparison:
    """A run whose problems have these chances."""
    rng = np.random.default_rng(seed)
    attempts = np.full(base.shape, n)
    return compare(Counts(attempts, rng.binomial(n, base)), Counts(attempts, rng.binomial(n, tuned)), [k for k in KS if k <= n])


@pytest.fixture(scope="session")
def overtaken() -> Comparison:
    """The base model solves all 200 problems now and then, the tuned one seven in ten often and the rest never."""
    return compared(np.full(200, 0.1), np.where(np.arange(200) % 10 < 7, 0.5, 0.0))


@pytest.fixture(scope="session")
def alike() -> Comparison:
    chances = np.random.default_rng(1).beta(0.3, 1.0, 40)
    return compared(chances, chances)


def test_a_crossover_is_told_with_both_ends_and_where(overtaken: Comparison) -> None:
    found = judge("crossover", overtaken)
    assert found.verdict == SUPPORTED and found.p_value < 1e-6
    assert found.sentence.startswith("The base model is behind at k = 1 (−")
    assert "and ahead at k = 64 (+" in found.sentence and "the curves cross near k = " in found.sentence
    assert judge("crossover", overtaken, k1=32, k2=64).verdict == REFUTED


def test_the_other_way_round_it_is_refuted(overtaken: Comparison) -> None:
    swapped = judge("crossover", compare(overtaken.tuned, overtaken.base, KS))
    assert swapped.verdict == REFUTED and "still ahead at k = 64" in swapped.sentence and "beyond 64" in swapped.sentence
    behind = judge("crossover", compared(np.full(60, 0.4), np.full(60, 0.1), n=8))
    assert behind.verdict == REFUTED and "ahead already at k = 1" in behind.sentence


def test_where_nothing_is_decided_it_says_what_would_decide(alike: Comparison) -> None:
    found = judge("crossover", alike)
    assert found.verdict == UNDERPOWERED and "40 problems × 128 attempts" in found.sentence
    assert "% with 80 problems" in found.sentence and "% with 256 attempts" in found.sentence


@pytest.mark.parametrize(
    ("model", "k", "verdict"), [("tuned", 1, SUPPORTED), ("base", 1, REFUTED), ("base", 64, SUPPORTED), ("tuned", 64, REFUTED)]
)
def test_which_model_is_higher(overtaken: Comparison, model: str, k: int, verdict: str) -> None:
    found = judge("higher", overtaken, model=model, k=k)
    word = "higher" if verdict == SUPPORTED else "lower"
    assert (
        found.verdict == verdict
        and f"The {model} model is {word} than the" in found.sentence
        and f"k = {k} (" in found.sentence
    )


def test_other_names_are_used_as_they_are(overtaken: Comparison) -> None:
    found = judge("higher", overtaken, model="qwen-rl", k=1, names=("qwen", "qwen-rl"))
    assert found.verdict == SUPPORTED and found.sentence.startswith("qwen-rl is higher than qwen at k = 1 (+")


def test_no_difference_needs_both_bounds_within_the_margin(alike: Comparison, overtaken: Comparison) -> None:
    supported = judge("no_difference", alike, k=1, margin=0.12)
    assert supported.verdict == SUPPORTED and "95 % bounds −" in supported.sentence
    assert supported.p_support == supported.p_value < 0.05 < supported.p_refute
    # 40 problems without a difference bound the share of others at 1 - 0.05^(1/40) = 7.2 %, so 5 points can't be shown.
    assert judge("no_difference", alike, k=1, margin=0.05).verdict == UNDERPOWERED
    refuted = judge("no_difference", overtaken, k=1, margin=0.02)
    assert refuted.verdict == REFUTED and "95 % interval" in refuted.sentence and "beyond 2 points" in refuted.sentence


def test_a_one_sided_decision_shows_its_p_when_the_interval_holds_zero() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        chances = rng.beta(1.0, 1.0, 60)
        found = judge("higher", compared(chances, np.clip(chances + 0.01, 0, 1), seed=seed), model="tuned", k=1)
        if 0.025 < found.p_value < 0.05:
            assert found.verdict == SUPPORTED and "one-sided P = 0.0" in found.sentence
            return
    pytest.fail("none of 200 runs came out between 0.025 and 0.05")


def test_nothing_is_claimed_beyond_half_of_the_attempts(overtaken: Comparison) -> None:
    for kind, arguments in (("crossover", {"k2": 65}), ("no_difference", {"k": 128})):
        with pytest.raises(ValueError, match="beyond n/2 = 64"):
            judge(kind, overtaken, **arguments)  # type: ignore[arg-type]
    assert judge("crossover", overtaken).sentence == judge("crossover", overtaken, k2=64).sentence


def test_unknown_kinds_and_models_are_refused(overtaken: Comparison) -> None:
    with pytest.raises(ValueError, match="not 'lower'"):
        judge("lower", overtaken)
    with pytest.raises(ValueError, match="base or tuned, not 'other'"):
        judge("higher", overtaken, model="other")
    with pytest.raises(ValueError, match="not 'subset'"):
        p_for_and_against(Question("subset"), {1: np.zeros(3)})
    with pytest.raises(ValueError, match="margin"):
        judge("subset", overtaken, margin=1.5)


def test_too_few_attempts_or_an_unfinished_run_decide_nothing() -> None:
    two = judge("crossover", compared(np.full(9, 0.2), np.full(9, 0.8), n=2))
    assert two.verdict == UNDERPOWERED and "more attempts" in two.sentence and math.isnan(two.p_value)
    base = Counts(np.array([8, 3]), np.array([1, 1]), planned=8)
    cut = judge("higher", compare(base, base, [1, 4]), model="base", k=4)
    assert cut.verdict == UNDERPOWERED and "1 of 2 problems have fewer than 4 attempts" in cut.sentence


@pytest.mark.parametrize("problems", [30, 272])
@pytest.mark.parametrize("kind", ["identical", "sharpened", "lossy"])
def test_a_crossover_is_falsely_supported_in_at_most_five_percent(problems: int, kind: str) -> None:
    """The models are level at k = n/2, and but for `identical` the tuned one is far ahead at k = 1: the hardest null."""
    supported, _ = false_crossovers(np.random.default_rng(2), problems, 64, kind, 1500)
    assert supported <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_subset_is_refuted_by_problems_the_tuned_model_alone_solves_repeatedly() -> None:
    base = np.where(np.arange(100) < 10, 0.0, 0.3)
    found = judge("subset", compared(base, np.full(100, 0.4)))
    assert found.verdict == REFUTED and found.sentence.startswith("10 of 100 problems were passed 14 times or more of 128")
    assert "may still be within reach of the base model in more attempts" in found.sentence
    assert "unsolvable" not in found.sentence


def test_subset_is_supported_only_where_the_bound_is_below_the_margin() -> None:
    solved = np.full(200, 0.5)
    assert judge("subset", compared(solved, solved), margin=0.02).verdict == SUPPORTED
    few = judge("subset", compared(solved[:100], solved[:100]), margin=0.02)
    assert few.verdict == UNDERPOWERED and "no problem is open; 157 problems" in few.sentence.lower()
    rare = judge("subset", compared(np.full(200, solvable_at(64)), np.full(200, 0.3)), margin=0.02)
    assert rare.verdict == UNDERPOWERED and "more attempts would settle them" in rare.sentence.lower()


def test_subset_is_refuted_by_chance_in_at_most_five_percent_and_its_bound_holds() -> None:
    """Worst case on either side of the line: the base model just solves what the tuned one does, or just does not."""
    rng = np.random.default_rng(3)
    n, problems, line = np.full(100, 64), 100, solvable_at(32)
    refuted, held = [], []
    alone = np.arange(problems) < 10
    for _ in range(300):
        tuned = Counts(n, rng.binomial(64, np.full(problems, 0.6)))
        just = subset_evidence(Counts(n, rng.binomial(64, np.full(problems, line + 1e-9))), tuned, 0.02)
        refuted.append(just.p_value < 0.05)
        not_quite = Counts(n, rng.binomial(64, np.where(alone, line - 1e-9, 0.6)))
        held.append(subset_evidence(not_quite, tuned, 0.02).bound >= 0.10)
    assert np.mean(refuted) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300) and np.mean(held) >= 0.92


def test_holm_on_a_known_example_and_with_gaps() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, math.nan, 0.03]) == pytest.approx([0.06, math.nan, 0.06], nan_ok=True)
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_gives_the_smallest_p_bonferronis_factor(p_values: list[float]) -> None:
    adjusted, given_p = holm(p_values), np.array(p_values)
    assert (adjusted >= given_p - 1e-15).all() and (adjusted <= 1).all()
    assert adjusted.min() == pytest.approx(min(1, len(p_values) * given_p.min()))
    assert (np.diff(adjusted[np.argsort(given_p)]) >= -1e-15).all()


def test_the_organisms_crossover_is_supported(data: Path) -> None:
    rows = [line.split(",") for line in (data / "passk-counts" / "organism_countdown_n512.csv").read_text().split()[1:]]
    base, tuned = (
        Counts(np.full(128, 512), np.array([int(row[3]) for row in rows if row[0] == model])) for model in ("base", "tuned")
    )
    found = judge("crossover", compare(base, tuned, [1, 16, 64, 256, 512]))
    assert found.verdict == SUPPORTED and "k = 256 (+29.0 points" in found.sentence
    assert "the curves cross near k = 12 (9 to 17)." in found.sentence
