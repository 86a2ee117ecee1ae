"""Finds inline spans that are not prose: code, formulas, comments and escapes, in linear time."""

from __future__ import annotations

import re
from bisect import bisect_right

FORMULA = re.compile(r"\\[a-zA-Z]|[\^_={}]")
_MARK = re.compile(r"\\[!-/:-@\[-`{-~]|`+|\$\$?|<!--|%%|\ue000")
_CLOSERS = {"\\(": "\\)", "\\[": "\\]"}
_DOLLAR = re.compile(r"(?<![\s\\$])\$(?![\d$])")


def is_within(spans: list[tuple[int, int]], pos: int) -> bool:
    """Whether `pos` is strictly inside one of the sorted spans."""
    i = bisect_right(spans, pos, key=lambda span: span[0]) - 1
    return i >= 0 and spans[i][0] < pos < spans[i][1]


def opaque_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The inline code, formulas, comments and backslash escapes between `start` and `end`, in order, not overlapping. An
    escape has two characters; a formula in `\\(…\\)` or `\\[…\\]` is one span."""
    stop, pos = len(text) if end is None else end, start
    spans: list[tuple[int, int]] = []
    unclosed: set[str] = set()
    backtick_runs: dict[int, list[int]] = {}
    ends: dict[str, int] = {}  # the offset of the next closer of a formula
    while m := _MARK.search(text, pos, stop):
        mark, pos, close = m[0], m.end(), -1
        if mark[0] in "\\\ue000":
            close = pos
            if mark in _CLOSERS and mark not in unclosed:
                if ends.get(mark, -1) < pos:
                    ends[mark] = text.find(_CLOSERS[mark], pos, stop)
                if ends[mark] < 0:
                    unclosed.add(mark)
                elif text.find(mark, pos, ends[mark]) < 0 and FORMULA.search(text, pos, ends[mark]):
                    close = ends[mark] + 2
        elif mark[0] == "`":
            if not backtick_runs:
                for run in re.compile("`+").finditer(text, m.start(), stop):
                    backtick_runs.setdefault(len(run[0]), []).append(run.start())
            same = backtick_runs.get(len(mark), [])
            i = bisect_right(same, m.start())
            close = same[i] + len(mark) if i < len(same) else -1
        elif mark not in unclosed:
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
                unclosed.add(mark)
        if close >= 0:
            spans.append((m.start(), close))
            pos = close
    return spans
