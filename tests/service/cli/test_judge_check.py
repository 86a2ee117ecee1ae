"""`passkb judge-check` and the figures that the app shows: counted, kept by model, told in words, and never invented."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.notes import PasskbError
from service.answering.answer import Support
from service.answering.check.entailment import CheckResult, Pair
from service.answering.check.error_rates import (
    JUDGE_RATES,
    LabelledPair,
    Rate,
    count_grades,
    describe,
    load_checker_rates,
    load_judge_rates,
    load_labelled_pairs,
    save_judge_rates,
)
from service.answering.check.judge import SYSTEM_PROMPT as JUDGING
from service.cli.main import main
from tests.service.answering.scripted_server import Body, Reply, said, serving

S, P, U = Support.SUPPORTED, Support.PARTIAL, Support.UNSUPPORTED


def test_figures_are_counted_by_label_grade_and_kind() -> None:
    pairs = [LabelledPair(Pair("x", ["y"]), label, kind) for label, kind in
             [("supported", "true"), ("supported", "true"), ("partial", "half"), ("unsupported", "number")]]  # fmt: skip
    figures = count_grades("m", pairs, [CheckResult(S), CheckResult(P), CheckResult(P), CheckResult(S)])
    assert figures.counts["supported"] == {"supported": 1, "partial": 1, "unsupported": 0}
    assert (figures.precision("supported"), figures.recall("supported")) == (Rate(1, 2), Rate(1, 2))
    assert (figures.precision("partial"), figures.recall("unsupported")) == (Rate(1, 2), Rate(0, 1))
    assert figures.kinds == {"half": (1, 1), "number": (0, 1), "true": (1, 2)} and figures.pairs == 4
    assert math.isnan(figures.precision("unsupported").share) and "none" in " ".join(describe(figures))


@given(st.integers(0, 300), st.integers(1, 300))
def test_an_interval_holds_its_share_and_stays_between_0_and_1(hits: int, total: int) -> None:
    rate = Rate(min(hits, total), total)
    assert -1e-12 <= rate.low <= rate.share + 1e-12 and rate.share - 1e-12 <= rate.high <= 1 + 1e-12


def test_wilson_as_published() -> None:
    """Agresti and Coull (1998): 0 of 10 gives 0 to 0.278, 9 of 10 gives 0.596 to 0.982."""
    assert (Rate(0, 10).low, Rate(0, 10).high) == pytest.approx((0, 0.2775), abs=5e-4)
    assert (Rate(9, 10).low, Rate(9, 10).high) == pytest.approx((0.5958, 0.9821), abs=5e-4)


def test_what_ships_says_of_how_many_and_when() -> None:
    figures = load_checker_rates()
    told = describe(figures)
    right = figures.precision("supported")
    assert figures.date in told[0] and f"{figures.pairs} sentences" in told[0]
    assert f"Of {right.total} sentences called supported, {right.hits} were" in told[1]
    assert 0.8 < right.low < right.share


def test_judges_are_kept_beside_each_other_and_a_torn_file_is_named(home: Path) -> None:
    assert load_judge_rates(home) == {}
    pairs = [LabelledPair(Pair("x", ["y"]), "supported", "true")]
    one, other = (
        count_grades("one/model", pairs, [CheckResult(S)], 1.5, 1),
        count_grades("other", pairs, [CheckResult(U)], 0.5, 1),
    )
    for figures in (one, other, one):
        save_judge_rates(home, figures)
    assert load_judge_rates(home) == {"one/model": one, "other": other}
    for torn in ('{"one": ', '{"one": {"check": "one"}}', "[]", '{"one": {"counts": []}}'):
        (home / JUDGE_RATES).write_text(torn)
        with pytest.raises(PasskbError, match=r"judge_figures.json cannot be read .*judge-check"):
            load_judge_rates(home)
    save_judge_rates(home, other)
    assert load_judge_rates(home) == {"other": other}


def knows(body: Body) -> Reply:
    """A judge that has read the labels."""
    assert body["messages"][0]["content"] == JUDGING
    labels = {entry.pair.sentence[:60]: entry.label for entry in load_labelled_pairs()}
    lines = [line for line in body["messages"][1]["content"].splitlines() if ". Sentence: " in line]
    found = [
        (line.split(".")[0], next((label for start, label in labels.items() if start[:30] in line), "?")) for line in lines
    ]
    return said("\n".join(f"{number}: {label}" for number, label in found))


def test_the_command_measures_a_model_and_keeps_what_it_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(knows) as server:
        status = main(["--home", str(home), "judge-check", "--llm", server.url, "--json"])
        calls = len(server.asked)
    told = json.loads(capsys.readouterr().out)
    assert status in (0, 3) and 10 <= calls <= 30 and told["check"] == "scripted" and told["pairs"] == 160
    figures = load_judge_rates(home)["scripted"]
    assert json.loads(json.dumps(figures.to_json())) == told and (figures.read or 0) >= 120
    assert figures.recall("supported").share > load_checker_rates().recall("supported").share
    assert figures.precision("supported").share > 0.95
    with serving(knows) as server:
        main(["--home", str(home), "judge-check", "--llm", server.url])
    assert "The model graded" in capsys.readouterr().out


def test_a_model_that_can_not_judge_is_not_measured(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(home), "judge-check"]) == 1
    assert "add --llm URL" in capsys.readouterr().err
    with serving(said("I can not judge.")) as server:
        assert main(["--home", str(home), "judge-check", "--llm", server.url]) == 1
    assert "no usable grade" in capsys.readouterr().err
    with serving(Reply(status=404, error="no such model")) as server:
        assert main(["--home", str(home), "judge-check", "--llm", server.url, "--model", "m"]) == 1
    assert "no such model" in capsys.readouterr().err and load_judge_rates(home) == {}
