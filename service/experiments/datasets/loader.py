"""Loads a spec's problems: a generated set, or a file in a standard format.

A line that cannot be read is an error, because skipping it would change the experiment.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from kb.notes import PasskbError
from service.experiments.datasets.countdown import countdown, read_countdown
from service.experiments.datasets.final_answers import DIRECT, INSTRUCTION
from service.experiments.datasets.formats import read_row
from service.experiments.spec import ProblemsSpec, SpecError
from service.experiments.types import Problem, ProblemSet, problem_set, seed_of

SETS = ("countdown",)
FORMATS = ("humaneval", "mbpp", "gsm8k", "math", "countdown")
_SUFFIXES = (".jsonl", ".json", ".jsonl.gz")


def load(spec: ProblemsSpec) -> ProblemSet:
    """The problems of a spec, in the file's order.

    `limit` selects the first problems of a file, or with a `seed` other than 0 a sample that depends on the seed and the ids;
    a larger limit contains the smaller sample. A generated set passes both to its generator. Raises SpecError for an
    impossible spec, PasskbError with the line for a file that can't be read.
    """
    if spec.set:
        if spec.set not in SETS:
            raise SpecError(f"problems.set: unknown set {spec.set!r}: use {', '.join(SETS)}, or name a file with 'file'")
        return countdown(spec.limit, spec.seed, spec.size, spec.split)
    if spec.format not in FORMATS:
        raise SpecError(f"problems.format must be one of {', '.join(FORMATS)}, not {spec.format!r}")
    path = Path(spec.file).expanduser()
    problems = _read_countdown(path) if spec.format == "countdown" else _read(path, spec.format)
    return problem_set(path.name, _limited(problems, spec.limit, spec.seed))


def direct_prompt(problem: Problem) -> str | None:
    """The prompt for an answer without reasoning, as a control for guessing; None for problems other than maths."""
    if problem.kind != "maths":
        return None
    return problem.prompt.removesuffix(INSTRUCTION) + DIRECT


def _limited(problems: Sequence[Problem], limit: int, seed: int) -> Sequence[Problem]:
    if not limit or limit >= len(problems):
        return problems
    if not seed:
        return problems[:limit]
    ranked = sorted(problems, key=lambda problem: (seed_of("limit", seed, problem.id), problem.id))
    chosen = {problem.id for problem in ranked[:limit]}
    return [problem for problem in problems if problem.id in chosen]


def _read(path: Path, layout: str) -> list[Problem]:
    problems: dict[str, tuple[Problem, str]] = {}
    for at, (where, row) in enumerate(_rows(path), start=1):
        try:
            problem = read_row(layout, row, f"{layout}-{at}")
            json.dumps([problem.id, problem.prompt, dict(problem.gold)], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise PasskbError(f"{path}, {where}: contains half a character (a lone surrogate): correct the text") from None
        except PasskbError as error:
            raise PasskbError(f"{path}, {where}: {error} (format {layout})") from error
        if problem.id in problems:
            raise PasskbError(f"{path}, {where}: duplicate id {problem.id!r}, also at {problems[problem.id][1]}: rename one")
        problems[problem.id] = problem, where
    if not problems:
        raise PasskbError(f"{path} has no problems")
    return [problem for problem, _ in problems.values()]


def _read_countdown(path: Path) -> Sequence[Problem]:
    if path.suffix == ".json":
        return read_countdown((json.dumps(row, default=str) for _, row in _rows(path)), str(path)).problems
    return read_countdown(_text(path).split("\n"), str(path)).problems


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place in the file."""
    text = _text(path)
    if path.suffix == ".json":
        rows = _json(text, str(path))
        if not isinstance(rows, list):
            raise PasskbError(
                f"{path} is not a list of problems: a .json file has one list, a .jsonl file one problem per line"
            )
        numbered = [(f"entry {at}", row) for at, row in enumerate(rows, start=1)]
    else:
        lines = ((f"line {at}", line) for at, line in enumerate(text.split("\n"), start=1) if line.strip())
        numbered = ((where, _json(line, f"{path}, {where}")) for where, line in lines)  # type: ignore[assignment]
    for where, row in numbered:
        if not isinstance(row, dict):
            raise PasskbError(f"{path}, {where} is not a JSON object: {row!r:.60}")
        yield where, row


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PasskbError(f"{where} is not JSON: {error}") from error


def _text(path: Path) -> str:
    if not path.name.endswith(_SUFFIXES):
        raise SpecError(f"problems.file: {path}: expected a file with the suffix {', '.join(_SUFFIXES)}")
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PasskbError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PasskbError(f"{path} is not a complete gzip file ({error}): download it again") from error
    except FileNotFoundError as error:
        remedy = "put the problems there or beside the note with the claim, or name another file"
        raise SpecError(f"problems.file: {path} does not exist: {remedy}") from error
    except OSError as error:
        raise SpecError(f"problems.file: {path} can't be read: {error.strerror}") from error
