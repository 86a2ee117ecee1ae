"""What a run of so many problems and attempts would show, before it is made, by simulation. Pure, seeded.

Knows nothing about tokens, seconds or money: it counts completions. What it says holds if the models are like the pilot they
are simulated from, or, without one, like an assumption that is stated (`ASSUMED`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.special import expit, logit, xlog1py, xlogy

from service.experiments.statistics.decision import ALPHA, Question, p_for_and_against
from service.experiments.statistics.estimators import Counts, Floats

ENOUGH = 0.8
MOST_PROBLEMS = 10_000
_POOL = 20_000
_REPLICATES = 400
_GRID, _ROUNDS = 40, 300
_SLOPE, _SHIFT = 1.9, 3.37
ASSUMED = (
    "assumes, without a pilot, that the base model's pass rates follow Beta(0.3, 1) over problems and that the tuned model "
    "sharpens them so that the curves cross near k = 32"
)

Pilot = tuple[Counts, Counts]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect of a run. `pass_width`, `difference_width`: k -> expected full width of the 95 % interval (the wider
    model's; tuned minus base). `completions`: expected number, both models. `decided`: share of such runs that decide the
    question, NaN without one; the same with twice the problems and with twice the attempts. `problems_needed`: for a
    share of 0.8, None if more than 10,000."""

    problems: int
    attempts: int
    pass_width: Mapping[int, float]
    difference_width: Mapping[int, float]
    completions: int
    decided: float
    decided_more_problems: float
    decided_more_attempts: float
    problems_needed: int | None
    advice: str


def plan(
    problems: int,
    attempts: int,
    ks: Sequence[int],
    question: Question | None = None,
    pilot: Pilot | None = None,
    screen: int = 0,
    seed: int = 0,
) -> Plan:
    """Expected widths, completions and power of a run; and whether more problems or more attempts would decide the question.

    `pilot`: counts of base and tuned on the same problems; without them `ASSUMED`. A crossover's `k2` 0 is the largest of `ks`
    up to half of the attempts. Raises ValueError for nothing to plan, and for a crossover without two k.
    """
    if problems < 1 or attempts < 1:
        raise ValueError("a run has at least one problem and one attempt")
    if question is not None and question.kind == "crossover":
        question = replace(question, k2=question.k2 or max((k for k in ks if k <= attempts // 2), default=0))
        if question.k1 >= question.k2:
            raise ValueError(f"a crossover needs two k up to half of the {attempts} attempts, the first below the second")
    chances = _chances(pilot, seed)
    base, tuned = (_attempted(p, attempts, screen, seed + i) for i, p in enumerate(chances))
    sizes = [k for k in ks if k <= attempts]
    one, other = base.pass_at_k(sizes), tuned.pass_at_k(sizes)
    reach = 2 * stats.t.ppf(0.975, max(1, problems - 1)) / np.sqrt(problems)
    widths = np.minimum(1.0, reach * np.maximum(one.std(axis=1), other.std(axis=1)))
    apart = np.minimum(2.0, reach * (other - one).std(axis=1))
    shares = _shares(question, chances, problems, attempts, screen, seed)
    return Plan(
        problems,
        attempts,
        dict(zip(sizes, widths.tolist(), strict=True)),
        dict(zip(sizes, apart.tolist(), strict=True)),
        round(problems * float(base.n.mean() + tuned.n.mean())),
        *shares,
        _advice(problems, attempts, question, shares, pilot),
    )


def power(question: Question, pilot: Pilot | None, problems: int, attempts: int, screen: int = 0, seed: int = 0) -> float:
    """Share of simulated runs that decide the question, either way, at 5 % one-sided. NaN where a k is above the attempts."""
    return _decided(_pool(question, _chances(pilot, seed), attempts, screen, seed), question, problems, seed)


def what_would_decide(question: Question, pilot: Pilot, seed: int = 0) -> str:
    """One sentence or two, for a run that did not decide: how such runs do, and what more problems or attempts would change."""
    problems, attempts = int(pilot[0].n.size), min(counts.planned for counts in pilot)
    shares = _shares(question, _chances(pilot, seed), problems, attempts, max(counts.screen for counts in pilot), seed)
    return _advice(problems, attempts, question, shares, pilot)


def _chances(pilot: Pilot | None, seed: int) -> tuple[Floats, Floats]:
    """Pairs of p of base and tuned, shape (pool,) each."""
    rng = np.random.default_rng(seed)
    if pilot is None:
        base = rng.beta(0.3, 1.0, _POOL)
        return base, np.asarray(expit(_SHIFT + _SLOPE * logit(np.clip(base, 1e-300, 1 - 1e-12))))
    grid, weights = _joint_distribution(pilot)
    drawn = rng.choice(weights.size, size=_POOL, p=weights.ravel())
    return grid[drawn // grid.size], grid[drawn % grid.size]


def _joint_distribution(pilot: Pilot) -> tuple[Floats, Floats]:
    """A grid of p, and the weight of each pair (base, tuned) on it, shape (grid, grid): the mixture under which the pilot's
    counts are likeliest (Kiefer and Wolfowitz 1956), by expectation maximisation.

    Posteriors of the two models one by one would not do: they forget that a problem is hard for both, and differences drawn
    from them spread too far.
    """
    least = logit(0.1 / max(counts.planned for counts in pilot) / 2)
    grid = np.concatenate([[0.0], expit(np.linspace(least, -least, _GRID)), [1.0]])
    base, tuned = (_likelihood(counts, grid) for counts in pilot)
    weights = np.full((grid.size, grid.size), 1 / grid.size**2)
    for _ in range(_ROUNDS):
        whole = ((base @ weights) * tuned).sum(axis=1)
        weights = weights * (base.T @ (tuned / whole[:, None])) / len(base)
    return grid, weights / weights.sum()


def _likelihood(counts: Counts, grid: Floats) -> Floats:
    """Of each problem's counts at each p, largest 1, shape (problems, grid)."""
    logs = xlogy(counts.c[:, None], grid) + xlog1py((counts.n - counts.c)[:, None], -grid)
    return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))


def _attempted(chances: Floats, attempts: int, screen: int, seed: int) -> Counts:
    rng = np.random.default_rng([seed, attempts])
    if not screen:
        return Counts(np.full(chances.shape, attempts), rng.binomial(attempts, chances))
    first = rng.binomial(screen, chances)
    further = np.where(first > 0, 0, attempts - screen)
    return Counts(screen + further, first + rng.binomial(further, chances), attempts, screen, first)


def _pool(question: Question, chances: tuple[Floats, Floats], attempts: int, screen: int, seed: int) -> Floats:
    """Differences at the question's ks, shape (ks, pool)."""
    base, tuned = (_attempted(p, attempts, screen, seed + i) for i, p in enumerate(chances))
    return np.asarray(tuned.pass_at_k(question.ks) - base.pass_at_k(question.ks))


def _decided(pool: Floats, question: Question, problems: int, seed: int) -> float:
    if np.isnan(pool).any():
        return float("nan")
    replicates = max(100, min(_REPLICATES, 1_000_000 // problems))
    which = np.random.default_rng([seed, problems]).integers(pool.shape[1], size=(replicates, problems))
    runs = {k: row[which] for k, row in zip(question.ks, pool, strict=True)}
    yes, no = p_for_and_against(question, runs)
    return float(((yes < ALPHA) | (no < ALPHA)).mean())


def _shares(
    question: Question | None, chances: tuple[Floats, Floats], problems: int, attempts: int, screen: int, seed: int
) -> tuple[float, float, float, int | None]:
    """Decided as planned, with twice the problems, with twice the attempts; and the problems needed."""
    if question is None:
        return float("nan"), float("nan"), float("nan"), None
    pool = _pool(question, chances, attempts, screen, seed)
    now, more = (_decided(pool, question, size, seed) for size in (problems, 2 * problems))
    # Twice the attempts move the edge, n/2, so a question that stood at the edge may move with it.
    wider = [question] + [replace(question, k2=2 * question.k2)] * (
        question.kind == "crossover" and question.k2 == attempts // 2
    )
    deeper = max(_decided(_pool(each, chances, 2 * attempts, screen, seed), each, problems, seed) for each in wider)
    return now, more, deeper, _problems_needed(pool, question, problems, now, seed)


def _problems_needed(pool: Floats, question: Question, problems: int, now: float, seed: int) -> int | None:
    if not now < ENOUGH:
        return problems if now >= ENOUGH else None
    low, high = problems, 2 * problems
    while _decided(pool, question, min(high, MOST_PROBLEMS), seed) < ENOUGH:
        if high >= MOST_PROBLEMS:
            return None
        low, high = high, 2 * high
    high = min(high, MOST_PROBLEMS)
    while high - low > max(1, low // 10):
        middle = (low + high) // 2
        low, high = (low, middle) if _decided(pool, question, middle, seed) >= ENOUGH else (middle, high)
    return high


def _advice(
    problems: int, attempts: int, question: Question | None, shares: tuple[float, float, float, int | None], pilot: Pilot | None
) -> str:
    if question is None:
        return "No question is asked of this run, so there is nothing to decide."
    now, more, deeper, needed = shares
    if np.isnan(now):
        return f"{attempts} attempts are too few for k = {max(question.ks)}. Make more attempts first."
    assumption = "assumes that the models are as measured" if pilot else ASSUMED
    start = f"Power: {100 * now:.0f} % with {problems:,} problems × {attempts:,} attempts ({assumption})."
    if now >= ENOUGH:
        return f"{start} That is enough."
    compared = (
        f"{start} {100 * more:.0f} % with {2 * problems:,} problems, {100 * deeper:.0f} % with {2 * attempts:,} attempts."
    )
    size = f"about {_rounded(needed):,} problems" if needed else f"more than {MOST_PROBLEMS:,} problems"
    if max(more, deeper) - now < 0.03 and not needed:
        return f"{compared} Neither is enough: the difference is too small to see in {MOST_PROBLEMS:,} problems."
    if max(more, deeper) - now < 0.03:
        return f"{compared} Neither is enough; 80 % needs {size} with the same number of attempts."
    which = (
        "More attempts help more"
        if deeper > more + 0.03
        else "More problems help more"
        if more > deeper + 0.03
        else "Both help equally"
    )
    return f"{compared} {which}; 80 % needs {size} with the same number of attempts."


def _rounded(number: int) -> int:
    """To two digits, upwards."""
    step = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // step) * step
