"""The view of a run's results below its curve. Shows the figures of `experiment show --json`, and computes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml
from markupsafe import Markup

from service.experiments.report.schema import (
    Bounds,
    ComparisonResult,
    Crossover,
    CurvePoint,
    Extrapolation,
    ModelEnvironment,
    ModelResult,
    Perplexity,
    Result,
)
from service.experiments.report.text import interval
from service.web.components.formatting import UNKNOWN, count, number, percent
from service.web.components.templates import render
from service.web.experiments.run_view import RunView

DOWNLOADS = ("counts.csv", "difference.csv", "curve.svg", "spec.yaml", "result.json")
Table = dict[str, Any]  # `head`: column names; `rows`: pairs of a name and its cells
_CONFOUNDERS: Sequence[tuple[str, Callable[[ModelResult], float | None], Callable[[Any], str]]] = (
    ("Truncated at max_tokens", lambda model: model.truncation, percent),
    ("No answer in the expected format", lambda model: model.format_failures, percent),
    ("Timeouts and errors of the grader", lambda model: model.grader_failures, percent),
    ("Correct without reasoning", lambda model: model.direct.pass_rate.estimate if model.direct else None, percent),
    ("Correct with another problem's answer", lambda model: model.guessing.others_right if model.guessing else None, percent),
    ("Distinct answers", lambda model: model.guessing.answer_space if model.guessing else None, number),
    ("Distinct answers per problem", lambda model: model.distinct_answers, number),
    ("Entropy of the answers per problem (bits)", lambda model: model.entropy, number),
    ("Entropy per token (nats)", lambda model: model.token_entropy, number),
    ("Tokens per attempt", lambda model: model.tokens_mean, number),
)
_CONSISTENCY: Sequence[tuple[str, Callable[[ModelResult], Sequence[CurvePoint] | None]]] = (
    ("all k pass (pass^k)", lambda model: model.pass_hat_k),
    ("half of k pass (G-Pass@k)", lambda model: next((g.curve for g in model.g_pass_at_k or () if g.tau == 0.5), None)),
    ("by majority (maj@k)", lambda model: model.maj_at_k),
)


def results_html(view: RunView) -> Markup:
    """Everything below the curve; omits what is not known yet."""
    result = view.result
    models = [model for model in result.models if model.n_problems] if result else []
    comparison = result.comparison if result else None
    extrapolation = {name: fit for name, fit in ((result and result.extrapolation) or {}).items() if fit}
    return render(
        "experiments/results.html",
        view=view,
        has_models=bool(models),
        curves=_curves(models, result),
        crossover=_crossover(comparison.crossover) if comparison else "",
        remarks=_remarks(models, result) if result and models else "",
        solved=_solved(comparison) if comparison else (),
        solved_remarks=_solved_remarks(comparison, models),
        consistency=_consistency(models),
        confounders=_confounders(models),
        perplexity=_perplexity((result and result.perplexity) or ()),
        extrapolation=_extrapolation(extrapolation),
        back_tests=_back_tests(extrapolation),
        downloads=DOWNLOADS,
        spec=spec_yaml(view),
        **_settings(view),
    )


def spec_yaml(view: RunView) -> str:
    """The spec of the run as YAML."""
    return yaml.safe_dump(view.spec.to_json(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _names(models: Sequence[ModelResult]) -> list[str]:
    return [model.name for model in models]


def _curves(models: Sequence[ModelResult], result: Result | None) -> Table:
    """pass@k of each model and their difference, with intervals."""
    ks = list(dict.fromkeys(point.k for model in models for point in model.pass_at_k))
    by_k = [{point.k: point for point in model.pass_at_k} for model in models]
    difference = {point.k: point for point in result.comparison.difference} if result and result.comparison else {}
    noisy = set(result.noisy_edge) if result else set()

    def cells(k: int) -> list[str]:
        estimates = [interval(points.get(k)) for points in by_k]
        return [*estimates, interval(difference.get(k), signed=True)] if difference else estimates

    head = ["k", *_names(models), *(["difference (points)"] if difference else [])]
    return {"head": head, "rows": [(f"{k}*" if k in noisy else str(k), cells(k)) for k in ks]}


def _crossover(crossover: Crossover) -> str:
    if crossover.k is None:
        return f"The curves do not cross up to k = {crossover.edge}."
    upper = f"{crossover.high:.3g}" if crossover.high is not None else f"beyond {crossover.edge}"
    bounds = f" (95 % interval {crossover.low:.3g} to {upper})" if crossover.low is not None else ""
    none = crossover.probability_none
    without = f". In {percent(none)} of the resamples they do not cross" if none else ""
    return f"The curves cross at k = {crossover.k:.3g}{bounds}{without}."


def _remarks(models: Sequence[ModelResult], result: Result) -> str:
    """How to read the table of pass@k."""
    problems, attempts = (
        " and ".join(dict.fromkeys(number(value) for value in values))
        for values in zip(*((model.n_problems, model.n) for model in models), strict=True)
    )
    remarks = [f"{problems} problems × {attempts} attempts. In brackets: 95 % intervals over problems."]
    if result.comparison and result.comparison.problems_left_out:
        omitted = count(result.comparison.problems_left_out, "problem")
        remarks.append(f"The difference omits {omitted} that only one model attempted.")
    if result.noisy_edge:
        remarks.append("* k above n/2: too noisy for a claim.")
    advice = result.comparison.power.advice if result.comparison and result.comparison.power else ""
    if advice and not (result.prediction and advice in result.prediction.sentence):
        remarks.append(advice)
    return " ".join(remarks)


def _solved(comparison: ComparisonResult) -> list[tuple[str, str]]:
    solved = comparison.solved
    return [
        ("both", number(solved.both)), (f"only {comparison.base}", number(solved.base_only)),
        (f"only {comparison.tuned}", number(solved.tuned_only)), ("neither", number(solved.neither)),
    ]  # fmt: skip


def _solved_remarks(comparison: ComparisonResult | None, models: Sequence[ModelResult]) -> str:
    p = comparison.mcnemar_p if comparison else None
    test = f"McNemar's exact test: p = {p:.2g}." if p is not None else ""
    return " ".join(filter(None, [test, *(_never_solved(model) for model in models)]))


def _never_solved(model: ModelResult) -> str:
    """The largest pass rate that the attempts can miss: an unsolved problem is not unsolvable."""
    never = model.never_solved
    if not never or not never.problems or never.p_at_most is None:
        return ""
    bound = f"pass rate below {percent(never.p_at_most)} with 95 % confidence"
    return f"{model.name}: {count(never.problems, 'problem')} never solved in {number(never.attempts)} attempts ({bound})."


def _consistency(models: Sequence[ModelResult]) -> list[Table]:
    """How many attempts must pass, and the share of problems by pass rate. Only for finished runs."""
    tables = []
    for model in models:
        curves = [(name, {point.k: point for point in read(model) or ()}) for name, read in _CONSISTENCY]
        known = [(name, curve) for name, curve in curves if any(point.estimate is not None for point in curve.values())]
        if known:
            ks = dict.fromkeys(k for _, curve in known for k in curve)
            rows = [(str(k), [interval(curve.get(k)) for _, curve in known]) for k in ks]
            tables.append({"head": [f"{model.name}, k", *(name for name, _ in known)], "rows": rows})
    shares = {model.name: {entry.tau: entry.share for entry in model.cover_at_tau or ()} for model in models}
    taus = dict.fromkeys(tau for covered in shares.values() for tau in covered)
    rows = [(percent(tau), [percent(covered.get(tau)) for covered in shares.values()]) for tau in taus]
    covered = {"head": ["problems with a pass rate of at least (Cover@τ)", *shares], "rows": rows}
    return [*tables, covered] if tables and rows else []


def _confounders(models: Sequence[ModelResult]) -> Table:
    rows = []
    for label, read, format_value in _CONFOUNDERS:
        values = [read(model) for model in models]
        if any(value is not None for value in values):
            rows.append((label, [format_value(value) for value in values]))
    return {"head": ["", *_names(models)], "rows": rows}


def _perplexity(scores: Sequence[Perplexity]) -> Table:
    rows = [
        (f"{entry.of}'s under {entry.under}", [number(entry.perplexity), number(entry.logprob_mean), number(entry.problems)])
        for entry in scores
    ]
    return {"head": ["Correct completions", "perplexity per token", "mean log-probability", "problems"], "rows": rows}


def _extrapolation(fits: Mapping[str, Extrapolation]) -> Table:
    """The range of fitted models for pass@k beyond n."""
    ks = dict.fromkeys(bounds.k for fit in fits.values() for bounds in fit.band)
    bands = [{bounds.k: bounds for bounds in fit.band} for fit in fits.values()]
    return {"head": ["k", *fits], "rows": [(str(k), [_range(band.get(k)) for band in bands]) for k in ks]}


def _range(bounds: Bounds | None) -> str:
    return UNKNOWN if not bounds else f"{percent(bounds.low).removesuffix(' %')} to {percent(bounds.high)}"


def _back_tests(fits: Mapping[str, Extrapolation]) -> str:
    return "; ".join(
        f"{name}, {model}: {percent(test.rmse)} at k = {test.k}"
        for name, fit in fits.items()
        for model, test in fit.back_tests.items()
    )


def _settings(view: RunView) -> dict[str, Any]:
    """The problems with their hash, and the imported files or the models' settings."""
    environment, imported = view.result and view.result.environment, view.imported
    problems = view.spec.problems
    files = [
        {"name": PurePath(entry.file).name, "layout": entry.layout, "sha256": entry.sha256}
        for entry in (imported.files if imported else ())
    ]
    return {
        "problems": {
            "name": (problems.set or problems.file) if not imported else "",
            "sha256": (environment and environment.problems_sha256) or "",
        },
        "files": files,
        "import_warnings": imported.warnings if imported else (),
        "models": [_model(name, entry) for name, entry in environment.models.items()] if environment and not imported else [],
    }


def _model(name: str, environment: ModelEnvironment) -> dict[str, Any]:
    """A model's engine, its requested settings, and the settings that differ from them."""
    engine, version = environment.engine or "", environment.engine_version or ""
    engine = version if version.startswith(engine) else f"{engine} {version}".strip()
    lines = [
        environment.model,
        ", ".join(filter(None, (engine, environment.device or ""))),
        ", ".join(f"{key} {value}" for key, value in environment.asked.items()),
    ]
    differences = [f"{key}: requested {requested}, actual {actual}" for key, (requested, actual) in environment.differs.items()]
    return {"name": name, "lines": [line for line in lines if line], "differences": differences}
