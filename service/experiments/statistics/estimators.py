"""Point estimates from counts: pass@k and its relatives, one value a problem. Pure.

Knows nothing about uncertainty, about two models, or about where counts come from. A value that can't be estimated is NaN,
never a number: pass@k for k > n above all. Counts that can't be are a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Attempts `n` and passes `c` of one model, shape (problems,). Paired models hold the same problems in the same order.

    `screen` > 0: that many attempts were made at every problem, `screened` of them passed, shape (problems,), and the rest up
    to `planned` were made only where none did. `planned` is the number of attempts meant for each problem (0: the largest n).
    """

    n: Ints
    c: Ints
    planned: int = 0
    screen: int = 0
    screened: Ints | None = None

    def __post_init__(self) -> None:
        n, c = checked(self.n, self.c)
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "c", c)
        object.__setattr__(self, "planned", self.planned or int(n.max(initial=0)))
        if self.screen and self.screened is None:
            raise ValueError("screened counts want the passes among the first attempts as `screened`")
        if self.screen and self.screened is not None:
            object.__setattr__(self, "screened", checked(np.full(n.shape, self.screen), self.screened)[1])

    @property
    def edge(self) -> int:
        """The largest k about which anything may be claimed: half of the attempts planned."""
        return max(1, self.planned // 2)

    def pass_at_k(self, ks: Sequence[int]) -> Floats:
        """Unbiased, shape (len(ks), problems), screened or not; NaN where k is above the attempts planned."""
        if self.screen and self.screened is not None:
            further = np.where(self.screened > 0, self.planned - self.screen, self.n - self.screen)
            return screened_pass_at_k(self.screen, self.screened, further, self.c - self.screened, ks)
        return pass_at_k(self.n, self.c, ks)


def checked(n: ArrayLike, c: ArrayLike) -> tuple[Ints, Ints]:
    """Attempts and passes as whole numbers of one shape (problems,). Raises ValueError unless 0 <= c <= n."""
    attempts, passes = np.broadcast_arrays(np.atleast_1d(n), np.atleast_1d(c))
    whole = [values.astype(np.int64) for values in (attempts, passes)]
    if any((values != cast).any() for values, cast in zip((attempts, passes), whole, strict=True)):
        raise ValueError("attempts n and passes c are whole numbers")
    if (whole[1] < 0).any() or (whole[1] > whole[0]).any():
        raise ValueError("passes c lie between 0 and the attempts n of their problem")
    return whole[0], whole[1]


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int]) -> Floats:
    """1 - C(n-c, k) / C(n, k), the chance that k of the n attempts drawn at random hold a pass (Chen et al. 2021, eq. 1).

    `n`, `c`: shape (problems,); gives shape (len(k), problems), NaN where k > n. Relative error below 1e-13 up to n = 10^4.
    """
    attempts, passes = checked(n, c)
    return -np.expm1(_log_none(attempts, passes, _ks(k)))


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int]) -> Floats:
    """pass^k = C(c, k) / C(n, k), the chance that k attempts all pass (tau-bench). Shapes and NaN as in `pass_at_k`."""
    attempts, passes = checked(n, c)
    return np.exp(_log_none(attempts, attempts - passes, _ks(k)))


def g_pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int], tau: float) -> Floats:
    """G-Pass@k_tau, the chance that at least ceil(tau k), and at least one, of k attempts pass (Liu et al. 2412.13147, eq. 3).

    tau = 0 gives pass@k, tau = 1 gives pass^k. Shapes and NaN as in `pass_at_k`. Raises ValueError for tau outside 0..1.
    """
    if not 0 <= tau <= 1:
        raise ValueError(f"tau is a share from 0 to 1, not {tau}")
    return _over_ks(n, c, k, lambda passes, size: passes[:, max(1, math.ceil(tau * size - 1e-9)) :].sum(axis=1))


def mean_g_pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int]) -> Floats:
    """mG-Pass@k = 2/k sum over i = ceil(k/2)+1..k of G-Pass@k_{i/k} (Liu et al. 2412.13147, eq. 5); NaN for k = 1 too."""

    def mean(passes: Floats, size: int) -> Floats:
        tails = np.cumsum(passes[:, ::-1], axis=1)[:, : size - math.ceil(size / 2)]
        return 2 / size * tails.sum(axis=1) if size > 1 else np.full(len(passes), np.nan)

    return _over_ks(n, c, k, mean)


def screened_pass_at_k(n1: int, c1: ArrayLike, n2: ArrayLike, c2: ArrayLike, ks: int | Sequence[int]) -> Floats:
    """Unbiased pass@k when all problems got `n1` attempts and only those without a pass got `n2` more.

    Below n1 the first attempts alone decide; from n1 on it is 1[c1 > 0] + 1[c1 = 0] pass@(k - n1) of the further attempts.
    `n2` is what was planned, also where it was not needed; `c2` is not read there. Shapes as in `pass_at_k`; NaN above n1 + n2.
    """
    first, passes = checked(n1, c1)
    at_once = passes > 0
    further, more = checked(n2, np.where(at_once, 0, np.asarray(c2)))
    sizes = _ks(ks)
    out = pass_at_k(first, passes, sizes)
    late = [index for index, k in enumerate(sizes) if k >= n1]
    if late:
        then = pass_at_k(further, more, [sizes[index] - n1 for index in late])
        out[late] = np.where(at_once & ~np.isnan(then), 1.0, then)
    return out


def unknown_bounds(n: ArrayLike, c: ArrayLike, unknown: ArrayLike, k: int | Sequence[int]) -> tuple[Floats, Floats]:
    """pass@k if every attempt without a verdict (`unknown` of them a problem) failed, and if every one passed."""
    attempts, passes = checked(n, c)
    return pass_at_k(attempts, passes, k), pass_at_k(attempts, passes + np.asarray(unknown), k)


def _ks(k: int | Sequence[int]) -> list[int]:
    sizes = [int(size) for size in np.atleast_1d(k)]
    if any(size < 0 for size in sizes):
        raise ValueError("k counts attempts: it is not below 0")
    return sizes


def _log_none(n: Ints, c: Ints, ks: Sequence[int]) -> Floats:
    """ln of C(n-c, k) / C(n, k), shape (ks, problems); NaN where k > n."""
    out = np.empty((len(ks), *n.shape))
    for attempts in np.unique(n).tolist():
        here = n == attempts
        for row, k in enumerate(ks):
            out[row, here] = _log_none_table(attempts, k)[c[here]]
    return out


@lru_cache(maxsize=512)
def _log_none_table(n: int, k: int) -> Floats:
    """ln of C(n-c, k) / C(n, k) for c = 0..n: the sum over i = n-c+1..n of ln(1 - k/i), each taken where it is exact."""
    if k > n:
        return np.full(n + 1, np.nan)
    i = np.arange(n, k, -1, dtype=np.float64)
    terms = np.where(2 * k > i, np.log((i - k) / i), np.log1p(-k / i))
    table = np.full(n + 1, -np.inf)
    table[0] = 0.0
    table[1 : n - k + 1] = np.cumsum(terms.astype(np.longdouble))
    if k == 0:
        table[:] = 0.0
    table.flags.writeable = False
    return table


def _over_ks(n: ArrayLike, c: ArrayLike, k: int | Sequence[int], tail: Callable[[Floats, int], Floats]) -> Floats:
    attempts, passes = checked(n, c)
    sizes = _ks(k)
    out = np.full((len(sizes), *attempts.shape), np.nan)
    for row, size in enumerate(sizes):
        pairs, where = np.unique(np.stack([attempts, passes]), axis=1, return_inverse=True)
        values = [tail(_hypergeometric(int(m), int(s), size)[None], size)[0] if size <= m else np.nan for m, s in pairs.T]
        out[row] = np.array(values)[where.ravel()]
    return out


def _hypergeometric(n: int, c: int, k: int) -> Floats:
    """P(j passes among k of n attempts, c of which pass) for j = 0..k, from ratios of neighbours, so without factorials."""
    least, most = max(0, k - (n - c)), min(k, c)
    j = np.arange(least, most)
    steps = np.log((c - j) * (k - j)) - np.log((j + 1) * (n - c - k + j + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    shares = np.exp(logs - logs.max())
    out = np.zeros(k + 1)
    out[least : most + 1] = shares / shares.sum()
    return out
