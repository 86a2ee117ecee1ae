"""Compares the two models of a run and judges its prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.experiments.execution.run_store import Run, Runs, RunStatus
from service.experiments.report.counts import Totals, counts, only, reached
from service.experiments.report.schema import (
    ComparisonResult,
    Crossover,
    CurvePoint,
    ExpectedSets,
    Power,
    PredictionResult,
    Recovery,
    SolvedCounts,
)
from service.experiments.spec import ExperimentSpec, Prediction
from service.experiments.statistics.comparison import Comparison, SolvedSets, compare
from service.experiments.statistics.decision import Question, holm
from service.experiments.statistics.intervals import DIFFERENCE, Interval, mean_interval
from service.experiments.statistics.power import plan
from service.experiments.statistics.solvability import recovery_depth
from service.experiments.statistics.verdicts import UNDERPOWERED, judge

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison as statistics, and as part of the result."""

    statistics: Comparison
    result: ComparisonResult


def compare_models(spec: ExperimentSpec, models: Mapping[str, Sequence[Totals]], finished: bool, draws: int) -> Compared | None:
    """None while the models have no common problem. For an unfinished run each k uses the problems that have it."""
    names, (base, tuned) = list(models), models.values()
    shared = {entry.problem for entry in base} & {entry.problem for entry in tuned}
    if not shared:
        return None
    sampling, pair = spec.sampling, [only(part, shared) for part in (base, tuned)]
    attempts = [sampling.n if finished else reached(part, sampling.n, sampling.screen) for part in pair]
    attempts = [max(n, sampling.screen, 1) for n in attempts]
    one, other = (counts(part, n, sampling.screen) for part, n in zip(pair, attempts, strict=True))
    comparison = compare(one, other, list(spec.ks), draws=draws)
    result = ComparisonResult(
        base=names[0],
        tuned=names[1],
        problems=comparison.problems,
        problems_left_out=max(len(base), len(tuned)) - len(shared),
        difference=_differences(comparison, finished),
        band=[_point(k, row) for k, row in zip(comparison.ks, comparison.band, strict=True)],
        crossover=_crossover(comparison),
        solved=SolvedCounts(**{key: round(value) for key, value in _sets(comparison.solved).items()}),
        expected_solved=[ExpectedSets(epsilon=epsilon, **_sets(sets)) for epsilon, sets in comparison.expected.items()],
        ratios=_ratios(comparison.solved),
        recovery=_recovery(comparison, sorted(shared)),
        mcnemar_p=comparison.mcnemar_p,
        edge=comparison.edge,
        power=_power(spec, comparison) if finished else None,
    )
    return Compared(comparison, result)


def judge_prediction(run: Run, spec: ExperimentSpec, compared: Compared | None, finished: bool) -> PredictionResult | None:
    """The verdict and its sentence. An unfinished run has no verdict, because stopping at a favourable one would bias it."""
    prediction = spec.prediction
    if prediction is None:
        return None
    parameters: dict[str, Any] = {"kind": prediction.kind, **_parameters(prediction)}

    def undecided(verdict: str | None, sentence: str) -> PredictionResult:
        return PredictionResult(**parameters, verdict=verdict, sentence=sentence, p_value=None, comparisons_made=0)

    if not finished:
        return undecided(None, "The prediction is judged when the run has finished.")
    if compared is None:
        return undecided(UNDERPOWERED, "The two models have no problem in common: add counts for the same problems.")
    try:
        ruling = judge(
            prediction.kind, compared.statistics, model=prediction.model, k=prediction.k, margin=prediction.margin,
            k1=prediction.k1, k2=prediction.k2, names=(compared.result.base, compared.result.tuned),
        )  # fmt: skip
    except ValueError as error:
        return undecided(UNDERPOWERED, f"The prediction can't be judged: {error}.")
    same_claim, other_claims = _earlier_p_values(run, spec)
    corrected, over_claims = (float(holm([*earlier, ruling.p_value])[-1]) for earlier in (same_claim, other_claims))
    return PredictionResult(
        **parameters,
        verdict=ruling.verdict,
        sentence=ruling.sentence,
        p_value=ruling.p_value,
        p_support=ruling.p_support,
        p_refute=ruling.p_refute,
        comparisons_made=len(same_claim) + 1,
        p_value_corrected=corrected,
        claims_tested=len(other_claims) + 1,
        p_value_over_claims=over_claims,
    )


def question_of(spec: ExperimentSpec) -> Question | None:
    """The prediction as a question for power simulations; None for `subset` and without a prediction."""
    prediction = spec.prediction
    if prediction is None or prediction.kind == "subset" or len(spec.models) != 2:
        return None
    if prediction.kind == "crossover":
        k2 = prediction.k2 or max(k for k in spec.claimed_ks)
        return Question("crossover", prediction.k1, k2) if prediction.k1 < k2 else None
    sign = 1 if prediction.model == list(spec.models)[1] else -1
    return Question(prediction.kind, prediction.k, sign=sign, margin=prediction.margin)


def _parameters(prediction: Prediction) -> dict[str, Any]:
    keys = {"crossover": ("k1", "k2"), "higher": ("model", "k"), "no_difference": ("k", "margin"), "subset": ("margin",)}
    return {key: getattr(prediction, key) for key in keys[prediction.kind] if getattr(prediction, key)}


def _earlier_p_values(run: Run, spec: ExperimentSpec) -> tuple[list[float], list[float]]:
    """P-values of earlier runs: of all runs on the same claim, and of the newest run on each other claim."""
    claim = run.state.get("claim") or spec.claim
    same: list[float] = []
    others: dict[str, float] = {}
    if not claim:
        return same, []
    for other in reversed(Runs(run.folder.parent.parent).all()):
        state = other.state if other.id != run.id else {}
        is_earlier = state.get("created", "") < run.state.get("created", "")
        is_test = state.get("status") == RunStatus.SUCCEEDED and state.get("p_value") is not None and bool(state.get("claim"))
        if not (is_earlier and is_test):
            continue
        if state["claim"] == claim:
            same.append(float(state["p_value"]))
        else:
            others[state["claim"]] = float(state["p_value"])
    return same, list(others.values())


def _differences(comparison: Comparison, finished: bool) -> list[CurvePoint]:
    if finished:
        return [_point(k, row) for k, row in zip(comparison.ks, comparison.difference, strict=True)]
    points = []
    for k in comparison.ks:
        values = comparison.differences(k)
        known = values[~np.isnan(values)]
        interval = mean_interval(known, bounds=DIFFERENCE)
        points.append(
            CurvePoint(k=k, estimate=interval.estimate, low=interval.low, high=interval.high, problems=int(known.size))
        )
    return points


def _point(k: int, row: Interval) -> CurvePoint:
    return CurvePoint(k=k, estimate=row.estimate, low=row.low, high=row.high)


def _crossover(comparison: Comparison) -> Crossover:
    crossover = comparison.crossover
    return Crossover(
        k=crossover.k, low=crossover.low, high=crossover.high, probability_none=crossover.probability_none,
        open=bool(np.isposinf(crossover.high)), edge=comparison.edge,
    )  # fmt: skip


def _sets(sets: SolvedSets) -> dict[str, float]:
    return {"both": sets.both, "base_only": sets.base_only, "tuned_only": sets.tuned_only, "neither": sets.neither}


def _ratios(sets: SolvedSets) -> dict[str, float | None]:
    names = ("support_retention_rate", "net_discovery_rate", "net_support_change_rate", "support_dynamic_score")
    return {name: getattr(sets, name) for name in names}


def _recovery(comparison: Comparison, problems: Sequence[str]) -> list[Recovery]:
    only_tuned = np.flatnonzero((comparison.base.c == 0) & (comparison.tuned.c > 0))[:_LISTED]
    depth = recovery_depth(comparison.base.n, comparison.base.c)
    return [
        Recovery(problem=problems[i], tuned_passes=int(comparison.tuned.c[i]), k=float(depth.k[i]),
                 low=float(depth.low[i]), high=float(depth.high[i]))
        for i in only_tuned
    ]  # fmt: skip


def _power(spec: ExperimentSpec, comparison: Comparison) -> Power | None:
    question = question_of(spec)
    if question is None:
        return None
    pilot = comparison.base, comparison.tuned
    expected = plan(comparison.problems, spec.sampling.n, spec.ks, question, pilot, spec.sampling.screen)
    return Power(**{key: getattr(expected, key) for key in Power.model_fields})
