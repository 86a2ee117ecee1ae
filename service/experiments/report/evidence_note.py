"""The evidence note as Markdown: a deterministic template over a run's result, written without a model or a clock.

Answers can quote its first paragraph.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from service.experiments.execution.run_store import Run
from service.experiments.report.disclaimers import cautions, origin, scripted
from service.experiments.report.schema import ModelEnvironment, ModelResult, Result
from service.experiments.report.text import confounder_parts, curve_rows, headline, percent, perplexity_rows, solved_sentence
from service.experiments.spec import ExperimentSpec

_KINDS = {
    "crossover": "the base model overtakes the tuned model",
    "higher": "one model has the higher pass@k",
    "no_difference": "the models do not differ by more than the margin",
    "subset": "the base model solves every problem that the tuned model solves",
}


def evidence_markdown(run: Run, result: Result, claim_text: str = "") -> str:
    """The whole file, front matter and body. `result` is the finished result of `run`, `claim_text` the text of its claim."""
    spec, state = run.spec, run.state
    sections = [
        _opening(spec, result, state, claim_text),
        "## What was run\n\n" + _setup(spec, result, state),
        f"## Curve\n\n![[{run.id}.svg]]\n\n{_table(curve_rows(result))}\n\n{_caption(result)}",
        *_optional("## Solved problems", _solved(result)),
        "## Confounders\n\n" + _confounders(result),
        *_optional("## Perplexity of correct completions", _perplexity(result)),
        *_optional("## Extrapolation", _extrapolation(result)),
        "## Limitations\n\n" + _limitations(spec, result, state),
        "## Reproduce\n\n" + _reproduction(run, spec, state),
    ]
    front = yaml.safe_dump(_front(run, spec, result, state), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n" + "\n\n".join(sections) + "\n"


def _front(run: Run, spec: ExperimentSpec, result: Result, state: Mapping[str, Any]) -> dict[str, Any]:
    environment, claim = result.environment, result.claim
    prediction = result.prediction
    verdict = prediction.verdict if prediction else None
    date = str(state.get("finished") or state.get("created") or "")
    disclaimer = origin(spec, state)
    front: dict[str, Any] = {
        "title": f"Evidence of {date[:16].replace('T', ' ')}{f', from {disclaimer}' if disclaimer else ''}: {_subject(spec)}",
        "kind": "evidence",
        "date": date,
    }
    if prediction and verdict and not scripted(spec):  # scripted completions decide no claim
        front["status"] = verdict
        tests = {"p_support": prediction.p_support, "p_refute": prediction.p_refute}
        front |= {key: float(f"{p:.3g}") for key, p in tests.items() if p is not None and math.isfinite(p)}
    if disclaimer:
        front["origin"] = disclaimer
    front |= {"run_id": run.id, "tags": ["evidence", "pass-at-k"]}
    if claim:
        why = f"run {run.id}: {verdict}" if verdict else f"run {run.id}: no prediction"
        front |= {"claim": claim, "links": [{"to": f"[[{claim}]]", "type": "evidence_for", "why": why}]}
    return {
        **front,
        "engine": environment.engine,
        "engine_version": environment.engine_version or "not recorded",
        "device": environment.device or "not recorded",
        "models": {name: entry.model for name, entry in environment.models.items()},
        "settings": environment.settings,
        "problems_sha256": environment.problems_sha256 or "not recorded",
        "counts": f"runs/{run.id}/counts.csv",
    }


def _subject(spec: ExperimentSpec) -> str:
    return _line(spec.question or spec.name or spec.problems.set or Path(spec.problems.file).name)


def _opening(spec: ExperimentSpec, result: Result, state: Mapping[str, Any], claim_text: str) -> str:
    power = result.comparison.power.advice if result.comparison and result.comparison.power else ""
    summary = headline(result)
    sentences = [summary.removesuffix(power).rstrip() if power else summary]
    if prediction := result.prediction:
        stated = "" if state.get("imported") else ", stated before the run"
        sentences.append(f"Prediction{stated}: {_KINDS[prediction.kind]}. Verdict: {prediction.verdict}.")
        if (runs := prediction.comparisons_made) > 1 and prediction.p_value_corrected is not None:
            corrected = f"P = {prediction.p_value_corrected:.2g} corrected for the earlier runs (Holm)"
            sentences.append(f"This is run {runs} on the claim; {corrected}.")
        if (claims := prediction.claims_tested) > 1 and prediction.p_value_over_claims is not None:
            others = "1 other claim" if claims == 2 else f"{claims - 1} other claims"
            corrected = f"P = {prediction.p_value_over_claims:.2g} corrected for all of them (Holm)"
            sentences.append(f"This home tested {others} before; {corrected}.")
    sentences += cautions(spec, state)
    paragraphs = [power] if power and summary.endswith(power) else []
    return "\n\n".join([" ".join(sentences), *paragraphs, *_claim_heading(spec.claim, claim_text)])


def _claim_heading(claim: str, text: str) -> list[str]:
    """The claim as a heading, so that no answer quotes it as a finding."""
    return [f"### Claim [[{claim}]]: {_line(text)}"] if claim and text else []


def _setup(spec: ExperimentSpec, result: Result, state: Mapping[str, Any]) -> str:
    environment, problems = result.environment, max((model.n_problems for model in result.models), default=0)
    if imported := state.get("imported"):
        files = "\n".join(f"- `{entry['file']}` ({entry['layout']}), sha256 `{entry['sha256']}`" for entry in imported["files"])
        names = ", ".join(f"{name} is {_line(original)}" for name, original in imported["models"].items())
        warnings = "".join(f"\n- {_line(warning)}" for warning in imported["warnings"])
        unrecorded = "The prompts, the sampling settings and the hardware are not recorded."
        return (
            f"passkb ran no model: the results were imported. {names}; {problems} problems, {_attempts(result)}. {unrecorded}"
            f"\n\n{files}{warnings}"
        )
    sampling = spec.sampling
    name = spec.problems.set or Path(spec.problems.file).name
    screened = f" ({sampling.screen} first, the rest only where none passed)" if sampling.screen else ""
    lines = [
        f"{problems} problems of {_line(name)} (sha256 `{environment.problems_sha256}`), {sampling.n} attempts "
        f"each{screened}; temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, at most {sampling.max_tokens} "
        f"tokens, seed {sampling.seed}.",
        "",
        *(f"- {_model_line(model, environment.models[model.name])}" for model in result.models),
    ]
    if seconds := result.seconds:
        lines += ["", f"Duration: {seconds:,.0f} s."]
    return "\n".join(lines)


def _model_line(model: ModelResult, environment: ModelEnvironment) -> str:
    name, version = str(environment.engine or "engine not recorded"), str(environment.engine_version or "")
    engine = version if version.startswith(name) else f"{name} {version}".rstrip()
    device = environment.device or "a device that was not recorded"
    text = f"{_line(model.name)}: `{_line(environment.model)}`, {engine}, on {device}"
    if differs := environment.differs:
        changes = (
            f"{key} {effective!r} instead of the requested {requested!r}" for key, (requested, effective) in differs.items()
        )
        text += f"; {', '.join(changes)}"
    effective = environment.effective or {}
    return f"{text}; effective settings: `{json.dumps(effective, ensure_ascii=False, default=str)}`" if effective else text


def _attempts(result: Result) -> str:
    each = {model.attempts / model.n_problems for model in result.models if model.n_problems}
    n = result.models[0].n
    return f"{n} attempts each" if each == {n} else f"at least {n} attempts each"


def _caption(result: Result) -> str:
    sentences = ["Unbiased pass@k with 95 % intervals over problems (Student's t, widened where little varies)."]
    if comparison := result.comparison:
        sentences.append("The difference is in percentage points, paired by problem.")
        band = [row for row in comparison.band if row.k not in result.noisy_edge]
        ahead = [str(row.k) for row in band if row.low is not None and row.low > 0]
        behind = [str(row.k) for row in band if row.high is not None and row.high < 0]
        parts = [f"{comparison.tuned} is ahead at k = {', '.join(ahead)}"] if ahead else []
        parts += [f"{comparison.base} is ahead at k = {', '.join(behind)}"] if behind else []
        sentences.append(f"In the simultaneous 95 % band over all k: {'; '.join(parts) or 'neither model is ahead at any k'}.")
        if comparison.problems_left_out:
            sentences.append(f"The comparison uses the {comparison.problems} problems that both models have.")
    if result.noisy_edge:
        sentences.append("* above n/2: no claim is made.")
    return " ".join(sentences)


def _solved(result: Result) -> str:
    comparison = result.comparison
    if not comparison:
        return ""
    sentences = [solved_sentence(result)]
    labels = (
        ("both", "by both"), ("base_only", f"only by {comparison.base}"),
        ("tuned_only", f"only by {comparison.tuned}"), ("neither", "by neither"),
    )  # fmt: skip
    for row in comparison.expected_solved:
        values = ", ".join(f"{getattr(row, key):.1f} {label}" for key, label in labels)
        sentences.append(f"Expected with p above {100 * row.epsilon:.2g} %, by fitted posteriors: {values}.")
    if rows := comparison.recovery:
        depths, lows, highs = (
            [math.inf if getattr(row, key) is None else getattr(row, key) for row in rows] for key in ("k", "low", "high")
        )
        attempts, consistent = _range(min(depths), max(depths)), _range(min(lows), max(highs))
        sentences.append(
            f"To solve a problem that only {comparison.tuned} solved, with 95 % probability, {comparison.base} needs "
            f"about {attempts} attempts; its counts are consistent with {consistent}."
        )
    return " ".join(sentences)


def _range(low: float, high: float) -> str:
    ends = [f"{end:,.0f}" if end < 1e9 else "any number" for end in (low, high)]
    return " to ".join(dict.fromkeys(ends))


def _confounders(result: Result) -> str:
    lines = [f"- {_line(model.name)}: {'; '.join(confounder_parts(model))}." for model in result.models]
    for model in result.models:
        bounds = [row for row in model.unknown_bounds or [] if row.low != row.high and row.low is not None]
        if bounds:
            ranges = ", ".join(f"{percent(row.low)} to {percent(row.high)} % at k = {row.k}" for row in bounds)
            lines.append(f"- {_line(model.name)}, pass@k if all timeouts and errors had failed or had passed: {ranges}.")
    return "\n".join(lines)


def _perplexity(result: Result) -> str:
    rows = perplexity_rows(result)
    explanation = (
        "A low perplexity means that no single token is surprising. "
        "The log-probability shows whether the model would sample the whole completion."
    )
    return f"{_table(rows)}\n\n{explanation}" if rows else ""


def _extrapolation(result: Result) -> str:
    lines = []
    for name, fit in (result.extrapolation or {}).items():
        if not fit:
            continue
        band = ", ".join(f"{percent(row.low)} to {percent(row.high)} % at k = {row.k:,}" for row in fit.band)
        tests = "; ".join(
            f"{model} predicts {percent(test.predicted)} % at k = {test.k} from {test.attempts} attempts, observed "
            f"{percent(test.observed)} %"
            for model, test in fit.back_tests.items()
            if test.predicted is not None
        )
        lines.append(f"- {_line(name)}: {band}. Back-tests: {tests or 'too few attempts'}.")
    explanation = "The range of three fitted models. It is an estimate, and no verdict uses it."
    return "\n".join([explanation, "", *lines]) if lines else ""


def _limitations(spec: ExperimentSpec, result: Result, state: Mapping[str, Any]) -> str:
    sentences = cautions(spec, state)
    if state.get("imported"):
        sentences.append("The results were produced elsewhere: passkb cannot confirm that the prediction came before them.")
    edge = result.comparison.edge if result.comparison else max(1, spec.sampling.n // 2)
    sentences.append(f"No claim is made beyond k = {edge} (half of the attempts) or for other kinds of problems.")
    sentences.append("A problem that never passed may still be solvable.")
    return "\n".join(f"- {sentence}" for sentence in dict.fromkeys(sentences))


def _reproduction(run: Run, spec: ExperimentSpec, state: Mapping[str, Any]) -> str:
    if imported := state.get("imported"):
        files = " ".join(f"'{entry['file']}'" for entry in imported["files"])
        roles = "".join(f" --{name} '{original}'" for name, original in imported["models"].items() if name in ("base", "tuned"))
        claim = f" --claim '{state.get('claim') or spec.claim}'" if spec.claim else ""
        return f"```sh\npasskb experiment import {files}{roles}{claim}\n```"
    text = yaml.safe_dump(spec.to_json(), sort_keys=False, allow_unicode=True, width=120)
    fence = "`" * max(3, 1 + max((len(word) for word in text.split() if set(word) == {"`"}), default=0))
    return (
        f"Save this as `spec.yaml`; `passkb experiment run spec.yaml --again` repeats the run with another seed. "
        f"The counts of this run are in `runs/{run.id}/counts.csv`.\n\n{fence}yaml\n{text}{fence}"
    )


def _optional(heading: str, text: str) -> list[str]:
    return [f"{heading}\n\n{text}"] if text else []


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(_line(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _line(text: Any) -> str:
    return " ".join(str(text).split())
