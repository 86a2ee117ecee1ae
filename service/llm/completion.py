"""One complete, sanitized text from a model."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.llm.client import Model, ModelError, Stopped
from service.llm.sanitize import sanitize

Complete = Callable[[str, str, str], str]
"""(system prompt, user prompt, pattern or "") -> text. Raises ModelError."""


def complete(
    model: Model,
    system: str,
    user: str,
    *,
    max_tokens: int,
    pattern: str = "",
    stop: Callable[[], bool] | None = None,
    limit: float | None = None,
) -> str:
    """The sanitized output of the model. `limit`: timeout in seconds.

    Raises Stopped if `stop` returns true, and ModelError for an incomplete text.
    """
    until = time.monotonic() + limit if limit else None
    asked_to = stop or (lambda: False)

    def over() -> bool:
        return asked_to() or (until is not None and time.monotonic() > until)

    try:
        pieces = model.stream(system, user, max_tokens=max_tokens, pattern=pattern, stop=over)
        raw = "".join(piece.text for piece in pieces if not piece.is_reasoning)
    except Stopped:
        if asked_to():
            raise
        raise ModelError(f"the model took longer than {limit:g} s") from None
    return sanitize(raw, ended=True).text
