"""What came out of a run, below its curve, as HTML: figures, solved sets, confounders, settings, files. Pure.

The figures are those of `experiment show --json`; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import yaml

from service.web.components.formatting import UNKNOWN, interval, number, percent, points
from service.web.components.html import counted, note_link, text
from service.web.experiments.run_view import RunView

DOWNLOADS = ("counts.csv", "difference.csv", "curve.svg", "spec.yaml", "result.json")
Model = Mapping[str, Any]
_SOLVED = (("both", "both"), ("base_only", "only {0}"), ("tuned_only", "only {1}"), ("neither", "neither"))


def _within(*keys: str) -> Callable[[Model], Any]:
    def found(model: Model) -> Any:
        value: Any = model
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return found


def _unknown(model: Model) -> float | None:
    verdicts = model.get("verdicts") or {}
    total = sum(verdicts.values())
    return sum(verdicts.get(name, 0) for name in ("timeout", "error")) / total if total else None


_CONFOUNDERS: Sequence[tuple[str, Callable[[Model], Any], Callable[[Any], str]]] = (
    ("cut off at max_tokens", _within("truncation"), percent),
    ("no answer in the right form", _within("format_failures"), percent),
    ("timeouts and errors of the grader", _unknown, percent),
    ("right when answering at once", _within("direct", "pass_rate", "estimate"), percent),
    ("right with another problem's answer", _within("guessing", "others_right"), percent),
    ("different answers seen at all", _within("guessing", "answer_space"), number),
    ("different answers a problem", _within("distinct_answers"), number),
    ("entropy of a problem's answers, bits", _within("entropy"), number),
    ("entropy a token, nats", _within("token_entropy"), number),
    ("tokens an attempt", _within("tokens_mean"), number),
)


def results_html(view: RunView) -> str:
    """Everything below the curve; what is not known yet is left out."""
    models = [model for model in view.result.get("models") or () if model.get("n_problems")]
    comparison = view.result.get("comparison") or {}
    return "".join((
        _evidence(view),
        _part("pass@k", _curves(models, comparison, view)),
        _part("Solved at least once", _solved(comparison, models)),
        _part("How steadily", _steadily(models)),
        _part("What else could explain it", _confounders(models) + _perplexity(view.result.get("perplexity") or ())),
        _part("Beyond the attempts made", _beyond(view.result.get("extrapolation") or {})),
        _part("Settings", _settings(view)),
        _part("Take it along", _downloads(view) if models else ""),
        f"<details><summary>The spec</summary><pre><code>{text(spec_yaml(view))}</code></pre></details>",
    ))  # fmt: skip


def spec_yaml(view: RunView) -> str:
    """The spec as it was run."""
    return yaml.safe_dump(view.spec.to_json(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _part(title: str, inner: str) -> str:
    return f'<section class="part"><h2>{title}</h2>{inner}</section>' if inner else ""


def _table(head: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Rows are a heading with its cells; empty without rows."""
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>'
        for name, cells in rows
    )
    first, *others = head
    corner = f'<th scope="col">{text(first)}</th>' if first else "<td></td>"
    columns = corner + "".join(f'<th scope="col">{text(name)}</th>' for name in others)
    return f'<table class="figures"><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>' if body else ""


def _evidence(view: RunView) -> str:
    if not view.evidence:
        return ""
    return f'<p class="kept">Kept as {note_link(view.evidence, "an evidence note")}, which answers quote from now on.</p>'


def _curves(models: Sequence[Model], comparison: Model, view: RunView) -> str:
    """pass@k of each model and their difference, with intervals, and what to know when reading them."""
    ks = list(dict.fromkeys(entry["k"] for model in models for entry in model["pass_at_k"]))
    by_k = [{entry["k"]: entry for entry in model["pass_at_k"]} for model in models]
    difference = {entry["k"]: entry for entry in comparison.get("difference") or ()}
    edge = set(view.result.get("noisy_edge") or ())

    def cells(k: int) -> list[str]:
        return [interval(entries.get(k), percent) for entries in by_k] + (
            [interval(difference.get(k), points)] if difference else []
        )

    names = [str(model["name"]) for model in models]
    head = ["k", *names, *(["difference, points"] if difference else [])]
    table = _table(head, ((f"{k}*" if k in edge else str(k), cells(k)) for k in ks))
    return table + _crossover(comparison) + _reading(view, models, comparison, bool(edge & set(ks))) if table else ""


def _crossover(comparison: Model) -> str:
    found = comparison.get("crossover") or {}
    if not found:
        return ""
    none = found.get("probability_none")
    if found.get("k") is None:
        return f"<p>The curves do not cross up to k = {text(comparison.get('edge'))}.</p>"
    low, high = found.get("low"), found.get("high")
    upto = f"{high:.3g}" if high is not None else f"beyond {found.get('edge')}"
    between = f", 95 % interval {low:.3g} to {upto}" if low is not None else ""
    chance = f"; in {percent(none)} of the resamples they do not" if none else ""
    return f"<p>The curves cross at k = {found['k']:.3g}{text(between)}{text(chance)}.</p>"


def _reading(view: RunView, models: Sequence[Model], comparison: Model, edge: bool) -> str:
    def either(key: str) -> str:
        return " and ".join(dict.fromkeys(number(model.get(key)) for model in models))

    told = [f"{either('n_problems')} problems, {either('n')} attempts each; in brackets 95 % intervals over problems."]
    if comparison.get("problems_left_out"):
        told.append(f"{counted(comparison['problems_left_out'], 'problem')} of one model alone left out of the difference.")
    if edge:
        told.append("* k above n/2: the noisy edge, on which nothing is claimed.")
    advice = str((comparison.get("power") or {}).get("advice") or "")
    told.append(advice if advice not in str(view.prediction.get("sentence")) else "")
    return f'<p class="quiet">{text(" ".join(filter(None, told)))}</p>'


def _solved(comparison: Model, models: Sequence[Model]) -> str:
    solved, p = comparison.get("solved") or {}, comparison.get("mcnemar_p")
    names = str(comparison.get("base", "base")), str(comparison.get("tuned", "tuned"))
    listed = "".join(f"<dt>{text(label.format(*names))}</dt><dd>{number(solved.get(key))}</dd>" for key, label in _SOLVED)
    test = f"McNemar's exact test: p = {p:.2g}. " if p is not None else ""
    told = (_never(model) for model in models)
    sets = f'<dl class="pairs">{listed}</dl>' if solved else ""
    return f'{sets}<p class="quiet">{test}{" ".join(filter(None, told))}</p>' if models else ""


_STEADY: Sequence[tuple[str, Callable[[Model], Any]]] = (
    ("all k pass (pass^k)", _within("pass_hat_k")),
    (
        "half of k pass (G-Pass@k)",
        lambda model: next((g["curve"] for g in model.get("g_pass_at_k") or () if g["tau"] == 0.5), ()),
    ),
    ("by majority (maj@k)", _within("maj_at_k")),
)


def _steadily(models: Sequence[Model]) -> str:
    """Of how many attempts passing takes, and of problems by the chance of a pass: of a finished run."""
    tables = []
    for model in models:
        curves = [(name, {row["k"]: row for row in found(model) or ()}) for name, found in _STEADY]
        known = [(name, curve) for name, curve in curves if any(row["estimate"] is not None for row in curve.values())]
        ks = list(dict.fromkeys(k for _, curve in known for k in curve))
        rows = [(str(k), [interval(curve.get(k), percent) for _, curve in known]) for k in ks]
        tables.append(_table([f"{model['name']}, k", *(name for name, _ in known)], rows) if known else "")
    shares = {model["name"]: {row["tau"]: row["share"] for row in model.get("cover_at_tau") or ()} for model in models}
    taus = list(dict.fromkeys(tau for covered in shares.values() for tau in covered))
    rows = [(percent(tau), [percent(covered.get(tau)) for covered in shares.values()]) for tau in taus]
    covered = _table(["problems with a chance of at least (Cover@τ)", *shares], rows)
    inner = "".join([*tables, covered])
    return f"<details><summary>pass^k, G-Pass@k, maj@k, Cover@τ</summary>{inner}</details>" if any(tables) and covered else ""


def _never(model: Model) -> str:
    """Not solved is not unsolvable: how small a rate would still go unseen."""
    never = model.get("never_solved") or {}
    if not never.get("problems") or never.get("p_at_most") is None:
        return ""
    rest = f"{counted(never['problems'], 'problem')} never solved in {number(never.get('attempts'))} attempts"
    return text(f"{model['name']}: {rest}, where a pass rate up to {percent(never['p_at_most'])} would stay unseen (95 %).")


def _confounders(models: Sequence[Model]) -> str:
    rows = []
    for label, measured, shown in _CONFOUNDERS:
        values = [measured(model) for model in models]
        if any(value is not None for value in values):
            rows.append((label, [shown(value) for value in values]))
    return _table(["", *(str(model["name"]) for model in models)], rows)


def _perplexity(scores: Sequence[Model]) -> str:
    keys = ("perplexity", "logprob_mean", "problems")
    rows = [(f"{entry['of']}'s under {entry['under']}", [number(entry.get(key)) for key in keys]) for entry in scores]
    head = ["correct completions", "perplexity a token", "mean log-probability", "problems"]
    return _table(head, rows)


def _beyond(extrapolation: Mapping[str, Any]) -> str:
    """Where fitted models put pass@k for k above n: a band, and how well they did on attempts held back."""
    told = {name: found for name, found in extrapolation.items() if found}
    ks = list(dict.fromkeys(entry["k"] for found in told.values() for entry in found["band"]))
    bands = [{entry["k"]: entry for entry in found["band"]} for found in told.values()]
    rows = [(str(k), [_band(band.get(k)) for band in bands]) for k in ks]
    errors = [
        f"{name}, {fit}: off by {percent(test.get('rmse'))} at k = {test.get('k')}"
        for name, found in told.items()
        for fit, test in (found.get("back_tests") or {}).items()
    ]
    checked = f'<p class="quiet">Held-back attempts: {text("; ".join(errors))}.</p>' if errors else ""
    return _table(["k", *told], rows) + checked if rows else ""


def _band(entry: Model | None) -> str:
    return UNKNOWN if not entry else f"{percent(entry.get('low')).removesuffix(' %')} to {percent(entry.get('high'))}"


def _settings(view: RunView) -> str:
    environment = view.result.get("environment") or {}
    models = environment.get("models") or {}
    sha, problems = str(environment.get("problems_sha256") or ""), view.spec.problems
    rows = [_import(view.imported)] if view.imported else [_model(name, about) for name, about in models.items()]
    named = text(problems.set or problems.file) if not view.imported else ""
    if sha:
        rows.insert(0, ("problems", f'{named} <span class="quiet">sha256 {text(sha[:12])}…</span>'))
    return f'<dl class="settings">{"".join(f"<dt>{text(name)}</dt><dd>{about}</dd>" for name, about in rows)}</dl>'


def _import(imported: Model) -> tuple[str, str]:
    """The files with their layouts, and what was odd in them."""
    files = [
        f'{text(PurePath(str(entry.get("file"))).name)} <span class="quiet">{text(entry.get("layout") or "")}, '
        f"sha256 {text(str(entry.get('sha256'))[:12])}…</span>"
        for entry in imported.get("files") or ()
    ]
    odd = [f'<span class="message">{text(warning)}</span>' for warning in imported.get("warnings") or ()]
    return "imported from", "<br>".join([*files, *odd])


def _model(name: str, about: Model) -> tuple[str, str]:
    """Its engine, what was asked of it, and where something else was in force."""
    name, version = (str(about.get(key) or "") for key in ("engine", "engine_version"))
    engine = version if version.startswith(name) else f"{name} {version}".strip()
    lines = [text(about.get("model") or ""), text(", ".join(filter(None, (engine, str(about.get("device") or "")))))]
    lines.append(text(", ".join(f"{key} {value}" for key, value in (about.get("asked") or {}).items())))
    for key, pair in (about.get("differs") or {}).items():
        if isinstance(pair, Sequence) and len(pair) == 2:
            lines.append(f'<span class="message">{text(f"{key}: asked {pair[0]}, in force {pair[1]}")}</span>')
    return name, "<br>".join(filter(None, lines))


def _downloads(view: RunView) -> str:
    links = (
        f'<a href="/runs/{quote(view.id, safe="")}/{name}" download="{text(view.id)}-{name}">{name}</a>' for name in DOWNLOADS
    )
    again = "" if view.imported else f'<p class="quiet">To repeat it: <code>{text(_again(view.id))}</code></p>'
    return f'<p class="downloads">{" ".join(links)}</p>{again}'


def _again(run_id: str) -> str:
    return f"passkb experiment run {run_id}-spec.yaml --again"
