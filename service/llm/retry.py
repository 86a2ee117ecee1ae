"""Retries of requests to model servers: which responses to retry, and how long to wait."""

from __future__ import annotations

import math

_STATUS = (408, 409, 425, 429)


def is_retryable(status: int) -> bool:
    return status >= 500 or status in _STATUS


def backoff(failures: int, initial: float, maximum: float = math.inf) -> float:
    """Seconds to wait after `failures` failures in a row: `initial`, doubled each time, at most `maximum`."""
    return float(min(maximum, initial * 2 ** (failures - 1)))


def parse_retry_after(header: str | None) -> float | None:
    """The seconds of a Retry-After header; None without one, and for a date."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None
