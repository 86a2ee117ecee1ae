"""Runs: a directory each, holding all that a run wrote. Knows nothing about engines, graders or statistics.

    runs/<run_id>/
      spec.json                    what was asked
      run.json                     status, times, environment, settings in force, error
      progress.json                how far it is
      completions/<model>/NNNNNN.jsonl.gz      what the model wrote and how it was judged, a shard a batch
      completions/<model>/NNNNNN.tally.json    the shard's counts: all that statistics need
      counts.csv                   model, problem_id, n, c
      reserve                      room for a last word when the disk is full

A shard is complete or absent (written aside, then renamed), and so is its tally; a killed worker loses at most one batch. A
shard that can't be read is set aside as `.corrupt`: its tally stands, and if that is gone too, its attempts are made again.
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
DIRECT = ".direct"  # the control's tallies stand beside the model's, under its name and this
_RESERVE = 64 * 1024  # bytes
_ID = re.compile(r"[\w.-]{1,200}")


@dataclass(slots=True)
class Tally:
    """What became of attempts `first` to `first + n - 1` at one problem. `answers`: how often each, "" for none; `right`:
    those among them that pass. `logprob`: summed over the completions that carry one, which are `scored`."""

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
    """The counts of one request's completions."""
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
    """One run's directory. Methods that write are for the one process that executes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @property
    def spec(self) -> ExperimentSpec:
        return from_mapping(read_json(self.folder / "spec.json"), str(self.folder / "spec.json"))

    @property
    def state(self) -> dict[str, Any]:
        """run.json as it stands: `status`, `created`, `started`, `finished`, `environment`, `error`, ..."""
        state: dict[str, Any] = read_json(self.folder / "run.json")
        return state

    def note(self, **values: Any) -> None:
        """Changes entries of run.json."""
        write_json(self.folder / "run.json", {**self.state, **values})

    @property
    def progress(self) -> dict[str, Any]:
        path = self.folder / "progress.json"
        return read_json(path) if path.exists() else {}

    def show_progress(self, **values: Any) -> None:
        write_json(self.folder / "progress.json", values)

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked this run to stop."""
        return (self.folder / "cancel").exists()

    def ask_to_stop(self) -> None:
        (self.folder / "cancel").touch()

    def go_on(self) -> None:
        """Takes a stop back, and sets room aside for the last words of a run that fills its disk."""
        (self.folder / "cancel").unlink(missing_ok=True)
        (self.folder / "reserve").write_bytes(bytes(_RESERVE))

    def remove_scratch_files(self) -> None:
        """Removes what a killed worker was writing."""
        for folder in (self.folder, *(self.folder / "completions").glob("*/")):
            remove_scratch_files(folder)

    def make_room(self) -> None:
        """Gives up what `go_on` set aside: the disk is full, and what happened has to be written down."""
        (self.folder / "reserve").unlink(missing_ok=True)

    # -- attempts --------------------------------------------------------------------------------------------------

    def append(self, model: str, batch: Sequence[tuple[Tally, Judged]]) -> None:
        """Keeps a batch: its completions first, then its counts."""
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
        """All counts so far, in the order they came; a shard whose tally is missing is counted again, or set aside."""
        folder, found = self._shards(model), []
        if not folder.is_dir():
            return []
        for number in sorted({_number(path) for path in folder.iterdir()} - {0}):
            found += self._counted(folder, number)
        return found

    def completions(self, model: str) -> Iterator[dict[str, Any]]:
        """What the model wrote, with verdicts, a mapping each; shards that can't be read are left out."""
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

    def _counted(self, folder: Path, number: int) -> list[Tally]:
        shard, kept = folder / f"{number:06}.jsonl.gz", folder / f"{number:06}.tally.json"
        try:
            return [Tally(**entry) for entry in read_json(kept)] if kept.exists() else self._recounted(shard, kept)
        except (PasskbError, TypeError) as error:
            if isinstance(error.__cause__, OSError):  # the tally may be whole
                raise
            return self._recounted(shard, kept)

    def _recounted(self, shard: Path, kept: Path) -> list[Tally]:
        rows = _rows(shard) if shard.exists() else None
        kept.unlink(missing_ok=True)
        if rows is None:
            if shard.exists():
                shard.rename(shard.with_name(shard.name + ".corrupt"))
            return []
        by_problem: dict[str, list[tuple[Completion, Judgement]]] = {}
        for row in rows:
            completion = Completion(*(row[name] for name in ("problem_id", "attempt", "text", "tokens", "finish", "logprob")))
            judgement = Judgement(Verdict(row["verdict"]), row["answer"], row["formatted"], row["reason"])
            by_problem.setdefault(completion.problem_id, []).append((completion, judgement))
        found = [entry for problem, judged in by_problem.items() for entry in _stretches(problem, judged)]
        _write(kept, json.dumps([asdict(entry) for entry in found], ensure_ascii=False).encode("utf-8", "surrogatepass"))
        return found


def _stretches(problem: str, judged: list[tuple[Completion, Judgement]]) -> Iterator[Tally]:
    """A tally for each run of attempts without a gap."""
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
        """A new directory for a run of `spec`, queued. Raises PasskbError when it can't be written."""
        now = datetime.datetime.now(datetime.UTC)
        while any(self.folder.glob(f"{now:%Y%m%d-%H%M%S}-*")):  # ids begin with their second, so that they sort
            now += datetime.timedelta(seconds=1)
        name = "-".join([f"{now:%Y%m%d-%H%M%S}", slug(spec.name or spec.problems.set or "run")[:60], spec.sha256[:8]])
        run = Run(self.folder / name)
        try:
            run.folder.mkdir(parents=True)
            write_json(run.folder / "spec.json", spec.to_json())
            write_json(run.folder / "run.json", {"status": RunStatus.QUEUED, "created": now.isoformat(), **state})
            run.go_on()
        except FileExistsError as error:
            raise PasskbError(f"a run {name} was made this second already: try again") from error
        except OSError as error:
            cause = explanation(error, "make room, or choose another --home")
            raise PasskbError(f"{run.folder} can not be written {cause}") from error
        return run

    def find(self, run_id: str) -> Run:
        """Raises PasskbError, naming the newest runs, when there is none of this id, or several that begin with it."""
        everything = self.all()
        exact = [run for run in everything if run.id == run_id]
        near = exact or [run for run in everything if _ID.fullmatch(run_id) and run.id.startswith(run_id)]
        if len(near) == 1:
            return near[0]
        listed = ", ".join(run.id for run in (near or everything)[:3])
        hint = f": the newest are {listed}" if listed and not near else f": it could be {listed}" if near else ""
        raise PasskbError(f"there is no run {run_id!r}{hint}" if not near else f"{run_id!r} is not one run{hint}")

    def all(self) -> list[Run]:
        """Newest first."""
        if not self.folder.is_dir():
            return []
        return [Run(path) for path in sorted(self.folder.iterdir(), reverse=True) if (path / "run.json").exists()]

    def like(self, spec: ExperimentSpec) -> list[Run]:
        """Runs of the same experiment: same problems, models and settings, whatever their names. Newest first."""
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
        otherwise = "the run's other files are as they were"
        raise PasskbError(f"{path} can not be read {explanation(error, otherwise)}") from error


def write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"))


def _write(path: Path, data: bytes) -> None:
    """Never into a run that was deleted."""
    path.parent.stat()
    write_atomic(path, data)


def _rows(path: Path) -> list[dict[str, Any]] | None:
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "surrogatepass")
        return [json.loads(line) for line in text.split("\n") if line]
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError):
        return None
    except OSError as error:  # the shard may be whole
        raise PasskbError(f"{path} can not be read {explanation(error, 'check its disk, and try again')}") from error


def _number(path: Path) -> int:
    head = path.name.partition(".")[0]
    return int(head) if head.isdigit() and not path.name.endswith((".part", ".corrupt")) else 0
