"""The spans of a Markdown text that are not prose though they stand in it: inline code, formulas, comments, escapes.

Linear in the length of the text, whatever the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right

FORMULA = re.compile(r"\\[a-zA-Z]|[\^_={}]")
_MARK = re.compile(r"\\[!-/:-@\[-`{-~]|`+|\$\$?|<!--|%%|\ue000")
_CLOSERS = {"\\(": "\\)", "\\[": "\\]"}
_DOLLAR = re.compile(r"(?<![\s\\$])\$(?![\d$])")


def is_within(spans: list[tuple[int, int]], pos: int) -> bool:
    """Whether a place lies within one of the spans, in order, and not at its edge."""
    i = bisect_right(spans, pos, key=lambda span: span[0]) - 1
    return i >= 0 and spans[i][0] < pos < spans[i][1]


def opaque_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The spans between `start` and `end` that are not prose though they stand in it, in order: inline code, formulas,
    comments and backslash escapes (two characters; a formula in `\\(…\\)` or `\\[…\\]` is one span). Spans do not overlap."""
    stop, pos = len(text) if end is None else end, start
    spans: list[tuple[int, int]] = []
    absent: set[str] = set()
    ticks: dict[int, list[int]] = {}
    ends: dict[str, int] = {}  # where the next closer of a formula stands
    while m := _MARK.search(text, pos, stop):
        mark, pos, close = m[0], m.end(), -1
        if mark[0] in "\\\ue000":
            close = pos
            if mark in _CLOSERS and mark not in absent:
                if ends.get(mark, -1) < pos:
                    ends[mark] = text.find(_CLOSERS[mark], pos, stop)
                if ends[mark] < 0:
                    absent.add(mark)
                elif text.find(mark, pos, ends[mark]) < 0 and FORMULA.search(text, pos, ends[mark]):
                    close = ends[mark] + 2
        elif mark[0] == "`":
            if not ticks:
                for run in re.compile("`+").finditer(text, m.start(), stop):
                    ticks.setdefault(len(run[0]), []).append(run.start())
            same = ticks.get(len(mark), [])
            i = bisect_right(same, m.start())
            close = same[i] + len(mark) if i < len(same) else -1
        elif mark not in absent:
            if mark == "$":
                if pos >= stop or text[pos].isspace():
                    continue
                done = _DOLLAR.search(text, pos + 1, stop)
                close = done.end() if done else -1
            else:
                closer = "-->" if mark == "<!--" else mark
                close = text.find(closer, pos, stop)
                close = close + len(closer) if close >= 0 else -1
            if close < 0:
                absent.add(mark)
        if close >= 0:
            spans.append((m.start(), close))
            pos = close
    return spans
