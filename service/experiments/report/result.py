"""Computes the result of a run from its counts, finished or not.

A finished run's figures are stored in result.json with a hash of their counts, and computed again when the hash differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from kb.notes import PasskbError
from service.experiments.execution.run_store import DIRECT, Run, RunStatus, Tally, counts_of, read_json
from service.experiments.report.comparison import compare_models, judge_prediction
from service.experiments.report.confounders import (
    RECORDED,
    answers_of,
    direct_control,
    measure_confounders,
    perplexities,
    right_answers,
)
from service.experiments.report.counts import Totals, counts, even_counts, totals
from service.experiments.report.disclaimers import cautions
from service.experiments.report.schema import (
    BackTest,
    Bounds,
    CurveAtTau,
    CurvePoint,
    Direct,
    Environment,
    ExpectedSolved,
    Extrapolation,
    Figures,
    ModelEnvironment,
    ModelResult,
    NeverSolved,
    Progress,
    Result,
    ShareAtTau,
    SolvedProblems,
)
from service.experiments.report.text import result_text
from service.experiments.spec import ExperimentSpec
from service.experiments.statistics.estimators import Counts, g_pass_at_k, mean_g_pass_at_k, pass_hat_k, unknown_bounds
from service.experiments.statistics.extrapolation import extrapolate
from service.experiments.statistics.intervals import mean_interval
from service.experiments.statistics.majority import maj_at_k
from service.experiments.statistics.solvability import cover_at_tau, never_solved_bound, probability_above, solvable_at
from service.experiments.types import Verdict

_CACHE_SIZE = 16
_DRAWS, _DRAWS_LIVE = 2000, 300
_MAJORITY_DRAWS = 300  # per problem; the mean over problems varies much less
_BEYOND = (2, 4, 8)  # times n
_TAUS, _COVERED = (0.25, 0.5, 0.75), (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
_METHOD = 3  # raise it when the meaning of a figure changes
_cache: dict[Any, Figures] = {}


def result(run: Run, status: str | RunStatus = "") -> Result:
    """The result of a run. `status` defaults to the one in run.json.

    A run in progress has figures of the counts so far, over the problems that have enough attempts for each k, and no verdict.
    Figures are computed again only when counts change. Raises PasskbError for an unreadable run.
    """
    try:
        return _result(run, run.spec, run.state, status)
    except ValidationError as error:
        raise PasskbError(f"{run.folder} is damaged ({error.error_count()} invalid values in its files)") from error


def _result(run: Run, spec: ExperimentSpec, state: Mapping[str, Any], status: str | RunStatus) -> Result:
    status = str(status or state["status"])
    tallies = {label: run.tallies(label) for name in spec.models for label in (name, name + DIRECT)}
    figures = _cached_figures(run, spec, state, tallies, finished=status == RunStatus.SUCCEEDED)
    return Result(
        run_id=run.id,
        status=status,
        name=spec.name,
        question=spec.question,
        claim=state.get("claim") or spec.claim,
        progress=_progress(run, spec, state, tallies, status),
        **dict(figures),
        cautions=cautions(spec, state),
        environment=environment(spec, state),
        imported=state.get("imported"),
        error=state.get("error", ""),
        created=state.get("created"),
        finished=state.get("finished"),
        seconds=state.get("seconds"),
        evidence_note_id=state.get("evidence_note_id"),
    )


def environment(spec: ExperimentSpec, state: Mapping[str, Any]) -> Environment:
    """Engines, devices and settings. None: not recorded (yet)."""
    recorded: Mapping[str, Mapping[str, Any]] = state.get("environment", {})

    def joined(key: str) -> str | None:
        return ", ".join(dict.fromkeys(str(entry[key]) for entry in recorded.values() if entry.get(key))) or None

    engines = ", ".join(dict.fromkeys(model.engine for model in spec.models.values()))
    return Environment(
        engine=joined("engine") or engines,
        engine_version=joined("engine_version"),
        device=joined("device"),
        problems_sha256=state.get("problems_sha256"),
        settings=spec.to_json()["sampling"] if not state.get("imported") else {"n": spec.sampling.n},
        models={
            name: ModelEnvironment(**{"model": model.model, **recorded.get(name, {})}) for name, model in spec.models.items()
        },
    )


def _cached_figures(
    run: Run, spec: ExperimentSpec, state: Mapping[str, Any], tallies: Mapping[str, list[Tally]], finished: bool
) -> Figures:
    scores = run.folder / "scores.json"
    totals_ = tuple((label, sum(t.n for t in entries), sum(t.c for t in entries)) for label, entries in tallies.items())
    key = str(run.folder), finished, totals_, scores.stat().st_mtime_ns if scores.exists() else 0
    if key not in _cache:
        while len(_cache) >= _CACHE_SIZE:
            _cache.pop(next(iter(_cache)), None)
        counted = _hash_counts(spec, tallies)
        stored = _stored_figures(run, counted) if finished else None
        _cache[key] = stored or _figures(run, spec, state, tallies, scores, finished, counted)
    return _cache[key]


def _hash_counts(spec: ExperimentSpec, tallies: Mapping[str, list[Tally]]) -> str:
    """Hash of what the figures depend on: the counts, the spec, and the version of the computation."""
    counted = {label: sorted(counts_of(entries).items()) for label, entries in tallies.items()}
    body = json.dumps([version("passkb"), _METHOD, spec.sha256, counted], sort_keys=True)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def _stored_figures(run: Run, counted: str) -> Figures | None:
    """The figures in result.json, if they are of these counts."""
    path = run.folder / "result.json"
    try:
        stored = Result.load(path) if path.exists() else None
    except PasskbError:
        return None
    if stored is None or stored.counted != counted:
        return None
    return Figures(**{key: value for key, value in stored if key in Figures.model_fields})


def _figures(
    run: Run, spec: ExperimentSpec, state: Mapping[str, Any], tallies: Mapping[str, list[Tally]], scores: Path,
    finished: bool, counted: str,
) -> Figures:  # fmt: skip
    recorded = set(state.get("imported", {}).get("recorded", RECORDED))
    screen = spec.sampling.screen
    by_model = {name: totals(tallies[name], screen) for name in spec.models}
    models = [
        _model(name, by_model[name], tallies[name], direct_control(tallies[name + DIRECT]), spec, recorded, finished)
        for name in spec.models
    ]
    draws = _DRAWS if finished else _DRAWS_LIVE
    compared = compare_models(spec, by_model, finished, draws) if len(by_model) == 2 else None
    return Figures(
        finished_counts=finished,
        noisy_edge=[k for k in spec.ks if 2 * k > spec.sampling.n],
        models=models,
        comparison=compared.result if compared else None,
        prediction=judge_prediction(run, spec, compared, finished),
        extrapolation={name: _extrapolation(entries, spec) for name, entries in by_model.items()}
        if finished and not screen
        else None,
        perplexity=perplexities(read_json(scores), list(spec.models)) if scores.exists() else None,
        counted=counted,
    )


def _model(
    name: str, problems: list[Totals], tallies: Sequence[Tally], direct: Direct | None, spec: ExperimentSpec,
    recorded: set[str], finished: bool,
) -> ModelResult:  # fmt: skip
    n, ks, verdicts = spec.sampling.n, list(spec.ks), _verdicts(tallies)
    if not problems:
        empty = [CurvePoint(k=k, estimate=None, low=None, high=None, problems=0) for k in ks]
        return ModelResult(name=name, n_problems=0, n=n, attempts=0, verdicts=verdicts, pass_at_k=empty, direct=direct)
    counted, even = counts(problems, n, spec.sampling.screen), even_counts(problems)
    epsilon = solvable_at(max(1, n // 2))
    unsolved = counted.n[counted.c == 0]
    return ModelResult(
        name=name,
        n_problems=len(problems),
        n=n,
        attempts=int(counted.n.sum()),
        pass_at_k=_curve(ks, counted.pass_at_k(ks), finished),
        verdicts=verdicts,
        solved=SolvedProblems(problems=int((counted.c > 0).sum())),
        never_solved=NeverSolved(
            problems=int(unsolved.size),
            attempts=int(unsolved.min()) if unsolved.size else None,
            p_at_most=float(never_solved_bound(unsolved.min())[0]) if unsolved.size else None,
        ),
        expected_solved=ExpectedSolved(epsilon=epsilon, problems=float(probability_above(epsilon, counted.n, counted.c).sum())),
        pass_hat_k=_curve(ks, pass_hat_k(even.n, even.c, ks), finished),
        **(_reliability(counted, even, ks) if finished else {}),
        maj_at_k=_majority(problems, ks) if finished else None,
        unknown_bounds=_bounds(problems, ks) if "verdicts" in recorded else None,
        **dict(measure_confounders(problems, recorded)),
        direct=direct,
    )


def _curve(ks: Sequence[int], table: Any, finished: bool) -> list[CurvePoint]:
    """Means with 95 % intervals over problems; for an unfinished run over the problems that have a value."""
    points = []
    for k, row in zip(ks, table, strict=True):
        values = row if finished else row[~np.isnan(row)]
        mean = mean_interval(values)
        points.append(CurvePoint(k=k, estimate=mean.estimate, low=mean.low, high=mean.high, problems=len(values)))
    return points


def _verdicts(tallies: Sequence[Tally]) -> dict[str, int]:
    """Attempts by verdict; counts without verdicts are passes and failures."""
    totals_ = {str(verdict): sum(entry.verdicts.get(verdict, 0) for entry in tallies) for verdict in Verdict}
    bare = [entry for entry in tallies if not entry.verdicts]
    totals_[Verdict.PASS] += sum(entry.c for entry in bare)
    totals_[Verdict.FAIL] += sum(entry.n - entry.c for entry in bare)
    return totals_


def _majority(problems: Sequence[Totals], ks: Sequence[int]) -> list[CurvePoint] | None:
    """maj@k; None where no answers are recorded."""
    answers = [answers_of(entry) for entry in problems]
    if not any(set(counts_) - {""} for counts_ in answers):
        return None
    return _curve(ks, maj_at_k(answers, [right_answers(entry) for entry in problems], ks, _MAJORITY_DRAWS), True)


def _reliability(counted: Counts, even: Counts, ks: Sequence[int]) -> dict[str, Any]:
    """G-Pass@k by tau, its mean, and Cover@tau, the expected share of problems with a pass rate of at least tau."""
    covered = zip(_COVERED, cover_at_tau(counted.n, counted.c, _COVERED), strict=True)
    return {
        "g_pass_at_k": [CurveAtTau(tau=tau, curve=_curve(ks, g_pass_at_k(even.n, even.c, ks, tau), True)) for tau in _TAUS],
        "mg_pass_at_k": _curve(ks, mean_g_pass_at_k(even.n, even.c, ks), True),
        "cover_at_tau": [ShareAtTau(tau=tau, share=float(share)) for tau, share in covered],
    }


def _bounds(problems: Sequence[Totals], ks: Sequence[int]) -> list[Bounds]:
    """Mean pass@k if all timeouts and errors had failed, and if all had passed."""
    even = even_counts(problems)
    unknown = [sum(t.verdicts.get(v, 0) for t in entry.even for v in (Verdict.TIMEOUT, Verdict.ERROR)) for entry in problems]
    low, high = (table.mean(axis=1) for table in unknown_bounds(even.n, even.c, unknown, ks))
    return [Bounds(k=k, low=float(a), high=float(b)) for k, a, b in zip(ks, low, high, strict=True)]


def _extrapolation(problems: Sequence[Totals], spec: ExperimentSpec) -> Extrapolation | None:
    n = min((entry.n for entry in problems), default=0)
    if n < 4:
        return None
    counted = counts(problems, spec.sampling.n, 0)
    fit = extrapolate(counted.n, counted.c, [n * times for times in _BEYOND])
    return Extrapolation(
        band=[Bounds(k=k, low=float(a), high=float(b)) for k, a, b in zip(fit.ks, fit.low, fit.high, strict=True)],
        models={name: curve.tolist() for name, curve in fit.curves.items()},
        back_tests={
            name: BackTest(**{key: getattr(test, key) for key in BackTest.model_fields})
            for name, test in fit.back_tests.items()
        },
    )


def _progress(
    run: Run, spec: ExperimentSpec, state: Mapping[str, Any], tallies: Mapping[str, list[Tally]], status: str
) -> Progress:
    done = sum(entry.n for name in spec.models for entry in tallies[name])
    if status == RunStatus.SUCCEEDED:
        return Progress(done=done, total=done, eta_s=0.0)
    sampling = spec.sampling
    total = int(state.get("n_problems", 0)) * len(spec.models) * (sampling.screen or sampling.n)
    return Progress(**{"done": done, "total": max(total, done), "eta_s": None, **run.progress})


__all__ = ["environment", "result", "result_text"]
