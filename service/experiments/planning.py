"""What to expect of an experiment before it is run: interval widths, the chance that it decides, attempts, tokens, seconds.

Rates come from runs of the same model that were made in this home, and from nowhere else: without one, the cost is unknown.
Starts no engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.experiments.datasets.loader import load
from service.experiments.execution.run_store import Run, Runs, RunStatus
from service.experiments.report.comparison import question_of
from service.experiments.report.counts import counts, only, totals
from service.experiments.report.result import finite
from service.experiments.spec import ExperimentSpec, ModelSpec, Prediction
from service.experiments.statistics import power
from service.experiments.statistics.power import ASSUMED, Pilot

_ENOUGH = 20  # attempts from which a rate is told
_FEWEST = 4  # attempts a problem that make a pilot


def plan(spec: ExperimentSpec, home: Path) -> dict[str, Any]:
    """Expected full widths of the 95 % intervals by k, power, cost and advice, as JSON can say it.

    `pilot` names the earlier run that they rest on; without one they rest on `assumption`. `cost` has None where no run of a
    model tells. Raises PasskbError when the problems can't be loaded.
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
    told: dict[str, Any] = finite(
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
    return told


def plan_text(found: Mapping[str, Any]) -> str:
    """The plan for a terminal."""
    cost = found["cost"]
    rests = f"as measured in {found['pilot']}" if found["pilot"] else found["assumption"]
    lines = [f"{found['problems']:,} problems, {found['attempts']:,} attempts each, {' against '.join(found['models'])}", ""]
    lines.append(f"expected full width of the 95 % intervals, in points ({rests}; * above n/2, where nothing is claimed):")
    for row in found["widths"]:
        apart = f", difference {100 * row['difference']:.1f}" if row["difference"] is not None else ""
        lines.append(f"  k = {row['k']}{'*' if row['noisy'] else ''}: pass@k {100 * row['pass_at_k']:.1f}{apart}")
    lines += ["", found["advice"], "", f"cost: {cost['attempts']:,} attempts, {cost['text']}"]
    return "\n".join(lines)


def _pilot(spec: ExperimentSpec, runs: Sequence[Run]) -> tuple[str | None, Pilot | None]:
    """The newest run of these models, in their order, on problems of the same origin; one model is its own counterpart."""
    for run in runs:
        other = run.spec
        named = [_named(other.models, model) for model in spec.models.values()]
        alike = (other.problems.set, other.problems.file) == (spec.problems.set, spec.problems.file)
        if not alike or not all(named) or other.sampling.n < _FEWEST or _drawn(other) != _drawn(spec):
            continue
        pair = [totals(run.tallies(name), other.sampling.screen) for name in (named * 2)[:2]]
        shared = {entry.problem for entry in pair[0]} & {entry.problem for entry in pair[1]}
        if shared:
            one, two = (counts(only(part, shared), other.sampling.n, other.sampling.screen) for part in pair)
            return run.id, (one, two)
    return None, None


def _drawn(spec: ExperimentSpec) -> tuple[float, float, int]:
    """What changes how often a model is right."""
    return spec.sampling.temperature, spec.sampling.top_p, spec.sampling.max_tokens


def _named(models: Mapping[str, ModelSpec], wanted: ModelSpec) -> str:
    """What another run calls this model, "" if it has none such; a local folder may be written in two ways."""
    same = (name for name, model in models.items() if model.engine == wanted.engine and _place(model) == _place(wanted))
    return next(same, "")


def _place(model: ModelSpec) -> str:
    path = Path(model.model).expanduser()
    return str(path.absolute()) if not model.named_by_server and path.exists() else model.model


def _power(expected: power.Plan) -> dict[str, Any]:
    keys = ("decided", "decided_more_problems", "decided_more_attempts", "problems_needed")
    return {key: getattr(expected, key) for key in keys}


def _advice(spec: ExperimentSpec, expected: power.Plan, asked: bool, problems: int) -> str:
    if asked:
        return expected.advice
    if spec.prediction is None:
        return f"One model, so nothing is to be decided; intervals half as wide take four times the problems, {4 * problems:,}."
    if spec.prediction.kind == "subset":
        return (
            "A subset is judged problem by problem: more attempts settle more problems, more problems lower the bound. "
            "No simulation of it is offered."
        )
    return "The crossover's two k are not both within n/2: more attempts are needed before anything else."


def _cost(spec: ExperimentSpec, runs: Sequence[Run], problems: int, completions: float) -> dict[str, Any]:
    """`attempts` with the direct control; `tokens`, `seconds`: by each model's newest run that tells, start-up included."""
    each = round(completions) + problems * spec.direct
    measured = {name: _measured(runs, model, _drawn(spec)) for name, model in spec.models.items()}
    missing = [name for name, found in measured.items() if found is None]
    found = [entry for entry in measured.values() if entry is not None]
    most = each * len(spec.models) * spec.sampling.max_tokens
    out: dict[str, Any] = {
        "attempts": each * len(spec.models),
        "tokens": None,
        "seconds": None,
        "tokens_at_most": most,
        "from": {},
    }
    if missing:
        text = (
            f"tokens and seconds unknown: no run of {' and '.join(missing)} with these settings yet; at most {most:,} tokens "
            "(attempts x max_tokens), and tokens divided by the engine's tokens a second gives the seconds"
        )
        return {**out, "text": text}
    tokens = round(sum(each * entry["tokens"] for entry in found))
    seconds = sum(each * entry["tokens"] / entry["rate"] for entry in found)
    sources = {name: entry["run"] for name, entry in measured.items() if entry}
    text = f"about {tokens:,} tokens and {_duration(seconds)}, by the rate of {', '.join(dict.fromkeys(sources.values()))}"
    return {**out, "tokens": tokens, "seconds": seconds, "from": sources, "text": text}


def _measured(runs: Sequence[Run], model: ModelSpec, drawn: Collection[float]) -> dict[str, Any] | None:
    """Tokens an attempt, and tokens a second over all of the run: its models share its time."""
    for run in runs:
        spec, seconds = run.spec, float(run.state.get("seconds") or 0)
        name = _named(spec.models, model)
        if not name or not seconds or tuple(drawn) != _drawn(spec):
            continue
        entries = {each: run.tallies(each) for each in spec.models}
        attempts = sum(entry.n for entry in entries[name])
        total = sum(entry.tokens for found in entries.values() for entry in found)
        if attempts >= _ENOUGH and total:
            mine = sum(entry.tokens for entry in entries[name])
            return {"run": run.id, "tokens": mine / attempts, "rate": total / seconds}
    return None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
