"""A result in words: the sentences that a terminal and an evidence note share. Pure; a template over figures, nothing more.

Knows nothing about how a figure came about, and adds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def result_text(found: Mapping[str, Any]) -> str:
    """A result for a terminal: its state, the verdict, the curve as a table, and what could explain it."""
    lines = [f"{found['run_id']}: {found['status']}{_how_far(found)}"]
    if found.get("error"):
        lines.append(str(found["error"]))
    if prediction := found.get("prediction"):
        lines.append(f"{prediction['kind']}: {prediction['verdict'] or 'not judged yet'}. {prediction['sentence']}")
    lines += [*found.get("cautions", ()), "", *_columns(curve_rows(found))]
    if solved := solved_sentence(found):
        lines += ["", solved]
    lines += ["", *confounder_sentences(found)]
    if found.get("evidence_note_id"):
        lines += ["", f"evidence note: {found['evidence_note_id']}"]
    return "\n".join(lines).rstrip()


def headline(found: Mapping[str, Any]) -> str:
    """One or two sentences with figures, that can be quoted."""
    if prediction := found.get("prediction"):
        return str(prediction["sentence"])
    return " ".join(_one_model(model, found["noisy_edge"]) for model in found["models"])


def _one_model(model: Mapping[str, Any], noisy: Sequence[int]) -> str:
    rows = [row for row in model["pass_at_k"] if row["estimate"] is not None]
    sure = [row for row in rows if row["k"] not in noisy] or rows
    if not sure:
        return f"{model['name']} has no counts yet."
    ends = list({row["k"]: row for row in (sure[0], sure[-1])}.values())
    figures = " and ".join(f"{interval(row)} with k = {row['k']}" for row in ends)
    return f"{model['name']} solves {figures} of {model['n_problems']} problems, {model['n']} attempts each."


def curve_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """A table: k, each model's pass@k, their difference; the first row names the columns. * marks k above n/2."""
    models, comparison = found["models"], found.get("comparison")
    header = ["k", *(f"{model['name']}, pass@k" for model in models)]
    if comparison:
        header.append(f"{comparison['tuned']} minus {comparison['base']}")
    rows = [header]
    differences = {row["k"]: row for row in comparison["difference"]} if comparison else {}
    for i, row in enumerate(models[0]["pass_at_k"] if models else []):
        k = row["k"]
        cells = [f"{k}{'*' if k in found['noisy_edge'] else ''}", *(interval(model["pass_at_k"][i]) for model in models)]
        rows.append([*cells, *([interval(differences.get(k), signed=True)] if comparison else [])])
    return rows


def interval(row: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`21.0 % (18.0 to 24.0)`, in points with a sign for differences."""
    if row is None or row["estimate"] is None:
        return "undefined"
    write = _signed if signed else _percent
    ends = f" ({write(row['low'])} to {write(row['high'])})" if row["low"] is not None and row["high"] is not None else ""
    return f"{write(row['estimate'])}{'' if signed else ' %'}{ends}"


def solved_sentence(found: Mapping[str, Any]) -> str:
    comparison = found.get("comparison")
    if not comparison:
        return ""
    solved, p = comparison["solved"], comparison["mcnemar_p"]
    test = f"exact McNemar P = {p:.2g}" if p is not None else "no test: attempts differ between problems never passed"
    return (
        f"Passed at least once: {solved['both']} problems by both, {solved['base_only']} by {comparison['base']} alone, "
        f"{solved['tuned_only']} by {comparison['tuned']} alone, {solved['neither']} by neither ({test})."
    )


def confounder_sentences(found: Mapping[str, Any]) -> list[str]:
    """A line for each model; what was not recorded is said to be so."""
    return [f"{model['name']}: {'; '.join(confounder_parts(model))}." for model in found["models"] if model["n_problems"]]


def confounder_parts(model: Mapping[str, Any]) -> list[str]:
    direct, guessing, unsolved = model.get("direct"), model.get("guessing"), model["never_solved"]
    figures = {
        "cut off at max_tokens": _share(model["truncation"]),
        "no answer where one belongs": _share(model["format_failures"]),
        "timed out or broke the grader": _unknowns(model),
        "tokens an attempt": "" if model["tokens_mean"] is None else f"{model['tokens_mean']:.1f}",
    }
    parts = [f"{name} {figure}" for name, figure in figures.items() if figure]
    if model["entropy"] is not None:
        parts.append(f"{model['distinct_answers']:.1f} different answers a problem, entropy {model['entropy']:.2f} bits")
    if model["token_entropy"] is not None:
        parts.append(f"{model['token_entropy']:.2f} nats a token")
    if guessing and guessing["others_right"] is not None:
        shared = f"an answer to another problem is right in {_share(guessing['others_right'])}"
        parts.append(f"{guessing['answer_space']} different answers in all, and {shared}")
    parts.append(
        f"answered at once, without reasoning: {interval(direct['pass_rate'])}, {direct['problems_passed']} of "
        f"{direct['problems']} problems passed"
        if direct
        else "no direct-answer control"
    )
    if missing := [name for name, figure in figures.items() if not figure]:
        parts.append(f"not recorded: {', '.join(missing)}")
    if unsolved["problems"]:
        bound = f"p below {100 * unsolved['p_at_most']:.2g} % with 95 % confidence each"
        parts.append(f"{unsolved['problems']} problems never passed in {unsolved['attempts']} attempts ({bound})")
    return parts


def perplexity_rows(found: Mapping[str, Any]) -> list[list[str]]:
    header = ["correct completions of", "scored under", "perplexity a token", "mean log-probability", "mean tokens", "problems"]
    rows = [
        [str(row["of"]), str(row["under"]), f"{row['perplexity']:.3f}", f"{row['logprob_mean']:.1f}",
         f"{row['tokens_mean']:.0f}", str(row["problems"])]
        for row in found.get("perplexity") or []
    ]  # fmt: skip
    return [header, *rows] if rows else []


def _how_far(found: Mapping[str, Any]) -> str:
    progress = found["progress"]
    if found["status"] == "succeeded" or not progress.get("total"):
        return ""
    eta = f", about {progress['eta_s']:.0f} s left" if progress.get("eta_s") is not None else ""
    return f", {progress['done']:,} of {progress['total']:,} attempts{eta}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _unknowns(model: Mapping[str, Any]) -> str:
    """Of all attempts; "" where it is not recorded."""
    verdicts = model["verdicts"]
    if model["unknown_bounds"] is None:
        return ""
    return _share((verdicts["timeout"] + verdicts["error"]) / max(1, sum(verdicts.values())))


def _share(value: float | None) -> str:
    """ "" where it is not recorded."""
    return "" if value is None else f"{100 * value:.1f} %"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text
