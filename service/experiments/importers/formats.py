"""Reads result files of other programs as counts or graded attempts.

A row that cannot be read is an error with its file, line and field, because skipping it would change the experiment.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kb.notes import PasskbError
from service.experiments.importers.rows import Attempt, ImportedFile, ProblemCounts
from service.experiments.types import Verdict

Row = Mapping[str, Any]
_PROBLEM = ("problem_id", "task_id", "doc_id", "question_id", "id")
_MODEL = ("model", "model_name")
_METRICS = ("exact_match", "acc", "pass@1", "pass_at_1")
_EXPECTED = "n and c; passed, result or verdict; resps with a metric (lm-eval); graded_list (LiveCodeBench); reward (tau-bench)"


def read_results(path: Path) -> ImportedFile:
    """Reads a .csv, .jsonl or .json file (also .gz), or an .eval file. Raises PasskbError with the place of the error."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) == 2 else "".join(suffixes[-1:])
    if kind == ".eval":
        from service.experiments.importers.inspect_logs import read_eval

        return read_eval(path)
    readers: dict[str, Callable[[str, Path], ImportedFile]] = {".csv": _csv, ".jsonl": _jsonl, ".json": _json}
    if kind not in readers:
        raise PasskbError(f"{path} cannot be imported: it is not a .csv, .jsonl, .json or .eval file")
    results = readers[kind](_text(path), path)
    if not results.rows:
        raise PasskbError(f"{path} has no counts and no attempts")
    return results


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PasskbError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PasskbError(f"{path} is not a complete gzip file ({error}): download it again") from error
    except OSError as error:
        raise PasskbError(f"{path} cannot be read: {error.strerror or error}") from error


def _csv(text: str, path: Path) -> ImportedFile:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        problem = next((name for name in _PROBLEM if name in header), "")
        if missing := [
            name for name, present in (("problem_id", problem), ("n", "n" in header), ("c", "c" in header)) if not present
        ]:
            raise PasskbError(
                f"{path}, line 1: there is no column {missing[0]!r}: counts have the columns model,problem_id,n,c"
            )
        rows: list[ProblemCounts | Attempt] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(header):
                raise PasskbError(f"{where}: {len(cells)} columns, but the header has {len(header)}")
            rows.append(_counted(dict(zip(header, map(str.strip, cells), strict=True)), where))
    except csv.Error as error:
        raise PasskbError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    return ImportedFile("counts (CSV)", rows)


def _counted(row: Row, where: str) -> ProblemCounts:
    n, c = (_whole(row[name], f"{where}, column {name!r}") for name in ("n", "c"))
    if n < 1:
        raise PasskbError(f"{where}, column 'n': expected at least one attempt, not {n}")
    if not 0 <= c <= n:
        raise PasskbError(f"{where}, column 'c': expected passes from 0 to n = {n}, not {c}")
    return ProblemCounts(_model(row), _problem(row, where), n, c)


def _jsonl(text: str, path: Path) -> ImportedFile:
    rows: list[ProblemCounts | Attempt] = []
    layouts: dict[str, None] = {}
    recorded: set[str] | None = None
    numbered = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    parsed = [(f"{path}, line {i}", _loaded(line, f"{path}, line {i}")) for i, line in numbered]
    parsed, warnings = _one_filter(parsed, path)
    for where, row in parsed:
        if not isinstance(row, Mapping):
            raise PasskbError(f"{where} is not a JSON object: {row!r:.60}")
        layout, attempts, fields = _row(row, where, warnings)
        layouts[layout] = None
        recorded = fields if recorded is None else recorded & fields
        rows += attempts
    return ImportedFile(" and ".join(layouts), rows, frozenset(recorded or ()), list(dict.fromkeys(warnings)))


def _row(row: Row, where: str, warnings: list[str]) -> tuple[str, Sequence[ProblemCounts | Attempt], set[str]]:
    """The layout's name, the row's attempts, and the fields that the row records."""
    if "n" in row and "c" in row:
        return "counts (JSON)", [_counted(row, where)], set()
    model, problem = _model(row), _problem(row, where)
    if "resps" in row:
        return "lm-eval", _lm_eval(row, model, problem, where, warnings), set()
    if "graded_list" in row:
        texts = row.get("code_list") or row.get("output_list") or []
        return "LiveCodeBench", _graded(model, problem, row["graded_list"], texts, where), set()
    if "reward" in row:
        return "tau-bench", [Attempt(model, problem, _reward(row["reward"], f"{where}, field 'reward'"))], set()
    if not {"passed", "result", "verdict"} & set(row):
        if "solution" in row or "completion" in row:
            raise PasskbError(f"{where}: this completion has no verdict: grade it first, then import the graded file")
        raise PasskbError(f"{where}: no field with the outcome of the attempt: expected {_EXPECTED}")
    text, answer = _first_text(row, ("completion", "solution", "text")), _first_text(row, ("answer",))
    attempt = Attempt(
        model, problem, _verdict(row, where), text, answer,
        _tokens(row, where), str(row.get("finish") or "stop"), row.get("formatted") is not False,
        str(row.get("reason") or row.get("result") or "")[:200], _logprob(row, where),
    )  # fmt: skip
    fields = {"verdicts"} if isinstance(row.get("result"), str) or "verdict" in row else set()
    fields |= {name for name, key in (("tokens", "tokens"), ("truncation", "finish"), ("format", "formatted")) if key in row}
    return ("passkb" if "verdict" in row else "human-eval"), [attempt], fields


def _json(text: str, path: Path) -> ImportedFile:
    """A JSON value: counts or trials by problem, or results of evalplus, CRUXEval or LiveCodeBench."""
    try:
        value = json.loads(text)
    except ValueError as error:
        if text.count("\n") and "Extra data" in str(error):
            return _jsonl(text, path)
        raise PasskbError(f"{path} is not JSON: {error}") from error
    if isinstance(value, list):
        return _jsonl("\n".join(json.dumps(entry) for entry in value), path)
    where = str(path)
    if not isinstance(value, Mapping):
        raise PasskbError(f"{where}: expected a JSON list or object")
    model = _model(value)
    if isinstance(value.get("trials"), Mapping):
        rows = [a for problem, trials in value["trials"].items() for a in _trials(model, problem, trials, where)]
        return ImportedFile("tau-bench", list(rows))
    if isinstance(value.get("raw_scored_generations"), Mapping):
        texts = value.get("raw_generations") or {}
        graded = value["raw_scored_generations"].items()
        return ImportedFile(
            "CRUXEval", [a for p, g in graded for a in _graded(model, p, g, texts.get(p, []), f"{where}, {p!r}")]
        )
    if isinstance(value.get("c"), Mapping) and "n" in value:
        counts = value["c"].items()
        return ImportedFile("counts (JSON)", [_counted({"model": model, "id": p, "n": value["n"], "c": c}, f"{where}, {p!r}")
                                      for p, c in counts])  # fmt: skip
    if isinstance(value.get("eval"), Mapping):
        rows = [a for problem, results in value["eval"].items() for a in _evalplus(model, problem, results, where)]
        warning = "an attempt passes if it passes the base tests and, where present, the plus tests"
        return ImportedFile("evalplus", list(rows), frozenset({"verdicts"}), [warning])
    raise PasskbError(f"{where}: unknown format: expected {_EXPECTED}; eval (evalplus), trials, or n with c")


def _trials(model: str, problem: str, trials: Any, where: str) -> Iterator[Attempt]:
    if not isinstance(trials, list):
        raise PasskbError(f"{where}, {problem!r}: expected a list of rewards, not {trials!r:.60}")
    for i, reward in enumerate(trials):
        yield Attempt(model, str(problem), _reward(reward, f"{where}, {problem!r}, trial {i}"))


def _evalplus(model: str, problem: str, results: Any, where: str) -> Iterator[Attempt]:
    if not isinstance(results, list) or not all(isinstance(entry, Mapping) for entry in results):
        raise PasskbError(f"{where}, {problem!r}: expected a list of results with base_status; older layouts are not supported")
    for i, entry in enumerate(results):
        base, plus = entry.get("base_status"), entry.get("plus_status")
        status = plus if base == "pass" and plus is not None else base
        if status not in ("pass", "fail", "timeout"):
            raise PasskbError(f"{where}, {problem!r}, result {i}: expected the status pass, fail or timeout, not {status!r}")
        yield Attempt(model, str(problem), Verdict(status), _first_text(entry, ("solution",)))


def _graded(model: str, problem: str, graded: Any, texts: Any, where: str) -> list[Attempt]:
    if not isinstance(graded, list) or not all(type(entry) is bool or entry in (0, 1) for entry in graded):
        raise PasskbError(f"{where}: expected a list with true or false for each attempt, not {graded!r:.60}")
    padded = [*texts, *[""] * len(graded)] if isinstance(texts, list) else [""] * len(graded)
    return [Attempt(model, str(problem), _pass(bool(entry)), str(text)) for entry, text in zip(graded, padded, strict=False)]


def _lm_eval(row: Row, model: str, problem: str, where: str, warnings: list[str]) -> list[Attempt]:
    """One attempt with the metric; if the filter retained all repeats, one for each, which passes if it equals `target`."""
    responses = _flat(row["resps"])
    filtered = row.get("filtered_resps", [])
    if isinstance(filtered, list) and len(filtered) == 1 and isinstance(filtered[0], list):
        filtered = filtered[0]
    if isinstance(filtered, list) and len(filtered) == len(responses) > 1:
        if not isinstance(target := row.get("target"), (str, int, float)):
            raise PasskbError(f"{where}, field 'target': several attempts need the text of the correct answer")
        warnings.append(
            "lm-eval has one metric for all repeats: an attempt counts as passed if its filtered answer equals the target"
        )
        right = str(target).strip()
        return [
            Attempt(model, problem, _pass(str(answer).strip() == right), str(text), str(answer).strip())
            for text, answer in zip(responses, filtered, strict=True)
        ]
    if len(responses) > 1:
        warnings.append(
            f"lm-eval's filter ({row.get('filter', 'unnamed')}) retained one of {len(responses)} attempts per problem, so n = 1"
            ": evaluate with a filter that retains all of them (no take_first)"
        )
    elif not warnings:
        warnings.append(
            "lm-eval wrote one attempt per problem: for k above 1 evaluate with repeats and a filter that retains them"
        )
    name = _metric(row, where)
    value = row[name]
    if type(value) is not bool and value not in (0, 1):
        raise PasskbError(f"{where}, field {name!r}: expected 1 (passed) or 0, not {value!r}")
    answer = (
        str(filtered[0]).strip()
        if isinstance(filtered, list) and filtered and isinstance(filtered[0], (str, int, float))
        else ""
    )
    return [Attempt(model, problem, _pass(bool(value)), str(responses[0]) if responses else "", answer)]


def _metric(row: Row, where: str) -> str:
    named = row.get("metrics") if isinstance(row.get("metrics"), list) else []
    for name in (*(m for m in _METRICS if m in row), *(m for m in named or () if m in row)):
        return str(name)
    raise PasskbError(f"{where}: no metric for passed attempts: expected {', '.join(_METRICS)}, or one listed in 'metrics'")


def _one_filter(parsed: list[tuple[str, Any]], path: Path) -> tuple[list[tuple[str, Any]], list[str]]:
    """The rows of lm-eval's first filter; it writes each problem once for each filter."""
    names = dict.fromkeys(row["filter"] for _, row in parsed if isinstance(row, Mapping) and "resps" in row and "filter" in row)
    if len(names) < 2:
        return parsed, []
    first, *others = names
    filtered = [(where, row) for where, row in parsed if not isinstance(row, Mapping) or row.get("filter", first) == first]
    return filtered, [f"{path.name} has several filters: using {first!r}, ignoring {', '.join(map(repr, others))}"]


def _verdict(row: Row, where: str) -> Verdict:
    result, passed = row.get("verdict", row.get("result")), row.get("passed")
    verdict = _parse_verdict(result)
    if passed is None:
        if verdict is None:
            field = "verdict" if "verdict" in row else "result"
            raise PasskbError(f"{where}, field {field!r}: {result!r:.60} is not a verdict (passed, failed: …, timed out, …)")
        return verdict
    if type(passed) is not bool and passed not in (0, 1):
        raise PasskbError(f"{where}, field 'passed': expected true or false, not {passed!r:.60}")
    if verdict is not None and (verdict is Verdict.PASS) != bool(passed):
        raise PasskbError(f"{where}: 'passed' is {passed}, but 'result' is {result!r:.60}")
    return verdict or _pass(bool(passed))


def _parse_verdict(value: Any) -> Verdict | None:
    """The verdict words of human-eval, evalplus and passkb; None for others."""
    if type(value) is bool or value in (0, 1):
        return _pass(bool(value))
    text = str(value).strip().lower()
    prefixes = (("pass", Verdict.PASS), ("correct", Verdict.PASS), ("timed out", Verdict.TIMEOUT), ("timeout", Verdict.TIMEOUT),
              ("truncated", Verdict.TRUNCATED), ("error", Verdict.ERROR), ("fail", Verdict.FAIL), ("wrong", Verdict.FAIL),
              ("incorrect", Verdict.FAIL))  # fmt: skip
    return next((verdict for prefix, verdict in prefixes if isinstance(value, str) and text.startswith(prefix)), None)


def _pass(passed: bool) -> Verdict:
    return Verdict.PASS if passed else Verdict.FAIL


def _reward(value: Any, where: str) -> Verdict:
    """tau-bench: an attempt passes with a reward of 1, within rounding."""
    if type(value) not in (bool, int, float) or not 0 <= value <= 1:
        raise PasskbError(f"{where}: expected a reward from 0 to 1, not {value!r:.60}")
    return _pass(abs(value - 1) <= 1e-6)


def _flat(value: Any) -> list[Any]:
    """Flattens lm-eval's resps, a list with a list of repeats for each request."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return list(value[0])
    return list(value) if isinstance(value, list) else [value]


def _problem(row: Row, where: str) -> str:
    for name in _PROBLEM:
        if type(row.get(name)) in (str, int) and str(row[name]).strip():
            return str(row[name]).strip()
    raise PasskbError(f"{where}: no problem id in {' or '.join(map(repr, _PROBLEM[:2]))}")


def _model(row: Row) -> str:
    return next((str(row[name]).strip() for name in _MODEL if isinstance(row.get(name), str)), "")


def _first_text(row: Row, names: Sequence[str]) -> str:
    return next((str(row[name]) for name in names if row.get(name) is not None), "")


def _tokens(row: Row, where: str) -> int:
    return _whole(row["tokens"], f"{where}, field 'tokens'") if row.get("tokens") is not None else 0


def _logprob(row: Row, where: str) -> float | None:
    value = row.get("logprob")
    if value is not None and type(value) not in (int, float):
        raise PasskbError(f"{where}, field 'logprob': expected a number, not {value!r:.60}")
    return None if value is None else float(value)


def _whole(value: Any, where: str) -> int:
    try:
        number = float(value) if type(value) is not bool else float("nan")
        if number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise PasskbError(f"{where}: expected a whole number, not {value!r:.60}") from None
    return int(number)


def _loaded(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PasskbError(f"{where} is not JSON: {error}") from error
