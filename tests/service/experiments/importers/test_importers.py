"""Importing: everybody's result files become runs with the right counts; what is wrong is named by file, line and field."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kb.notes import PasskbError
from service.experiments.execution.run_store import Run, Runs, RunStatus, counts_of
from service.experiments.importers.import_run import import_files
from service.experiments.report.result import result as run_result
from service.experiments.spec import SpecError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | Sequence[Any] | Mapping[str, Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            text = content
        elif name.endswith(".json"):
            text = json.dumps(content)
        else:
            text = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return written


COUNTS = "model,problem_id,n,c\nbase,p1,8,2\nbase,p2,8,0\ntuned,p1,8,8\ntuned,p2,8,0\n"


def test_counts_become_a_run_like_any_other_and_are_recognised_the_second_time(home: Path, write: Write) -> None:
    run = import_files(home, [write("both.csv", COUNTS)])
    assert counts_of(run.tallies("base")) == {"p1": (8, 2), "p2": (8, 0)}
    assert Runs(home).find(run.id).state["status"] == RunStatus.SUCCEEDED
    rows = list(csv.reader((run.folder / "counts.csv").read_text().splitlines()))
    assert rows[0] == ["model", "problem_id", "n", "c"] and len(rows) == 5
    found = result(run)
    assert found["environment"]["engine"] == "imported" and found["environment"]["device"] is None
    assert found["prediction"]["kind"] == "crossover" and found["models"][0]["truncation"] is None
    assert found["imported"]["files"][0]["sha256"]
    assert import_files(home, [write("again.csv", COUNTS)]).id == run.id
    other = import_files(home, [write("both.csv", COUNTS)], prediction={"kind": "higher", "model": "tuned"})
    assert other.id != run.id and len(Runs(home).all()) == 2


def test_names_are_mapped_to_base_and_tuned_also_in_the_prediction(home: Path, write: Write) -> None:
    path = write("three.csv", COUNTS.replace("base,", "Qwen,").replace("tuned,", "GRPO,") + "SFT,p1,8,1\n")
    with pytest.raises(PasskbError, match="'Qwen', 'GRPO', 'SFT': choose two with"):
        import_files(home, [path])
    with pytest.raises(PasskbError, match="choose both with"):
        import_files(home, [path], base="Qwen")
    with pytest.raises(PasskbError, match="no such model, only 'Qwen'"):
        import_files(home, [path], base="qwen", tuned="GRPO")
    with pytest.raises(PasskbError, match="are both Qwen"):
        import_files(home, [path], base="Qwen", tuned="Qwen")
    run = import_files(home, [path], base="GRPO", tuned="Qwen", prediction={"kind": "higher", "model": "Qwen"})
    assert counts_of(run.tallies("base"))["p1"] == (8, 8) and run.spec.prediction is not None
    assert run.spec.prediction.model == "tuned" and run.state["imported"]["models"] == {"base": "GRPO", "tuned": "Qwen"}
    assert "ignored models: SFT" in run.state["imported"]["warnings"]


def test_two_files_without_a_models_name_are_two_models(home: Path, write: Write) -> None:
    rows = [{"task_id": "HumanEval/0", "completion": "x", "passed": i < 2, "result": "passed" if i < 2 else "timed out"}
            for i in range(4)]  # fmt: skip
    run = import_files(home, [write("tuned.jsonl", rows), write("base.jsonl.gz", rows[1:])])
    assert list(run.spec.models) == ["base", "tuned"] and run.spec.sampling.n == 3
    assert run.tallies("base")[0].verdicts == {"pass": 1, "timeout": 2}
    assert [row["text"] for row in run.completions("tuned")] == ["x"] * 4
    other = import_files(home, [write("llama.jsonl", rows), write("llama-rl.jsonl", rows)])
    assert list(other.spec.models) == ["llama", "llama-rl"], "the first one is the base"
    assert any("llama as the base" in warning for warning in other.state["imported"]["warnings"])
    with pytest.raises(PasskbError, match="no problem in common"):
        import_files(home, [write("base.jsonl", rows), write("tuned.jsonl", [{"task_id": "MBPP/1", "passed": True}])])


def test_every_layout_gives_its_counts(home: Path, write: Write) -> None:
    lm = {"doc": {}, "target": "4", "filter": "strict", "metrics": ["exact_match"]}
    layouts: list[tuple[str, Any, dict[str, tuple[int, int]]]] = [
        ("he.jsonl", [{"task_id": "a", "passed": True}, {"task_id": "a", "passed": False, "result": "failed: x"}],
         {"a": (2, 1)}),
        ("result.jsonl", [{"task_id": "a", "result": "passed"}, {"task_id": "a", "result": "fail"}], {"a": (2, 1)}),
        ("own.jsonl", [{"problem_id": "a", "verdict": "truncated", "tokens": 3, "finish": "length", "formatted": False,
                        "answer": ""}], {"a": (1, 0)}),
        ("plus.json", {"eval": {"a": [{"solution": "s", "base_status": "pass", "plus_status": "pass"},
                                      {"solution": "s", "base_status": "pass", "plus_status": "fail"},
                                      {"solution": "s", "base_status": "timeout", "plus_status": None}]}}, {"a": (3, 1)}),
        ("lm.jsonl", [{**lm, "doc_id": 0, "resps": [["4"]], "filtered_resps": ["4"], "exact_match": 1.0},
                      {**lm, "doc_id": 0, "filter": "loose", "resps": [["4"]], "filtered_resps": ["4"], "exact_match": 1.0},
                      {**lm, "doc_id": 1, "resps": [["5"]], "filtered_resps": ["5"], "exact_match": 0.0}],
         {"0": (1, 1), "1": (1, 0)}),
        ("repeats.jsonl", [{**lm, "doc_id": 0, "resps": [["it is 4", "5", "4"]], "filtered_resps": [["4", "5", "4"]],
                            "exact_match": 1.0}], {"0": (3, 2)}),
        ("first.jsonl", [{**lm, "doc_id": 0, "resps": [["4", "5"]], "filtered_resps": ["4"], "exact_match": 1.0}],
         {"0": (1, 1)}),
        ("lcb.json", [{"question_id": "q", "code_list": ["a", "b"], "graded_list": [True, False]}], {"q": (2, 1)}),
        ("tau.json", {"trials": {"0": [1, 0.0, 1.0, 0]}}, {"0": (4, 2)}),
        ("tau-native.json", [{"task_id": 3, "trial": 0, "reward": 1.0}, {"task_id": 3, "trial": 1, "reward": 0.5}],
         {"3": (2, 1)}),
        ("crux.json", {"raw_generations": {"s": ["1", "2"]}, "raw_scored_generations": {"s": [True, False]}}, {"s": (2, 1)}),
        ("crux-counts.json", {"n": 5, "c": {"s": 2, "t": 0}}, {"s": (5, 2), "t": (5, 0)}),
        ("counts.jsonl", [{"task_id": "a", "n": 100, "c": 67, "uniq": 79}], {"a": (100, 67)}),
        ("task.csv", "task_id,n,c\na,3,1\n", {"a": (3, 1)}),
    ]  # fmt: skip
    for name, content, counts in layouts:
        run = import_files(home, [write(name, content)])
        (model,) = run.spec.models
        assert counts_of(run.tallies(model)) == counts, name
        result(run)


def test_what_a_layout_hides_is_said(home: Path, write: Write) -> None:
    lm = {"doc_id": 0, "target": "4", "filter": "strict", "resps": [["4", "5"]], "filtered_resps": ["4"], "exact_match": 1.0}
    run = import_files(home, [write("lm.jsonl", [lm, {**lm, "filter": "loose"}])])
    warnings = " ".join(run.state["imported"]["warnings"])
    assert "retained one of 2 attempts" in warnings and "using 'strict', ignoring 'loose'" in warnings
    own = [{"problem_id": "a", "verdict": "pass", "tokens": 4, "finish": "stop", "formatted": True, "answer": "7"}]
    model = result(import_files(home, [write("own.jsonl", own)]))["models"][0]
    assert (model["truncation"], model["format_failures"], model["tokens_mean"], model["distinct_answers"]) == (0, 0, 4, 1)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "model,problem_id,n\nbase,p,1\n", "line 1: there is no column 'c'"),
        ("a.csv", "model,problem_id,n,c\nb,p,4,2\nb,q,4,5\n", "line 3, column 'c': expected passes from 0 to n = 4, not 5"),
        ("a.csv", "problem_id,n,c\np,four,2\n", "line 2, column 'n': expected a whole number, not 'four'"),
        ("a.csv", "problem_id,n,c\np,nan,2\n", "line 2, column 'n'"),
        ("a.csv", "problem_id,n,c\np,0,0\n", "line 2, column 'n': expected at least one attempt"),
        ("a.csv", "problem_id,n,c\np,4\n", "line 2: 2 columns, but the header has 3"),
        ("a.csv", "problem_id,n,c\np,4,1\np,4,1\n", "has problem 'p' twice"),
        ("a.csv", "problem_id,n,c\n", "has no counts"),
        ("a.csv", "", "line 1: there is no column 'problem_id'"),
        ("a.jsonl", '{"task_id": "a", "passed": true}\n{"task_id": \n', "line 2 is not JSON"),
        ("a.jsonl", '{"task_id": "a", "solution": "x"}\n', "line 1: this completion has no verdict: grade it first"),
        ("a.jsonl", '{"task_id": "a", "passed": "yes"}\n', "line 1, field 'passed': expected true or false"),
        ("a.jsonl", '{"task_id": "a", "passed": true, "result": "failed: no"}\n', "line 1: 'passed' is True, but 'result'"),
        ("a.jsonl", '{"task_id": "a", "result": "unsure"}\n', "field 'result': 'unsure' is not a verdict"),
        ("a.jsonl", '{"passed": true}\n', "line 1: no problem id in 'problem_id' or 'task_id'"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"doc_id": 1, "resps": [["x"]], "exact_match": 0.5}\n', "field 'exact_match': expected 1 (passed) or 0"),
        ("a.jsonl", '{"doc_id": 1, "resps": [["x"]], "bleu": 0.5}\n', "line 1: no metric for passed attempts"),
        ("a.json", '{"something": 1}', "unknown format"),
        ("a.json", '{"trials": {"1": [2]}}', "'1', trial 0: expected a reward from 0 to 1"),
        ("a.json", "{", "is not JSON"),
        ("a.txt", "x", "is not a .csv, .jsonl, .json or .eval file"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_named_by_line_and_field_and_leaves_no_run(
    home: Path, write: Write, name: str, content: str, said: str
) -> None:
    path = write(name, content)
    with pytest.raises(PasskbError) as error:
        import_files(home, [path])
    assert said in str(error.value) and (str(path) in str(error.value) or "twice" in said)
    assert Runs(home).all() == []


def test_a_missing_file_a_broken_archive_and_a_prediction_that_does_not_fit_are_refused(home: Path, write: Write) -> None:
    with pytest.raises(PasskbError, match="cannot be read: No such file"):
        import_files(home, [Path("nowhere.csv")])
    broken = write("x.csv.gz", "a,b")
    broken.write_bytes(b"\x1f\x8b torn")
    with pytest.raises(PasskbError, match="not a complete gzip file"):
        import_files(home, [broken])
    one = write("one.csv", "problem_id,n,c\np,4,1\n")
    with pytest.raises(SpecError, match="compares two models"):
        import_files(home, [one], prediction={"kind": "crossover"})
    with pytest.raises(PasskbError, match="NOTE#ID"):
        import_files(home, [one], claim="note")


def test_without_inspect_ai_its_logs_say_what_to_install(home: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(PasskbError, match="pip install inspect-ai"):
        import_files(home, [write("log.eval", "PK")])


def test_an_inspect_log_gives_its_epochs_as_attempts(home: Path, tmp_path: Path) -> None:
    inspect_ai: Any = pytest.importorskip("inspect_ai")
    dataset = [inspect_ai.dataset.Sample(id=name, input=name, target=target) for name, target in (("a", "yes"), ("b", "no"))]
    usage = inspect_ai.model.ModelUsage(input_tokens=1, output_tokens=2, total_tokens=3)

    def said(input: Any, *_: Any) -> Any:
        output = inspect_ai.model.ModelOutput.from_content("mockllm/model", "yes")
        output.usage = usage
        return output

    task = inspect_ai.Task(dataset=dataset, scorer=inspect_ai.scorer.match(), epochs=3)
    model = inspect_ai.model.get_model("mockllm/model", custom_outputs=said)
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")
    run = import_files(home, [Path(log.location.removeprefix("file://"))])
    (name,) = run.spec.models
    assert counts_of(run.tallies(name)) == {"a": (3, 3), "b": (3, 0)}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda name: name == name.strip()),
        st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
        min_size=1,
        max_size=5,
    )
)
def test_counts_survive_the_way_through_csv(tmp_path: Path, counts: dict[str, tuple[int, int]]) -> None:
    path = tmp_path / "counts.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "problem_id", "n", "c"])
        writer.writerows(["m", problem, n, c] for problem, (n, c) in counts.items())
    run = import_files(tmp_path / f"home{len(list(tmp_path.iterdir()))}", [path])
    assert counts_of(run.tallies("m")) == counts


def result(run: Run) -> dict[str, Any]:
    return run_result(run).to_json()


def rates(found: Mapping[str, Any], name: str = "pass_at_k") -> list[float]:
    return [row["estimate"] for row in found["models"][0][name]]


def test_the_organisms_cross_near_twelve(home: Path, data: Path) -> None:
    found = result(import_files(home, [data / "passk-counts" / "organism_countdown_n512.csv"]))
    crossover = found["comparison"]["crossover"]
    assert found["prediction"]["verdict"] == "supported" and 11 < crossover["k"] < 13
    assert crossover["low"] < 12 < crossover["high"] and found["comparison"]["solved"]["base_only"] == 38
    assert found["imported"]["warnings"] == ["ignored models: distilled"]


@pytest.mark.parametrize("side", ["input", "output"])
def test_cruxeval_gives_the_published_values_exactly(home: Path, data: Path, side: str) -> None:
    path = data / "passk-counts" / f"cruxeval_{side}_codellama7b_n10_counts.json"
    published = json.loads(path.read_text())["published"]
    run = import_files(home, [path])
    (model,) = run.spec.models
    told = rates(result(run))
    assert 100 * told[0] == pytest.approx(published["pass_at_1"], rel=1e-13)
    assert 100 * told[4] == pytest.approx(published["pass_at_5"], rel=1e-13)
    scored = data / "passk-code" / f"sample_scored_codellama-7b_temp0.2_{side}.json.gz"
    other = import_files(home, [scored])
    assert counts_of(other.tallies(*other.spec.models)) == counts_of(run.tallies(model))


def test_tau_bench_gives_the_published_pass_hat_k(home: Path, data: Path) -> None:
    found = result(import_files(home, [data / "passk-counts" / "taubench_gpt4o_airline_trials.json"]))
    assert [round(rate, 3) for rate in rates(found, "pass_hat_k")] == [0.42, 0.273, 0.22, 0.2]


def test_codegens_completions_and_counts_agree_with_those_of_their_makers(home: Path, data: Path) -> None:
    folder = data / "passk-code"
    run = import_files(home, [folder / "he_codegen16b_results.jsonl.gz"])
    (model,) = run.spec.models
    (counted,) = (other := import_files(home, [folder / "he_codegen16b_counts.csv"])).spec.models
    assert counts_of(run.tallies(model)) == counts_of(other.tallies(counted))
    assert rates(result(run))[0] == pytest.approx(0.221, abs=0.0005)
    assert result(run)["models"][0]["verdicts"]["pass"] == sum(c for _, c in counts_of(run.tallies(model)).values())
