"""Two models of a run compared, and the run's prediction judged: statistics, in the words of a result.

Knows nothing about files but the earlier runs on the same claim, which it counts: whoever tries often enough succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.experiments.execution.run_store import Run, Runs, RunStatus
from service.experiments.report.counts import Totals, counts, only, reached
from service.experiments.spec import ExperimentSpec, Prediction
from service.experiments.statistics.comparison import Comparison, Crossover, SolvedSets, compare
from service.experiments.statistics.decision import Question, holm
from service.experiments.statistics.intervals import DIFFERENCE, mean_interval
from service.experiments.statistics.power import plan
from service.experiments.statistics.solvability import recovery_depth
from service.experiments.statistics.verdicts import UNDERPOWERED, judge

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Compared:
    """`told`: as a result says it. `of`: what it was computed from."""

    of: Comparison
    told: dict[str, Any]


def comparison_of(spec: ExperimentSpec, of: Mapping[str, Sequence[Totals]], finished: bool, draws: int) -> Compared | None:
    """None while the two models have no problem in common. Of an unfinished run each k uses the problems that have it."""
    names, (base, tuned) = list(of), of.values()
    shared = {entry.problem for entry in base} & {entry.problem for entry in tuned}
    if not shared:
        return None
    sampling, pair = spec.sampling, [only(part, shared) for part in (base, tuned)]
    made = [sampling.n if finished else reached(part, sampling.n, sampling.screen) for part in pair]
    made = [max(n, sampling.screen, 1) for n in made]
    one, other = (counts(part, n, sampling.screen) for part, n in zip(pair, made, strict=True))
    found = compare(one, other, list(spec.ks), draws=draws)
    left = {len(base), len(tuned)} - {len(shared)}
    told = {
        "base": names[0],
        "tuned": names[1],
        "problems": found.problems,
        "problems_left_out": max(left) - len(shared) if left else 0,
        "difference": _differences(found, finished),
        "band": [_interval(k, row) for k, row in zip(found.ks, found.band, strict=True)],
        "crossover": _crossover(found.crossover, found.edge),
        "solved": {key: round(getattr(found.solved, key)) for key in ("both", "base_only", "tuned_only", "neither")},
        "expected_solved": [{"epsilon": eps, **_sets(sets)} for eps, sets in found.expected.items()],
        "ratios": _ratios(found.solved),
        "recovery": _recovery(found, sorted(shared)),
        "mcnemar_p": found.mcnemar_p,
        "edge": found.edge,
        "power": _power(spec, found) if finished else None,
    }
    return Compared(found, told)


def prediction_of(run: Run, spec: ExperimentSpec, compared: Compared | None, finished: bool) -> dict[str, Any] | None:
    """The verdict and its sentence; of an unfinished run neither, so that nobody stops it when the curve looks right.

    `comparisons_made`: runs on the claim up to this one, for `p_value_corrected` (Holm over their P-values).
    `claims_tested`: this claim and those tested in this home before, each by its newest run, for `p_value_over_claims`."""
    prediction = spec.prediction
    if prediction is None:
        return None
    told = {"kind": prediction.kind, **_parameters(prediction)}
    if not finished:
        sentence = "The run is not finished; its prediction is judged when all attempts are made."
        return {**told, "verdict": None, "sentence": sentence, "p_value": None, "comparisons_made": 0}
    if compared is None:
        sentence = "The two models have no problem in common, so nothing can be compared: bring counts on the same problems."
        return {**told, "verdict": UNDERPOWERED, "sentence": sentence, "p_value": None, "comparisons_made": 0}
    try:
        ruling = judge(
            prediction.kind, compared.of, model=prediction.model, k=prediction.k, margin=prediction.margin, k1=prediction.k1,
            k2=prediction.k2, names=(compared.told["base"], compared.told["tuned"]),
        )  # fmt: skip
    except ValueError as error:
        sentence = f"This can not be judged: {error}."
        return {**told, "verdict": UNDERPOWERED, "sentence": sentence, "p_value": None, "comparisons_made": 0}
    earlier, others = _earlier(run, spec)
    corrected, over_claims = (float(holm([*those, ruling.p_value])[-1]) for those in (earlier, others))
    return {
        **told,
        "verdict": ruling.verdict,
        "sentence": ruling.sentence,
        "p_value": ruling.p_value,
        "p_support": ruling.p_support,
        "p_refute": ruling.p_refute,
        "comparisons_made": len(earlier) + 1,
        "p_value_corrected": corrected,
        "claims_tested": len(others) + 1,
        "p_value_over_claims": over_claims,
    }


def question_of(spec: ExperimentSpec) -> Question | None:
    """The prediction as what a simulation can be asked; None for `subset`, and without one."""
    prediction = spec.prediction
    if prediction is None or prediction.kind == "subset" or len(spec.models) != 2:
        return None
    if prediction.kind == "crossover":
        k2 = prediction.k2 or max(k for k in spec.claimed_ks)
        return Question("crossover", prediction.k1, k2) if prediction.k1 < k2 else None
    sign = 1 if prediction.model == list(spec.models)[1] else -1
    return Question(prediction.kind, prediction.k, sign=sign, margin=prediction.margin)


def _parameters(prediction: Prediction) -> dict[str, Any]:
    wanted = {"crossover": ("k1", "k2"), "higher": ("model", "k"), "no_difference": ("k", "margin"), "subset": ("margin",)}
    return {key: getattr(prediction, key) for key in wanted[prediction.kind] if getattr(prediction, key)}


def _earlier(run: Run, spec: ExperimentSpec) -> tuple[list[float], list[float]]:
    """P-values made before this run: those of the runs on its claim, and the newest of each other claim."""
    claim = run.state.get("claim") or spec.claim
    same: list[float] = []
    others: dict[str, float] = {}
    if not claim:
        return same, []
    for other in reversed(Runs(run.folder.parent.parent).all()):
        state = other.state if other.id != run.id else {}
        before = state.get("created", "") < run.state.get("created", "")
        if state.get("status") != RunStatus.SUCCEEDED or state.get("p_value") is None or not state.get("claim") or not before:
            continue
        if state["claim"] == claim:
            same.append(float(state["p_value"]))
        else:
            others[state["claim"]] = float(state["p_value"])
    return same, list(others.values())


def _differences(found: Comparison, finished: bool) -> list[dict[str, Any]]:
    if finished:
        return [_interval(k, row) for k, row in zip(found.ks, found.difference, strict=True)]
    out = []
    for k in found.ks:
        values = found.differences(k)
        here = values[~np.isnan(values)]
        out.append({**_interval(k, mean_interval(here, bounds=DIFFERENCE)), "problems": int(here.size)})
    return out


def _interval(k: int, row: Any) -> dict[str, Any]:
    return {"k": k, "estimate": row.estimate, "low": row.low, "high": row.high}


def _crossover(found: Crossover, edge: int) -> dict[str, Any]:
    """`open`: the interval reaches beyond n/2, where nothing is claimed; its `high` is then None."""
    unseen = bool(np.isposinf(found.high))
    told = {"k": found.k, "low": found.low, "high": found.high, "probability_none": found.probability_none}
    return {**told, "open": unseen, "edge": edge}


def _sets(sets: SolvedSets) -> dict[str, float]:
    return {"both": sets.both, "base_only": sets.base_only, "tuned_only": sets.tuned_only, "neither": sets.neither}


def _ratios(sets: SolvedSets) -> dict[str, float]:
    names = ("support_retention_rate", "net_discovery_rate", "net_support_change_rate", "support_dynamic_score")
    return {name: getattr(sets, name) for name in names}


def _recovery(found: Comparison, problems: Sequence[str]) -> list[dict[str, Any]]:
    """Problems that only the tuned model passed: after how many attempts the base model would have, with 95 %."""
    alone = np.flatnonzero((found.base.c == 0) & (found.tuned.c > 0))[:_LISTED]
    depth = recovery_depth(found.base.n, found.base.c)
    return [
        {"problem": problems[i], "tuned_passes": int(found.tuned.c[i]), "k": float(depth.k[i]),
         "low": float(depth.low[i]), "high": float(depth.high[i])}
        for i in alone
    ]  # fmt: skip


def _power(spec: ExperimentSpec, found: Comparison) -> dict[str, Any] | None:
    """How runs like this one do, if the models are as measured: not a reason to believe its verdict any more or less."""
    question = question_of(spec)
    if question is None:
        return None
    expected = plan(found.problems, spec.sampling.n, spec.ks, question, (found.base, found.tuned), spec.sampling.screen)
    keys = ("decided", "decided_more_problems", "decided_more_attempts", "problems_needed", "advice")
    return {key: getattr(expected, key) for key in keys}
