"""Problem files: the field's layouts are read whole, in order and alike everywhere, or refused with the line that is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.notes import PasskbError
from service.experiments.datasets.final_answers import (
    INSTRUCTION,
    boxed,
    find_answer,
    last_number,
    name_of,
    number,
    tidy,
    words,
)
from service.experiments.datasets.formats import answer_text, read_row
from service.experiments.datasets.loader import direct_prompt, load
from service.experiments.spec import ProblemsSpec, SpecError
from service.experiments.types import problem_set

MBPP = {
    "task_id": 2,
    "text": "Write a function to find the shared elements of two tuples.",
    "code": "def helper(a):\n  return set(a)\ndef shared(a, b):\n  return tuple(helper(a) & helper(b))",
    "test_list": ["assert set(shared((3, 4), (4, 5))) == {4}", "assert shared((1,), (2,)) == ()"],
    "test_setup_code": "",
    "challenge_test_list": ["assert shared((), ()) == ()"],
}


def write(folder: Path, rows: list[Any], name: str = "problems.jsonl") -> str:
    text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows)) + "\n"
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def maths(**fields: Any) -> dict[str, Any]:
    return {"problem": "What is it?", **fields}


def test_all_of_gsm8k_loads(data: Path) -> None:
    loaded = load(ProblemsSpec(file=str(data / "gsm8k" / "test.jsonl.gz"), format="gsm8k"))
    assert len(loaded.problems) == len({problem.id for problem in loaded.problems}) == 1319
    assert all(number(problem.gold["answer"]) == problem.gold["answer"] for problem in loaded.problems)
    assert loaded.problems[2].gold == {"answer": "70000"} and loaded.problems[2].prompt.endswith(INSTRUCTION)


def test_all_of_humaneval_loads(data: Path) -> None:
    loaded = load(ProblemsSpec(file=str(data / "passk-code" / "HumanEval.jsonl.gz"), format="humaneval"))
    assert len(loaded.problems) == 164 and loaded.problems[163].id == "HumanEval/163"
    first = loaded.problems[0]
    assert first.prompt == first.gold["prompt"] and first.gold["entry_point"] in first.prompt and "\ndef " in first.stop
    assert all("def check(" in problem.gold["tests"] and problem.gold["solution"] for problem in loaded.problems)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (maths(answer="\\frac{1}{2}"), "\\frac{1}{2}"),
        (maths(answer=204), "204"),
        (maths(answer=27.0), "27"),
        (maths(answer=0.1), "0.1"),
        (maths(answer=1e-7), "0.0000001"),
        (maths(answer="70,000"), "70000"),
        (maths(final_answer=["2"]), "2"),
        (maths(final_answer=["x = 1", 2.50]), "x = 1, 2.5"),
        (maths(answer="a", final_answer="b"), "b"),
        (maths(solution="So $\\boxed{1}$, no: $\\boxed{\\frac{\\sqrt{3}}{\\{2\\}}}$."), "\\frac{\\sqrt{3}}{\\{2\\}}"),
        (maths(answer="It is \\boxed{7}, as shown."), "7"),
        ({"question": "Q?", "answer": "Half of 4 is <<4/2=2>>2.\n#### 1,234"}, "1234"),
    ],
)
def test_maths_answers_of_every_shape(tmp_path: Path, row: dict[str, Any], answer: str) -> None:
    (problem,) = load(ProblemsSpec(file=write(tmp_path, [row]), format="math")).problems
    assert (problem.kind, problem.gold) == ("maths", {"answer": answer})


def test_decimals_keep_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"problem": "p", "answer": 0.12345678901234567890123}\n')
    (problem,) = load(ProblemsSpec(file=str(path), format="math")).problems
    assert problem.gold["answer"] == "0.12345678901234567890123"


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.jsonl.gz"])
def test_the_same_problems_in_any_wrapping_are_the_same_set(tmp_path: Path, name: str) -> None:
    rows = [maths(answer=i, unique_id=f"test/{i}") for i in range(5)]
    loaded = load(ProblemsSpec(file=write(tmp_path, rows, name), format="math"))
    plain = load(ProblemsSpec(file=write(tmp_path, rows, "plain.jsonl"), format="math"))
    assert loaded.problems == plain.problems and loaded.sha256 == plain.sha256
    assert [problem.id for problem in loaded.problems] == [f"test/{i}" for i in range(5)]


def test_a_countdown_file_and_the_generator(tmp_path: Path) -> None:
    rows = [{"numbers": [3, 7, 12, 6], "target": 45}, {"nums": [1, 2, 3], "target": 6}]
    lines, whole = write(tmp_path, rows, "c.jsonl"), write(tmp_path, rows, "c.json")
    loaded = load(ProblemsSpec(file=lines, format="countdown"))
    assert loaded.problems == load(ProblemsSpec(file=whole, format="countdown")).problems and len(loaded.problems) == 2
    generated = load(ProblemsSpec(set="countdown", limit=3, seed=1))
    assert len(generated.problems) == 3 and problem_set("other", generated.problems).sha256 == generated.sha256


def test_mbpp_shows_its_tests_and_names_the_function_they_call(tmp_path: Path) -> None:
    sanitized = {
        "task_id": 3, "prompt": "Close to pi?", "test_imports": ["import math"],
        "test_list": ["assert math.isclose(near(3), math.pi, abs_tol=1)"],
    }  # fmt: skip
    first, second = load(ProblemsSpec(file=write(tmp_path, [MBPP, sanitized]), format="mbpp")).problems
    assert (first.id, first.kind, first.gold["entry_point"], first.gold["prompt"]) == ("2", "code", "shared", "")
    assert first.prompt.startswith('"""\nWrite a function') and first.prompt.endswith('== ()\n"""\n')
    assert first.gold["tests"] == "\n".join(MBPP["test_list"]) and first.gold["solution"] == MBPP["code"]  # type: ignore[arg-type]
    assert second.gold["entry_point"] == "near" and second.gold["tests"].startswith("import math\nassert")
    assert direct_prompt(first) is None


def test_the_control_asks_for_the_answer_at_once(tmp_path: Path) -> None:
    (problem,) = load(ProblemsSpec(file=write(tmp_path, [maths(answer=1)]), format="math")).problems
    direct = direct_prompt(problem)
    assert direct and direct.startswith("What is it?\n") and direct.endswith("Answer:") and "step by step" not in direct


def test_a_limit_takes_the_first_or_a_sample_that_only_grows(tmp_path: Path) -> None:
    file = write(tmp_path, [maths(answer=i) for i in range(40)])

    def taken(limit: int, seed: int) -> list[str]:
        return [
            problem.gold["answer"] for problem in load(ProblemsSpec(file=file, format="math", limit=limit, seed=seed)).problems
        ]

    assert taken(3, 0) == ["0", "1", "2"] and len(taken(99, 1)) == 40
    small, large = taken(8, 1), taken(20, 1)
    assert len(small) == 8 and set(small) < set(large) and large == sorted(large, key=int)
    assert small != taken(8, 2) and small != taken(8, 0) and small == taken(8, 1)


def test_the_hash_is_of_ids_prompts_and_golds() -> None:
    rows = [maths(answer=1), maths(answer=2), {"problem": "What was it?", "answer": 1}]
    one, gold, prompt = (read_row("math", row, "a") for row in rows)
    name = read_row("math", rows[0], "b")
    hashes = [problem_set("x", chosen).sha256 for chosen in ([one], [gold], [prompt], [name], [one, name], [name, one])]
    assert len(set(hashes)) == 6 and problem_set("y", [one]).sha256 == hashes[0]


@pytest.mark.parametrize(
    ("layout", "row", "says"),
    [
        ("math", {"answer": 1}, "'problem' or 'question'"),
        ("math", maths(), "'final_answer', 'answer', or a 'solution'"),
        ("math", maths(solution="It is 5."), "no closed"),
        ("math", maths(solution="It is \\boxed{5"), "no closed"),
        ("math", maths(answer={"value": 1}), "not {'value': 1}"),
        ("math", maths(answer=True), "not True"),
        ("math", maths(answer=[[1]]), "non-empty flat list"),
        ("math", maths(answer="  "), "not '  '"),
        ("math", maths(answer=float("nan")), "finite"),
        ("math", {"problem": 5, "answer": 1}, "must be a text, not 5"),
        ("math", maths(answer="\ud800"), "surrogate"),
        ("gsm8k", {"question": "Q", "answer": "Four eggs are left."}, "after '#### '"),
        ("gsm8k", {"question": "Q", "solution": "#### 4"}, "'final_answer' or 'answer'"),
        ("humaneval", {"prompt": "def f():", "test": "def check(c): ..."}, "'entry_point'"),
        ("humaneval", {"prompt": "def f():", "entry_point": "f"}, "'test' or 'tests'"),
        ("mbpp", {"text": "t", "code": "c"}, "'test_list'"),
        ("mbpp", {"text": "t", "test_list": ["assert len(max(1, 2)) == 3"]}, "entry_point"),
        ("mbpp", {"text": "t", "test_list": ["assert ("]}, "not Python"),
        ("mbpp", {"text": "t", "test_list": "assert f() == 1"}, "list of lines"),
        ("math", [1], "not a JSON object"),
    ],
)
def test_a_bad_line_is_named_and_the_set_refused(tmp_path: Path, layout: str, row: Any, says: str) -> None:
    good = {"math": maths(answer=1), "gsm8k": {"question": "Q", "answer": "#### 1"}, "mbpp": MBPP}
    fine = good.get(layout, {"task_id": "h", "prompt": "def f():", "test": "x", "entry_point": "f"})
    with pytest.raises(PasskbError) as caught:
        load(ProblemsSpec(file=write(tmp_path, [fine, row]), format=layout))
    assert says in str(caught.value) and "line 2" in str(caught.value) and "problems.jsonl" in str(caught.value)


def test_blank_lines_count_as_lines_and_a_separator_in_a_text_does_not(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"problem": "a\u2028b", "answer": 1}\n\n{"problem": "c"\n', encoding="utf-8")
    with pytest.raises(PasskbError, match="line 3 is not JSON"):
        load(ProblemsSpec(file=str(path), format="math"))


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, [maths(answer=1, id=7), maths(answer=2, id=8), maths(answer=3, id="7")])
    with pytest.raises(PasskbError, match=r"line 3: duplicate id '7', also at line 1"):
        load(ProblemsSpec(file=file, format="math"))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"problem": "p", "answer": 1}\n' * 99)[:-20])
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "\xe9", "answer": 1}\n')
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    (tmp_path / "object.json").write_text('{"problem": "p", "answer": 1}')
    (tmp_path / "table.csv").write_text("problem,answer\n")
    wanted = {
        "torn.jsonl.gz": "complete gzip", "latin.jsonl": "UTF-8", "empty.jsonl": "no problems", "object.json": "not a list",
        "table.csv": ".jsonl.gz", "absent.jsonl": "put the problems there",
    }  # fmt: skip
    for name, says in wanted.items():
        with pytest.raises(PasskbError, match=says):
            load(ProblemsSpec(file=str(tmp_path / name), format="math"))


def test_unknown_sets_and_formats_name_the_known_ones() -> None:
    with pytest.raises(SpecError, match="use countdown"):
        load(ProblemsSpec(set="aime"))
    with pytest.raises(SpecError, match="humaneval, mbpp, gsm8k, math, countdown"):
        load(ProblemsSpec(file="a.jsonl", format="jsonl"))


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_that_number(value: float) -> None:
    assert type(value)(answer_text(value)) == value and "e" not in answer_text(value)


@given(
    st.recursive(
        st.text("ab0,$", max_size=4), lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"{{{''.join(parts)}}}")
    )
)
def test_a_box_holds_what_was_put_in_it(content: str) -> None:
    assert boxed(f"\\boxed{{no}} so \\boxed{{{content}}} and }} {{") == content
    assert boxed(f"\\boxed{{{content}") is None


@given(st.text(max_size=60))
def test_no_text_is_too_odd_to_look_at(text: str) -> None:
    for wanted in (True, False):
        find_answer(text, number_wanted=wanted)
        find_answer(text, number_wanted=wanted, at_once=True)
    assert name_of(text) == name_of(text) and words(tidy(text)) == words(tidy(tidy(text)))


@given(st.integers(0, 10**30), st.integers(0, 10**6), st.sampled_from(["", "-"]))
def test_one_number_in_many_spellings(whole: int, decimals: int, sign: str) -> None:
    plain = number(f"{sign}{whole}.{decimals:07}")
    for spelling in (
        f"{sign}{whole:,}.{decimals:07}0",
        f"${sign}\\${whole}.{decimals:07}$.",
        f" {sign}{whole:,}.{decimals:07}".replace(",", "{,}"),
    ):
        assert number(spelling) == plain and plain is not None


@pytest.mark.parametrize(
    "text", ["1,2", "100, 200", "1 2", "5%", "", "-", ".", "--1", "1e5", "٣", "1,2345", "0,500", "x", "1/2"]
)
def test_what_is_no_plain_number(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("10-5", "5"),
        ("x -5", "-5"),
        ("is $1,234.50.", "$1,234.50"),
        ("so 1/4 cup", "1/4"),
        ("99%", "99"),
        ("-$3", "-$3"),
        ("no", ""),
    ],
)
def test_the_last_number(text: str, last: str) -> None:
    assert last_number(text) == last
