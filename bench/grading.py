"""Code grading: agreement with 16,400 verdicts that a bare interpreter gave, and speed beside one fresh interpreter a program.

Completions: CodeGen-16B on HumanEval, temperature 0.8, 100 a task. The verdicts beside them come from running each program in
an interpreter of its own, three seconds at most.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data import SHARED, Absent
from bench.figures import Figure, median, spread
from service.experiments.graders.code import CodeGrader
from service.experiments.sandbox import available
from service.experiments.sandbox.bubblewrap import interpreter
from service.experiments.types import Completion, Judgement, Problem, Verdict

FOLDER = SHARED / "passk-code"
COMPLETIONS = "HumanEval_codegen16B_temp0.8_topp0.95_num100_max300_code_solution.jsonl"
# A batch takes a sandbox a fraction of a second: one of fewer programs would measure what else the machine did just then.
_BATCHES, _BATCH = 8, 100


@dataclass(frozen=True, slots=True)
class Known:
    """A completion and what the bare interpreter said of it: `passed`, `timed out` or `failed: …`."""

    problem: Problem
    completion: Completion
    result: str


def measure(scratch: Path) -> list[Figure]:
    holds, remedy = available()
    if not holds:
        raise Absent(remedy)
    entries = known()
    grader = CodeGrader()
    try:
        return [
            *_speed(grader, entries, scratch),
            *_processor_time(grader, entries, scratch),
            *_agreement(grader, entries, scratch),
        ]
    finally:
        grader.close()


def known(folder: Path = FOLDER) -> list[Known]:
    """The completions in `folder` with their results. Raises Absent when the completions are not there."""
    if not (folder / COMPLETIONS).is_file():
        raise Absent(f"{folder / COMPLETIONS} is not there")
    with gzip.open(folder / "he_codegen16b_results.jsonl.gz", "rt") as lines:
        results = {(entry["task_id"], entry["sample"]): entry["result"] for entry in map(json.loads, lines)}
    samples = {entry["prompt"]: entry["samples"] for entry in _lines(folder / COMPLETIONS)}
    out = []
    for task in _lines(folder / "HumanEval_for_code_generation.jsonl"):
        gold = {"tests": task["test"], "entry_point": task["entry_point"], "prompt": task["prompt"]}
        problem = Problem(task["task_id"], "code", task["prompt"], gold)
        for i, text in enumerate(samples[task["prompt"]]):
            out.append(Known(problem, Completion(problem.id, i, text, 0), results[problem.id, i]))
    return out


def agrees(entry: Known, judgement: Judgement) -> bool:
    """Whether both say pass, both say timeout, or both say neither."""
    expected = {"passed": Verdict.PASS, "timed out": Verdict.TIMEOUT}.get(entry.result, Verdict.FAIL)
    return judgement.verdict is expected


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _grade(grader: CodeGrader, entries: Sequence[Known]) -> list[Judgement]:
    return grader.grade([(entry.problem, entry.completion) for entry in entries])


def _agreement(grader: CodeGrader, entries: Sequence[Known], scratch: Path) -> list[Figure]:
    """With a row for each disagreement: both verdicts, and what a fresh interpreter says of that program here and now."""
    start = time.perf_counter()
    judgements = _grade(grader, entries)
    seconds = time.perf_counter() - start
    apart = [(entry, found) for entry, found in zip(entries, judgements, strict=True) if not agrees(entry, found)]
    share = 1 - len(apart) / len(entries)
    counts = Counter(found.verdict.value for found in judgements)
    figures = [
        Figure("programs with equal verdicts", f"{share:.3%} of {len(entries)}", "99.5 %", share >= 0.995),
        Figure("verdicts", ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())),
        Figure("all of them, timeouts included", f"{seconds:.0f} s, {len(entries) / seconds:.0f} programs/s"),
    ]
    for i, (entry, found) in enumerate(apart):
        name = f"{entry.problem.id}, attempt {entry.completion.attempt}"
        told = f"{found.verdict}: {found.reason[:120]}".replace("|", "/").rstrip(": ")
        fresh = "passed" if _fresh(_whole(entry, scratch / f"apart{i}.py")) else "did not pass"
        figures.append(Figure(name, f"was {entry.result}; sandbox: {told}; a fresh interpreter here: {fresh}"))
    return figures


def _speed(grader: CodeGrader, entries: Sequence[Known], scratch: Path) -> list[Figure]:
    """In turns, batch by batch, so that a busy machine is as busy for both. Programs that come to an end: the others cost the
    time limit either way."""
    ending = [entry for entry in entries if entry.result != "timed out"]
    sample = random.Random(5).sample(ending, _BATCHES * _BATCH)
    workers = len(os.sched_getaffinity(0))
    _grade(grader, sample[:workers])
    ours, fresh, ratios, unequal = [], [], [], 0
    with ThreadPoolExecutor(workers) as pool:
        for i in range(0, len(sample), _BATCH):
            batch = sample[i : i + _BATCH]
            paths = [_whole(entry, scratch / f"{i + j}.py") for j, entry in enumerate(batch)]
            start = time.perf_counter()
            judgements = _grade(grader, batch)
            between = time.perf_counter()
            passed = list(pool.map(_fresh, paths))
            end = time.perf_counter()
            unequal += sum((found.verdict is Verdict.PASS) != bare for found, bare in zip(judgements, passed, strict=True))
            ours.append(_BATCH / (between - start))
            fresh.append(_BATCH / (end - between))
            ratios.append(ours[-1] / fresh[-1])
    many = f"{len(sample)} programs that end, {workers} at a time"
    return [
        Figure(f"{many}: programs/s", spread(ours)),
        Figure("one fresh, unconfined interpreter a program: programs/s", spread(fresh)),
        Figure("times as fast", spread(ratios), "10", median(ratios) >= 10),
        Figure("verdicts that differ between the two", str(unequal), "0", unequal == 0),
    ]


def _processor_time(grader: CodeGrader, entries: Sequence[Known], scratch: Path) -> list[Figure]:
    """Beside the programs a second because a busy machine slows down those more that never wait. With sandboxes that run."""
    sample = random.Random(6).sample([entry for entry in entries if entry.result != "timed out"], _BATCHES * _BATCH)
    paths = [_whole(entry, scratch / f"{i}.py") for i, entry in enumerate(sample[:_BATCH])]
    before = _spent_s()
    _grade(grader, sample)
    between = _spent_s()
    for path in paths:
        _fresh(path)
    ours, fresh = (between - before) / len(sample), (_spent_s() - between) / len(paths)
    told = f"{ours * 1000:.1f} ms; a fresh interpreter {fresh * 1000:.1f} ms, {fresh / ours:.1f} times as much"
    return [Figure("processor time of a program, this process's included", told)]


def _spent_s() -> float:
    """Of this process, of those that run below it, and of those that these have waited for."""
    ticks = 0
    waiting = [os.getpid()]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:15]))
        for thread in (process / "task").iterdir():
            waiting += map(int, (thread / "children").read_text().split())
    return ticks / os.sysconf("SC_CLK_TCK")


def _whole(entry: Known, path: Path) -> Path:
    gold = entry.problem.gold
    path.write_text(
        f"{gold['prompt']}{entry.completion.text}\n{gold['tests']}\ncheck({gold['entry_point']})\n", encoding="utf-8"
    )
    return path


def _fresh(path: Path) -> bool:
    nothing = subprocess.DEVNULL
    command = [interpreter()[0], "-I", str(path)]
    try:
        return not subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, timeout=3, check=False).returncode
    except subprocess.TimeoutExpired:
        return False
