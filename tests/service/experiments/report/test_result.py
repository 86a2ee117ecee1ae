"""Results from tallies alone: finished, in progress, screened; and the curve that is drawn of them."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments.execution.run_store import DIRECT, Judged, Run, Runs, Tally, tally, write_json
from service.experiments.report import result as results
from service.experiments.report.confounders import Scores, measure_confounders, perplexities
from service.experiments.report.counts import totals
from service.experiments.report.curve import curve_svg
from service.experiments.report.result import result_text
from service.experiments.report.schema import Estimate, Guessing, Result
from service.experiments.report.text import interval
from service.experiments.spec import from_mapping
from service.experiments.statistics.estimators import pass_at_k
from service.experiments.types import Completion, Judgement, Verdict

PASS, FAIL, TIMEOUT, CUT = Verdict.PASS, Verdict.FAIL, Verdict.TIMEOUT, Verdict.TRUNCATED


def a_run(home: Path, n: int, models: Sequence[str] = ("base", "tuned"), **extra: Any) -> Run:
    screen = extra.pop("screen", 0)
    given = {
        "problems": {"set": "countdown"}, "models": {name: {"model": f"folder/{name}"} for name in models},
        "sampling": {"n": n, "screen": screen}, **extra,
    }  # fmt: skip
    return Runs(home).create(from_mapping(given), n_problems=20)


def drawn(problem: str, first: int, verdicts: Sequence[Verdict]) -> tuple[Tally, Judged]:
    pairs = [
        (
            Completion(problem, first + i, "text", 10, "length" if verdict is CUT else "stop", -5.0),
            Judgement(verdict, "" if verdict is CUT else f"{problem} {verdict}", verdict is not CUT),
        )
        for i, verdict in enumerate(verdicts)
    ]
    return tally(problem, first, pairs), pairs


def sampled(run: Run, model: str, n: int, rates: Sequence[float], seed: int = 0) -> list[int]:
    """Draws and keeps; how many passed a problem."""
    rng, passed = np.random.default_rng(seed), []
    for i, rate in enumerate(rates):
        verdicts = [PASS if right else FAIL for right in rng.random(n) < rate]
        run.append(model, [drawn(f"p{i:02}", 0, verdicts)])
        passed.append(verdicts.count(PASS))
    return passed


def result(run: Run, status: str = "") -> dict[str, Any]:
    """The result as JSON, which reads back as the same result."""
    values = results.result(run, status).to_json()
    assert Result.model_validate(json.loads(json.dumps(values, allow_nan=False))).to_json() == values
    return values


def read(values: Mapping[str, Any]) -> Result:
    return Result.model_validate(values)


def at(rows: Sequence[Mapping[str, Any]], k: int) -> Mapping[str, Any]:
    return next(row for row in rows if row["k"] == k)


def test_a_finished_run_has_what_the_contract_lists_and_its_figures_are_those_of_its_counts(home: Path) -> None:
    run = a_run(home, 16, prediction={"kind": "crossover"})
    base = sampled(run, "base", 16, [0.3] * 30)
    tuned = sampled(run, "tuned", 16, [0.9] * 10 + [0.0] * 20, seed=1)
    run.update(environment={"base": {"engine": "vllm", "engine_version": "0.32", "device": "H200"}}, problems_sha256="ab")
    found = result(run, "succeeded")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name, passed in (("base", base), ("tuned", tuned)):
        model = next(model for model in found["models"] if model["name"] == name)
        assert (model["n_problems"], model["n"], model["verdicts"]["pass"]) == (30, 16, sum(passed))
        for k in (1, 8, 16):
            row = at(model["pass_at_k"], k)
            assert math.isclose(row["estimate"], pass_at_k([16] * 30, passed, k).mean(), rel_tol=1e-12)
            assert row["low"] <= row["estimate"] <= row["high"]
    comparison, difference = found["comparison"], at(found["comparison"]["difference"], 1)["estimate"]
    assert math.isclose(difference, (sum(tuned) - sum(base)) / 16 / 30, abs_tol=1e-12)
    assert comparison["solved"] == {
        "both": sum(b > 0 < t for b, t in zip(base, tuned, strict=True)),
        "base_only": sum(b > 0 == t for b, t in zip(base, tuned, strict=True)),
        "tuned_only": sum(b == 0 < t for b, t in zip(base, tuned, strict=True)),
        "neither": sum(b == 0 == t for b, t in zip(base, tuned, strict=True)),
    }
    assert found["noisy_edge"] == [16] and comparison["edge"] == 8 and comparison["mcnemar_p"] < 0.01
    assert found["environment"]["engine"] == "vllm" and found["environment"]["problems_sha256"] == "ab"
    assert found["environment"]["settings"]["n"] == 16 and found["progress"] == {"done": 960, "total": 960, "eta_s": 0.0}


@pytest.mark.parametrize(("tuned", "verdict"), [([0.9] * 20 + [0.0] * 20, "supported"), ([0.999] * 40, "refuted")])
def test_the_verdict_is_that_of_the_rules_and_comes_with_power_and_a_sentence(
    home: Path, tuned: Sequence[float], verdict: str
) -> None:
    run = a_run(home, 64, prediction={"kind": "crossover"})
    sampled(run, "base", 64, [0.05] * 40)
    sampled(run, "tuned", 64, tuned, seed=1)
    found = result(run, "succeeded")
    prediction = found["prediction"]
    assert (prediction["verdict"], prediction["comparisons_made"]) == (verdict, 1) and "k = 1 " in prediction["sentence"]
    assert found["comparison"]["power"]["decided"] > 0.9
    assert found["extrapolation"]["base"]["band"][0]["k"] == 128 and len(found["extrapolation"]["base"]["models"]) >= 2
    assert verdict in result_text(read(found)) and "64*" in result_text(read(found))


def test_an_unfinished_run_says_on_how_many_problems_each_figure_rests_and_is_not_judged(home: Path) -> None:
    run = a_run(home, 8, prediction={"kind": "higher", "model": "tuned"})
    assert result(run, "queued")["models"][0]["pass_at_k"][0]["estimate"] is None
    assert result(run, "queued")["comparison"] is None
    run.append("base", [drawn("p1", 0, [PASS] * 8), drawn("p2", 0, [FAIL] * 4), drawn("p3", 0, [FAIL])])
    run.append("tuned", [drawn("p1", 0, [PASS] * 2), drawn("p2", 0, [FAIL, PASS])])
    run.write_progress(done=17, total=320, eta_s=3.5)
    found = result(run, "running")
    assert [row["problems"] for row in found["models"][0]["pass_at_k"]] == [3, 2, 2, 1]
    assert math.isclose(found["models"][0]["pass_at_k"][0]["estimate"], 1 / 3)
    assert [row["problems"] for row in found["comparison"]["difference"]] == [2, 2, 0, 0]
    assert found["prediction"]["verdict"] is None and found["comparison"]["power"] is None
    assert found["progress"]["eta_s"] == 3.5 and "no verdict yet" in result_text(read(found))
    assert result(run, "cancelled")["prediction"]["verdict"] is None


def test_screened_counts_are_estimated_without_the_bias_of_the_plain_formula(home: Path) -> None:
    run = a_run(home, 8, models=["base"], screen=4)
    solved, late, never = [PASS, FAIL, FAIL, FAIL], [PASS, FAIL, FAIL, FAIL], [FAIL] * 4
    run.append("base", [drawn("a", 0, solved), drawn("b", 0, never), drawn("c", 0, never)])
    run.append("base", [drawn("b", 4, late), drawn("c", 4, never)])
    model = result(run, "succeeded")["models"][0]
    assert math.isclose(at(model["pass_at_k"], 1)["estimate"], 1 / 12), "only the first attempts: 1 of 12"
    assert at(model["pass_at_k"], 8)["estimate"] == pytest.approx(2 / 3)
    assert at(model["pass_hat_k"], 8)["estimate"] is None and model["attempts"] == 20
    run.append("base", [drawn("d", 0, [FAIL] * 2)])
    assert result(run, "running")["models"][0]["n_problems"] == 3, "a problem counts once it is screened"


def test_time_outs_are_bounds_and_what_is_cut_off_is_told_apart(home: Path) -> None:
    run = a_run(home, 4, models=["base"], ks=[1])
    run.append("base", [drawn("a", 0, [PASS, TIMEOUT, FAIL, CUT]), drawn("b", 0, [FAIL, FAIL, TIMEOUT, CUT])])
    model = result(run, "succeeded")["models"][0]
    assert model["verdicts"] == {"pass": 1, "fail": 3, "timeout": 2, "error": 0, "truncated": 2}
    (bounds,) = model["unknown_bounds"]
    assert (bounds["low"], bounds["high"]) == (pytest.approx(0.125), pytest.approx(0.375))
    assert (model["truncation"], model["format_failures"], model["tokens_mean"]) == (0.25, 0.25, 10.0)
    assert model["token_entropy"] == pytest.approx(0.5) and model["distinct_answers"] == 2.5
    assert at(model["maj_at_k"], 1)["estimate"] == pytest.approx(0.125)


def test_what_was_not_recorded_is_none_and_not_zero() -> None:
    found = measure_confounders(totals([Tally("a", 0, 5, 2), Tally("b", 0, 5, 0)], 0), ())
    assert set(found.model_dump().values()) == {None}


def test_guessing_is_how_often_an_answer_to_another_problem_is_right() -> None:
    entries = [
        Tally("a", 0, 4, 2, {"pass": 2}, {"7": 2, "8": 2}, ["7"]),
        Tally("b", 0, 4, 1, {"pass": 1}, {"7": 3, "9": 1}, ["9"]),
        Tally("c", 0, 4, 0, {"fail": 4}, {"7": 4}, []),
    ]
    assert measure_confounders(totals(entries, 0), {"truncation"}).guessing == Guessing(
        answer_space=3, others_right=(7 / 8 + 0) / 2, problems=2
    )  # fmt: skip


def test_perplexity_weighs_problems_alike_and_stands_beside_the_models_own() -> None:
    scores: Scores = {"x": {"x": [["a", -2.0, 2], ["a", -6.0, 2], ["b", -8.0, 4]], "y": [["a", -4.0, 2]]}, "y": {"x": []}}
    own, other = perplexities(scores, ["x", "y"])
    assert own.perplexity == pytest.approx(math.exp((2.0 + 2.0) / 2)) and own.logprob_mean == -6.0
    assert (own.problems, own.completions, other.under, other.problems) == (2, 3, "y", 1)


def test_how_steadily_a_model_is_right_stands_beside_how_often_it_ever_is(home: Path) -> None:
    """G-Pass@k from pass@k's neighbourhood to pass^k's, its mean, and Cover@tau: half of the problems always, half never."""
    run = a_run(home, 16, models=["base"])
    sampled(run, "base", 16, [1.0] * 20 + [0.0] * 20)
    model = result(run, "succeeded")["models"][0]
    assert [row["tau"] for row in model["g_pass_at_k"]] == [0.25, 0.5, 0.75]
    for curve in (model["pass_at_k"], model["pass_hat_k"], *(row["curve"] for row in model["g_pass_at_k"])):
        assert [row["estimate"] for row in curve] == [0.5] * 5
    assert at(model["mg_pass_at_k"], 1)["estimate"] is None and at(model["mg_pass_at_k"], 8)["estimate"] == 0.5
    assert all(row["share"] == pytest.approx(0.5, abs=0.02) for row in model["cover_at_tau"])
    assert "g_pass_at_k" not in result(run, "running")["models"][0]


def test_the_direct_control_is_shown_beside_the_model(home: Path) -> None:
    run = a_run(home, 2, models=["base"], direct=4, problems={"file": "sums.jsonl", "format": "gsm8k"})
    run.append("base", [drawn("a", 0, [PASS, FAIL])])
    run.append("base" + DIRECT, [drawn("a", 0, [PASS, FAIL, FAIL, FAIL])])
    direct = result(run, "succeeded")["models"][0]["direct"]
    assert (direct["pass_rate"]["estimate"], direct["problems_passed"], direct["attempts"]) == (0.25, 1, 4)


def test_a_kept_result_is_used_only_while_it_is_of_these_counts(home: Path) -> None:
    run = a_run(home, 4, models=["base"])
    run.append("base", [drawn("a", 0, [PASS, FAIL, FAIL, FAIL])])
    found = result(run, "succeeded")
    marked = {**found, "noisy_edge": [99]}
    write_json(run.folder / "result.json", marked)
    results._cache.clear()
    assert result(run, "succeeded")["noisy_edge"] == [99]
    run.append("base", [drawn("b", 0, [FAIL] * 4)])
    assert result(run, "succeeded")["noisy_edge"] == [4]
    (run.folder / "result.json").write_text("{torn")
    results._cache.clear()
    assert result(run, "succeeded")["models"][0]["n_problems"] == 2


def test_earlier_runs_on_the_same_claim_are_counted_and_corrected_for(home: Path) -> None:
    asked: dict[str, Any] = {"prediction": {"kind": "higher", "model": "tuned"}, "claim": "vault/note#c"}
    first = a_run(home, 8, name="first", **asked)
    first.update(status="succeeded", claim="vault/note#c", p_value=0.001, created="2026-01-01T00:00:00+00:00")
    run = a_run(home, 8, name="second", **asked)
    sampled(run, "base", 8, [0.2] * 20)
    sampled(run, "tuned", 8, [0.8] * 20, seed=1)
    found = result(run, "succeeded")["prediction"]
    assert found["comparisons_made"] == 2 and found["p_value_corrected"] >= found["p_value"]
    assert found["claims_tested"] == 1 and found["p_value_over_claims"] == found["p_value"]


def test_other_claims_tested_before_are_corrected_for_each_by_its_newest_run(home: Path) -> None:
    asked: dict[str, Any] = {"prediction": {"kind": "higher", "model": "tuned"}}
    for day, (claim, p) in enumerate((("v/a#x", 0.9), ("v/a#x", 0.03), ("v/b#y", 0.02), ("v/late#z", 0.001)), start=1):
        other = a_run(home, 8, name=f"other {day}", claim=claim, **asked)
        other.update(status="succeeded", claim=claim, p_value=p, created=f"2026-01-0{day}T00:00:00+00:00")
    run = a_run(home, 8, name="this", claim="v/c#w", **asked)
    run.update(created="2026-01-03T12:00:00+00:00")
    sampled(run, "base", 8, [0.2] * 20)
    sampled(run, "tuned", 8, [0.8] * 20, seed=1)
    found = result(run, "succeeded")["prediction"]
    assert (found["comparisons_made"], found["claims_tested"]) == (1, 3)
    assert found["p_value_over_claims"] == pytest.approx(3 * found["p_value"])  # the smallest of three


shares = st.one_of(st.none(), st.floats(0, 1))
curves = st.lists(st.tuples(st.integers(1, 4096), shares, shares, shares), max_size=6, unique_by=lambda row: row[0])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(), curves), min_size=1, max_size=2), st.integers(0, 4096))
def test_a_curve_is_well_formed_svg_whatever_the_names_and_figures(
    models: list[tuple[str, list[tuple[int, float | None, float | None, float | None]]]], edge: int
) -> None:
    rows = [
        {"name": name, "pass_at_k": [dict(zip(("k", "estimate", "low", "high"), row, strict=True)) for row in sorted(points)]}
        for name, points in models
    ]
    noisy = [row[0] for _, points in models for row in points if row[0] > edge]
    environment: dict[str, Any] = {
        "engine": "",
        "engine_version": None,
        "device": None,
        "problems_sha256": None,
        "settings": {},
        "models": {},
    }
    progress = {"done": 0, "total": 0, "eta_s": None}
    figures = {"finished_counts": True, "comparison": None, "prediction": None, "extrapolation": None, "perplexity": None}
    about = {"run_id": "r<&", "status": "succeeded", "progress": progress, "environment": environment}
    svg = curve_svg(read({**figures, **about, "models": rows, "noisy_edge": noisy}))
    root = ET.fromstring(svg)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert not [e for e in root.iter() if e.tag.endswith("script") or any("href" in name for name in e.attrib)]
    assert "nan" not in svg.lower().replace("desc", "") or any("nan" in name.lower() for name, _ in models)


def test_toys_and_dry_runs_say_so_wherever_the_result_goes(home: Path, tmp_path: Path) -> None:
    (tmp_path / "organism.json").write_text("{}")
    toy = a_run(home, 4, models=["base"], name="toy")
    toy.update(toys=["base"])
    dry = Runs(home).create(
        from_mapping({"problems": {"set": "countdown"}, "models": {"x": {"model": "rate:1", "engine": "scripted"}}})
    )
    plain = a_run(home, 4, models=["base"], name="plain")
    for run, words in ((toy, "says nothing about large models"), (dry, "No model was run"), (plain, "")):
        found = result(run)
        shown = " ".join(ET.fromstring(curve_svg(read(found), 560, 330)).itertext())
        assert bool(found["cautions"]) == bool(words)
        assert all(words in " ".join(text.split()) for text in (*found["cautions"], result_text(read(found)), shown))


def test_the_curve_marks_the_crossing_and_pales_what_may_not_be_claimed(home: Path) -> None:
    run = a_run(home, 64, prediction={"kind": "crossover"})
    sampled(run, "base", 64, [0.05] * 40)
    sampled(run, "tuned", 64, [0.9] * 20 + [0.0] * 20, seed=1)
    found = result(run, "succeeded")
    svg = curve_svg(read(found), 500, 300)
    assert f"k* = {found['comparison']['crossover']['k']:.0f}" in svg and 'width="500"' in svg
    lines = [element for element in ET.fromstring(svg).iter() if element.tag.endswith("polyline")]
    dashes = [(line.get("stroke-dasharray"), line.get("stroke-opacity")) for line in lines]
    assert ("7 4", "1.0") in dashes and ("none", "1.0") in dashes and dashes.count(("2 4", "0.35")) == 2
    assert "noisy edge" in svg and "noisy edge" not in curve_svg(read({**found, "noisy_edge": []}))
    assert "No claim is made at k = 64" in svg


def test_intervals_have_brackets_where_they_are_known() -> None:
    assert interval(Estimate(estimate=0.2134, low=0.18, high=0.241)) == "21.3 % (18.0 to 24.1)"
    assert interval(Estimate(estimate=-0.05, low=-0.1, high=0.0), signed=True) == "−5.0 (−10.0 to 0.0)"
    assert interval(Estimate(estimate=0.5)) == "50.0 %"
    assert interval(Estimate(estimate=math.nan, low=0.1, high=0.2)) == interval(None) == "–"


def test_a_result_that_version_0_2_wrote_loads_with_the_same_keys() -> None:
    path = Path(__file__).with_name("result_0.2.json")
    stored = Result.load(path)
    assert stored.to_json() == json.loads(path.read_text())
    assert stored.prediction and stored.prediction.sentence in result_text(stored)
    assert "<svg" in curve_svg(stored)
