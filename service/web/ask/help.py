"""The help on the Ask tab: how answers are checked, and the error rates of the check."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from kb.notes import PasskbError
from service.answering.check.error_rates import ErrorRates, describe, load_checker_rates, load_judge_rates
from service.config import read_config
from service.web.ask.answer import GRADES
from service.web.components.templates import render


def help_html(home: Path) -> Markup:
    rates: dict[str, ErrorRates] = {}
    judge_enabled, problem = False, ""
    try:
        rates, judge_enabled = load_judge_rates(home), read_config(home).llm_judge
    except PasskbError as error:
        problem = str(error)
    return render(
        "ask/help.html",
        grades=GRADES.values(),
        checker=" ".join(describe(load_checker_rates())),
        judges=[(name, " ".join(describe(judge))) for name, judge in rates.items()],
        unmeasured_judge=judge_enabled and not rates,
        problem=problem,
    )
