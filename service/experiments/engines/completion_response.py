"""What a completions server's answer says. Pure; knows nothing about connections, prompts or seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def wrong_with(answer: Mapping[str, Any]) -> str:
    """What is amiss with a completions answer, "" when nothing is."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return "the answer has no choices"
    for choice in choices:
        if choice.get("finish_reason") in ("abort", "error"):
            return f"a completion ended with {choice['finish_reason']!r}"
        if not isinstance(choice.get("text"), str) and not isinstance(choice.get("message"), dict):
            return "a choice has no text"
    return ""


def text_of(choice: Mapping[str, Any]) -> str:
    """Of either API's form of a choice."""
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    return str(choice["message"].get("content") or "")


def _logprobs(choice: Mapping[str, Any]) -> list[float] | None:
    """One for each token, of either API's form."""
    told = choice.get("logprobs") or {}
    if isinstance(told.get("content"), list):
        return [entry["logprob"] for entry in told["content"]]
    return told.get("token_logprobs")


def logprob_of(choice: Mapping[str, Any]) -> float | None:
    """The sum over its tokens, as the server gives them; None when it doesn't."""
    values = _logprobs(choice)
    return None if values is None or None in values else math.fsum(values)


def token_counts(choices: Sequence[Mapping[str, Any]], texts: Sequence[str], usage: Mapping[str, Any]) -> list[int]:
    """Generated tokens of each choice: exact from token ids or log-probabilities, else the request's total shared out in
    proportion to the length of text (largest remainders; at least one each, where the total allows)."""
    exact = [choice.get("token_ids") or _logprobs(choice) for choice in choices]
    if all(isinstance(one, list) for one in exact):
        return [len(one or ()) for one in exact]
    total = int(usage.get("completion_tokens") or 0)
    return apportioned(total, [len(text) for text in texts])


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """`total` shared out in proportion to weights + 1, by largest remainders; the shares add up to `total`."""
    whole = sum(weights) + len(weights)
    shares = [total * (weight + 1) // whole for weight in weights]
    remainders = [total * (weight + 1) % whole for weight in weights]
    for index in sorted(range(len(weights)), key=lambda index: -remainders[index])[: total - sum(shares)]:
        shares[index] += 1
    return shares
