"""The scripted engine: pass rates that are known, attempts that nothing but their number decides, and its faults on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments.datasets.countdown import countdown
from service.experiments.engines.base import EngineError, Request, Settings
from service.experiments.engines.factory import open_engine
from service.experiments.engines.scripted import ScriptedEngine, read_script
from service.experiments.engines.stream import chunks
from service.experiments.graders.countdown import CountdownGrader
from service.experiments.spec import ModelSpec
from service.experiments.types import Completion, Judgement, Problem, Verdict

PROBLEMS = countdown(20, seed=3).problems
MATHS = Problem("m", "maths", "1+1=", {"answer": "2"})
CODE = Problem("c", "code", "def f():", {"solution": "    return 1\n"})


def drawn(model: str, requests: Sequence[Request], seed: int = 0, logprobs: bool = False) -> list[Completion]:
    engine = ScriptedEngine(model, seed)
    found = [c for completions in engine.sample(requests, Settings(max_tokens=40, logprobs=logprobs)) for c in completions]
    return sorted(found, key=lambda c: (c.problem_id, c.attempt))


def requests(problems: Sequence[Problem], n: int, first: int = 0) -> list[Request]:
    return [Request(problem, problem.prompt, first, n, seed) for seed, problem in enumerate(problems)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.randoms(use_true_random=False))
def test_attempts_are_the_same_however_they_are_asked_for(most: int, cut: int, order: object) -> None:
    """In chunks, in another order, resumed halfway, with other request seeds: the same completions."""
    whole = drawn("beta:0.3,1;truncate=0.2", requests(PROBLEMS[:3], 40), logprobs=True)
    split = [*chunks(requests(PROBLEMS[:3], cut), most), *chunks(requests(PROBLEMS[:3], 40 - cut, first=cut), most)]
    order.shuffle(split)  # type: ignore[attr-defined]
    assert drawn("beta:0.3,1;truncate=0.2;delay=0", split, logprobs=True) == whole


def test_the_real_grader_finds_the_rates_that_were_asked_for() -> None:
    """The observed share lies within four standard errors of each problem's rate; wrong ones fail, cut ones are cut."""
    script, n = read_script("beta:0.3,1.0;truncate=0.1"), 400
    found = drawn("beta:0.3,1.0;truncate=0.1", requests(PROBLEMS, n))
    by_id = {problem.id: problem for problem in PROBLEMS}
    judged = CountdownGrader().grade([(by_id[c.problem_id], c) for c in found])
    verdicts = {judgement.verdict for judgement in judged}
    assert verdicts == {Verdict.PASS, Verdict.FAIL, Verdict.TRUNCATED}
    for i, problem in enumerate(PROBLEMS):
        passed = sum(judgement.verdict is Verdict.PASS for judgement in judged_of(judged, found, problem.id)) / n
        rate = 0.9 * script.rate(problem.id)
        assert abs(passed - rate) <= 4 * (rate * (1 - rate) / n) ** 0.5 + 1e-9, (i, passed, rate)
    cut = [c for c in found if c.finish == "length"]
    assert 0.08 < len(cut) / len(found) < 0.12 and {c.tokens for c in cut} == {40}


def judged_of(judged: Sequence[Judgement], found: Sequence[Completion], problem: str) -> list[Judgement]:
    return [judgement for judgement, completion in zip(judged, found, strict=True) if completion.problem_id == problem]


def test_rates_of_a_beta_are_spread_as_it_is() -> None:
    script = read_script("beta:2,6")
    rates = [script.rate(f"p{i}") for i in range(4000)]
    mean, variance = 0.25, 2 * 6 / (8**2 * 9)
    assert abs(sum(rates) / 4000 - mean) < 4 * (variance / 4000) ** 0.5
    assert abs(sum((rate - mean) ** 2 for rate in rates) / 4000 - variance) < 0.1 * variance


def test_a_seed_is_another_draw_and_another_rule_another_model() -> None:
    asked = requests(PROBLEMS[:1], 64)
    assert drawn("rate:0.5", asked, 1) == drawn("rate:0.5", asked, 1) != drawn("rate:0.5", asked, 2)
    assert len({read_script(rule).rate("p") for rule in ("beta:0.3,1", "beta:0.3,1.0", "beta:0.4,1")}) == 3


def test_maths_and_code_are_written_right_and_wrong() -> None:
    right, wrong = (drawn(rule, requests([MATHS, CODE], 3)) for rule in ("rate:1", "rate:0"))
    assert [c.text for c in right] == ["    return 1\n"] * 3 + [" The answer is \\boxed{2}."] * 3
    assert not {c.text for c in right} & {c.text for c in wrong} and all("boxed" in c.text for c in wrong[3:])
    assert "raise" in drawn("rate:1", requests([Problem("n", "code", "")], 1))[0].text


@pytest.mark.parametrize("name, text", [("r.json", '{"m": 1, "c": 0}'), ("r.csv", "problem_id,rate\nm,1\nc,0\n")])
def test_rates_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = drawn(str(tmp_path / name), requests([MATHS, CODE], 1))
    assert ["return" in found[0].text, "{2}" in found[1].text] == [False, True]
    model = ModelSpec(str(tmp_path / name), "scripted")
    with pytest.raises(EngineError, match="no rate for problem 'other'"):
        open_engine(model, Settings(), home_or_log_folder=tmp_path, seed=0, problems=[Problem("other", "maths", "")])


@pytest.mark.parametrize(
    "model, told",
    [
        ("rate:1.5", "P from 0 to 1"),
        ("rate:x", "'x' is not a number"),
        ("beta:0,1", "both greater than 0"),
        ("beta:1", "both greater than 0"),
        ("rate:0.5;sleep=1", "unknown option 'sleep'"),
        ("rate:0.5;truncate=2", "truncate must be from 0 to 1"),
        ("rate:0.5;delay=-1", "not a number from 0 up"),
        ("gpt-5", "is not a script"),
        ("missing.json", "can't be read as rates"),
    ],
)
def test_a_model_string_that_is_no_script_is_told(model: str, told: str) -> None:
    with pytest.raises(EngineError, match=told):
        ScriptedEngine(model, 0)


def test_it_dies_when_told_to_and_what_was_yielded_stands() -> None:
    stream = ScriptedEngine("rate:0.5;die_after=100", 0).sample(requests(PROBLEMS, 30), Settings())
    assert sum(len(next(stream)) for _ in range(3)) == 90
    with pytest.raises(EngineError, match=r"stopped after 90 attempts.*resume"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("close_engine", [False, True])
def test_slow_attempts_are_left_within_two_seconds(close_engine: bool) -> None:
    engine = ScriptedEngine("rate:0.5;delay=5", 0)
    stream = engine.sample(requests(PROBLEMS, 10), Settings())
    began = time.monotonic()
    threading.Timer(0.1, engine.close if close_engine else stream.close).start()
    if close_engine:
        with pytest.raises(EngineError, match="closed"):
            next(stream)
        with pytest.raises(EngineError, match="closed"):
            next(engine.sample(requests(PROBLEMS, 10), Settings()))
    assert list(stream) == [] and time.monotonic() - began < 2


def test_what_is_not_consumed_is_not_made() -> None:
    waiting = iter(requests(PROBLEMS, 2))
    stream = ScriptedEngine("rate:0.5", 0).sample(waiting, Settings())
    next(stream)
    stream.close()
    assert len(list(waiting)) == len(PROBLEMS) - 1


def test_scores_are_made_up_but_always_the_same() -> None:
    one, two = (ScriptedEngine("rate:0.5", seed).score([("p", "a b c"), ("p", "")]) for seed in (1, 2))
    assert one == two and one[0][0] < 0 and one[0][1] == 3 and one[1] == (0, 0)
