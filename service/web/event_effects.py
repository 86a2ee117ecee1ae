"""Marks each event handler as `reads` or `writes`, and lets handlers that write run only with a valid page token.

`protect` rejects unmarked handlers, and adds the token check to the handlers themselves, whichever Gradio route calls them.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

log = logging.getLogger("passkb.events")
REFUSED = "Nothing was changed: this page is out of date. Reload it and try again."
_MARK = "passkb_effect"
Handler = TypeVar("Handler", bound=Callable[..., Any])
Check = Callable[[Any], str | None]


@dataclass(frozen=True, slots=True)
class Effect:
    """`action`: what a handler writes, for the log; empty for a handler that only reads."""

    action: str = ""

    @property
    def writes(self) -> bool:
        return bool(self.action)


def reads(handler: Handler) -> Handler:
    """Marks a handler that changes only its own page."""
    setattr(handler, _MARK, Effect())
    return handler


def writes(action: str) -> Callable[[Handler], Handler]:
    """Marks a handler that starts or writes something. `action`: a verb phrase for the log."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _MARK, Effect(action))
        return handler

    return mark


def effects(blocks: Any) -> dict[int, Effect | None]:
    """The effect of every event with a server-side handler, by event number; None for an unmarked handler."""
    return {number: getattr(event.fn, _MARK, None) for number, event in blocks.fns.items() if event.fn is not None}


def protect(blocks: Any, refusal: Check) -> None:
    """Adds the check to every handler that writes. `refusal`: why a request may not write, or None if it may.

    Raises TypeError for an unmarked handler.
    """
    for number, effect in effects(blocks).items():
        event = blocks.fns[number]
        if effect is None:
            raise TypeError(f"event {number} ({event.api_name}) is marked neither `reads` nor `writes`")
        if effect.writes:
            event.fn = _checked(event.fn, effect.action, refusal)


def _checked(handler: Callable[..., Any], action: str, refusal: Check) -> Callable[..., Any]:
    def check() -> None:
        reason = refusal(LocalContext.request.get(None))
        if reason is not None:
            log.warning("refused to %s: %s", action, reason)
            raise gr.Error(REFUSED, print_exception=False)

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def checked_generator(*arguments: Any, **options: Any) -> Iterator[Any]:
            check()
            yield from handler(*arguments, **options)

        return checked_generator

    @functools.wraps(handler)
    def checked(*arguments: Any, **options: Any) -> Any:
        check()
        return handler(*arguments, **options)

    return checked
