"""A claim's status from several runs: hand-computed cases, and how often repeated runs on equal models end wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from kb.claim_status import Finding, combined_status
from kb.notes import ClaimStatus
from service.experiments.statistics.decision import ALPHA, Question, p_for_and_against
from service.experiments.statistics.estimators import pass_at_k

SUPPORTED, REFUTED, UNDERPOWERED = ClaimStatus.SUPPORTED, ClaimStatus.REFUTED, ClaimStatus.UNDERPOWERED


def finding(p_support: float, p_refute: float = 1.0) -> Finding:
    verdict = SUPPORTED if p_support < ALPHA else REFUTED if p_refute < ALPHA else UNDERPOWERED
    return Finding(verdict, p_support, p_refute)


@pytest.mark.parametrize(
    ("findings", "status", "says"),
    [
        ([], ClaimStatus.UNTESTED, ""),
        ([finding(0.046)], SUPPORTED, "Decided on one run."),
        ([finding(0.3)], UNDERPOWERED, "One run, which does not decide it."),
        # Four imports at identical pass rates, one of them at P = 0.046: 4 x 0.046 = 0.184.
        ([finding(0.4), finding(0.7), finding(0.046), finding(0.2)], UNDERPOWERED, "Not decided by all runs together"),
        ([finding(0.4), finding(0.7), finding(0.012), finding(0.2)], SUPPORTED, "corrected for their number (Holm): 0.048."),
        ([finding(0.5, 0.02), finding(0.6, 0.5)], REFUTED, "(Holm): 0.04."),
        ([finding(0.01), finding(1.0, 0.01)], UNDERPOWERED, "The runs disagree"),
        ([Finding(SUPPORTED)], SUPPORTED, "Decided on one run."),  # written by version 0.2, which recorded no P
        ([Finding(SUPPORTED), Finding(UNDERPOWERED)], UNDERPOWERED, "Runs without a recorded P count as P = 0.05: 1."),
        ([Finding(SUPPORTED), finding(0.001)], SUPPORTED, "(Holm): 0.002. Runs without a recorded P"),
    ],
)
def test_all_runs_decide(findings: list[Finding], status: ClaimStatus, says: str) -> None:
    found, reason = combined_status(findings)
    assert found is status and says in reason
    assert combined_status(findings[::-1])[0] is status  # the newest run has no more say than the others


def test_twenty_runs_on_equal_models_seldom_end_supported() -> None:
    rng = np.random.default_rng(11)
    claims, runs, problems, n, k = 400, 20, 50, 32, 8
    chances = np.broadcast_to(rng.beta(0.3, 1.0, (claims, 1, problems)), (claims, runs, problems))
    base, tuned = (pass_at_k(np.full(chances.size, n), rng.binomial(n, chances).ravel(), [k])[0] for _ in range(2))
    differences = (tuned - base).reshape(claims, runs, problems)
    yes, no = p_for_and_against(Question("higher", k), {k: differences})
    ended = [
        combined_status([finding(float(one), float(other)) for one, other in zip(for_, against, strict=True)])[0]
        for for_, against in zip(yes, no, strict=True)
    ]
    assert ended.count(SUPPORTED) / claims <= 0.05 and ended.count(REFUTED) / claims <= 0.05
