"""Reads `.eval` logs of inspect_ai with its library, an optional dependency. A sample is a problem, an epoch an attempt."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from kb.notes import PasskbError
from service.experiments.importers.rows import Attempt, ImportedFile
from service.experiments.types import Verdict

_VALUES = {"C": Verdict.PASS, "I": Verdict.FAIL, "P": Verdict.FAIL, "N": Verdict.FAIL}


def read_eval(path: Path) -> ImportedFile:
    """Reads a log. Raises PasskbError when the library is missing or the log has no scored samples."""
    try:
        library: Any = importlib.import_module("inspect_ai.log")
    except ImportError as error:
        raise PasskbError(f"{path} is an inspect_ai log, which needs the inspect_ai library: pip install inspect-ai") from error
    try:
        log = library.read_eval_log(str(path))
    except Exception as error:  # inspect_ai, pydantic and zipfile raise many types
        raise PasskbError(f"{path} cannot be read by inspect_ai: {' '.join(str(error).split())[:200]}") from error
    samples = log.samples or []
    if not samples:
        raise PasskbError(f"{path} has no samples (status {log.status}): run the evaluation with its samples logged")
    scorer, warnings = _scorer(samples, path)
    rows = [_attempt(str(log.eval.model), sample, scorer, path) for sample in samples]
    return ImportedFile("inspect_ai", list(rows), frozenset({"verdicts", "truncation", "tokens"}), warnings)


def _scorer(samples: list[Any], path: Path) -> tuple[str, list[str]]:
    names = list(dict.fromkeys(name for sample in samples for name in sample.scores or {}))
    if not names:
        raise PasskbError(f"{path} has no scores: run `inspect score` on it first")
    warning = f"{path.name} has several scorers: using {names[0]!r}, ignoring {', '.join(map(repr, names[1:]))}"
    return names[0], [warning] if len(names) > 1 else []


def _attempt(model: str, sample: Any, scorer: str, path: Path) -> Attempt:
    where = f"{path}, sample {sample.id!r}, epoch {sample.epoch}"
    output = sample.output
    finish = "length" if output.choices and output.stop_reason == "max_tokens" else "stop"
    score = (sample.scores or {}).get(scorer)
    if score is None:
        reason = sample.error.message if sample.error else f"no score by {scorer}"
        return Attempt(model, str(sample.id), Verdict.ERROR, output.completion, finish=finish, reason=reason[:200])
    verdict = _verdict(score.value, where)
    if verdict is Verdict.FAIL and finish == "length":
        verdict = Verdict.TRUNCATED
    tokens = output.usage.output_tokens if output.usage else 0
    return Attempt(model, str(sample.id), verdict, output.completion, str(score.answer or ""), tokens, finish)


def _verdict(value: Any, where: str) -> Verdict:
    if isinstance(value, str) and value in _VALUES:
        return _VALUES[value]
    if type(value) in (bool, int, float) and value in (0, 1):
        return Verdict.PASS if value else Verdict.FAIL
    raise PasskbError(f"{where}: expected the score C, I, P, N, 0 or 1, not {value!r:.60}")
