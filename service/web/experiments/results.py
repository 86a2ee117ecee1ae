"""The view of a run's results below its curve. Shows the figures of `experiment show --json`, and computes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml
from markupsafe import Markup

from service.web.components.formatting import UNKNOWN, count, interval, number, percent, points
from service.web.components.templates import render
from service.web.experiments.run_view import RunView

DOWNLOADS = ("counts.csv", "difference.csv", "curve.svg", "spec.yaml", "result.json")
Model = Mapping[str, Any]
Table = dict[str, Any]  # `head`: column names; `rows`: pairs of a name and its cells
_SOLVED = (("both", "both"), ("base_only", "only {0}"), ("tuned_only", "only {1}"), ("neither", "neither"))


def _value(*keys: str) -> Callable[[Model], Any]:
    """A function that reads a nested value; None if it is missing."""

    def read(model: Model) -> Any:
        value: Any = model
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return read


def _grader_failures(model: Model) -> float | None:
    verdicts = model.get("verdicts") or {}
    total = sum(verdicts.values())
    return sum(verdicts.get(name, 0) for name in ("timeout", "error")) / total if total else None


_CONFOUNDERS: Sequence[tuple[str, Callable[[Model], Any], Callable[[Any], str]]] = (
    ("Truncated at max_tokens", _value("truncation"), percent),
    ("No answer in the expected format", _value("format_failures"), percent),
    ("Timeouts and errors of the grader", _grader_failures, percent),
    ("Correct without reasoning", _value("direct", "pass_rate", "estimate"), percent),
    ("Correct with another problem's answer", _value("guessing", "others_right"), percent),
    ("Distinct answers", _value("guessing", "answer_space"), number),
    ("Distinct answers per problem", _value("distinct_answers"), number),
    ("Entropy of the answers per problem (bits)", _value("entropy"), number),
    ("Entropy per token (nats)", _value("token_entropy"), number),
    ("Tokens per attempt", _value("tokens_mean"), number),
)
_CONSISTENCY: Sequence[tuple[str, Callable[[Model], Any]]] = (
    ("all k pass (pass^k)", _value("pass_hat_k")),
    (
        "half of k pass (G-Pass@k)",
        lambda model: next((g["curve"] for g in model.get("g_pass_at_k") or () if g["tau"] == 0.5), ()),
    ),
    ("by majority (maj@k)", _value("maj_at_k")),
)


def results_html(view: RunView) -> Markup:
    """Everything below the curve; omits what is not known yet."""
    models = [model for model in view.result.get("models") or () if model.get("n_problems")]
    comparison = view.result.get("comparison") or {}
    extrapolation = view.result.get("extrapolation") or {}
    solved = comparison.get("solved") or {}
    return render(
        "experiments/results.html",
        view=view,
        has_models=bool(models),
        curves=_curves(models, comparison, view),
        crossover=_crossover(comparison),
        remarks=_remarks(view, models, comparison),
        solved=_solved(comparison, solved) if solved else (),
        solved_remarks=_solved_remarks(comparison, models),
        consistency=_consistency(models),
        confounders=_confounders(models),
        perplexity=_perplexity(view.result.get("perplexity") or ()),
        extrapolation=_extrapolation(extrapolation),
        back_tests=_back_tests(extrapolation),
        downloads=DOWNLOADS,
        spec=spec_yaml(view),
        **_settings(view),
    )


def spec_yaml(view: RunView) -> str:
    """The spec of the run as YAML."""
    return yaml.safe_dump(view.spec.to_json(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _names(models: Sequence[Model]) -> list[str]:
    return [str(model["name"]) for model in models]


def _curves(models: Sequence[Model], comparison: Model, view: RunView) -> Table:
    """pass@k of each model and their difference, with intervals."""
    ks = list(dict.fromkeys(entry["k"] for model in models for entry in model["pass_at_k"]))
    by_k = [{entry["k"]: entry for entry in model["pass_at_k"]} for model in models]
    difference = {entry["k"]: entry for entry in comparison.get("difference") or ()}
    noisy = set(view.result.get("noisy_edge") or ())

    def cells(k: int) -> list[str]:
        estimates = [interval(entries.get(k), percent) for entries in by_k]
        return [*estimates, interval(difference.get(k), points)] if difference else estimates

    head = ["k", *_names(models), *(["difference (points)"] if difference else [])]
    return {"head": head, "rows": [(f"{k}*" if k in noisy else str(k), cells(k)) for k in ks]}


def _crossover(comparison: Model) -> str:
    crossover = comparison.get("crossover") or {}
    if not crossover:
        return ""
    none = crossover.get("probability_none")
    if crossover.get("k") is None:
        return f"The curves do not cross up to k = {comparison.get('edge')}."
    low, high = crossover.get("low"), crossover.get("high")
    upper = f"{high:.3g}" if high is not None else f"beyond {crossover.get('edge')}"
    bounds = f" (95 % interval {low:.3g} to {upper})" if low is not None else ""
    without = f". In {percent(none)} of the resamples they do not cross" if none else ""
    return f"The curves cross at k = {crossover['k']:.3g}{bounds}{without}."


def _remarks(view: RunView, models: Sequence[Model], comparison: Model) -> str:
    """How to read the table of pass@k."""

    def values(key: str) -> str:
        return " and ".join(dict.fromkeys(number(model.get(key)) for model in models))

    remarks = [f"{values('n_problems')} problems × {values('n')} attempts. In brackets: 95 % intervals over problems."]
    if comparison.get("problems_left_out"):
        omitted = count(comparison["problems_left_out"], "problem")
        remarks.append(f"The difference omits {omitted} that only one model attempted.")
    if set(view.result.get("noisy_edge") or ()):
        remarks.append("* k above n/2: too noisy for a claim.")
    advice = str((comparison.get("power") or {}).get("advice") or "")
    remarks.append(advice if advice not in str(view.prediction.get("sentence")) else "")
    return " ".join(filter(None, remarks))


def _solved(comparison: Model, solved: Model) -> list[tuple[str, str]]:
    names = str(comparison.get("base", "base")), str(comparison.get("tuned", "tuned"))
    return [(label.format(*names), number(solved.get(key))) for key, label in _SOLVED]


def _solved_remarks(comparison: Model, models: Sequence[Model]) -> str:
    p = comparison.get("mcnemar_p")
    test = f"McNemar's exact test: p = {p:.2g}." if p is not None else ""
    return " ".join(filter(None, [test, *(_never_solved(model) for model in models)]))


def _never_solved(model: Model) -> str:
    """The largest pass rate that the attempts can miss: an unsolved problem is not unsolvable."""
    never = model.get("never_solved") or {}
    if not never.get("problems") or never.get("p_at_most") is None:
        return ""
    problems, attempts = count(never["problems"], "problem"), number(never.get("attempts"))
    bound = f"pass rate below {percent(never['p_at_most'])} with 95 % confidence"
    return f"{model['name']}: {problems} never solved in {attempts} attempts ({bound})."


def _consistency(models: Sequence[Model]) -> list[Table]:
    """How many attempts must pass, and the share of problems by pass rate. Only for finished runs."""
    tables = []
    for model in models:
        curves = [(name, {row["k"]: row for row in read(model) or ()}) for name, read in _CONSISTENCY]
        known = [(name, curve) for name, curve in curves if any(row["estimate"] is not None for row in curve.values())]
        if known:
            ks = dict.fromkeys(k for _, curve in known for k in curve)
            rows = [(str(k), [interval(curve.get(k), percent) for _, curve in known]) for k in ks]
            tables.append({"head": [f"{model['name']}, k", *(name for name, _ in known)], "rows": rows})
    shares = {model["name"]: {row["tau"]: row["share"] for row in model.get("cover_at_tau") or ()} for model in models}
    taus = dict.fromkeys(tau for covered in shares.values() for tau in covered)
    rows = [(percent(tau), [percent(covered.get(tau)) for covered in shares.values()]) for tau in taus]
    covered = {"head": ["problems with a pass rate of at least (Cover@τ)", *shares], "rows": rows}
    return [*tables, covered] if tables and rows else []


def _confounders(models: Sequence[Model]) -> Table:
    rows = []
    for label, read, format_value in _CONFOUNDERS:
        values = [read(model) for model in models]
        if any(value is not None for value in values):
            rows.append((label, [format_value(value) for value in values]))
    return {"head": ["", *_names(models)], "rows": rows}


def _perplexity(scores: Sequence[Model]) -> Table:
    keys = ("perplexity", "logprob_mean", "problems")
    rows = [(f"{entry['of']}'s under {entry['under']}", [number(entry.get(key)) for key in keys]) for entry in scores]
    return {"head": ["Correct completions", "perplexity per token", "mean log-probability", "problems"], "rows": rows}


def _extrapolation(extrapolation: Mapping[str, Any]) -> Table:
    """The range of fitted models for pass@k beyond n."""
    fits = {name: fit for name, fit in extrapolation.items() if fit}
    ks = dict.fromkeys(entry["k"] for fit in fits.values() for entry in fit["band"])
    bands = [{entry["k"]: entry for entry in fit["band"]} for fit in fits.values()]
    return {"head": ["k", *fits], "rows": [(str(k), [_range(band.get(k)) for band in bands]) for k in ks]}


def _range(entry: Model | None) -> str:
    return UNKNOWN if not entry else f"{percent(entry.get('low')).removesuffix(' %')} to {percent(entry.get('high'))}"


def _back_tests(extrapolation: Mapping[str, Any]) -> str:
    errors = [
        f"{name}, {model}: {percent(test.get('rmse'))} at k = {test.get('k')}"
        for name, fit in extrapolation.items()
        for model, test in ((fit or {}).get("back_tests") or {}).items()
    ]
    return "; ".join(errors)


def _settings(view: RunView) -> dict[str, Any]:
    """The problems with their hash, and the imported files or the models' settings."""
    environment, imported = view.result.get("environment") or {}, view.imported
    problems = view.spec.problems
    files = [
        {"name": PurePath(str(entry.get("file"))).name, "layout": entry.get("layout") or "", "sha256": str(entry.get("sha256"))}
        for entry in imported.get("files") or ()
    ]
    return {
        "problems": {
            "name": (problems.set or problems.file) if not imported else "",
            "sha256": str(environment.get("problems_sha256") or ""),
        },
        "files": files,
        "import_warnings": imported.get("warnings") or (),
        "models": [] if imported else [_model(name, about) for name, about in (environment.get("models") or {}).items()],
    }


def _model(name: str, about: Model) -> dict[str, Any]:
    """A model's engine, its requested settings, and the settings that differ from them."""
    engine, version = (str(about.get(key) or "") for key in ("engine", "engine_version"))
    engine = version if version.startswith(engine) else f"{engine} {version}".strip()
    lines = [
        str(about.get("model") or ""),
        ", ".join(filter(None, (engine, str(about.get("device") or "")))),
        ", ".join(f"{key} {value}" for key, value in (about.get("asked") or {}).items()),
    ]
    differences = [
        f"{key}: requested {pair[0]}, actual {pair[1]}"
        for key, pair in (about.get("differs") or {}).items()
        if isinstance(pair, Sequence) and len(pair) == 2
    ]
    return {"name": name, "lines": [line for line in lines if line], "differences": differences}
