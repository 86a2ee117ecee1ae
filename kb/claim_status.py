"""A claim's status from all its evidence: P-values corrected for the number of runs (Holm). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kb.notes import ClaimStatus

ALPHA = 0.05
_DECIDED = (ClaimStatus.SUPPORTED, ClaimStatus.REFUTED)
_UNRECORDED = ALPHA * (1 - 1e-9)  # a verdict without its P-value counts as one that was just decided


@dataclass(frozen=True, slots=True)
class Finding:
    """One run on a claim: its verdict, and the P-values of the tests that would support and refute the claim, if recorded."""

    verdict: ClaimStatus
    p_support: float | None = None
    p_refute: float | None = None


def combined_status(findings: Sequence[Finding]) -> tuple[ClaimStatus, str]:
    """The status that all runs on a claim give it, and the reason as a sentence; untested without runs.

    The smallest of m P-values counts m times (the first step of Holm 1979), so that repeating a run until one succeeds decides
    nothing. Where runs support and others refute the claim, it stays underpowered.
    """
    runs = len(findings)
    if not runs:
        return ClaimStatus.UNTESTED, ""
    support, refute = (_corrected(findings, verdict) for verdict in (ClaimStatus.SUPPORTED, ClaimStatus.REFUTED))
    if support < ALPHA and refute < ALPHA:
        return ClaimStatus.UNDERPOWERED, f"The runs disagree: of {runs}, some support the claim and some refute it."
    decided = {ClaimStatus.SUPPORTED: support, ClaimStatus.REFUTED: refute}
    status = next((verdict for verdict, p in decided.items() if p < ALPHA), ClaimStatus.UNDERPOWERED)
    unrecorded = sum(finding.p_support is None and finding.verdict in _DECIDED for finding in findings)
    note = f" Runs without a recorded P count as P = {ALPHA}: {unrecorded}." if unrecorded else ""
    smallest = min(support, refute)
    if runs == 1:
        return status, "Decided on one run." if status is not ClaimStatus.UNDERPOWERED else "One run, which does not decide it."
    figures = f"smallest P of {runs} runs, corrected for their number (Holm): {smallest:.2g}"
    decision = "Decided on all runs" if status is not ClaimStatus.UNDERPOWERED else "Not decided by all runs together"
    return status, f"{decision}: {figures}.{note}"


def _corrected(findings: Sequence[Finding], verdict: ClaimStatus) -> float:
    """The smallest P-value for `verdict`, times the number of runs, at most 1."""
    return min(1.0, len(findings) * min(_p(finding, verdict) for finding in findings))


def _p(finding: Finding, verdict: ClaimStatus) -> float:
    p = finding.p_support if verdict is ClaimStatus.SUPPORTED else finding.p_refute
    if p is not None:
        return p
    return _UNRECORDED if finding.verdict is verdict else 1.0
