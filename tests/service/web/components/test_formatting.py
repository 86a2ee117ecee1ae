"""Figures in words: what is not known is said, never 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web.components.formatting import UNKNOWN, day, duration, interval, number, percent, points


@pytest.mark.parametrize("value", [None, math.nan, True, "0.5"])
def test_what_is_no_number_is_unknown(value: Any) -> None:
    assert percent(value) == points(value) == number(value) == UNKNOWN


def test_intervals_stand_in_brackets_where_they_are_known() -> None:
    assert interval({"estimate": 0.2134, "low": 0.18, "high": 0.241}, percent) == "21.3 % (18.0 to 24.1)"
    assert interval({"estimate": -0.05, "low": -0.1, "high": 0.0}, points) == "−5.0 (−10.0 to +0.0)"
    assert interval({"estimate": 0.5, "low": None, "high": None}, percent) == "50.0 %"
    assert interval({"estimate": None, "low": 0.1, "high": 0.2}, percent) == interval(None, percent) == UNKNOWN


@given(st.floats(0, 1e7))
def test_durations_have_one_unit_and_grow(seconds: float) -> None:
    said = duration(seconds)
    value, unit = said.split("\u00a0")
    assert float(value) >= 0 and unit in ("s", "min", "h")


def test_days_and_counts() -> None:
    assert day("2026-11-20T19:33:31+00:00") == "2026-11-20, 19:33" and day("2026-11-20") == "2026-11-20" and day("") == ""
    assert number(12345) == "12,345" and number(0.61234) == "0.612" and number(12345.6) == "12,346"
