"""Parses the responses of completions servers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def find_error(answer: Mapping[str, Any]) -> str:
    """What is wrong with a completions response, or ""."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return "the response has no choices"
    for choice in choices:
        if choice.get("finish_reason") in ("abort", "error"):
            return f"a completion ended with {choice['finish_reason']!r}"
        if not isinstance(choice.get("text"), str) and not isinstance(choice.get("message"), dict):
            return "a choice has no text"
    return ""


def text_of(choice: Mapping[str, Any]) -> str:
    """The text of a choice of the completions or the chat API."""
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    return str(choice["message"].get("content") or "")


def _logprobs(choice: Mapping[str, Any]) -> list[float] | None:
    """One for each token, from the completions or the chat API."""
    logprobs = choice.get("logprobs") or {}
    if isinstance(logprobs.get("content"), list):
        return [entry["logprob"] for entry in logprobs["content"]]
    return logprobs.get("token_logprobs")


def logprob_of(choice: Mapping[str, Any]) -> float | None:
    """The sum over the tokens, or None if the server returns none."""
    values = _logprobs(choice)
    return None if values is None or None in values else math.fsum(values)


def token_counts(choices: Sequence[Mapping[str, Any]], texts: Sequence[str], usage: Mapping[str, Any]) -> list[int]:
    """Generated tokens of each choice: exact with token ids or log-probabilities, else the request's total apportioned by text
    length."""
    exact = [choice.get("token_ids") or _logprobs(choice) for choice in choices]
    if all(isinstance(one, list) for one in exact):
        return [len(one or ()) for one in exact]
    total = int(usage.get("completion_tokens") or 0)
    return apportioned(total, [len(text) for text in texts])


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """`total` apportioned in proportion to weights + 1 by largest remainders; the shares sum to `total`."""
    whole = sum(weights) + len(weights)
    shares = [total * (weight + 1) // whole for weight in weights]
    remainders = [total * (weight + 1) % whole for weight in weights]
    for index in sorted(range(len(weights)), key=lambda index: -remainders[index])[: total - sum(shares)]:
        shares[index] += 1
    return shares
