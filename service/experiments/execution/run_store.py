"""Run directories: specs, states, completions and counts on disk.

    runs/<run_id>/
      spec.json                    the spec
      run.json                     status, times, environment, effective settings, error
      progress.json                attempts done and in total
      completions/<model>/NNNNNN.jsonl.gz      graded completions, one shard per batch
      completions/<model>/NNNNNN.tally.json    the shard's counts, which the statistics use
      counts.csv                   model, problem_id, n, c
      reserve                      disk space for the final state when the disk is full

Shards and tallies are written atomically, so a killed worker loses at most one batch. An unreadable shard is renamed to
`.corrupt`: its tally still counts; without one its attempts are sampled again.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from kb.files import remove_scratch_files, write_atomic
from kb.notes import PasskbError, slug
from kb.os_errors import explanation
from service.experiments.spec import ExperimentSpec, from_mapping
from service.experiments.types import Completion, Judgement, Verdict


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


ENDED = frozenset((RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED))
DIRECT = ".direct"  # suffix of the model's name for the tallies of the direct-answer control
_RESERVE = 64 * 1024  # bytes
_ID = re.compile(r"[\w.-]{1,200}")


@dataclass(slots=True)
class Tally:
    """Counts of attempts `first` to `first + n - 1` at one problem.

    `answers` counts each answer, "" for none; `right` lists those that pass. `logprob` is the sum over the `scored`
    completions that have one."""

    problem: str
    first: int
    n: int
    c: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    right: list[str] = field(default_factory=list)
    tokens: int = 0
    unformatted: int = 0
    logprob: float = 0.0
    scored: int = 0


Judged = Sequence[tuple[Completion, Judgement]]


def tally(problem: str, first: int, judged: Judged) -> Tally:
    """Counts the completions of one request."""
    verdicts = Counter(str(judgement.verdict) for _, judgement in judged)
    passed = {judgement.answer for _, judgement in judged if judgement.verdict is Verdict.PASS and judgement.answer}
    logprobs = [completion.logprob for completion, _ in judged if completion.logprob is not None]
    return Tally(
        problem, first, len(judged), verdicts[Verdict.PASS], dict(verdicts),
        dict(Counter(judgement.answer for _, judgement in judged)), sorted(passed),
        sum(completion.tokens for completion, _ in judged),
        sum(not judgement.formatted for _, judgement in judged), sum(logprobs), len(logprobs),
    )  # fmt: skip


class Run:
    """One run's directory. Only the process that executes the run writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @property
    def spec(self) -> ExperimentSpec:
        return from_mapping(read_json(self.folder / "spec.json"), str(self.folder / "spec.json"))

    @property
    def state(self) -> dict[str, Any]:
        """The content of run.json: `status`, `created`, `started`, `finished`, `environment`, `error`, ..."""
        state: dict[str, Any] = read_json(self.folder / "run.json")
        return state

    def update(self, **values: Any) -> None:
        """Changes entries of run.json."""
        write_json(self.folder / "run.json", {**self.state, **values})

    @property
    def progress(self) -> dict[str, Any]:
        path = self.folder / "progress.json"
        return read_json(path) if path.exists() else {}

    def write_progress(self, **values: Any) -> None:
        write_json(self.folder / "progress.json", values)

    @property
    def cancel_requested(self) -> bool:
        return (self.folder / "cancel").exists()

    def request_cancel(self) -> None:
        (self.folder / "cancel").touch()

    def clear_cancel(self) -> None:
        """Withdraws a cancellation and reserves disk space for the run's final state."""
        (self.folder / "cancel").unlink(missing_ok=True)
        (self.folder / "reserve").write_bytes(bytes(_RESERVE))

    def remove_scratch_files(self) -> None:
        """Removes partial files of a killed worker."""
        for folder in (self.folder, *(self.folder / "completions").glob("*/")):
            remove_scratch_files(folder)

    def release_reserve(self) -> None:
        """Frees the reserved disk space, so that the final state fits on a full disk."""
        (self.folder / "reserve").unlink(missing_ok=True)

    def append(self, model: str, batch: Sequence[tuple[Tally, Judged]]) -> None:
        """Writes a batch: first its completions, then its counts."""
        folder = self._shards(model)
        folder.mkdir(parents=True, exist_ok=True)
        number = max((_number(path) for path in folder.iterdir()), default=0) + 1
        rows = io.StringIO()
        for _, judged in batch:
            for completion, judgement in judged:
                rows.write(json.dumps({**asdict(completion), **asdict(judgement)}, ensure_ascii=False) + "\n")
        _write(folder / f"{number:06}.jsonl.gz", gzip.compress(rows.getvalue().encode("utf-8", "surrogatepass"), 6, mtime=0))
        entries = [asdict(entry) for entry, _ in batch]
        _write(folder / f"{number:06}.tally.json", json.dumps(entries, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    def tallies(self, model: str) -> list[Tally]:
        """All counts in shard order. Recounts a shard without a tally; an unreadable one is renamed."""
        folder, tallies = self._shards(model), []
        if not folder.is_dir():
            return []
        for number in sorted({_number(path) for path in folder.iterdir()} - {0}):
            tallies += self._shard_tallies(folder, number)
        return tallies

    def completions(self, model: str) -> Iterator[dict[str, Any]]:
        """The graded completions as mappings, without those of unreadable shards."""
        folder = self._shards(model)
        for path in sorted(folder.glob("*.jsonl.gz")) if folder.is_dir() else ():
            yield from _rows(path) or ()

    def write_counts(self, counts: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
        """counts.csv: model -> problem -> (n, c)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", "problem_id", "n", "c"])
        writer.writerows([model, problem, n, c] for model, rows in counts.items() for problem, (n, c) in rows.items())
        _write(self.folder / "counts.csv", text.getvalue().encode())

    def _shards(self, model: str) -> Path:
        return self.folder / "completions" / slug(model)

    def _shard_tallies(self, folder: Path, number: int) -> list[Tally]:
        shard, tally_path = folder / f"{number:06}.jsonl.gz", folder / f"{number:06}.tally.json"
        try:
            return (
                [Tally(**entry) for entry in read_json(tally_path)] if tally_path.exists() else self._recount(shard, tally_path)
            )
        except (PasskbError, TypeError) as error:
            if isinstance(error.__cause__, OSError):  # the tally may be intact
                raise
            return self._recount(shard, tally_path)

    def _recount(self, shard: Path, tally_path: Path) -> list[Tally]:
        rows = _rows(shard) if shard.exists() else None
        tally_path.unlink(missing_ok=True)
        if rows is None:
            if shard.exists():
                shard.rename(shard.with_name(shard.name + ".corrupt"))
            return []
        by_problem: dict[str, list[tuple[Completion, Judgement]]] = {}
        for row in rows:
            completion = Completion(*(row[name] for name in ("problem_id", "attempt", "text", "tokens", "finish", "logprob")))
            judgement = Judgement(Verdict(row["verdict"]), row["answer"], row["formatted"], row["reason"])
            by_problem.setdefault(completion.problem_id, []).append((completion, judgement))
        tallies = [entry for problem, judged in by_problem.items() for entry in _contiguous_tallies(problem, judged)]
        body = json.dumps([asdict(entry) for entry in tallies], ensure_ascii=False)
        _write(tally_path, body.encode("utf-8", "surrogatepass"))
        return tallies


def _contiguous_tallies(problem: str, judged: list[tuple[Completion, Judgement]]) -> Iterator[Tally]:
    """One tally for each contiguous range of attempts."""
    judged.sort(key=lambda pair: pair[0].attempt)
    start = 0
    for i in range(1, len(judged) + 1):
        if i == len(judged) or judged[i][0].attempt != judged[i - 1][0].attempt + 1:
            yield tally(problem, judged[start][0].attempt, judged[start:i])
            start = i


class Runs:
    """The runs of a home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "runs"

    def create(self, spec: ExperimentSpec, **state: Any) -> Run:
        """Creates the directory of a queued run. Raises PasskbError when it can't be written."""
        now = datetime.datetime.now(datetime.UTC)
        while any(self.folder.glob(f"{now:%Y%m%d-%H%M%S}-*")):  # ids begin with their second, so that they sort
            now += datetime.timedelta(seconds=1)
        name = "-".join([f"{now:%Y%m%d-%H%M%S}", slug(spec.name or spec.problems.set or "run")[:60], spec.sha256[:8]])
        run = Run(self.folder / name)
        try:
            run.folder.mkdir(parents=True)
            write_json(run.folder / "spec.json", spec.to_json())
            write_json(run.folder / "run.json", {"status": RunStatus.QUEUED, "created": now.isoformat(), **state})
            run.clear_cancel()
        except FileExistsError as error:
            raise PasskbError(f"a run {name} already exists: try again") from error
        except OSError as error:
            cause = explanation(error, "make room, or choose another --home")
            raise PasskbError(f"{run.folder} cannot be written {cause}") from error
        return run

    def find(self, run_id: str) -> Run:
        """The run with this id or prefix. Raises PasskbError when none or several match."""
        runs = self.all()
        exact = [run for run in runs if run.id == run_id]
        matches = exact or [run for run in runs if _ID.fullmatch(run_id) and run.id.startswith(run_id)]
        if len(matches) == 1:
            return matches[0]
        listed = ", ".join(run.id for run in (matches or runs)[:3])
        if matches:
            raise PasskbError(f"{run_id!r} matches several runs: it could be {listed}")
        raise PasskbError(f"there is no run {run_id!r}" + (f": the newest are {listed}" if listed else ""))

    def all(self) -> list[Run]:
        """Newest first."""
        if not self.folder.is_dir():
            return []
        return [Run(path) for path in sorted(self.folder.iterdir(), reverse=True) if (path / "run.json").exists()]

    def like(self, spec: ExperimentSpec) -> list[Run]:
        """Runs with the same problems, models and settings, whatever their names. Newest first."""
        return [run for run in self.all() if run.id.endswith(spec.sha256[:8]) and run.spec.sha256 == spec.sha256]


def counts_of(tallies: Iterable[Tally]) -> dict[str, tuple[int, int]]:
    """Problem -> (n, c)."""
    counts: dict[str, tuple[int, int]] = {}
    for entry in tallies:
        n, c = counts.get(entry.problem, (0, 0))
        counts[entry.problem] = (n + entry.n, c + entry.c)
    return counts


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError) as error:
        otherwise = "the run's other files are unchanged"
        raise PasskbError(f"{path} cannot be read {explanation(error, otherwise)}") from error


def write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"))


def _write(path: Path, data: bytes) -> None:
    """Fails for a run that was deleted."""
    path.parent.stat()
    write_atomic(path, data)


def _rows(path: Path) -> list[dict[str, Any]] | None:
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "surrogatepass")
        return [json.loads(line) for line in text.split("\n") if line]
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError):
        return None
    except OSError as error:  # the shard may be intact
        raise PasskbError(f"{path} cannot be read {explanation(error, 'check its disk, and try again')}") from error


def _number(path: Path) -> int:
    head = path.name.partition(".")[0]
    return int(head) if head.isdigit() and not path.name.endswith((".part", ".corrupt")) else 0
