"""From a comparison and a prediction to a verdict and the sentence that says why. Pure.

Knows nothing about runs, notes or claims. The rules are in decision.py and subset.py. Nothing is claimed about k beyond
n/2, and no problem is called unsolvable. An undecided prediction is `underpowered`, and the sentence says what would decide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.experiments.statistics.comparison import Comparison
from service.experiments.statistics.decision import ALPHA, Question, p_for_and_against
from service.experiments.statistics.equivalence import mean_bounds
from service.experiments.statistics.intervals import DIFFERENCE, Interval, mean_interval, one_sided_p
from service.experiments.statistics.power import what_would_decide
from service.experiments.statistics.subset import SubsetEvidence, subset_evidence

SUPPORTED, REFUTED, UNDERPOWERED = "supported", "refuted", "underpowered"


@dataclass(frozen=True, slots=True)
class Ruling:
    """`verdict`: supported, refuted or underpowered. `p_support`, `p_refute`: P-values of the tests that would support and
    refute the prediction, before any correction for several runs or claims; NaN where there was none. `p_value`: the one that
    a result reports, which for `subset` is the one that would refute it."""

    verdict: str
    sentence: str
    p_value: float
    p_support: float = float("nan")
    p_refute: float = float("nan")


def judge(
    kind: str,
    comparison: Comparison,
    *,
    model: str = "",
    k: int = 1,
    margin: float = 0.02,
    k1: int = 1,
    k2: int = 0,
    names: tuple[str, str] = ("base", "tuned"),
) -> Ruling:
    """The verdict on a prediction made before the run: crossover (k1, k2), higher (model, k), no_difference (k, margin), subset
    (margin: the share of problems that may be the tuned model's alone).

    `k2` 0 is the largest of the comparison's ks up to n/2. `names` are those of base and tuned. Raises ValueError for an
    unknown kind or model, and for a k beyond n/2.
    """
    if kind == "subset":
        return _on_subset(comparison, margin, names)
    question = _question(kind, comparison, model, k, margin, k1, k2, names)
    if max(question.ks) > comparison.edge:
        raise ValueError(f"k = {max(question.ks)} is beyond n/2 = {comparison.edge}, and nothing is claimed there")
    if kind == "crossover" and question.k1 >= question.k2:
        why = f"A crossover needs two k up to n/2 = {comparison.edge}, the first below the second: make more attempts."
        return Ruling(UNDERPOWERED, why, float("nan"))
    differences = {at: comparison.differences(at) for at in question.ks}
    if any(np.isnan(values).any() for values in differences.values()):
        return Ruling(UNDERPOWERED, _incomplete(question, comparison), float("nan"))
    yes, no = (float(p) for p in p_for_and_against(question, differences))
    verdict = SUPPORTED if yes < ALPHA else REFUTED if no < ALPHA else UNDERPOWERED
    words = {"crossover": _on_crossover, "higher": _on_higher, "no_difference": _on_no_difference}[kind]
    sentence = words(question, comparison, verdict, names)
    if verdict == UNDERPOWERED:
        sentence = f"{sentence} {what_would_decide(question, (comparison.base, comparison.tuned))}"
    return Ruling(verdict, sentence, yes, yes, no)


def _question(
    kind: str, comparison: Comparison, model: str, k: int, margin: float, k1: int, k2: int, names: Sequence[str]
) -> Question:
    if kind == "crossover":
        return Question(kind, k1, k2 or max((size for size in comparison.ks if size <= comparison.edge), default=0))
    if kind == "higher":
        if model not in names:
            raise ValueError(f"the model predicted to be higher is {names[0]} or {names[1]}, not {model!r}")
        return Question(kind, k, sign=1 if model == names[1] else -1)
    if kind == "no_difference":
        return Question(kind, k, margin=margin)
    raise ValueError(f"a prediction is crossover, higher, no_difference or subset, not {kind!r}")


def _on_crossover(question: Question, comparison: Comparison, verdict: str, names: tuple[str, str]) -> str:
    base, tuned = _the(names[0]), _the(names[1])
    start, end = (_figures(comparison, at, -1) for at in question.ks)
    k1, k2 = question.ks
    if verdict == SUPPORTED:
        return f"{_capital(base)} is behind at k = {k1} ({start}) and ahead at k = {k2} ({end}): {_crossing(comparison)}."
    if verdict == REFUTED and float(one_sided_p(comparison.differences(k2))) < ALPHA / 2:
        return (
            f"{_capital(tuned)} is still ahead at k = {k2}, where {base} is at {end}; at k = {k1} it was at {start}: "
            f"the curves have not crossed by then, and beyond {comparison.edge} nothing is claimed."
        )
    if verdict == REFUTED:
        return f"{_capital(base)} is ahead already at k = {k1} ({start}), so there is nothing for it to overtake later."
    return f"{_capital(base)} against {tuned}: {start} at k = {k1}, {end} at k = {k2}. Together they do not decide it."


def _on_higher(question: Question, comparison: Comparison, verdict: str, names: tuple[str, str]) -> str:
    one, other = (_the(name) for name in (names[::-1] if question.sign == 1 else names))
    figures = _figures(comparison, question.k1, question.sign)
    if verdict == UNDERPOWERED:
        return f"{_capital(one)} against {other} at k = {question.k1}: {figures}. That does not decide which is higher."
    return f"{_capital(one)} is {'higher' if verdict == SUPPORTED else 'lower'} than {other} at k = {question.k1} ({figures})."


def _on_no_difference(question: Question, comparison: Comparison, verdict: str, names: tuple[str, str]) -> str:
    margin = f"{100 * question.margin:.3g} points"
    start = f"{_capital(_the(names[1]))} against {_the(names[0])} at k = {question.k1}"
    if verdict == REFUTED:
        return f"{start}: {_figures(comparison, question.k1, 1)}, which lies wholly beyond {margin}."
    values = comparison.differences(question.k1)
    low, high = mean_bounds(values, 1 - ALPHA)
    figures = f"{_signed(float(values.mean()))} points, 95 % bounds {_signed(low)} and {_signed(high)}"
    if verdict == SUPPORTED:
        return f"{start}: {figures}, which lie within {margin} either way."
    return f"{start}: {figures}, which are neither within {margin} either way nor wholly beyond."


def _on_subset(comparison: Comparison, margin: float, names: tuple[str, str]) -> Ruling:
    evidence = subset_evidence(comparison.base, comparison.tuned, margin)
    verdict = REFUTED if evidence.p_value < ALPHA else SUPPORTED if evidence.p_support <= ALPHA else UNDERPOWERED
    sentence = _subset_sentence(evidence, verdict, margin, comparison.problems, names)
    return Ruling(verdict, sentence, evidence.p_value, evidence.p_support, evidence.p_value)


def _subset_sentence(evidence: SubsetEvidence, verdict: str, margin: float, problems: int, names: tuple[str, str]) -> str:
    base, tuned = _the(names[0]), _the(names[1])
    n = 2 * evidence.k
    start = f"{evidence.witnesses} of {problems} problems were passed {evidence.repeatedly} times or more of {n} by {tuned}"
    start += f" and never by {base}"
    solved = f"(solved: a pass within {evidence.k} attempts with 95 %, so p of at least {100 * evidence.epsilon:.2g} %)"
    bound = f"at most {100 * evidence.bound:.1f} % of such problems are solved by {tuned} alone, with 95 % confidence"
    if verdict == REFUTED:
        return (
            f"{start}; if {base} solved all that {tuned} does, so many would come up with P = {evidence.p_value:.2g} {solved}. "
            f"They may still be within reach of {base} in more attempts."
        )
    if verdict == SUPPORTED:
        return f"{_capital(bound)}, which is within the margin of {100 * margin:.3g} % {solved}."
    move = (
        f"{evidence.open_problems} problems are open; more attempts would settle them"
        if evidence.open_problems
        else f"no problem is open; {evidence.problems_needed:,} problems like these would bring the bound down to the margin"
    )
    return f"{start}, which may be chance; {bound}, above the margin of {100 * margin:.3g} % {solved}. {_capital(move)}."


def _crossing(comparison: Comparison) -> str:
    crossover = comparison.crossover
    high = f"{crossover.high:.0f}" if np.isfinite(crossover.high) else f"beyond {comparison.edge}"
    return f"the curves cross near k = {crossover.k:.0f} ({crossover.low:.0f} to {high})"


def _figures(comparison: Comparison, k: int, sign: int, level: float = 0.95) -> str:
    """The difference at k with its interval; `sign` -1: base minus tuned."""
    values = comparison.differences(k)
    interval: Interval = mean_interval(sign * values, level, DIFFERENCE)
    ends = f"{100 * level:.0f} % interval {_signed(interval.low)} to {_signed(interval.high)}"
    # One side can be decided at 5 % while the two-sided 95 % interval still holds 0: then the sentence shows the P-value too.
    p = min(float(one_sided_p(values)), float(one_sided_p(-values)))
    decided = f", one-sided P = {p:.2g}" if p < ALPHA and level == 0.95 and not interval.excludes(0) else ""
    return f"{_signed(interval.estimate)} points, {ends}{decided}"


def _incomplete(question: Question, comparison: Comparison) -> str:
    at = max(question.ks)
    missing = int(np.isnan(comparison.differences(at)).sum())
    return (
        f"{missing} of {comparison.problems} problems have fewer than {at} attempts, so k = {at} has no value: finish the run."
    )


def _signed(share: float) -> str:
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def _the(name: str) -> str:
    return f"the {name} model" if name in ("base", "tuned") else name


def _capital(text: str) -> str:
    return text if not text.startswith(("the ", "at ", "no ")) else text[0].upper() + text[1:]
