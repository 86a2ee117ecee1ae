"""Plans an experiment before it runs: interval widths, power, cost in attempts, tokens and seconds.

Token counts and rates come from earlier runs of the same models in this home; without one the cost is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.experiments.datasets.loader import load
from service.experiments.execution.run_store import Run, Runs, RunStatus
from service.experiments.report.comparison import question_of
from service.experiments.report.counts import counts, only, totals
from service.experiments.spec import ExperimentSpec, ModelSpec, Prediction
from service.experiments.statistics import power
from service.experiments.statistics.power import ASSUMED, Pilot

_MIN_ATTEMPTS = 20  # for a rate
_MIN_PILOT_ATTEMPTS = 4  # per problem


def plan(spec: ExperimentSpec, home: Path) -> dict[str, Any]:
    """Expected full widths of the 95 % intervals by k, power, cost and advice, as JSON values.

    `pilot` is the earlier run that the estimates are based on; without one they are based on `assumption`. Unknown entries of
    `cost` are None. Raises PasskbError when the problems can't be loaded.
    """
    problems, two = load(spec.problems).problems, len(spec.models) == 2
    if two and spec.prediction is None:
        spec = replace(spec, prediction=Prediction())
    runs = [run for run in Runs(home).all() if not run.state.get("imported") and run.state["status"] == RunStatus.SUCCEEDED]
    pilot_run, pilot = _pilot(spec, runs)
    size, sampling = len(problems), spec.sampling
    question = question_of(spec)
    expected = power.plan(size, sampling.n, spec.ks, question, pilot, sampling.screen)
    widths = [
        {"k": k, "pass_at_k": width, "difference": expected.difference_width[k] if two else None, "noisy": 2 * k > sampling.n}
        for k, width in expected.pass_width.items()
    ]
    result: dict[str, Any] = _finite(
        {
            "problems": size,
            "attempts": sampling.n,
            "models": list(spec.models),
            "prediction": spec.prediction.kind if spec.prediction else None,
            "pilot": pilot_run,
            "assumption": None if pilot else ASSUMED,
            "widths": widths,
            "power": _power(expected) if question else None,
            "cost": _cost(spec, runs, size, expected.completions / 2),
            "advice": _advice(spec, expected, question is not None, size),
        }
    )
    return result


def plan_text(plan: Mapping[str, Any]) -> str:
    """A plan for the terminal."""
    cost = plan["cost"]
    basis = f"as measured in {plan['pilot']}" if plan["pilot"] else plan["assumption"]
    lines = [f"{plan['problems']:,} problems, {plan['attempts']:,} attempts each, {' against '.join(plan['models'])}", ""]
    lines.append(f"Expected full width of the 95 % intervals in percentage points ({basis}; * above n/2: no claim):")
    for row in plan["widths"]:
        difference = f", difference {100 * row['difference']:.1f}" if row["difference"] is not None else ""
        lines.append(f"  k = {row['k']}{'*' if row['noisy'] else ''}: pass@k {100 * row['pass_at_k']:.1f}{difference}")
    lines += ["", plan["advice"], "", f"Cost: {cost['attempts']:,} attempts, {cost['text']}"]
    return "\n".join(lines)


def _pilot(spec: ExperimentSpec, runs: Sequence[Run]) -> tuple[str | None, Pilot | None]:
    """The newest run of these models, in this order, on the same problem set; a single model is paired with itself."""
    for run in runs:
        other = run.spec
        names = [_name_in(other.models, model) for model in spec.models.values()]
        same_problems = (other.problems.set, other.problems.file) == (spec.problems.set, spec.problems.file)
        same_sampling = other.sampling.n >= _MIN_PILOT_ATTEMPTS and _sampling_key(other) == _sampling_key(spec)
        if not (same_problems and same_sampling and all(names)):
            continue
        pair = [totals(run.tallies(name), other.sampling.screen) for name in (names * 2)[:2]]
        shared = {entry.problem for entry in pair[0]} & {entry.problem for entry in pair[1]}
        if shared:
            one, two = (counts(only(part, shared), other.sampling.n, other.sampling.screen) for part in pair)
            return run.id, (one, two)
    return None, None


def _sampling_key(spec: ExperimentSpec) -> tuple[float, float, int]:
    """The settings that affect a model's pass rates."""
    return spec.sampling.temperature, spec.sampling.top_p, spec.sampling.max_tokens


def _name_in(models: Mapping[str, ModelSpec], target: ModelSpec) -> str:
    """The model's name among these, or ""; a local folder can be written as an absolute or a relative path."""
    key = target.engine, _location(target)
    return next((name for name, model in models.items() if (model.engine, _location(model)) == key), "")


def _location(model: ModelSpec) -> str:
    path = Path(model.model).expanduser()
    return str(path.absolute()) if not model.named_by_server and path.exists() else model.model


def _power(expected: power.Plan) -> dict[str, Any]:
    keys = ("decided", "decided_more_problems", "decided_more_attempts", "problems_needed")
    return {key: getattr(expected, key) for key in keys}


def _advice(spec: ExperimentSpec, expected: power.Plan, has_question: bool, problems: int) -> str:
    if has_question:
        return expected.advice
    if spec.prediction is None:
        return f"One model: there is nothing to decide. Intervals half as wide need {4 * problems:,} problems."
    if spec.prediction.kind == "subset":
        return "No power simulation for `subset`: more attempts decide more problems, and more problems lower the bound."
    return "The two k of the crossover are not both within n/2: raise sampling.n."


def _cost(spec: ExperimentSpec, runs: Sequence[Run], problems: int, completions: float) -> dict[str, Any]:
    """`attempts` includes the direct control; `tokens` and `seconds` come from each model's newest run, with its start-up."""
    each = round(completions) + problems * spec.direct
    measured = {name: _measured(runs, model, _sampling_key(spec)) for name, model in spec.models.items()}
    missing = [name for name, rate in measured.items() if rate is None]
    rates = [rate for rate in measured.values() if rate is not None]
    max_tokens = each * len(spec.models) * spec.sampling.max_tokens
    out: dict[str, Any] = {
        "attempts": each * len(spec.models),
        "tokens": None,
        "seconds": None,
        "tokens_at_most": max_tokens,
        "from": {},
    }
    if missing:
        text = (
            f"tokens and seconds unknown: this home has no run of {' and '.join(missing)} with these settings; at most "
            f"{max_tokens:,} tokens (attempts × max_tokens)"
        )
        return {**out, "text": text}
    tokens = round(sum(each * entry["tokens"] for entry in rates))
    seconds = sum(each * entry["tokens"] / entry["rate"] for entry in rates)
    sources = {name: entry["run"] for name, entry in measured.items() if entry}
    text = f"about {tokens:,} tokens and {_duration(seconds)}, at the rate of {', '.join(dict.fromkeys(sources.values()))}"
    return {**out, "tokens": tokens, "seconds": seconds, "from": sources, "text": text}


def _measured(runs: Sequence[Run], model: ModelSpec, key: Collection[float]) -> dict[str, Any] | None:
    """Tokens per attempt, and tokens per second over the whole run, whose models share its time."""
    for run in runs:
        spec, seconds = run.spec, float(run.state.get("seconds") or 0)
        name = _name_in(spec.models, model)
        if not name or not seconds or tuple(key) != _sampling_key(spec):
            continue
        entries = {each: run.tallies(each) for each in spec.models}
        attempts = sum(entry.n for entry in entries[name])
        total = sum(entry.tokens for tallies in entries.values() for entry in tallies)
        if attempts >= _MIN_ATTEMPTS and total:
            tokens = sum(entry.tokens for entry in entries[name])
            return {"run": run.id, "tokens": tokens / attempts, "rate": total / seconds}
    return None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _finite(value: Any) -> Any:
    """JSON values: None for NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
