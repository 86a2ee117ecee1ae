"""Retries: statuses, waiting times and the Retry-After header."""

from __future__ import annotations

import pytest

from service.llm.retry import backoff, is_retryable, parse_retry_after


def test_only_failures_that_can_pass_are_retried() -> None:
    assert [status for status in (200, 301, 400, 401, 404, 408, 409, 422, 425, 429, 500, 503) if is_retryable(status)] == [
        408, 409, 425, 429, 500, 503,
    ]  # fmt: skip


def test_waiting_doubles_up_to_the_maximum() -> None:
    assert [backoff(failures, 0.5, 3.0) for failures in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff(4, 1.0) == 8.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), ("0.5", 0.5), ("-3", 0.0), ("", None), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)
def test_retry_after_is_read_as_seconds(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds
