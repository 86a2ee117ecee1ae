"""Where what opens in a line of Markdown closes, found once for a whole paragraph instead of once for each opener.

markdown-it walks from every bracket to the end of its paragraph; a paragraph of nothing but brackets would take minutes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any, cast

from markdown_it.rules_inline import StateInline

_LABELS, _CLOSERS = "passkb_labels", "passkb_closers"


def closer_at(state: StateInline, closer: str, start: int) -> int:
    """The first place of `closer` at or after `start` that ends within what is being parsed, or -1."""
    places = _kept(state, _CLOSERS)
    if closer not in places:
        places[closer] = [m.start() for m in re.finditer(f"(?={re.escape(closer)})", state.src)]
    i = bisect_left(places[closer], start)
    at = places[closer][i] if i < len(places[closer]) else -1
    return at if at + len(closer) <= state.posMax else -1


def parse_link_label(state: StateInline, start: int, disable_nested: bool = False) -> int:
    """markdown-it's helper of the same name: the `]` of the label that opens at `start`, or -1. Brackets that the walk passes
    on its way are remembered with their ends, or as having none."""
    known = _kept(state, _LABELS)
    key = (state.posMax, disable_nested)
    if (found := known.get((start, *key))) is not None:
        return cast(int, found)
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


def _kept(state: StateInline, name: str) -> dict[Any, Any]:
    """What is remembered as long as one paragraph is parsed."""
    return cast(dict[Any, Any], vars(state).setdefault(name, {}))
