"""maj@k: how often the commonest answer among k attempts is right. Pure, seeded.

Knows nothing about how answers are compared: equal answers are equal strings by the time they come here. Unlike pass@k it needs
no verifier to choose an attempt.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.experiments.statistics.estimators import Floats, Ints

_MOST_WAYS = 2000
NO_ANSWER = ""


def maj_at_k(
    answers: Sequence[Mapping[str, int]],
    correct: Sequence[Collection[str]],
    ks: Sequence[int],
    draws: int = 4000,
    seed: int = 0,
) -> Floats:
    """Chance that the commonest answer of k attempts, drawn without replacement, is correct: shape (len(ks), problems).

    `answers`: how many attempts gave each answer, a problem each; `correct`: the right ones. A tie counts by the share of right
    answers in it. An attempt without an answer ("") takes its place among the k but is never chosen. Exact where the answers
    fall in at most 2,000 ways, else the mean of `draws` samples (standard error at most 0.008 for 4,000). NaN for k > n.
    Raises ValueError when the two do not go together.
    """
    if len(answers) != len(correct):
        raise ValueError(f"answers of {len(answers)} problems, but what is correct of {len(correct)}")
    rng = np.random.default_rng(seed)
    pairs = zip(answers, correct, strict=True)
    columns = [[_share_right(answers, right, k, draws, rng) for k in ks] for answers, right in pairs]
    return np.array(columns, np.float64).reshape(len(answers), len(ks)).T


def _share_right(answers: Mapping[str, int], right: Collection[str], k: int, draws: int, rng: np.random.Generator) -> float:
    counts = np.array(list(answers.values()), np.int64)
    if (counts < 0).any() or k < 1:
        raise ValueError("answers are counted from 0, and k from 1")
    if k > counts.sum():
        return float("nan")
    wins = np.array([answer in right and answer != NO_ANSWER for answer in answers])
    counted = np.array([answer != NO_ANSWER for answer in answers])
    if _ways(counts, k) <= _MOST_WAYS:
        taken = np.array(list(_all_ways(counts.tolist(), k)), np.int64)
        whole = math.comb(int(counts.sum()), k)
        shares = np.array([math.prod(map(math.comb, counts.tolist(), way)) / whole for way in taken.tolist()])
        return float((shares * _chosen_right(taken, wins, counted)).sum())
    return float(_chosen_right(rng.multivariate_hypergeometric(counts, k, size=draws), wins, counted).mean())


def _chosen_right(taken: Ints, wins: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Floats:
    """Share of right answers among the commonest, a row of `taken`, shape (rows, answers), each; 0 where none answered."""
    votes = np.where(counted, taken, 0)
    most = votes.max(axis=1, keepdims=True, initial=0)
    leads = (votes == most) & (most > 0)
    return np.asarray((leads & wins).sum(axis=1) / np.maximum(1, leads.sum(axis=1)))


def _ways(counts: Ints, k: int) -> int:
    """In how many ways k attempts fall on the answers; counting stops above `_MOST_WAYS`."""
    ways = np.zeros(k + 1, np.float64)
    ways[0] = 1
    for count in counts:
        total = np.cumsum(ways)
        before = np.concatenate([np.zeros(count + 1), total])[: k + 1]
        ways = total - before
    return int(min(ways[k], 10 * _MOST_WAYS))


def _all_ways(counts: Sequence[int], k: int) -> Iterator[tuple[int, ...]]:
    if not counts:
        if k == 0:
            yield ()
        return
    least = max(0, k - sum(counts[1:]))
    for taken in range(least, min(counts[0], k) + 1):
        for others in _all_ways(counts[1:], k - taken):
            yield (taken, *others)
