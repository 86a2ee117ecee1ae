"""Figures as people read them: percentages, intervals, durations, days. Pure text, nothing is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

UNKNOWN = "–"


def percent(value: Any) -> str:
    """A share as a percentage: 0.2134 is `21.3 %`."""
    return UNKNOWN if _missing(value) else f"{100 * float(value):.1f} %"


def points(value: Any) -> str:
    """A difference of shares in percentage points, with its sign."""
    return UNKNOWN if _missing(value) else f"{100 * float(value):+.1f}".replace("-", "−")


def number(value: Any) -> str:
    """A count as it is, a mean with three digits."""
    if _missing(value):
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{float(value):,.3g}" if abs(value) < 1000 else f"{float(value):,.0f}"


def interval(entry: Mapping[str, Any] | None, shown: Callable[[Any], str]) -> str:
    """`21.3 % (18.0 to 24.1)`; without the bracket where the interval is not known."""
    if entry is None or _missing(entry.get("estimate")):
        return UNKNOWN
    low, high = entry.get("low"), entry.get("high")
    if _missing(low) or _missing(high):
        return shown(entry["estimate"])
    return f"{shown(entry['estimate'])} ({shown(low).removesuffix(' %')} to {shown(high).removesuffix(' %')})"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 5_400 else f"{seconds / 3600:.1f}\u00a0h"


def day(moment: str) -> str:
    """`2026-11-20, 19:33` of an ISO time; what is no time stays as it is."""
    date, _, time = moment.partition("T")
    return f"{date}, {time[:5]}" if time else date


def _missing(value: Any) -> bool:
    return value is None or isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value)
