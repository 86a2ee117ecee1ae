"""A run's result: everything that is said of it, computed from its counts, finished or not.

A finished run's figures are kept in its result.json with a hash of the counts they are of, and made again when that differs.

Knows nothing about notes, terminals or pages: what is made of a result is elsewhere. Numbers that are undefined are None.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kb.notes import PasskbError
from service.experiments.execution.run_store import DIRECT, Run, RunStatus, Tally, counts_of, read_json
from service.experiments.report.comparison import comparison_of, prediction_of
from service.experiments.report.confounders import (
    RECORDED,
    answers_of,
    confounders,
    direct_control,
    perplexities,
    right_answers,
)
from service.experiments.report.counts import Totals, counts, even_counts, totals
from service.experiments.report.disclaimers import cautions
from service.experiments.report.text import result_text
from service.experiments.spec import ExperimentSpec
from service.experiments.statistics.estimators import Counts, g_pass_at_k, mean_g_pass_at_k, pass_hat_k, unknown_bounds
from service.experiments.statistics.extrapolation import extrapolate
from service.experiments.statistics.intervals import mean_interval
from service.experiments.statistics.majority import maj_at_k
from service.experiments.statistics.solvability import cover_at_tau, never_solved_bound, probability_above, solvable_at
from service.experiments.types import Verdict

_REMEMBERED = 16
_DRAWS, _DRAWS_LIVE = 2000, 300
_MAJORITY_DRAWS = 300  # a problem; the mean over problems is far steadier than each
_BEYOND = (2, 4, 8)  # times n
_TAUS, _COVERED = (0.25, 0.5, 0.75), (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
_METHOD = 3  # to be raised with every change of what a figure means
_FIGURES = (
    "finished_counts", "noisy_edge", "models", "comparison", "prediction", "extrapolation", "perplexity", "counted",
)  # fmt: skip
_cache: dict[Any, dict[str, Any]] = {}


def result(run: Run, status: str | RunStatus = "") -> dict[str, Any]:
    """What `experiment show --json` prints (CONTRACT.md), and more. `status`: as it is now, by default what run.json says.

    A run in progress has the figures of what is counted so far, from the problems that have the attempts for each k, and no
    verdict: a prediction is judged once. Computed again only when counts have changed. Raises PasskbError for a run that can
    not be read.
    """
    spec, state = run.spec, run.state
    status = str(status or state["status"])
    tallies = {label: run.tallies(label) for name in spec.models for label in (name, name + DIRECT)}
    figures = _remembered(run, spec, state, tallies, finished=status == RunStatus.SUCCEEDED)
    return {
        "run_id": run.id,
        "status": status,
        "name": spec.name,
        "question": spec.question,
        "claim": state.get("claim") or spec.claim,
        "progress": _progress(run, spec, state, tallies, status),
        **figures,
        "cautions": cautions(spec, state),
        "environment": environment(spec, state),
        "imported": state.get("imported"),
        "error": state.get("error", ""),
        "created": state.get("created"),
        "finished": state.get("finished"),
        "seconds": state.get("seconds"),
        "evidence_note_id": state.get("evidence_note_id"),
    }


def environment(spec: ExperimentSpec, state: Mapping[str, Any]) -> dict[str, Any]:
    """What the models ran on, with the settings in force, per model where they may differ. None: not recorded (yet)."""
    about: Mapping[str, Mapping[str, Any]] = state.get("environment", {})

    def said(key: str) -> str | None:
        return ", ".join(dict.fromkeys(str(entry[key]) for entry in about.values() if entry.get(key))) or None

    sampling = spec.to_json()["sampling"] if not state.get("imported") else {"n": spec.sampling.n}
    engines = ", ".join(dict.fromkeys(model.engine for model in spec.models.values()))
    return {
        "engine": said("engine") or engines,
        "engine_version": said("engine_version"),
        "device": said("device"),
        "problems_sha256": state.get("problems_sha256"),
        "settings": sampling,
        "models": {name: {"model": model.model, **about.get(name, {})} for name, model in spec.models.items()},
    }


def _remembered(
    run: Run, spec: ExperimentSpec, state: Mapping[str, Any], tallies: Mapping[str, list[Tally]], finished: bool
) -> dict[str, Any]:
    scores = run.folder / "scores.json"
    made = tuple((label, sum(t.n for t in found), sum(t.c for t in found)) for label, found in tallies.items())
    key = str(run.folder), finished, made, scores.stat().st_mtime_ns if scores.exists() else 0
    if key not in _cache:
        while len(_cache) >= _REMEMBERED:
            _cache.pop(next(iter(_cache)), None)
        counted = _counted(spec, tallies)
        kept = _kept(run, counted) if finished else None
        _cache[key] = kept or {**finite(_figures(run, spec, state, tallies, scores, finished)), "counted": counted}
    return _cache[key]


def _counted(spec: ExperimentSpec, tallies: Mapping[str, list[Tally]]) -> str:
    """What figures follow from: the counts, the spec, and the version of what computes them."""
    counted = {label: sorted(counts_of(found).items()) for label, found in tallies.items()}
    body = json.dumps([version("passkb"), _METHOD, spec.sha256, counted], sort_keys=True)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def _kept(run: Run, counted: str) -> dict[str, Any] | None:
    """The figures in the run's result.json, if they are of these very counts."""
    path = run.folder / "result.json"
    try:
        found = read_json(path) if path.exists() else {}
    except PasskbError:
        return None
    return {key: found[key] for key in _FIGURES} if found.get("counted") == counted else None


def _figures(
    run: Run, spec: ExperimentSpec, state: Mapping[str, Any], tallies: Mapping[str, list[Tally]], scores: Path, finished: bool
) -> dict[str, Any]:
    recorded = set(state.get("imported", {}).get("recorded", RECORDED))
    screen = spec.sampling.screen
    of = {name: totals(tallies[name], screen) for name in spec.models}
    models = [
        {
            **_model(name, of[name], tallies[name], spec, recorded, finished),
            "direct": direct_control(tallies[name + DIRECT]),
        }
        for name in spec.models
    ]
    compared = comparison_of(spec, of, finished, _DRAWS if finished else _DRAWS_LIVE) if len(of) == 2 else None
    return {
        "finished_counts": finished,
        "noisy_edge": [k for k in spec.ks if 2 * k > spec.sampling.n],
        "models": models,
        "comparison": compared.told if compared else None,
        "prediction": prediction_of(run, spec, compared, finished),
        "extrapolation": {name: _extrapolation(of[name], spec) for name in of} if finished and not screen else None,
        "perplexity": perplexities(read_json(scores), list(spec.models)) if scores.exists() else None,
    }


def _model(
    name: str, of: list[Totals], tallies: Sequence[Tally], spec: ExperimentSpec, recorded: set[str], finished: bool
) -> dict[str, Any]:
    sampling, ks = spec.sampling, list(spec.ks)
    if not of:
        verdicts = _verdicts(tallies)
        return {"name": name, "n_problems": 0, "n": sampling.n, "attempts": 0, "verdicts": verdicts, "pass_at_k": _empty(ks)}
    counted = counts(of, sampling.n, sampling.screen)
    even = even_counts(of)
    epsilon = solvable_at(max(1, sampling.n // 2))
    unsolved = counted.n[counted.c == 0]
    return {
        "name": name,
        "n_problems": len(of),
        "n": sampling.n,
        "attempts": int(counted.n.sum()),
        "pass_at_k": _curve(ks, counted.pass_at_k(ks), finished),
        "verdicts": _verdicts(tallies),
        "solved": {"problems": int((counted.c > 0).sum())},
        "never_solved": {
            "problems": int(unsolved.size),
            "attempts": int(unsolved.min()) if unsolved.size else None,
            "p_at_most": float(never_solved_bound(unsolved.min())[0]) if unsolved.size else None,
        },
        "expected_solved": {"epsilon": epsilon, "problems": float(probability_above(epsilon, counted.n, counted.c).sum())},
        "pass_hat_k": _curve(ks, pass_hat_k(even.n, even.c, ks), finished),
        **(_reliability(counted, even, ks) if finished else {}),
        "maj_at_k": _majority(of, ks, finished),
        "unknown_bounds": _bounds(of, ks) if "verdicts" in recorded else None,
        **confounders(of, recorded),
    }


def _curve(ks: Sequence[int], table: Any, finished: bool) -> list[dict[str, Any]]:
    """Means with 95 % intervals over problems; of an unfinished run, over the problems that have a value."""
    out = []
    for k, row in zip(ks, table, strict=True):
        values = row if finished else row[~np.isnan(row)]
        found = mean_interval(values)
        out.append({"k": k, "estimate": found.estimate, "low": found.low, "high": found.high, "problems": len(values)})
    return out


def _empty(ks: Sequence[int]) -> list[dict[str, Any]]:
    return [{"k": k, "estimate": None, "low": None, "high": None, "problems": 0} for k in ks]


def _verdicts(tallies: Sequence[Tally]) -> dict[str, int]:
    """Counts without verdicts know passes, and what is not one."""
    found = {str(verdict): sum(entry.verdicts.get(verdict, 0) for entry in tallies) for verdict in Verdict}
    bare = [entry for entry in tallies if not entry.verdicts]
    found[Verdict.PASS] += sum(entry.c for entry in bare)
    found[Verdict.FAIL] += sum(entry.n - entry.c for entry in bare)
    return found


def _majority(of: Sequence[Totals], ks: Sequence[int], finished: bool) -> list[dict[str, Any]] | None:
    """Where answers are known: their answers by a majority vote. Takes its time, so only of a finished run."""
    given = [answers_of(entry) for entry in of]
    if not finished or not any(set(answers) - {""} for answers in given):
        return None
    return _curve(ks, maj_at_k(given, [right_answers(entry) for entry in of], ks, _MAJORITY_DRAWS), finished)


def _reliability(counted: Counts, even: Counts, ks: Sequence[int]) -> dict[str, Any]:
    """How steadily a model is right: G-Pass@k by tau, its mean, and the expected share of problems with p of tau or more."""
    return {
        "g_pass_at_k": [{"tau": tau, "curve": _curve(ks, g_pass_at_k(even.n, even.c, ks, tau), True)} for tau in _TAUS],
        "mg_pass_at_k": _curve(ks, mean_g_pass_at_k(even.n, even.c, ks), True),
        "cover_at_tau": [
            {"tau": tau, "share": float(share)}
            for tau, share in zip(_COVERED, cover_at_tau(counted.n, counted.c, _COVERED), strict=True)
        ],
    }


def _bounds(of: Sequence[Totals], ks: Sequence[int]) -> list[dict[str, Any]]:
    """pass@k if all attempts that timed out or broke their grader had failed, and if all had passed; mean over problems."""
    even = even_counts(of)
    unknown = [sum(t.verdicts.get(v, 0) for t in entry.even for v in (Verdict.TIMEOUT, Verdict.ERROR)) for entry in of]
    low, high = (table.mean(axis=1) for table in unknown_bounds(even.n, even.c, unknown, ks))
    return [{"k": k, "low": float(a), "high": float(b)} for k, a, b in zip(ks, low, high, strict=True)]


def _extrapolation(of: Sequence[Totals], spec: ExperimentSpec) -> dict[str, Any] | None:
    n = min((entry.n for entry in of), default=0)
    if n < 4:
        return None
    counted = counts(of, spec.sampling.n, 0)
    found = extrapolate(counted.n, counted.c, [n * times for times in _BEYOND])
    tests = {name: {key: getattr(test, key) for key in ("attempts", "k", "predicted", "observed", "rmse")}
             for name, test in found.back_tests.items()}  # fmt: skip
    curves = {name: curve.tolist() for name, curve in found.curves.items()}
    band = [{"k": k, "low": float(a), "high": float(b)} for k, a, b in zip(found.ks, found.low, found.high, strict=True)]
    return {"band": band, "models": curves, "back_tests": tests}


def _progress(
    run: Run, spec: ExperimentSpec, state: Mapping[str, Any], tallies: Mapping[str, list[Tally]], status: str
) -> dict[str, Any]:
    done = sum(entry.n for name in spec.models for entry in tallies[name])
    if status == RunStatus.SUCCEEDED:
        return {"done": done, "total": done, "eta_s": 0.0}
    sampling = spec.sampling
    total = int(state.get("n_problems", 0)) * len(spec.models) * (sampling.screen or sampling.n)
    told = run.progress
    return {"done": done, "total": max(total, done), "eta_s": None, **told} if told else {
        "done": done, "total": max(total, done), "eta_s": None}  # fmt: skip


def finite(value: Any) -> Any:
    """As JSON can say it: None where a number is not finite, plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["environment", "finite", "result", "result_text"]
