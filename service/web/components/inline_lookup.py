"""Finds closing brackets and comment ends once per paragraph, so that hostile Markdown parses in linear time.

markdown-it scans from every bracket to the end of its paragraph, which is quadratic for a paragraph of brackets.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any, cast

from markdown_it.rules_inline import StateInline

_LABELS, _CLOSERS = "passkb_labels", "passkb_closers"


def closer_at(state: StateInline, closer: str, start: int) -> int:
    """The first position of `closer` at or after `start` that ends before `state.posMax`, or -1."""
    positions = _cache(state, _CLOSERS)
    if closer not in positions:
        positions[closer] = [m.start() for m in re.finditer(f"(?={re.escape(closer)})", state.src)]
    i = bisect_left(positions[closer], start)
    at = positions[closer][i] if i < len(positions[closer]) else -1
    return at if at + len(closer) <= state.posMax else -1


def parse_link_label(state: StateInline, start: int, disable_nested: bool = False) -> int:
    """markdown-it's `parseLinkLabel`: the `]` of the label that opens at `start`, or -1. Caches the ends of nested brackets."""
    known = _cache(state, _LABELS)
    key = (state.posMax, disable_nested)
    if (end := known.get((start, *key))) is not None:
        return cast(int, end)
    before, opened = state.pos, [start]
    state.pos = start + 1
    while state.pos < state.posMax and opened:
        at, marker = state.pos, state.src[state.pos]
        if marker == "]":
            known[(opened.pop(), *key)] = at
            if not opened:
                break
        state.md.inline.skipToken(state)
        if marker == "[":
            if state.pos == at + 1:
                opened.append(at)  # a bracket that is part of no token
            elif disable_nested:  # a link within the label
                break
    known.update(((at, *key), -1) for at in opened)
    state.pos = before
    return cast(int, known[(start, *key)])


def _cache(state: StateInline, name: str) -> dict[Any, Any]:
    """A dictionary that lives as long as the parsing of one paragraph."""
    return cast(dict[Any, Any], vars(state).setdefault(name, {}))
