"""Countdown: the generator keeps its splits apart, and the verifier passes exactly what is right."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.notes import PasskbError
from service.experiments.datasets import countdown as countdowns
from service.experiments.datasets.countdown import (
    Derivation,
    countdown,
    derive,
    held_out,
    reachable,
    read_countdown,
    solve,
    solve_at_random,
    write_derivation,
)
from service.experiments.graders.countdown import CountdownGrader, verify
from service.experiments.types import Completion, Judgement, Problem, Verdict

NUMBERS = [3, 7, 12, 6]
RIGHT = "3 + 7 = 10 , 10 - 6 = 4 , 4 * 12 = 48"
seeds = st.integers(0, 2**32).map(random.Random)
hands = st.lists(st.integers(1, countdowns.LARGEST_NUMBER), min_size=2, max_size=4)


@st.composite
def solved(draw: st.DrawFn) -> tuple[list[int], int, Derivation]:
    """Numbers, a target and a derivation of it."""
    numbers = draw(hands)
    steps = derive(numbers, draw(seeds))
    return numbers, steps[-1][3], steps


def judged(text: str, target: int = 48, finish: str = "stop") -> Judgement:
    return verify(NUMBERS, target, text, finish)


# The generator and the solver


@given(hands, seeds)
def test_a_derivation_keeps_the_rules(numbers: list[int], rng: random.Random) -> None:
    hand = sorted(numbers)
    for a, operator, b, result in derive(numbers, rng):
        hand.remove(a)
        hand.remove(b)
        exact = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b or 1)}[operator]
        assert exact == result and 0 <= result <= countdowns.LARGEST_VALUE and (operator != "/" or b)
        hand.append(result)
    assert len(hand) == 1 and hand[0] in reachable(numbers)


@settings(max_examples=40, deadline=None)
@given(solved(), seeds)
def test_the_solver_finds_each_solution_once_and_all_of_them_pass(
    problem: tuple[list[int], int, Derivation], rng: random.Random
) -> None:
    numbers, target, _ = problem
    found = list(solve(numbers, target))
    assert len(found) == len(set(found))
    assert found == list(solve(rng.sample(numbers, len(numbers)), target))
    for steps in [*rng.sample(found, min(20, len(found))), solve_at_random(numbers, target, rng)]:
        assert verify(numbers, target, write_derivation(steps)).verdict is Verdict.PASS


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=2, max_size=3), st.integers(0, 99))
def test_the_solver_agrees_with_trying_everything(numbers: list[int], target: int) -> None:
    def ends(values: list[int]) -> set[int]:
        if len(values) == 1:
            return set(values)
        out: set[int] = set()
        for i in range(len(values)):
            for j in range(len(values)):
                a, b, rest = values[i], values[j], [value for at, value in enumerate(values) if at not in (i, j)]
                made = {a + b, a - b, a * b, Fraction(a, b) if b else -1} if i != j else set()
                out |= set().union(*(ends([*rest, int(c)]) for c in made if c == int(c) and 0 <= c <= 99), set())
        return out

    assert (target in reachable(numbers)) is (target in ends(numbers)) is any(True for _ in solve(numbers, target))


def test_nothing_solves_what_can_not_be_solved() -> None:
    assert list(solve([1, 1], 50)) == [] and list(solve([7], 7)) == [()] and list(solve([7], 8)) == []
    with pytest.raises(PasskbError, match="1 1 -> 50 has no solution"):
        solve_at_random([1, 1], 50, random.Random(0))


@given(hands, st.integers(0, 99), seeds)
def test_no_order_of_the_numbers_takes_a_problem_into_the_other_split(
    numbers: list[int], target: int, rng: random.Random
) -> None:
    assert held_out(numbers, target) is held_out(rng.sample(numbers, len(numbers)), target)


def test_one_problem_in_sixteen_is_held_out() -> None:
    share = [
        held_out([a, b, c], target) for a in range(1, 14) for b in range(1, a + 1) for c in (2, 9) for target in range(10, 100)
    ]
    assert 0.055 < sum(share) / len(share) < 0.07


@pytest.mark.parametrize("size", [3, 4, 5])
def test_the_splits_share_no_problem_and_hold_solvable_ones_only(size: int) -> None:
    keys = {}
    for split in ("test", "train"):
        problems = countdown(150, seed=1, size=size, split=split).problems
        keys[split] = {(tuple(sorted(problem.gold["numbers"])), problem.gold["target"]) for problem in problems}
        assert len(keys[split]) == len({problem.id for problem in problems}) == 150
        assert all(target in reachable(numbers) and 10 <= target <= 99 for numbers, target in keys[split])
        assert all(held_out(numbers, target) is (split == "test") for numbers, target in keys[split])
    assert not keys["test"] & keys["train"]


def test_a_set_is_the_same_everywhere_and_a_larger_one_begins_with_it() -> None:
    few, many = countdown(8), countdown(20)
    assert many.problems[:8] == few.problems and few == countdown(8) and few != countdown(8, seed=1)
    assert few.sha256 == "050fefc9c4767dd74514ef6adf76573b6dadb732aee799349a9dc2d5a1e50235"
    assert few.problems[0] == Problem(
        "countdown-4-7_2_8_7-61", "countdown", "7 2 8 7 -> 61 :", {"numbers": [7, 2, 8, 7], "target": 61}
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"limit": 0}, "needs problems.limit"),
        ({"limit": 5, "size": 9}, "2 to 6 numbers, not 9"),
        ({"limit": 5, "split": "dev"}, "test and train, not 'dev'"),
        ({"limit": 5_000, "size": 2}, "test split has about .* problems of 2 numbers"),
    ],
)
def test_what_can_not_be_generated_is_said(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(PasskbError, match=sentence):
        countdown(**arguments)  # type: ignore[arg-type]


def test_a_file_of_problems_is_read_in_its_order() -> None:
    read = read_countdown(['{"nums": [44, 19, 35], "target": 98}\n', "\n", '{"numbers": [3, 7, 12, 6], "target": 48}'], "mine")
    assert [problem.prompt for problem in read.problems] == ["44 19 35 -> 98 :", "3 7 12 6 -> 48 :"]
    assert read.name == "mine" and read.problems[0].gold == {"numbers": [44, 19, 35], "target": 98}
    assert read.problems[1].kind == "countdown" and len(read.sha256) == 64


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "has no problems"),
        (["{"], "line 1 is not JSON"),
        (["[" * 100_000], "line 1 is not JSON"),
        (["[1, 2]"], "not an object"),
        (['{"target": 4}'], "'numbers': expected 2 to 20"),
        (['{"numbers": [1, true], "target": 4}'], "'numbers': expected"),
        (['{"numbers": [1, 2.5], "target": 4}'], "'numbers': expected"),
        (['{"numbers": [1, 2]}'], "'target': expected a positive whole number"),
        (['{"numbers": [1, 2], "target": "3"}'], "'target': expected a positive whole number"),
        (['{"numbers": [1, 2], "target": 3}'] * 2, "line 2: duplicate problem"),
    ],
)
def test_a_file_that_is_no_countdown_file_says_where(lines: list[str], sentence: str) -> None:
    with pytest.raises(PasskbError, match=sentence):
        read_countdown(lines)


# The verifier


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        " 3 + 7 = 10 ,\n10 - 6 = 4 ;4*12=48 .",
        "12 * (3 + 7 - 6)",
        "((3+7)-6)×12 = 48",
        "I try 3 * 7 = 21.\n\n12 * (7 - 6 + 3) = 48",
        "First <answer>3 + 7</answer>, no: <answer>\n(3 + 7 - 6) * 12\n</answer> and that is it",
        r"So \boxed{12 \times \left(3 + 7 - 6\right)}, I think.",
        "**Answer:** $12 * (3 + 7 - 6)$",
        "The answer is: 12 * (3 + 7 - 6)\nbecause 3 + 7 is 10.",
        "answer: 3 + 7 = 10\n10 - 6 = 4\n4 * 12 = 48",
        "`12 * (3 + 7 - 6)`",
    ],
)
def test_what_is_right_passes_in_any_of_its_forms(text: str) -> None:
    assert judged(text) == Judgement(Verdict.PASS, "(3 + 7 - 6) * 12")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("12 * (3 + 7 - 6) = 49", "is not true"),
        ("3 + 7 = 10 , 10 - 6 = 4 , 4 * 12 = 50", "4 \\* 12 = 50 is not true"),
        ("3 + 7 = 11 , 11 - 6 = 5 , 5 * 12 = 60", "3 \\+ 7 = 11 is not true"),
        ("12 * (7 - 3)", "the number 6 is not used"),
        ("12 * (6 + 6 - 7 - 3) - 12 - 12", "6 is not available"),
        ("4 * 12", "4 is not available"),
        ("3 + 7 = 10 , 6 * 12 = 72", "the result 10 is not used"),
        ("3 + 7 + 12 + 6", "the result is 28, not 48"),
        ("3 / 7 + 12 * 6", "the result is 507/7, not 48"),
        ("12 / (7 - 6 / 3 * 3)", "3 is not available"),
    ],
)
def test_what_is_wrong_fails_and_says_why(text: str, reason: str) -> None:
    judgement = judged(text)
    assert judgement.verdict is Verdict.FAIL and judgement.formatted and judgement.answer
    assert re.search(reason, judgement.reason), judgement.reason


def test_values_within_an_expression_may_be_fractions_or_negative() -> None:
    assert verify([8, 3, 8, 3], 24, "8 / (3 - 8 / 3)") == Judgement(Verdict.PASS, "8 / (3 - 8 / 3)")
    assert verify([3, 7, 12], 8, "3 - 7 + 12").verdict is Verdict.PASS
    assert verify([5, 3, 3], 5, "5 / (3 - 3)").reason == "it divides by zero"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ;\n",
        "48",
        "48 = 48",
        "I can not do it.",
        "(3 + 7 - 6 * 12",
        "3 + 7 - 6) * 12",
        "12 * (3 + 7 - 6) = 48 = 48",
        "12 * (3 + 7 - 6) = 48.0",
        "-6 + 54",
        "012 * (3 + 7 - 6)",
        "12 * (3 + 7 - 6) *",
        "3 + 7 = 10 , 10 - 6 = 4 , 4 * 12",
        f"<answer>no idea</answer> {RIGHT}",
        "\\boxed{12 * (3 + 7 - 6)",
        f"{RIGHT}\nanswer: 48",
        f"{RIGHT}\nSo 48 it is!",
        "12 * (3 + 7 - 6)  # 48",
        "１２ * (3 + 7 - 6)",
        "١٢ * (3 + 7 - 6)",
        "12 ** (3 + 7 - 6)",
        "12 // 1",
        "__import__('os').abort()",
    ],
)
def test_what_is_no_derivation_is_not_formatted(text: str) -> None:
    judgement = judged(text)
    assert (judgement.verdict, judgement.answer, judgement.formatted) == (Verdict.FAIL, "", False) and judgement.reason


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 900 + "3" + ")" * 900,
        "(" * 50 + "3 + 7" + ")" * 50,
        "3 + 7 = 10 , " * 3_000,
        "1+" * 900 + "1",
        "9**9**9",
        "9" * 1_000 + " + 7",
        "999999999 * " * 90 + "999999999",
        "3 + 7 = " + "9" * 1_500,
        "answer" + " " * 100_000 + "x",
        "answer: " * 20_000,
        "<answer>" * 20_000,
        "<answer>3 + 7</answer>" * 20_000,
        "\\boxed{" * 20_000,
        "\n" * 200_000,
        ("3 + 7 = 10 " + " " * 100) * 1_000,
        "3 + 7\x00 = 10",
        "\ud800",
    ],
)
def test_hostile_text_is_judged_quickly_and_does_not_pass(text: str) -> None:
    started = time.process_time()
    assert judged(text).verdict is Verdict.FAIL
    assert time.process_time() - started < 0.5


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789+-*/()=,;. \n<>answer:$\\\\boxed{}", max_size=60) | st.text(max_size=60))
def test_any_text_gets_a_judgement(text: str) -> None:
    judgement = judged(text)
    assert (judgement.verdict is Verdict.PASS) is not bool(judgement.reason)
    assert judgement.formatted is bool(judgement.answer)


@settings(deadline=None)
@given(solved(), st.data())
def test_a_derivation_with_any_one_number_changed_never_passes(
    problem: tuple[list[int], int, Derivation], data: st.DataObject
) -> None:
    numbers, target, steps = problem
    words = write_derivation(steps).split(" ")
    at = data.draw(st.sampled_from([at for at, word in enumerate(words) if word.isdecimal()]))
    words[at] = str(data.draw(st.integers(0, 120).filter(lambda number: number != int(words[at]))))
    assert verify(numbers, target, " ".join(words)).verdict is Verdict.FAIL


@settings(deadline=None)
@given(solved(), seeds, st.integers(1, 99))
def test_a_derivation_of_something_else_never_passes(
    problem: tuple[list[int], int, Derivation], rng: random.Random, other: int
) -> None:
    numbers, target, steps = problem
    without = rng.randrange(len(steps))
    wrong = [
        (numbers, target + other, steps),
        ([*numbers, other], target, steps),
        ([*numbers[1:], numbers[0] + other], target, steps),
        (numbers, target, (*steps, (target, "+", other, target + other))),
        (numbers, target, steps[:without] + steps[without + 1 :]),
    ]
    for given_numbers, given_target, given_steps in wrong:
        assert verify(given_numbers, given_target, write_derivation(given_steps)).verdict is Verdict.FAIL


@dataclass
class Tree:
    """An expression with what it is worth and the numbers in it, worked out here and not by what is under test."""

    text: str
    worth: Fraction
    numbers: list[int]


@st.composite
def trees(draw: st.DrawFn, leaves: int = 4) -> Tree:
    if leaves == 1:
        number = draw(st.integers(1, 13))
        return Tree(str(number), Fraction(number), [number])
    cut = draw(st.integers(1, leaves - 1))
    left, right = draw(trees(cut)), draw(trees(leaves - cut))
    signs = {"+": left.worth + right.worth, "-": left.worth - right.worth, "*": left.worth * right.worth}
    if right.worth:
        signs["/"] = left.worth / right.worth
    sign = draw(st.sampled_from(sorted(signs)))
    return Tree(f"({left.text}) {sign} ({right.text})", signs[sign], left.numbers + right.numbers)


@settings(deadline=None)
@given(trees())
def test_an_expression_passes_for_what_it_is_worth_and_for_nothing_else(tree: Tree) -> None:
    judgement = verify(tree.numbers, int(tree.worth), tree.text)
    assert (judgement.verdict is Verdict.PASS) is (tree.worth.denominator == 1), (tree, judgement)
    assert verify(tree.numbers, int(tree.worth) + 1, tree.text).verdict is Verdict.FAIL
    # The normal form is again an expression of the same worth with the same numbers, and its own normal form.
    again = verify(tree.numbers, int(tree.worth), judgement.answer)
    assert again == judgement


@settings(deadline=None)
@given(solved(), seeds)
def test_a_solution_in_another_order_is_the_same_answer(problem: tuple[list[int], int, Derivation], rng: random.Random) -> None:
    numbers, target, steps = problem
    turned = tuple((b, sign, a, c) if sign in "+*" and rng.random() < 0.5 else (a, sign, b, c) for a, sign, b, c in steps)
    first, second = (verify(numbers, target, write_derivation(each)) for each in (steps, turned))
    assert first == second == verify(rng.sample(numbers, len(numbers)), target, first.answer)


def test_different_solutions_are_different_answers() -> None:
    answers = [verify([2, 3, 4], 20, text).answer for text in ("4 * (3 + 2)", "4 * 2 + 4 * 3", "(2 + 3) * 4", "4 * 3 + 2 * 4")]
    assert answers[0] == answers[2] == "(2 + 3) * 4" and len({answers[0], answers[1], answers[3]}) == 3
    assert judged("7 - 2 + 3").answer != judged("7 - 2 - 3").answer
    assert judged("7 - (6 - 3)").answer == judged("3 + 7 - 6").answer == "3 + 7 - 6"
    assert judged("12 / (6 / 3)").answer == judged("3 * 12 / 6").answer == "12 * 3 / 6"


def test_what_was_cut_off_is_truncated_unless_it_is_right() -> None:
    assert judged(RIGHT, finish="length").verdict is Verdict.PASS
    assert judged(RIGHT[:-3], finish="length").verdict is Verdict.TRUNCATED
    assert judged("Let me think", finish="length") == Judgement(
        Verdict.TRUNCATED, "", False, "not a derivation from 'Let me think' on"
    )


def test_the_grader_judges_in_order_and_names_a_problem_that_is_none() -> None:
    problem = countdown(1).problems[0]
    right = write_derivation(next(solve(problem.gold["numbers"], problem.gold["target"])))
    texts = [right, "no", right, right + " , 1 + 1 = 2"]
    grader = CountdownGrader()
    judgements = grader.grade([(problem, Completion(problem.id, at, text, 1)) for at, text in enumerate(texts)])
    assert [judgement.verdict is Verdict.PASS for judgement in judgements] == [True, False, True, False]
    for gold in ({}, {"numbers": [1, "2"], "target": 3}, {"numbers": [1, 2]}, {"numbers": [], "target": 3}):
        with pytest.raises(PasskbError, match="problem odd is not a Countdown problem"):
            grader.grade([(Problem("odd", "countdown", "", gold), Completion("odd", 0, "1 + 2", 1))])
    grader.close()
