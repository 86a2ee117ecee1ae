"""How events of the page that change the same things are kept from overtaking each other."""

from __future__ import annotations

from typing import Any


def in_turn(name: str) -> dict[str, Any]:
    """Options of an event that is handled one at a time, in order: whoever clicks twice sees what was clicked last."""
    return {
        "show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple", "concurrency_id": name,
        "concurrency_limit": 1,
    }  # fmt: skip


def by_page(name: str) -> dict[str, Any]:
    """Options of an event whose order each page's conversation keeps by itself: one page never waits for another."""
    return in_turn(name) | {"concurrency_limit": 16}
