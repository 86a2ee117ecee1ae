"""Runs on disk: what was kept is found again, whatever became of the process and of single files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.notes import PasskbError
from service.experiments.execution.run_store import Judged, Run, Runs, Tally, counts_of, tally
from service.experiments.execution.sampling import requests, unsolved
from service.experiments.spec import ExperimentSpec, from_mapping
from service.experiments.types import Completion, Judgement, Problem, Verdict, seed_of

SPEC = from_mapping({"name": "A run", "problems": {"set": "countdown"}, "models": {"base": "x"}, "sampling": {"n": 8}})


def judged(problem: str, first: int, *passed: bool) -> Judged:
    return [
        (
            Completion(problem, first + i, f"text \ud800 {i}", 3, logprob=-1.5),
            Judgement(Verdict.PASS if right else Verdict.FAIL, "42" if right else "", right),
        )
        for i, right in enumerate(passed)
    ]


def entry(problem: str, first: int, *passed: bool) -> tuple[Tally, Judged]:
    pairs = judged(problem, first, *passed)
    return tally(problem, first, pairs), pairs


@pytest.fixture
def run(home: Path) -> Run:
    return Runs(home).create(SPEC)


def test_what_is_appended_is_counted_and_can_be_read_again(run: Run) -> None:
    run.append("base", [entry("p1", 0, True, False), entry("p2", 0, False, False)])
    run.append("base", [entry("p1", 2, True)])
    again = Run(run.folder)
    assert counts_of(again.tallies("base")) == {"p1": (3, 2), "p2": (2, 0)}
    assert [row["verdict"] for row in again.completions("base")] == ["pass", "fail", "fail", "fail", "pass"]
    first = again.tallies("base")[0]
    assert (first.tokens, first.unformatted, first.logprob, first.scored, first.right) == (6, 1, -3.0, 2, ["42"])
    assert first.answers == {"42": 1, "": 1}


@pytest.mark.parametrize("killed", ["before the tally", "torn tally"])
def test_a_batch_whose_tally_is_lost_is_counted_again_from_its_shard(run: Run, killed: str) -> None:
    run.append("base", [entry("p1", 4, True, False), entry("p2", 0, True)])
    kept = run.folder / "completions" / "base" / "000001.tally.json"
    before = run.tallies("base")
    kept.unlink() if killed == "before the tally" else kept.write_text('[{"problem": ')
    assert run.tallies("base") == before and kept.exists()


def test_a_corrupt_shard_keeps_its_counts_and_without_them_is_set_aside_and_drawn_again(run: Run) -> None:
    run.append("base", [entry("p1", 0, True, True)])
    run.append("base", [entry("p1", 2, False, False)])
    folder = run.folder / "completions" / "base"
    (folder / "000001.jsonl.gz").write_bytes(b"\x1f\x8b torn")
    assert counts_of(run.tallies("base")) == {"p1": (4, 2)}, "counts already there stay"
    assert len(list(run.completions("base"))) == 2
    (folder / "000001.tally.json").unlink()
    assert counts_of(run.tallies("base")) == {"p1": (2, 0)}
    assert (folder / "000001.jsonl.gz.corrupt").exists(), "nothing is thrown away"
    wanted = requests(SPEC, "base", [Problem("p1", "maths", "?")], run.tallies("base"), 8, 64)
    assert sorted(i for r in wanted for i in range(r.first, r.first + r.n)) == [0, 1, 4, 5, 6, 7]
    run.append("base", [entry("p1", 0, True, False)])
    assert counts_of(run.tallies("base")) == {"p1": (4, 1)}


def test_files_left_by_a_killed_process_are_not_taken_for_batches(run: Run) -> None:
    folder = run.folder / "completions" / "base"
    folder.mkdir(parents=True)
    for name in ("000001.jsonl.gz.77.part", "000002.tally.json.77.part", "notes.txt"):
        (folder / name).write_text("half")
    assert run.tallies("base") == []
    run.append("base", [entry("p1", 0, True)])
    assert counts_of(run.tallies("base")) == {"p1": (1, 1)}


@given(
    n=st.integers(1, 200),
    most=st.integers(1, 64),
    done=st.lists(st.tuples(st.integers(0, 199), st.integers(1, 50)), max_size=6),
)
def test_requests_cover_exactly_the_attempts_that_are_missing(n: int, most: int, done: list[tuple[int, int]]) -> None:
    problems = [Problem("a", "maths", "1"), Problem("b", "maths", "2")]
    kept = [Tally("a", first, size) for first, size in done]
    wanted = requests(SPEC, "base", problems, kept, n, most)
    attempted = {i for first, size in done for i in range(first, first + size)}
    for problem, missing in (("a", set(range(n)) - attempted), ("b", set(range(n)))):
        drawn = [i for r in wanted if r.problem.id == problem for i in range(r.first, r.first + r.n)]
        assert len(drawn) == len(set(drawn)) and set(drawn) == missing
    assert all(1 <= r.n <= most for r in wanted)
    assert all(r.seed == seed_of(0, "base", r.problem.id, r.first) for r in wanted)


def test_screening_goes_on_only_where_nothing_passed_at_first() -> None:
    problems = [Problem(name, "maths", "?") for name in "abc"]
    kept = [Tally("a", 0, 4, 1), Tally("b", 0, 4, 0), Tally("c", 0, 2, 0), Tally("c", 2, 2, 2), Tally("b", 4, 4, 3)]
    assert [problem.id for problem in unsolved(problems, kept, 4)] == ["b"], "what passed later does not change who is screened"


def test_runs_are_found_by_the_beginning_of_their_id_and_by_what_they_run(home: Path) -> None:
    runs = Runs(home)
    with pytest.raises(PasskbError, match="there is no run"):
        runs.find("nothing")
    first = runs.create(SPEC)
    other = runs.create(from_mapping({**SPEC.to_json(), "name": "Other", "ks": [1], "sampling": {"n": 4}}))
    assert runs.find(first.id).id == first.id and runs.find(first.id[:24]).id == first.id
    with pytest.raises(PasskbError, match="could be"):
        runs.find("2")
    with pytest.raises(PasskbError, match=f"newest are .*{first.id}"):
        runs.find("../../etc")
    renamed: ExperimentSpec = from_mapping({**SPEC.to_json(), "name": "Same thing"})
    assert [run.id for run in runs.like(renamed)] == [first.id] and runs.find(other.id).spec.sampling.n == 4


def test_a_run_directory_that_can_not_be_written_or_read_says_so(home: Path, run: Run) -> None:
    (run.folder / "run.json").write_text("{")
    with pytest.raises(PasskbError, match=r"run\.json cannot be read"):
        _ = run.state
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "runs").write_text("a file in the way")
    with pytest.raises(PasskbError, match="cannot be written"):
        Runs(home / "elsewhere").create(SPEC)


def test_like_finds_runs_by_the_full_hash_of_their_spec(home: Path) -> None:
    """A run's id has only eight digits of the hash, so a run with these digits and another spec is not the same experiment."""
    runs = Runs(home)
    same = runs.create(SPEC)
    newer = runs.create(from_mapping({**SPEC.to_json(), "name": "newer", "question": "?", "claim": "a#b"}))
    other = runs.create(from_mapping({**SPEC.to_json(), "sampling": {"n": 4}, "ks": [1]}))
    forged = other.folder.rename(other.folder.with_name(f"20990101-000000-forged-{SPEC.sha256[:8]}"))
    assert Run(forged).spec.sha256[:8] != SPEC.sha256[:8]
    assert [run.id for run in runs.like(SPEC)] == [newer.id, same.id], "newest first, whatever the name"
    same.folder.rename(same.folder.with_name("20000101-000000-renamed-00000000"))
    assert [run.id for run in runs.like(SPEC)] == [newer.id], "without the digits in its id a run is not recognised"


def test_shards_are_numbered_from_one_after_the_largest_number(run: Run) -> None:
    """Gaps are not filled, and shards that were set aside do not count."""
    folder = run.folder / "completions" / "base"

    def shards() -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    run.append("base", [entry("p1", 0, True)])
    assert shards() == ["000001.jsonl.gz", "000001.tally.json"]
    run.append("base", [entry("p1", 1, False)])
    run.append("base", [entry("p1", 2, False)])
    for name in ("000002.jsonl.gz", "000002.tally.json"):
        (folder / name).unlink()
    (folder / "000007.tally.json").write_text("[]")
    (folder / "000009.jsonl.gz.corrupt").write_bytes(b"torn")
    run.append("base", [entry("p1", 3, True)])
    assert shards()[-3:] == ["000008.jsonl.gz", "000008.tally.json", "000009.jsonl.gz.corrupt"]
    assert [(tally.first, tally.c) for tally in run.tallies("base")] == [(0, 1), (2, 0), (3, 1)]


def test_models_have_folders_of_their_own(run: Run) -> None:
    run.append("base", [entry("p1", 0, True)])
    run.append("Tuned model", [entry("p1", 0, False)])
    assert sorted(path.name for path in (run.folder / "completions").iterdir()) == ["base", "tuned-model"]
    assert [counts_of(run.tallies(name)) for name in ("base", "Tuned model")] == [{"p1": (1, 1)}, {"p1": (1, 0)}]


def test_a_recount_makes_one_tally_for_each_contiguous_range(run: Run) -> None:
    """Attempts 0, 1, 4, 5 and 9 of p1 out of order, and 3 of p2, with passes at 1, 4, 5 and 3."""
    passes = {0: False, 5: True, 1: True, 9: False, 4: True}
    pairs = [pair for first, right in passes.items() for pair in judged("p1", first, right)]
    run.append("base", [(tally("p1", 0, pairs), pairs), entry("p2", 3, True)])
    (run.folder / "completions" / "base" / "000001.tally.json").unlink()
    expected = [("p1", 0, 2, 1), ("p1", 4, 2, 2), ("p1", 9, 1, 0), ("p2", 3, 1, 1)]
    for _ in range(2):  # recounted, then read from the new tally
        assert [(entry.problem, entry.first, entry.n, entry.c) for entry in run.tallies("base")] == expected
    assert [entry.tokens for entry in run.tallies("base")] == [6, 6, 3, 3]
    missing = requests(SPEC, "base", [Problem("p1", "maths", "?")], run.tallies("base"), 10, 64)
    assert [(request.first, request.n) for request in missing] == [(2, 2), (6, 3)]
