"""Waiting for work on behalf of a client that may leave: then the work is told, and whatever waits in line is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_LOOK = 0.25  # seconds between two looks at whether the client is still there


class Disconnected(Exception):
    """The client is gone; nobody reads an answer."""


async def while_connected(
    work: Coroutine[Any, Any, T], disconnected: Callable[[], Awaitable[bool]], left: Callable[[], None] = lambda: None
) -> T:
    """The result of `work`. Once `disconnected`, calls `left` and cancels `work`. Raises Disconnected, or what it raises."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK))[0]:
            if await disconnected():
                raise Disconnected
        return task.result()
    finally:
        left()
        if not task.done():
            task.cancel()
