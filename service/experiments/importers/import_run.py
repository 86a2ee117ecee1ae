"""Imports result files as a succeeded run with the engine `imported`, which records the files' sha256.

Settings, device and problem texts that the files lack stay unknown.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError, slug
from service.experiments.claims import find_claim
from service.experiments.execution.run_store import Judged, Run, Runs, RunStatus, Tally, counts_of, tally
from service.experiments.importers.formats import read_results
from service.experiments.importers.rows import Attempt, ImportedFile, ProblemCounts
from service.experiments.spec import ExperimentSpec, default_ks, from_mapping
from service.experiments.types import Completion, Judgement

_log = logging.getLogger("passkb")
_BATCH = 500  # problems per shard
_ALL_KS_UP_TO = 16  # attempts; published values use all k
Entries = dict[str, list[ProblemCounts | Attempt]]


@dataclass(frozen=True, slots=True)
class _Role:
    """A model's name in the run and in its file."""

    name: str
    original: str


def import_files(
    home: Path,
    files: Sequence[Path],
    *,
    claim: str = "",
    base: str = "",
    tuned: str = "",
    prediction: Mapping[str, Any] | None = None,
) -> Run:
    """A succeeded run with the results in the files; the existing run when the same results were imported before.

    `base` and `tuned` select the models to compare. By default these are the models with those names, or the only two, of which
    the first is the base. A file without model names is named after itself; duplicate files count once. The default prediction
    for two models is `crossover`. Raises PasskbError with file, line and field, and then imports nothing.
    """
    if not files:
        raise PasskbError("import needs at least one file")
    paths = [Path(path).expanduser().absolute() for path in files]
    read = list({(path.name, _sha256(path)): (path, result) for path in paths for result in [read_results(path)]}.values())
    by_model = _by_model(read)
    roles = _roles(list(by_model), base, tuned)
    chosen = {role.name: _by_problem(by_model[role.original], role.original) for role in roles}
    warnings = [
        *(warning for _, result in read for warning in result.warnings),
        *_warnings(by_model, roles, chosen, base, tuned),
    ]
    sources = [{"file": str(path), "sha256": _sha256(path), "layout": result.layout} for path, result in read]
    spec = _spec(sources, roles, chosen, claim=_claim(home, claim), prediction=prediction)
    digest = _digest(sources, spec)
    runs = Runs(home)
    for run in runs.all():
        if run.state.get("imported", {}).get("digest") == digest and run.state["status"] == RunStatus.SUCCEEDED:
            _log.warning("these results were imported before as %s", run.id)
            return run
    for warning in warnings:
        _log.warning("%s", warning)
    recorded = frozenset.intersection(*(result.recorded for _, result in read))
    imported = {"files": sources, "digest": digest, "recorded": sorted(recorded), "warnings": warnings,
                "models": {role.name: role.original for role in roles}}  # fmt: skip
    return _write_run(runs, spec, roles, chosen, imported)


def _write_run(
    runs: Runs, spec: ExperimentSpec, roles: Sequence[_Role], chosen: Mapping[str, Entries], imported: dict[str, Any]
) -> Run:
    """Writes the run; an interrupted import leaves a failed run."""
    problems = sorted({problem for by_problem in chosen.values() for problem in by_problem})
    environment = {role.name: {"engine": "imported", "engine_version": "", "device": "", "asked": {}, "differs": {},
                               "effective": {"model": role.original}} for role in roles}  # fmt: skip
    ids = hashlib.sha256(json.dumps(problems, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
    run = runs.create(
        spec, status=RunStatus.FAILED, error="the import was interrupted: import the files again", imported=imported,
        environment=environment, n_problems=len(problems), problems_sha256=ids,
    )  # fmt: skip
    try:
        for name, by_problem in chosen.items():
            for batch in _batches(by_problem):
                run.append(name, batch)
        run.write_counts({name: counts_of(run.tallies(name)) for name in chosen})
    except OSError as error:
        raise PasskbError(f"{run.folder} cannot be written ({error.strerror}): make room, then import again") from error
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run.update(status=RunStatus.SUCCEEDED, error="", started=now, finished=now)
    return run


def _batches(by_problem: Entries) -> Iterator[list[tuple[Tally, Judged]]]:
    entries = list(by_problem.items())
    for i in range(0, len(entries), _BATCH):
        yield [_tallied(problem, rows) for problem, rows in entries[i : i + _BATCH]]


def _tallied(problem: str, rows: Sequence[ProblemCounts | Attempt]) -> tuple[Tally, Judged]:
    if isinstance(rows[0], ProblemCounts):
        return Tally(problem, 0, rows[0].n, rows[0].c), ()
    pairs = [
        (
            Completion(problem, i, row.text, row.tokens, row.finish, row.logprob),
            Judgement(row.verdict, row.answer, row.formatted, row.reason),
        )
        for i, row in enumerate(rows)
        if isinstance(row, Attempt)
    ]
    return tally(problem, 0, pairs), pairs


def _by_model(read: Sequence[tuple[Path, ImportedFile]]) -> dict[str, list[ProblemCounts | Attempt]]:
    """Rows by model in order of first appearance; rows without a model have the file's name."""
    out: dict[str, list[ProblemCounts | Attempt]] = {}
    for path, result in read:
        for row in result.rows:
            out.setdefault(row.model or _named_after(path), []).append(row)
    return out


def _named_after(path: Path) -> str:
    """The file's stem, or its folder's name where programs use the same file names for every model."""
    stem = path.name.partition(".")[0] if path.name.endswith(".gz") else path.stem
    return path.parent.name if stem.startswith(("samples_", "eval_results")) or stem.isdigit() else stem


def _by_problem(rows: Sequence[ProblemCounts | Attempt], model: str) -> Entries:
    out: Entries = {}
    for row in rows:
        entries = out.setdefault(row.problem, [])
        if entries and (isinstance(row, ProblemCounts) or isinstance(entries[0], ProblemCounts)):
            raise PasskbError(
                f"{model or 'the file'} has problem {row.problem!r} twice: expected one line of counts per problem and model"
            )
        entries.append(row)
    return out


def _roles(names: Sequence[str], base: str, tuned: str) -> list[_Role]:
    listed = ", ".join(map(repr, names))
    for name, flag in ((base, "--base"), (tuned, "--tuned")):
        if name and name not in names:
            raise PasskbError(f"{flag} {name}: the files have no such model, only {listed}")
    if base and base == tuned:
        raise PasskbError(f"--base and --tuned are both {base}: choose two different models")
    if base or tuned:
        others = [name for name in names if name not in (base, tuned)]
        if not (base and tuned) and len(others) > 1:
            raise PasskbError(f"the files have the models {listed}: choose both with --base NAME --tuned NAME")
        pairs = [("base", base or "".join(others)), ("tuned", tuned or "".join(others))]
        return [_Role(name, original) for name, original in pairs if original]
    if {"base", "tuned"} <= set(names):
        return [_Role("base", "base"), _Role("tuned", "tuned")]
    if len(names) > 2:
        raise PasskbError(f"the files have the models {listed}: choose two with --base NAME --tuned NAME")
    if len({slug(name) for name in names}) < len(names):
        raise PasskbError(f"the model names {listed} are too similar: choose with --base NAME --tuned NAME")
    ordered = sorted(names, key=lambda name: name == "tuned" or (name != "base" and "base" in names))
    return [_Role(name, name) for name in ordered]


def _warnings(
    by_model: Mapping[str, Any], roles: Sequence[_Role], chosen: Mapping[str, Entries], base: str, tuned: str
) -> list[str]:
    """Warnings about how the files were interpreted. Raises PasskbError when nothing can be compared."""
    warnings = []
    if left := [name for name in by_model if name not in {role.original for role in roles}]:
        warnings.append(f"ignored models: {', '.join(left)}")
    if len(roles) < 2:
        return warnings
    first, second = roles
    if not (base or tuned) and {first.name, second.name} != {"base", "tuned"}:
        warnings.append(
            f"using {first.name} as the base model and {second.name} as the tuned one; change this with --base and --tuned"
        )
    one, other = (set(problems) for problems in chosen.values())
    if not one & other:
        raise PasskbError(
            f"{first.original} and {second.original} have no problem in common ({min(one)!r}, {min(other)!r}, …): "
            "a comparison needs the same problems under the same ids"
        )
    if one != other:
        warnings.append(f"{len(one ^ other)} problems have results of one model only and are not compared")
    return warnings


def _spec(
    sources: Sequence[Mapping[str, str]],
    roles: Sequence[_Role],
    chosen: Mapping[str, Entries],
    *,
    claim: str,
    prediction: Mapping[str, Any] | None,
) -> ExperimentSpec:
    """The spec as far as it is known; n is the smallest number of attempts of any problem."""
    n = min(_attempts(rows) for by_problem in chosen.values() for rows in by_problem.values())
    digest = hashlib.sha256("".join(source["sha256"] for source in sources).encode()).hexdigest()
    expected = {"kind": "crossover"} if prediction is None and len(roles) == 2 else prediction
    renamed = {role.original: role.name for role in roles}
    if isinstance(expected, Mapping) and isinstance(expected.get("model"), str):
        expected = {**expected, "model": renamed.get(expected["model"], expected["model"])}
    spec: dict[str, Any] = {
        "name": _named_after(Path(sources[0]["file"])),
        "claim": claim,
        "problems": {"set": f"imported-{digest[:12]}"},
        "models": {role.name: {"model": role.original} for role in roles},
        "sampling": {"n": n},
        "ks": list(range(1, n + 1) if n <= _ALL_KS_UP_TO else default_ks(n)),
    }
    return from_mapping({**spec, **({"prediction": expected} if expected is not None else {})}, "the import")


def _attempts(rows: Sequence[ProblemCounts | Attempt]) -> int:
    return rows[0].n if isinstance(rows[0], ProblemCounts) else len(rows)


def _claim(home: Path, claim: str) -> str:
    """`NOTE#ID` with the note's id. Raises PasskbError for an unknown claim."""
    if not claim:
        return ""
    if "#" not in claim:
        raise PasskbError(f"--claim {claim}: write the claim as NOTE#ID (`passkb claims` lists them)")
    with KnowledgeBase(home) as kb:
        note_id, match = find_claim(kb, claim)
    return f"{note_id}#{match.id}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(sources: Sequence[Mapping[str, str]], spec: ExperimentSpec) -> str:
    key = {**spec.to_json(), "name": ""}
    body = json.dumps([[source["sha256"] for source in sources], key], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()
