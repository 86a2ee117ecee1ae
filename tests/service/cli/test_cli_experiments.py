"""The command line of experiments: what it prints for scripts and for people, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli.main import main

SPEC = """
name: dry run
problems: {set: countdown, limit: 10}
models:
  base: {model: "beta:0.4,1.2", engine: scripted}
  tuned: {model: "beta:1,1", engine: scripted}
sampling: {n: 16, max_tokens: 64}
"""
COUNTS = "model,problem_id,n,c\n" + "".join(
    f"base,p{i},64,{2 + i % 5}\ntuned,p{i},64,{60 if i % 2 else 0}\n" for i in range(60)
)

Passkb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def passkb(home: Path, capsys: pytest.CaptureFixture[str]) -> Passkb:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["--home", str(home), *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def only_json(found: tuple[int, str, str]) -> Any:
    status, out, err = found
    assert status == 0, err
    return json.loads(out)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def test_a_run_is_waited_for_listed_shown_recognised_and_repeated(passkb: Passkb, spec: Path) -> None:
    run = only_json(passkb("experiment", "run", spec, "--wait", "--json"))
    assert run["status"] == "succeeded" and run["evidence_note_id"] and run["progress"]["done"] == 320
    assert run.keys() >= {"run_id", "status", "progress", "models", "comparison", "prediction", "environment"}
    assert run["prediction"]["kind"] == "crossover" and run["prediction"]["verdict"] in ("supported", "refuted", "underpowered")
    status, out, err = passkb("experiment", "run", spec)
    assert status == 0 and run["run_id"] in out and "--again repeats it with a new seed" in err
    listed = only_json(passkb("experiment", "list", "--json"))["runs"]
    assert [entry["run_id"] for entry in listed] == [run["run_id"]]
    assert only_json(passkb("experiment", "show", run["run_id"], "--json"))["models"] == run["models"]
    again = only_json(passkb("experiment", "run", spec, "--again", "--json"))
    assert again["fresh"] and again["run_id"] != run["run_id"]
    assert "queued" in passkb("experiment", "list")[1]
    assert only_json(passkb("experiment", "cancel", again["run_id"], "--json"))["status"] == "cancelled"
    assert only_json(passkb("experiment", "resume", again["run_id"], "--json"))["status"] == "queued"
    shown = passkb("experiment", "show", run["run_id"])[1]
    assert run["prediction"]["sentence"] in shown and "scripted" in passkb("note", run["evidence_note_id"])[1]


def test_imported_counts_are_a_run_like_any_other(passkb: Passkb, tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(COUNTS)
    twice = tmp_path / "again" / "counts.csv"
    twice.parent.mkdir()
    twice.write_text(COUNTS)
    run = only_json(passkb("experiment", "import", path, twice, "--json"))
    assert run["status"] == "succeeded" and run["prediction"]["verdict"] == "supported" and run["evidence_note_id"]
    assert [model["name"] for model in run["models"]] == ["base", "tuned"]
    listed = only_json(passkb("experiment", "list", "--json"))["runs"]
    assert [entry["run_id"] for entry in listed] == [run["run_id"]]


def test_a_plan_says_what_to_expect_and_starts_nothing(passkb: Passkb, spec: Path, home: Path) -> None:
    planned = only_json(passkb("experiment", "plan", spec, "--json"))
    assert planned and not (home / "runs").exists()
    assert "320" in passkb("experiment", "plan", spec)[1], "the number of attempts"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nowhere.yaml"], "no such file. For the test of a claim use NOTE#ID"),
        (["run", "no note#x"], "there is no note 'no note'"),
        (["show", "nothing"], "there is no run 'nothing'"),
        (["cancel", "nothing"], "there is no run"),
        (["resume", "nothing"], "there is no run"),
        (["import", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_is_not_there_is_named(passkb: Passkb, arguments: list[str], says: str) -> None:
    status, out, err = passkb("experiment", *arguments)
    assert status == 1 and not out and says in err and err.count("\n") == 1


def test_a_bad_spec_is_refused_with_the_key_and_nothing_is_queued(passkb: Passkb, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(SPEC.replace("sampling", "samplin"))
    status, _, err = passkb("experiment", "run", path)
    assert status == 1 and "bad.yaml: unknown key 'samplin', did you mean 'sampling'?" in err
    assert not (home / "runs").exists() and not (home / "jobs.sqlite").exists()
