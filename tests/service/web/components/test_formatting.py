"""Values as text; unknown values are never shown as 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web.components.formatting import UNKNOWN, day, duration, number, percent


@pytest.mark.parametrize("value", [None, math.nan, True, "0.5"])
def test_non_numbers_are_unknown(value: Any) -> None:
    assert percent(value) == number(value) == UNKNOWN


@given(st.floats(0, 1e7))
def test_durations_have_one_unit_and_grow(seconds: float) -> None:
    text = duration(seconds)
    value, unit = text.split("\u00a0")
    assert float(value) >= 0 and unit in ("s", "min", "h")


def test_days_and_counts() -> None:
    assert day("2026-11-20T19:33:31+00:00") == "2026-11-20, 19:33" and day("2026-11-20") == "2026-11-20" and day("") == ""
    assert number(12345) == "12,345" and number(0.61234) == "0.612" and number(12345.6) == "12,346"
