"""What else could explain a curve: truncation, format, guessing, how spread out the answers are, tokens; and perplexity.

From tallies and scores alone; knows nothing about runs, files or pass@k. What was not recorded is None, never 0. Shares are of
the attempts that every problem gets, so that screening, which adds attempts at hard problems, does not colour them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from service.experiments.execution.run_store import Tally, counts_of
from service.experiments.report.counts import Totals
from service.experiments.statistics.intervals import mean_interval
from service.experiments.types import Verdict

RECORDED = frozenset(("verdicts", "truncation", "format", "tokens"))
"""What a run of passkb's own records of every attempt; an import may lack any of it."""

Scores = Mapping[str, Mapping[str, Sequence[Sequence[Any]]]]
"""model -> scored by -> [problem, log-probability of the completion (natural log), tokens], as in a run's scores.json."""


def confounders(of: Sequence[Totals], recorded: Collection[str]) -> dict[str, Any]:
    """`truncation`, `format_failures`: shares of attempts. `distinct_answers`: mean number a problem; `entropy`: of a problem's
    answers in bits, mean over problems (plug-in, so a little low). `token_entropy`: nats a token, from the log-probabilities of
    what was sampled, at the problems that have them, which are so many. `guessing`: distinct answers over all problems, and how
    often an answer to another problem is right."""
    even = [entry for entry_totals in of for entry in entry_totals.even]
    attempts, tokens = sum(entry.n for entry in even), sum(entry.tokens for entry in even)
    answers = [_answers(entry.even) for entry in of]
    answered = [given for given in answers if given]
    scored = [entry for entry in even if entry.scored == entry.n and entry.tokens]
    truncated = sum(entry.verdicts.get(Verdict.TRUNCATED, 0) for entry in even)
    return {
        "truncation": truncated / attempts if attempts and "truncation" in recorded else None,
        "format_failures": sum(entry.unformatted for entry in even) / attempts if attempts and "format" in recorded else None,
        "distinct_answers": float(np.mean([len(given) for given in answered])) if answered else None,
        "entropy": float(np.mean([_entropy(given) for given in answered])) if answered else None,
        "token_entropy": -sum(e.logprob for e in scored) / sum(e.tokens for e in scored) if scored else None,
        "token_entropy_problems": len({entry.problem for entry in scored}) or None,
        "tokens_mean": tokens / attempts if attempts and "tokens" in recorded and tokens else None,
        "guessing": _guessing(answers, [right_answers(entry) for entry in of]) if answered else None,
    }


def right_answers(of: Totals) -> set[str]:
    return {answer for entry in of.even for answer in entry.right}


def answers_of(of: Totals) -> dict[str, int]:
    """How many of the even attempts gave each answer, "" for none."""
    return dict(sum((Counter(entry.answers) for entry in of.even), Counter[str]()))


def direct_control(tallies: Iterable[Tally]) -> dict[str, Any] | None:
    """Answers given at once, without reasoning: their pass rate with its 95 % interval over problems. None without any."""
    pairs = list(counts_of(tallies).values())
    if not pairs:
        return None
    found = mean_interval([c / n for n, c in pairs])
    return {
        "problems": len(pairs),
        "attempts": sum(n for n, _ in pairs),
        "pass_rate": {"estimate": found.estimate, "low": found.low, "high": found.high},
        "problems_passed": sum(c > 0 for _, c in pairs),
    }


def perplexities(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    """Correct completions `of` one model `under` each: per-token perplexity, the mean over problems of the mean negative
    log-probability a token, exponentiated; and the log-probability of whole completions. Each problem weighs the same."""
    return [_perplexity(of, under, scores[of][under]) for of in names for under in names if scores.get(of, {}).get(under)]


def _perplexity(of: str, under: str, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    by_problem: dict[str, list[tuple[float, int]]] = {}
    for problem, logprob, tokens in rows:
        by_problem.setdefault(str(problem), []).append((float(logprob), max(1, int(tokens))))
    a_token = [np.mean([-logprob / tokens for logprob, tokens in found]) for found in by_problem.values()]
    whole = [np.mean([logprob for logprob, _ in found]) for found in by_problem.values()]
    lengths = [np.mean([tokens for _, tokens in found]) for found in by_problem.values()]
    return {
        "of": of,
        "under": under,
        "problems": len(by_problem),
        "completions": len(rows),
        "perplexity": math.exp(min(700.0, float(np.mean(a_token)))),
        "logprob_mean": float(np.mean(whole)),
        "logprob_median": float(np.median(whole)),
        "tokens_mean": float(np.mean(lengths)),
    }


def _answers(entries: Iterable[Tally]) -> Counter[str]:
    """Without those attempts that have none."""
    return sum((Counter({a: n for a, n in entry.answers.items() if a}) for entry in entries), Counter[str]())


def _entropy(given: Counter[str]) -> float:
    shares = np.array(list(given.values()), np.float64) / given.total()
    return float(-(shares * np.log2(shares)).sum())


def _guessing(answers: Sequence[Counter[str]], right: Sequence[set[str]]) -> dict[str, Any]:
    """How often an answer to some other problem, drawn at random, is right; over problems with a known right answer."""
    pooled = sum(answers, Counter[str]())
    rates = []
    for own, correct in zip(answers, right, strict=True):
        others = pooled.total() - own.total()
        if correct and others:
            rates.append(sum(pooled[answer] - own[answer] for answer in correct) / others)
    return {"answer_space": len(pooled), "others_right": float(np.mean(rates)) if rates else None, "problems": len(rates)}
