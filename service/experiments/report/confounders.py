"""Measures confounders of a curve: truncation, format, guessing, diversity of answers, tokens; and perplexities.

Shares are of the attempts that every problem has, so that screening does not affect them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from service.experiments.execution.run_store import Tally, counts_of
from service.experiments.report.counts import Totals
from service.experiments.report.schema import Confounders, Direct, Estimate, Guessing, Perplexity
from service.experiments.statistics.intervals import mean_interval
from service.experiments.types import Verdict

RECORDED = frozenset(("verdicts", "truncation", "format", "tokens"))
"""What passkb records of every attempt; an import can lack any of it."""

Scores = Mapping[str, Mapping[str, Sequence[Sequence[Any]]]]
"""model -> scored by -> [problem, log-probability of the completion (natural log), tokens], as in a run's scores.json."""


def measure_confounders(problems: Sequence[Totals], recorded: Collection[str]) -> Confounders:
    """The confounders over one model's problems; None for what `recorded` lacks."""
    even = [entry for totals in problems for entry in totals.even]
    attempts, tokens = sum(entry.n for entry in even), sum(entry.tokens for entry in even)
    answers = [_answers(totals.even) for totals in problems]
    answered = [counts for counts in answers if counts]
    scored = [entry for entry in even if entry.scored == entry.n and entry.tokens]
    truncated = sum(entry.verdicts.get(Verdict.TRUNCATED, 0) for entry in even)
    return Confounders(
        truncation=truncated / attempts if attempts and "truncation" in recorded else None,
        format_failures=sum(entry.unformatted for entry in even) / attempts if attempts and "format" in recorded else None,
        distinct_answers=float(np.mean([len(counts) for counts in answered])) if answered else None,
        entropy=float(np.mean([_entropy(counts) for counts in answered])) if answered else None,
        token_entropy=-sum(e.logprob for e in scored) / sum(e.tokens for e in scored) if scored else None,
        token_entropy_problems=len({entry.problem for entry in scored}) or None,
        tokens_mean=tokens / attempts if attempts and "tokens" in recorded and tokens else None,
        guessing=_guessing(answers, [right_answers(totals) for totals in problems]) if answered else None,
    )


def right_answers(of: Totals) -> set[str]:
    return {answer for entry in of.even for answer in entry.right}


def answers_of(of: Totals) -> dict[str, int]:
    """Counts of each answer among the attempts that every problem has, "" for none."""
    return dict(sum((Counter(entry.answers) for entry in of.even), Counter[str]()))


def direct_control(tallies: Iterable[Tally]) -> Direct | None:
    """The pass rate of answers without reasoning; None without such attempts."""
    pairs = list(counts_of(tallies).values())
    if not pairs:
        return None
    rate = mean_interval([c / n for n, c in pairs])
    return Direct(
        problems=len(pairs),
        attempts=sum(n for n, _ in pairs),
        pass_rate=Estimate(estimate=rate.estimate, low=rate.low, high=rate.high),
        problems_passed=sum(c > 0 for _, c in pairs),
    )


def perplexities(scores: Scores, names: Sequence[str]) -> list[Perplexity]:
    """Perplexities of each model's correct completions under each model.

    Per token: the exponential of the mean over problems of the mean negative log-probability per token. Each problem has the
    same weight."""
    return [_perplexity(of, under, scores[of][under]) for of in names for under in names if scores.get(of, {}).get(under)]


def _perplexity(of: str, under: str, rows: Sequence[Sequence[Any]]) -> Perplexity:
    by_problem: dict[str, list[tuple[float, int]]] = {}
    for problem, logprob, tokens in rows:
        by_problem.setdefault(str(problem), []).append((float(logprob), max(1, int(tokens))))
    per_token = [np.mean([-logprob / tokens for logprob, tokens in values]) for values in by_problem.values()]
    whole = [np.mean([logprob for logprob, _ in values]) for values in by_problem.values()]
    lengths = [np.mean([tokens for _, tokens in values]) for values in by_problem.values()]
    return Perplexity(
        of=of,
        under=under,
        problems=len(by_problem),
        completions=len(rows),
        perplexity=math.exp(min(700.0, float(np.mean(per_token)))),
        logprob_mean=float(np.mean(whole)),
        logprob_median=float(np.median(whole)),
        tokens_mean=float(np.mean(lengths)),
    )


def _answers(entries: Iterable[Tally]) -> Counter[str]:
    """Counts of the answers, without attempts that have none."""
    return sum((Counter({a: n for a, n in entry.answers.items() if a}) for entry in entries), Counter[str]())


def _entropy(answers: Counter[str]) -> float:
    shares = np.array(list(answers.values()), np.float64) / answers.total()
    return float(-(shares * np.log2(shares)).sum())


def _guessing(answers: Sequence[Counter[str]], right: Sequence[set[str]]) -> Guessing:
    pooled = sum(answers, Counter[str]())
    rates = []
    for own, correct in zip(answers, right, strict=True):
        others = pooled.total() - own.total()
        if correct and others:
            rates.append(sum(pooled[answer] - own[answer] for answer in correct) / others)
    others_right = float(np.mean(rates)) if rates else None
    return Guessing(answer_space=len(pooled), others_right=others_right, problems=len(rates))
