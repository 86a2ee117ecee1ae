"""The evidence note's text: a template over a run's counts. No model writes any of it, and no clock: same run, same note.

Knows nothing about where notes are kept or indexed. Its first paragraph is one that an answer can quote.
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
from service.experiments.report.text import confounder_parts, curve_rows, headline, perplexity_rows, solved_sentence
from service.experiments.spec import ExperimentSpec

_KINDS = {
    "crossover": "that the base model overtakes the tuned one",
    "higher": "that one model is higher",
    "no_difference": "that there is no difference that matters",
    "subset": "that the base model solves whatever the tuned one does",
}


def evidence_markdown(run: Run, result: Mapping[str, Any], claim_text: str = "") -> str:
    """The whole file: front matter and body. `result`: of this run, finished; `claim_text`: what the claim says."""
    spec, state = run.spec, run.state
    sections = [
        _first(spec, result, state, claim_text),
        "## What was run\n\n" + _what(spec, result, state),
        f"## The curve\n\n![[{run.id}.svg]]\n\n{_table(curve_rows(result))}\n\n{_caption(result)}",
        *_optional("## Solved problems", _solved(result)),
        "## What else could explain it\n\n" + _confounders(result),
        *_optional("## Perplexity of correct completions", _perplexity(result)),
        *_optional("## Beyond the attempts made", _beyond(result)),
        "## What this does not show\n\n" + _not_shown(spec, result, state),
        "## How to repeat it\n\n" + _repeat(run, spec, state),
    ]
    front = yaml.safe_dump(_front(run, spec, result, state), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n" + "\n\n".join(sections) + "\n"


def _front(run: Run, spec: ExperimentSpec, result: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    about, claim = result["environment"], result["claim"]
    verdict = (result["prediction"] or {}).get("verdict")
    when = str(state.get("finished") or state.get("created") or "")
    made_by = origin(spec, state)
    out: dict[str, Any] = {
        "title": f"Evidence of {when[:16].replace('T', ' ')}{f', from {made_by}' if made_by else ''}: {_subject(spec)}",
        "kind": "evidence",
        "date": when,
    }
    if verdict and not scripted(spec):  # made-up completions decide no claim
        out["status"] = verdict
    if made_by:
        out["origin"] = made_by
    out |= {"run_id": run.id, "tags": ["evidence", "pass-at-k"]}
    if claim:
        why = f"run {run.id}: {verdict}" if verdict else f"run {run.id}: no prediction was judged"
        out |= {"claim": claim, "links": [{"to": f"[[{claim}]]", "type": "evidence_for", "why": why}]}
    return {
        **out,
        "engine": about["engine"],
        "engine_version": about["engine_version"] or "not recorded",
        "device": about["device"] or "not recorded",
        "models": {name: str(entry["model"]) for name, entry in about["models"].items()},
        "settings": about["settings"],
        "problems_sha256": about["problems_sha256"] or "not recorded",
        "counts": f"runs/{run.id}/counts.csv",
    }


def _subject(spec: ExperimentSpec) -> str:
    return _line(spec.question or spec.name or spec.problems.set or Path(spec.problems.file).name)


def _first(spec: ExperimentSpec, result: Mapping[str, Any], state: Mapping[str, Any], claim_text: str) -> str:
    power = ((result["comparison"] or {}).get("power") or {}).get("advice") or ""
    whole = headline(result)
    said = [whole.removesuffix(power).rstrip() if power else whole]
    if prediction := result["prediction"]:
        what = f"The prediction {_KINDS[prediction['kind']]}"
        stated = "" if state.get("imported") else ", stated before the run,"
        said.append(f"{what}{stated} is {prediction['verdict']}.")
        if (made := prediction.get("comparisons_made", 0)) > 1 and prediction.get("p_value_corrected") is not None:
            corrected = f"corrected for that (Holm) P = {prediction['p_value_corrected']:.2g}"
            said.append(f"It is run {made} on this claim; {corrected}.")
        if (tested := prediction.get("claims_tested", 0)) > 1 and prediction.get("p_value_over_claims") is not None:
            others = "another claim" if tested == 2 else f"{tested - 1} other claims"
            said.append(f"With {others} tested here before, P = {prediction['p_value_over_claims']:.2g} (Holm).")
    said += cautions(spec, state)
    further = [power] if power and whole.endswith(power) else []
    return "\n\n".join([" ".join(said), *further, *_on(spec.claim, claim_text)])


def _on(claim: str, text: str) -> list[str]:
    """The claim as a heading: to be read, and never to be quoted as if it were a finding."""
    return [f"### On the claim [[{claim}]]: {_line(text)}"] if claim and text else []


def _what(spec: ExperimentSpec, result: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    about, problems = result["environment"], max((model["n_problems"] for model in result["models"]), default=0)
    if imported := state.get("imported"):
        files = "\n".join(f"- `{entry['file']}` ({entry['layout']}), sha256 `{entry['sha256']}`" for entry in imported["files"])
        names = ", ".join(f"{name} is {_line(original)}" for name, original in imported["models"].items())
        odd = "".join(f"\n- {_line(warning)}" for warning in imported["warnings"])
        known = "How the completions were sampled, on what, and from which prompts is not recorded."
        return f"Nothing: the results were imported. {names}; {problems} problems, {_attempts(result)}. {known}\n\n{files}{odd}"
    sampling = spec.sampling
    name = spec.problems.set or Path(spec.problems.file).name
    screened = f", of which {sampling.screen} first and the rest only where none passed" if sampling.screen else ""
    lines = [
        f"{problems} problems of {_line(name)} (sha256 `{about['problems_sha256']}`), {sampling.n} attempts each{screened}; "
        f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, at most {sampling.max_tokens} tokens, "
        f"seed {sampling.seed}.",
        "",
        *(f"- {_model_line(model, about['models'][model['name']])}" for model in result["models"]),
    ]
    if seconds := result.get("seconds"):
        lines += ["", f"It took {seconds:,.0f} s."]
    return "\n".join(lines)


def _model_line(model: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    name, version = str(about.get("engine") or "engine not recorded"), str(about.get("engine_version") or "")
    engine = version if version.startswith(name) else f"{name} {version}".rstrip()
    text = f"{_line(model['name'])}: `{_line(about['model'])}`, {engine}, on {about.get('device') or 'a device not recorded'}"
    if differs := about.get("differs"):
        told = ", ".join(f"{key} {given!r} was asked, {real!r} in force" for key, (given, real) in differs.items())
        text += f"; {told}"
    effective = about.get("effective") or {}
    return f"{text}; in force: `{json.dumps(effective, ensure_ascii=False, default=str)}`" if effective else text


def _attempts(result: Mapping[str, Any]) -> str:
    each = {model["attempts"] / model["n_problems"] for model in result["models"] if model["n_problems"]}
    n = result["models"][0]["n"]
    return f"{n} attempts each" if each == {n} else f"at least {n} attempts each"


def _caption(result: Mapping[str, Any]) -> str:
    said = ["Unbiased pass@k, with 95 % intervals over problems (Student's t, widened where little varies)."]
    if comparison := result["comparison"]:
        said.append("The difference is in points, paired by problem.")
        band = [row for row in comparison["band"] if row["low"] is not None and row["k"] not in result["noisy_edge"]]
        ahead = [str(row["k"]) for row in band if row["low"] > 0]
        behind = [str(row["k"]) for row in band if row["high"] < 0]
        parts = [f"{comparison['tuned']} ahead at k = {', '.join(ahead)}"] if ahead else []
        parts += [f"{comparison['base']} ahead at k = {', '.join(behind)}"] if behind else []
        said.append(f"In a band that holds at all k together: {'; '.join(parts) or 'no k is decided'}.")
        if comparison["problems_left_out"]:
            said.append(f"Compared on the {comparison['problems']} problems that both models have.")
    if result["noisy_edge"]:
        said.append("* above n/2: nothing is claimed there.")
    return " ".join(said)


def _solved(result: Mapping[str, Any]) -> str:
    comparison = result["comparison"]
    if not comparison:
        return ""
    said = [solved_sentence(result)]
    for row in comparison["expected_solved"]:
        figures = ", ".join(f"{row[key]:.1f} {words}" for key, words in (
            ("both", "by both"), ("base_only", f"by {comparison['base']} alone"),
            ("tuned_only", f"by {comparison['tuned']} alone"), ("neither", "by neither")))  # fmt: skip
        said.append(f"Expected with p above {100 * row['epsilon']:.2g} %, by fitted posteriors: {figures}.")
    if rows := comparison["recovery"]:
        least, most = (pick(row["k"] or math.inf for row in rows) for pick in (min, max))
        low, high = min(row["low"] for row in rows), max(row["high"] or math.inf for row in rows)
        said.append(
            f"Until {comparison['base']} passes what {comparison['tuned']} alone has passed, with 95 %, it takes some "
            f"{_range(least, most)} attempts a problem; anything from {_range(low, high)} agrees with its counts."
        )
    return " ".join(said)


def _range(low: float, high: float) -> str:
    ends = [f"{end:,.0f}" if end < 1e9 else "any number" for end in (low, high)]
    return " to ".join(dict.fromkeys(ends))


def _confounders(result: Mapping[str, Any]) -> str:
    parts = [f"- {_line(model['name'])}: {'; '.join(confounder_parts(model))}." for model in result["models"]]
    bounds = []
    for model in result["models"]:
        wide = [row for row in model.get("unknown_bounds") or [] if row["low"] != row["high"] and row["low"] is not None]
        if wide:
            bounds.append(
                f"- {_line(model['name'])}, if all time-outs and errors had failed or had passed: "
                + ", ".join(f"{100 * row['low']:.1f} to {100 * row['high']:.1f} % at k = {row['k']}" for row in wide)
                + "."
            )
    return "\n".join([*parts, *bounds])


def _perplexity(result: Mapping[str, Any]) -> str:
    rows = perplexity_rows(result)
    told = "A low perplexity says that no token surprises; the log-probability of the whole says whether it would be drawn."
    return f"{_table(rows)}\n\n{told}" if rows else ""


def _beyond(result: Mapping[str, Any]) -> str:
    lines = []
    for name, found in (result["extrapolation"] or {}).items():
        if not found:
            continue
        band = ", ".join(f"{100 * row['low']:.1f} to {100 * row['high']:.1f} % at k = {row['k']:,}" for row in found["band"])
        tests = "; ".join(
            f"{model} foretells {100 * test['predicted']:.1f} % at k = {test['k']} from {test['attempts']} attempts, where "
            f"{100 * test['observed']:.1f} % is seen"
            for model, test in found["back_tests"].items()
            if test["predicted"] is not None
        )
        lines.append(f"- {_line(name)}: {band}. Tested on the attempts there are: {tests or 'too few'}.")
    told = "A guess of three models, as the range of what they say; it is no result, and nothing above rests on it."
    return "\n".join([told, "", *lines]) if lines else ""


def _not_shown(spec: ExperimentSpec, result: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    said = cautions(spec, state)
    if state.get("imported"):
        said.append(
            "The results were made elsewhere, so passkb can not say that the prediction was made before they were known."
        )
    edge = (result["comparison"] or {}).get("edge") or max(1, spec.sampling.n // 2)
    said.append(f"Nothing is claimed beyond k = {edge}, half of the attempts, nor for problems unlike these.")
    said.append("A problem that was never passed is not shown to be out of reach.")
    return "\n".join(f"- {line}" for line in dict.fromkeys(said))


def _repeat(run: Run, spec: ExperimentSpec, state: Mapping[str, Any]) -> str:
    if imported := state.get("imported"):
        files = " ".join(f"'{entry['file']}'" for entry in imported["files"])
        roles = "".join(f" --{name} '{original}'" for name, original in imported["models"].items() if name in ("base", "tuned"))
        claim = f" --claim '{state.get('claim') or spec.claim}'" if spec.claim else ""
        return f"```sh\npasskb experiment import {files}{roles}{claim}\n```"
    text = yaml.safe_dump(spec.to_json(), sort_keys=False, allow_unicode=True, width=120)
    fence = "`" * max(3, 1 + max((len(run_) for run_ in text.replace("\n", " ").split() if set(run_) == {"`"}), default=0))
    return (
        f"With this as `spec.yaml`, `passkb experiment run spec.yaml --again` repeats it with another seed; the counts of this "
        f"run are in `runs/{run.id}/counts.csv`.\n\n{fence}yaml\n{text}{fence}"
    )


def _optional(heading: str, text: str) -> list[str]:
    return [f"{heading}\n\n{text}"] if text else []


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(_line(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _line(text: Any) -> str:
    return " ".join(str(text).split())
