"""One whole text from a model, for tasks whose words nobody watches coming: in limited time, without reasoning and marks."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.llm.client import Model, ModelError, Stopped
from service.llm.sanitize import sanitize

Complete = Callable[[str, str, str], str]
"""System prompt, user prompt and a pattern that the text is held to where the server can ("" for none), to the text.
Raises ModelError."""


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
    """What the model answers, cleaned. `limit`: seconds after which that counts as a failure.

    Raises Stopped when `stop` says so, else ModelError for whatever is no whole text.
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
        raise ModelError(f"the model took more than {limit:g} s") from None
    return sanitize(raw, ended=True).text
