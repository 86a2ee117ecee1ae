"""Options for page events that must not run in parallel."""

from __future__ import annotations

from typing import Any


def one_at_a_time(queue: str) -> dict[str, Any]:
    """Gradio runs the events of `queue` one after another, so that the last click wins."""
    return {
        "show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple", "concurrency_id": queue,
        "concurrency_limit": 1,
    }  # fmt: skip


def in_parallel(queue: str) -> dict[str, Any]:
    """Gradio runs up to 16 events of `queue` at once: pages don't wait for each other. Each page's conversation keeps order."""
    return one_at_a_time(queue) | {"concurrency_limit": 16}
