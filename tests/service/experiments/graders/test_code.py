"""From completions to judgements: what is cut out of an answer, which verdict it gets, and agreement with executed verdicts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.grading import agrees, known
from service.experiments.graders.code import CodeGrader, assemble, extract
from service.experiments.sandbox import Limits, SandboxUnavailable, bubblewrap
from service.experiments.types import Completion, Judgement, Problem, Verdict

PREFIX = 'from typing import List\n\ndef f(xs: List[int]) -> int:\n    """Sum."""\n'
TESTS = "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
RIGHT = "    return sum(xs)\n"


@pytest.fixture(scope="module")
def grader(bubblewrap: str) -> Iterator[CodeGrader]:
    opened = CodeGrader(Limits(cpu_s=1, wall_s=10), workers=2)
    yield opened
    opened.close()


def graded(grader: CodeGrader, text: str, finish: str = "stop", prefix: str = PREFIX, tests: str = TESTS) -> Judgement:
    problem = Problem("p", "code", prefix, {"tests": tests, "entry_point": "f", "prompt": prefix})
    (judgement,) = grader.grade([(problem, Completion("p", 0, text, 1, finish))])
    return judgement


@pytest.mark.parametrize(
    ("text", "finish", "verdict", "formatted"),
    [
        (RIGHT, "stop", "pass", True),
        (RIGHT, "length", "pass", True),
        (RIGHT.rstrip("\n"), "stop", "pass", True),
        ("    return 3\n", "stop", "fail", True),
        ("    return 3\n", "length", "truncated", True),
        ("    return sum(", "length", "truncated", False),
        ("    return sum(", "stop", "fail", False),
        ("    while True: pass", "stop", "timeout", True),
        ("    while True: pass", "length", "truncated", True),
        ("    raise SystemExit(0)", "stop", "fail", True),
    ],
)
def test_each_ending_has_its_verdict(grader: CodeGrader, text: str, finish: str, verdict: str, formatted: bool) -> None:
    judgement = graded(grader, text, finish)
    assert (judgement.verdict, judgement.formatted) == (verdict, formatted), judgement
    assert bool(judgement.reason) == (verdict != "pass") and bool(judgement.answer) == formatted


def test_an_empty_completion_is_no_answer(grader: CodeGrader) -> None:
    for text in ("", " \n", "```python\n```"):
        judgement = graded(grader, text)
        assert judgement == Judgement(Verdict.FAIL, "", False, "the completion has no code")


def test_tests_that_can_not_be_run_are_an_error_not_a_fail(grader: CodeGrader) -> None:
    for tests in ("def check(candidate): pass", "assert f(", ""):
        assert graded(grader, RIGHT, tests=tests).verdict is Verdict.ERROR


def test_assert_lines_are_tests_too(grader: CodeGrader) -> None:
    lines = "assert f([1, 2]) == 3\nassert f([]) == 0"
    assert graded(grader, "def f(xs):\n    return sum(xs)", prefix="", tests=lines).verdict is Verdict.PASS
    assert graded(grader, "def f(xs):\n    return 3", prefix="", tests=lines).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "text",
    [
        "Here you are:\n\n```python\ndef f(xs):\n    return sum(xs)\n```\n\nIt sums.",
        "```py\ndef g(): pass\n```\nor\n```Python\ndef f(xs):\n    return sum(xs)\n```\nUse:\n```python\nprint(f([1]))\n```",
        "```\nf = sum\n```",
        "First:\n```python\ndef f(xs): return 0\n```\nWait, better:\n```python\ndef f(xs): return sum(xs)",
        "    return sum(xs)\n```\n\nThis adds the numbers.\n```python\nprint(1)\n```",
        "    ```python\n    return sum(xs)\n```",
    ],
)
@pytest.mark.parametrize("prefix", [PREFIX, "def f(xs):\n"])
def test_code_is_found_in_an_answer_with_fences(grader: CodeGrader, text: str, prefix: str) -> None:
    judgement = graded(grader, text, prefix=prefix)
    assert judgement.verdict is Verdict.PASS, judgement


@given(st.text("`a \ndef:python", max_size=60), st.sampled_from(["", PREFIX]))
def test_what_is_extracted_stands_in_the_completion(text: str, prefix: str) -> None:
    code = extract(text, prefix, "f")
    assert code in text and ("```" in text or code == text)
    assert assemble(prefix, code, "f").endswith(code)


def test_answers_are_equal_when_programs_differ_in_layout_only(grader: CodeGrader) -> None:
    one, two, other = (
        graded(grader, text).answer for text in (RIGHT, "    return sum( xs )  # all\n", "    return sum(xs) + 0\n")
    )
    assert one == two != other


def test_judgements_come_in_the_order_asked(grader: CodeGrader) -> None:
    problem = Problem("p", "code", "", {"tests": "assert f() % 3 == 0", "entry_point": "f", "prompt": ""})
    items = [(problem, Completion("p", i, f"def f(): return {i}", 1)) for i in range(40)]
    assert [judgement.verdict is Verdict.PASS for judgement in grader.grade(items)] == [i % 3 == 0 for i in range(40)]


def test_closing_gives_up_what_is_being_graded(bubblewrap: str) -> None:
    own = CodeGrader(Limits(wall_s=60), workers=1)
    assert graded(own, RIGHT).verdict is Verdict.PASS
    problem = Problem("p", "code", "", {"tests": "f()", "entry_point": "f", "prompt": ""})
    sleeper = Completion("p", 0, "import time\ndef f(): time.sleep(60)", 1)
    with ThreadPoolExecutor(1) as pool:
        grading = pool.submit(own.grade, [(problem, sleeper)] * 5)
        time.sleep(0.5)
        started = time.monotonic()
        own.close()
        with pytest.raises(CancelledError):
            grading.result(timeout=2)
        assert time.monotonic() - started < 2


def test_without_a_sandbox_nothing_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap.available.cache_clear()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SandboxUnavailable, match="install bubblewrap"):
        CodeGrader()
    bubblewrap.available.cache_clear()


def test_verdicts_agree_with_those_of_a_bare_interpreter(bubblewrap: str, data: Path) -> None:
    """`python -m bench.run grading` compares all 16,400 of them; here some that came to an end within its time."""
    sample = random.Random(3).sample([entry for entry in known(data / "passk-code") if entry.result != "timed out"], 300)
    grader = CodeGrader()
    judgements = grader.grade([(entry.problem, entry.completion) for entry in sample])
    grader.close()
    assert sum(map(agrees, sample, judgements)) >= 0.995 * len(sample)
    assert {found.verdict for found in judgements} >= {Verdict.PASS, Verdict.FAIL}
