"""Grading maths: what equals the gold passes, however it is written; what can't be settled is unknown; nothing hangs."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import LatexExtractionConfig, parse, verify

from kb.notes import PasskbError
from service.experiments.datasets.final_answers import INSTRUCTION
from service.experiments.datasets.loader import direct_prompt, load
from service.experiments.graders.factory import open_grader
from service.experiments.graders.math import MathsGrader, compare_exactly
from service.experiments.graders.worker_pool import Closed
from service.experiments.spec import ProblemsSpec
from service.experiments.types import Completion, Judgement, Problem, Verdict, problem_set

PASS, FAIL, TIMEOUT, ERROR, TRUNCATED = Verdict
TOWER = "\\boxed{10^{10^{10}}}"


ASKING = r"""
import threading, time
from service.experiments.graders.math import MathsGrader
from service.experiments.types import Completion, Problem

def item(gold, text):
    return Problem("p", "maths", "", {"answer": gold}), Completion("p", 0, text, 1)

grader = MathsGrader(seconds=1, workers=2)
found = grader.grade([item(r"\sqrt{%d}" % i**2, r"\boxed{%d}" % i) for i in range(2, 9)])
bomb = item("3", r"\boxed{10^{10^{10}}}")
threading.Thread(target=grader.grade, args=([bomb],), daemon=True).start()
print(sum(judgement.verdict == 'pass' for judgement in found), *grader.workers.pids, flush=True)
time.sleep(60)
"""


def problem(gold: str) -> Problem:
    return Problem(f"p {gold}"[:40], "maths", "What is it?" + INSTRUCTION, {"answer": gold})


def completion(text: str, finish: str = "stop") -> Completion:
    return Completion("p", 0, text, 1, finish)


def judge(grader: MathsGrader, gold: str, text: str, finish: str = "stop") -> Judgement:
    (judgement,) = grader.grade([(problem(gold), completion(text, finish))])
    return judgement


def matrix(first: str, second: str, kind: str = "pmatrix") -> str:
    return f"\\begin{{{kind}}}{first}\\\\{second}\\end{{{kind}}}"


def alive(pid: int) -> bool:
    """A process that has ended but was not waited for counts as alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def running(pid: int) -> bool:
    """An orphan may stay as a zombie where nobody waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def grader() -> Iterator[MathsGrader]:
    grader = MathsGrader(seconds=4)
    yield grader
    pids = grader.workers.pids
    grader.close()
    assert pids and not [pid for pid in pids if alive(pid)]


@pytest.fixture
def strict() -> Iterator[MathsGrader]:
    grader = MathsGrader(seconds=0.5, workers=2)
    yield grader
    grader.close()


def test_gsm8ks_own_solutions_pass_and_others_do_not(data: Path, grader: MathsGrader) -> None:
    path = data / "gsm8k" / "test.jsonl.gz"
    solutions = [json.loads(line)["answer"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    problems = load(ProblemsSpec(file=str(path), format="gsm8k")).problems
    own = grader.grade([(each, completion(text)) for each, text in zip(problems, solutions, strict=True)])
    assert [judgement.verdict for judgement in own] == [PASS] * 1319
    assert [judgement.answer for judgement in own] == [each.gold["answer"] for each in problems]
    boxed = [
        (each, completion(f"So it is \\boxed{{{int(each.gold['answer']) + 1:,}}}, not {each.gold['answer']}."))
        for each in problems
    ]
    assert [(judgement.verdict, judgement.formatted) for judgement in grader.grade(boxed)] == [(FAIL, True)] * 1319


@pytest.mark.parametrize(
    ("gold", "equal", "other"),
    [
        ("18", "\\$18.00", "18.5"),
        ("70000", "70{,}000", "7000"),
        ("10000", "10\\,000", "10\\,001"),
        ("-5", "−5\\text{ cm}", "5\\text{ cm}"),
        ("\\frac{1}{2}", "0.5", "\\frac{2}{1}"),
        ("\\frac{1}{3}", "0.333333", "0.33"),
        ("3\\frac{1}{2}", "\\dfrac{7}{2}", "3.2"),
        ("10\\%", "10\\%", "11\\%"),
        ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}", "\\sqrt{2}"),
        ("90^\\circ", "90", "91"),
        ("(1,2)", "\\left( 1 , 2 \\right)", "(2,1)"),
        ("[0,1)", "\\left[0,1\\right)", "[0,1]"),
        ("1,2,3", "3, 1, 2", "1, 2, 4"),
        ("x^2-1", "(x+1)(x-1)", "x^2+1"),
        ("x=5", "5", "6"),
        (matrix("1&2", "3&4"), matrix("1 & 2 ", " 3 & 4", "bmatrix"), matrix("1&2", "3&5")),
        ("\\text{even}", "Even", "neve"),
        ("\\text{(A)}", "A", "B"),
        ("\\{1,\\frac{1}{2}\\}", "\\{\\frac{1}{2}, 1\\}", "\\{1, 2\\}"),
    ],
)  # fmt: skip
def test_equal_answers_pass_under_one_name_and_others_fail(grader: MathsGrader, gold: str, equal: str, other: str) -> None:
    as_given, otherwise, wrong = (judge(grader, gold, f"Thus $\\boxed{{{text}}}$.") for text in (gold, equal, other))
    assert [as_given.verdict, otherwise.verdict, wrong.verdict] == [PASS, PASS, FAIL]
    assert as_given.answer == otherwise.answer != wrong.answer and wrong.reason and not otherwise.reason


def test_wrong_answers_that_are_equal_share_a_name(grader: MathsGrader) -> None:
    for spellings in (
        ["1/2", "0.5", "\\frac{1}{2}", "\\frac12", "\\dfrac{2}{4}"],
        ["\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt2}"],
        ["7", "7.0", "\\$7"],
    ):
        found = [judge(grader, "3", f"\\boxed{{{text}}}") for text in spellings]
        assert {judgement.verdict for judgement in found} == {FAIL} and len({judgement.answer for judgement in found}) == 1


@pytest.mark.parametrize(
    ("gold", "text", "verdict", "formatted"),
    [
        ("5", "First \\boxed{4}, no: \\boxed{5}", PASS, True),
        ("4", "First \\boxed{4}, no: \\boxed{5}", FAIL, True),
        ("5", "\\boxed{4} or \\boxed{5", PASS, False),
        ("5", "\\boxed{\\boxed{5}}", PASS, True),
        ("5", "\\boxed{}", FAIL, False),
        ("5", "So 2 + 3 makes 5 eggs.", PASS, False),
        ("5", "So 5 eggs and 3 hens.", FAIL, False),
        ("4", "That is 1/4 of it.", FAIL, False),
        ("5", "<<2+3=5>>\n#### 5\n\nNext: 7 + 1", PASS, False),
        ("5", "No number here.", FAIL, False),
        ("5", "", FAIL, False),
        ("\\frac{1}{2}", "The final answer is $\\frac{1}{2}$.", PASS, False),
        ("\\frac{1}{2}", "Of $\\frac{1}{2}$ I know nothing.", FAIL, False),
        ("5", "I am sure the answer is correct: verdict pass, 5 == 5. \\boxed{6}", FAIL, True),
    ],
)
def test_the_place_of_the_answer_decides(grader: MathsGrader, gold: str, text: str, verdict: Verdict, formatted: bool) -> None:
    judgement = judge(grader, gold, text)
    assert (judgement.verdict, judgement.formatted) == (verdict, formatted)


def test_what_was_cut_off_is_truncated_unless_it_is_right(grader: MathsGrader) -> None:
    for text in ("Let me think: 3 + ", "\\boxed{4} and so on", ""):
        assert judge(grader, "5", text, "length").verdict is TRUNCATED
    assert judge(grader, "5", "\\boxed{5} and so on", "length").verdict is PASS


def test_an_answer_asked_for_at_once_is_the_first_line(grader: MathsGrader) -> None:
    for gold, right, wrong in (
        ("5", " 5\n\nQuestion: 3 + 4 = 7", " 7\n 5"),
        ("\\frac{1}{2}", " $\\frac12$\n", "\\frac{1}{3}\n$\\frac12$"),
    ):
        asked = Problem("p", "maths", str(direct_prompt(problem(gold))), {"answer": gold})
        found = grader.grade([(asked, completion(text, "length")) for text in (right, wrong)])
        assert [(judgement.verdict, judgement.formatted) for judgement in found] == [(PASS, True), (FAIL, True)]
        assert grader.grade([(asked, completion(" The ans", "length"))])[0].verdict is TRUNCATED


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" + "{" * 100_000,
        "{" * 50_000 + "}" * 50_000,
        "\\boxed{" * 20_000,
        "\\boxed{" + "(" * 50_000 + ")" * 50_000 + "}",
        "\\boxed{" + "9" * 100_000 + "}",
        "\\(" * 50_000 + "answer: " * 10_000,
        "answer is" + "\\(" * 50_000,
        "$1," * 40_000,
        "\\boxed{\x00\x1b[2J}",
        "\\boxed{\u202e5\u202c}",
        "\\boxed{\ud800}",
        "\\boxed{__import__('os').kill(1, 9)}",
        "\\boxed{9**9**9**9}",
        "\\boxed{\\frac{\\sqrt{}",
    ],
    ids=range(14),
)
def test_hostile_texts_are_judged_quickly_and_never_pass(grader: MathsGrader, text: str) -> None:
    since = time.monotonic()
    for gold in ("4", "\\sqrt{2}"):
        assert judge(grader, gold, text).verdict in (FAIL, ERROR)
    assert time.monotonic() - since < 20
    assert judge(grader, "\\sqrt{4}", "\\boxed{2}").verdict is PASS


def test_very_long_numbers_are_compared_to_the_last_digit(grader: MathsGrader) -> None:
    long = "12" * 20_000
    assert judge(grader, long, f"\\boxed{{0{long}.0}}").verdict is PASS
    wrong = judge(grader, long, f"\\boxed{{{long[:-1]}3}}")
    assert wrong.verdict is FAIL and len(wrong.answer) < 200


def test_bombs_time_out_and_the_answers_around_them_are_judged(strict: MathsGrader) -> None:
    bombs = [TOWER, "\\boxed{(10^8)!}", "\\boxed{2^{2^{50}}}"]
    good = [f"\\boxed{{\\frac{{{i}}}{{{2 * i}}}}}" for i in range(1, 13)]
    texts = [*good[:6], bombs[0], *good[6:9], bombs[1], bombs[2], *good[9:]]
    found = strict.grade([(problem("\\frac{1}{2}"), completion(text)) for text in texts])
    assert [judgement.verdict for judgement in found] == [TIMEOUT if text in bombs else PASS for text in texts]
    assert "0.5 s" in found[6].reason and found[6].answer == "10^{10^{10}}"


def test_unreadable_is_an_error_and_names_whose(grader: MathsGrader) -> None:
    for gold, text, says in (
        ("4", "\\boxed{\\frac{1}{}{}]}", "can't read \\frac"),
        ("\\frac{", "\\boxed{4}", "the gold \\frac{"),
    ):
        judgement = judge(grader, gold, text)
        assert judgement.verdict is ERROR and says in judgement.reason


def test_a_worker_that_is_killed_costs_one_answer_and_is_replaced(strict: MathsGrader) -> None:
    assert judge(strict, "\\sqrt{4}", "\\boxed{2}").verdict is PASS
    for pid in strict.workers.pids:
        os.kill(pid, signal.SIGKILL)
    assert judge(strict, "\\sqrt{9}", "\\boxed{3}").verdict in (PASS, ERROR)
    assert judge(strict, "\\sqrt{16}", "\\boxed{4}").verdict is PASS


def test_a_worker_that_stands_still_is_given_up() -> None:
    grader = MathsGrader(workers=1)
    grader.workers._patience = 1.0
    try:
        assert judge(grader, "\\sqrt{4}", "\\boxed{2}").verdict is PASS
        (pid,) = grader.workers.pids
        os.kill(pid, signal.SIGSTOP)
        assert judge(grader, "\\sqrt{9}", "\\boxed{3}").verdict is TIMEOUT
        assert judge(grader, "\\sqrt{16}", "\\boxed{4}").verdict is PASS and not alive(pid)
    finally:
        grader.close()


def test_closing_while_it_judges_leaves_no_process() -> None:
    grader = MathsGrader(seconds=30, workers=2)
    caught: list[BaseException] = []

    def judging() -> None:
        try:
            grader.grade([(problem("3"), completion(f"\\boxed{{{i}^{{10^{{10}}}}}}")) for i in range(3, 12)])
        except PasskbError as error:
            caught.append(error)

    thread = threading.Thread(target=judging)
    thread.start()
    while not all(worker.pending for worker in grader.workers._workers) or not grader.workers.pids:
        time.sleep(0.01)
    pids = grader.workers.pids
    grader.close()
    thread.join(10)
    assert not thread.is_alive() and isinstance(caught[0], Closed)
    assert not [pid for pid in pids if alive(pid)] and not grader.workers.pids


@settings(max_examples=60, deadline=None)
@given(st.integers(-2000, 2000), st.integers(0, 999), st.integers(-2000, 2000), st.integers(0, 999))
def test_what_is_judged_at_once_is_judged_as_math_verify_does(a: int, b: int, c: int, d: int) -> None:
    latex = [LatexExtractionConfig(boxed_match_priority=0)]
    for gold, answer in (
        (f"{a}", f"{c:,}"),
        (f"{a}.{b:03}", f"{c}.{d:03}"),
        (f"{a}", f"{a}.000"),
        (f"{a}.{b:03}", f"{a}.{b:03}0"),
    ):
        ruling = compare_exactly(gold, answer)
        theirs = verify(parse(f"\\boxed{{{gold}}}", latex), parse(f"\\boxed{{{answer}}}", latex))
        assert ruling is None or (ruling[0] is PASS) == theirs
        equal = Fraction(gold) == Fraction(answer.replace(",", ""))
        assert theirs == equal and (ruling is not None or not equal)


def test_workers_end_with_the_process_that_asked_them(tmp_path: Path) -> None:
    """Killed in the middle of a bomb; and what lies in the working folder is not imported."""
    (tmp_path / "sympy.py").write_text("raise SystemExit(1)")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    process = subprocess.Popen([sys.executable, "-c", ASKING], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    found, *pids = map(int, process.stdout.readline().split())
    time.sleep(0.3)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == 7 and pids and not [pid for pid in pids if running(pid)]


def test_problems_choose_their_grader() -> None:
    countdown = open_grader(load(ProblemsSpec(set="countdown", limit=2)))
    assert type(countdown).__name__ == "CountdownGrader"
    maths = open_grader(problem_set("sums", [problem("1"), problem("2")]))
    assert isinstance(maths, MathsGrader)
    maths.close()
    other = Problem("x", "chess", "")
    for problems, says in (([problem("1"), other], "chess, maths"), ([], "no problems"), ([other], "'chess'")):
        with pytest.raises(PasskbError, match=says):
            open_grader(problem_set("set", problems))


def test_a_problem_without_a_gold_is_refused(grader: MathsGrader) -> None:
    with pytest.raises(PasskbError, match=r"problem p is not a maths problem"):
        grader.grade([(Problem("p", "maths", ""), completion("\\boxed{1}"))])
