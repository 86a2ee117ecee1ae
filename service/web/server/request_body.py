"""The body of a request, read whole up to a limit, and given again to the application behind."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The whole body; None where it has more than `limit` bytes, which a stated length says before it is read."""
    stated = HTTPConnection(scope).headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` first, then whatever comes."""
    done = False

    async def replay() -> Message:
        nonlocal done
        if done:
            return await receive()
        done = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
