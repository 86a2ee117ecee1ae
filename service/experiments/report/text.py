"""The sentences and tables of a result that the terminal and the evidence note share."""

from __future__ import annotations

from collections.abc import Sequence

from service.experiments.report.schema import Estimate, ModelResult, Result

UNKNOWN = "–"


def result_text(result: Result) -> str:
    """A result for the terminal: status, verdict, the curve as a table, confounders."""
    lines = [f"{result.run_id}: {result.status}{_progress_text(result)}"]
    if result.error:
        lines.append(result.error)
    if prediction := result.prediction:
        lines.append(f"{prediction.kind}: {prediction.verdict or 'no verdict yet'}. {prediction.sentence}")
    lines += [*result.cautions, "", *_columns(curve_rows(result))]
    if solved := solved_sentence(result):
        lines += ["", solved]
    lines += ["", *confounder_sentences(result)]
    if result.evidence_note_id:
        lines += ["", f"Evidence note: {result.evidence_note_id}"]
    return "\n".join(lines).rstrip()


def headline(result: Result) -> str:
    """One or two sentences with numbers that an answer can quote."""
    if prediction := result.prediction:
        return prediction.sentence
    return " ".join(_model_headline(model, result.noisy_edge) for model in result.models)


def _model_headline(model: ModelResult, noisy: Sequence[int]) -> str:
    rows = [row for row in model.pass_at_k if row.estimate is not None]
    reliable = [row for row in rows if row.k not in noisy] or rows
    if not reliable:
        return f"{model.name} has no counts yet."
    ends = list({row.k: row for row in (reliable[0], reliable[-1])}.values())
    values = " and ".join(f"{interval(row)} at k = {row.k}" for row in ends)
    return f"The pass@k of {model.name} is {values}, over {model.n_problems} problems with {model.n} attempts each."


def curve_rows(result: Result) -> list[list[str]]:
    """Table rows: k, pass@k of each model, their difference. The first row is the header; * marks k above n/2."""
    models, comparison = result.models, result.comparison
    header = ["k", *(f"{model.name}, pass@k" for model in models)]
    if comparison:
        header.append(f"{comparison.tuned} minus {comparison.base}")
    rows = [header]
    differences = {row.k: row for row in comparison.difference} if comparison else {}
    for i, row in enumerate(models[0].pass_at_k if models else []):
        k = row.k
        cells = [f"{k}{'*' if k in result.noisy_edge else ''}", *(interval(model.pass_at_k[i]) for model in models)]
        rows.append([*cells, *([interval(differences.get(k), signed=True)] if comparison else [])])
    return rows


def interval(row: Estimate | None, signed: bool = False) -> str:
    """`21.0 % (18.0 to 24.0)`; with `signed`, percentage points with a sign."""
    if row is None or row.estimate is None:
        return UNKNOWN
    write = _signed if signed else percent
    bounds = f" ({write(row.low)} to {write(row.high)})" if row.low is not None and row.high is not None else ""
    return f"{write(row.estimate)}{'' if signed else ' %'}{bounds}"


def solved_sentence(result: Result) -> str:
    comparison = result.comparison
    if not comparison:
        return ""
    solved, p = comparison.solved, comparison.mcnemar_p
    test = (
        f"exact McNemar P = {p:.2g}"
        if p is not None
        else "not tested: the unsolved problems have different numbers of attempts"
    )
    return (
        f"Solved at least once: {solved.both} problems by both, {solved.base_only} only by {comparison.base}, "
        f"{solved.tuned_only} only by {comparison.tuned}, {solved.neither} by neither ({test})."
    )


def confounder_sentences(result: Result) -> list[str]:
    """One line for each model; it names what was not recorded."""
    return [f"{model.name}: {'; '.join(confounder_parts(model))}." for model in result.models if model.n_problems]


def confounder_parts(model: ModelResult) -> list[str]:
    direct, guessing, unsolved = model.direct, model.guessing, model.never_solved
    measures = {
        "truncated at max_tokens": _share(model.truncation),
        "no answer in the expected format": _share(model.format_failures),
        "timeouts and grader errors": _share(model.grader_failures),
        "tokens per attempt": "" if model.tokens_mean is None else f"{model.tokens_mean:.1f}",
    }
    parts = [f"{name} {value}" for name, value in measures.items() if value]
    if model.entropy is not None:
        parts.append(f"{model.distinct_answers:.1f} distinct answers per problem, entropy {model.entropy:.2f} bits")
    if model.token_entropy is not None:
        parts.append(f"entropy per token {model.token_entropy:.2f} nats")
    if guessing and guessing.others_right is not None:
        share = _share(guessing.others_right)
        parts.append(f"{guessing.answer_space} distinct answers in total; an answer to another problem is correct in {share}")
    parts.append(
        f"direct answers without reasoning: {interval(direct.pass_rate)}, {direct.problems_passed} of "
        f"{direct.problems} problems passed"
        if direct
        else "no direct-answer control"
    )
    if missing := [name for name, value in measures.items() if not value]:
        parts.append(f"not recorded: {', '.join(missing)}")
    if unsolved and unsolved.problems and unsolved.p_at_most is not None:
        bound = f"p below {100 * unsolved.p_at_most:.2g} % for each, with 95 % confidence"
        parts.append(f"{unsolved.problems} problems never passed in {unsolved.attempts} attempts ({bound})")
    return parts


def perplexity_rows(result: Result) -> list[list[str]]:
    """Table rows with a header; empty without perplexities."""
    header = ["Correct completions of", "Scored by", "Perplexity per token", "Mean log-probability", "Mean tokens", "Problems"]
    rows = [
        [row.of, row.under, f"{row.perplexity or 0:.3f}", f"{row.logprob_mean or 0:.1f}", f"{row.tokens_mean or 0:.0f}",
         str(row.problems)]
        for row in result.perplexity or []
    ]  # fmt: skip
    return [header, *rows] if rows else []


def _progress_text(result: Result) -> str:
    progress = result.progress
    if result.status == "succeeded" or not progress.total:
        return ""
    eta = f", about {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
    return f", {progress.done:,} of {progress.total:,} attempts{eta}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _share(value: float | None) -> str:
    """Empty when not recorded."""
    return "" if value is None else f"{percent(value)} %"


def percent(value: float | None) -> str:
    """A share in percent without the sign."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text
