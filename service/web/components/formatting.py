"""Values as text: counts, percentages, intervals, durations, days, statuses and link types. Returns plain, unescaped text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kb.notes import LinkType

UNKNOWN = "–"
LINK_VERBS: Mapping[str, str] = {
    LinkType.CONTRADICTS: "contradicts",
    LinkType.QUALIFIES: "qualifies",
    LinkType.SUPPORTS: "supports",
    LinkType.EVIDENCE_FOR: "is evidence for",
    LinkType.EXTENDS: "extends",
    LinkType.EXPLAINS: "explains",
    LinkType.DRAWS_ON: "draws on",
    LinkType.CITES: "cites",
    LinkType.RELATED: "is related to",
    LinkType.MENTIONS: "mentions",
}
CLAIM_STATUSES: Mapping[str, str] = {
    "untested": "not tested yet", "supported": "supported", "refuted": "refuted", "underpowered": "underpowered",
}  # fmt: skip


def link_verb(link_type: str) -> str:
    """The verb of a link type, read from its source ("A contradicts B"); an unknown type as it is."""
    return LINK_VERBS.get(link_type, str(link_type))


def status_label(status: str) -> str:
    """A claim's status in words; an unknown status as it is."""
    return CLAIM_STATUSES.get(status, status)


def count(value: int, singular: str, plural: str = "") -> str:
    """`1 note`, `2 notes`, `1,200 notes`."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def upper_first(message: object) -> str:
    """A message with a capital at its start, unless it starts with a name such as `models.base` or `rates.csv`."""
    words = str(message).strip()
    return words[:1].upper() + words[1:] if words.partition(" ")[0].rstrip(",:;").isalpha() else words


def percent(value: Any) -> str:
    """A fraction as a percentage: 0.2134 is `21.3 %`."""
    return UNKNOWN if _missing(value) else f"{100 * float(value):.1f} %"


def number(value: Any) -> str:
    """An integer with thousands separators, a float with three significant digits."""
    if _missing(value):
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{float(value):,.3g}" if abs(value) < 1000 else f"{float(value):,.0f}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 5_400 else f"{seconds / 3600:.1f}\u00a0h"


def day(moment: str) -> str:
    """An ISO time as `2026-11-20, 19:33`; other text unchanged."""
    date, _, time = moment.partition("T")
    return f"{date}, {time[:5]}" if time else date


def _missing(value: Any) -> bool:
    return value is None or isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value)
