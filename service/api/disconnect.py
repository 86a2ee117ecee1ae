"""Cancels work when the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class Disconnected(Exception):
    """The client disconnected."""


async def while_connected(
    work: Coroutine[Any, Any, T], receive: Receive | None, on_disconnect: Callable[[], None] = lambda: None
) -> T:
    """The result of `work`. If `receive` (after the body) reports a disconnected client, calls `on_disconnect`, cancels `work`.

    Raises Disconnected, or what `work` raises."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_wait_for_disconnect(receive)) if receive is not None else None
    try:
        await asyncio.wait({task, watch} if watch else {task}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        on_disconnect()
        for each in (task, watch):
            if each is not None and not each.done():
                each.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
