"""Importing: results that were made elsewhere become a run that has succeeded, and is treated like any other.

Knows nothing about layouts (foreign.py) or statistics. The run names its files by sha256; its engine is `imported`. What
a file does not tell (settings, device, the problems' text) is not known, and nothing is filled in for it.
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
from service.experiments.claims import claim_named
from service.experiments.execution.run_store import Judged, Run, Runs, RunStatus, Tally, counts_of, tally
from service.experiments.importers.formats import read_results
from service.experiments.importers.rows import Attempt, Counted, Read
from service.experiments.spec import ExperimentSpec, default_ks, from_mapping
from service.experiments.types import Completion, Judgement

_log = logging.getLogger("passkb")
_BATCH = 500  # problems a shard
_EVERY = 16  # up to so many attempts, every k: published values are at odd ones
Entries = dict[str, list[Counted | Attempt]]


@dataclass(frozen=True, slots=True)
class _Role:
    """A model as the run calls it, and as its file does."""

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
    """A run of status succeeded that holds what the files say; the run there is, when the same was imported before.

    `base`, `tuned`: which of the files' models are compared, under these two names. Without them: models of those names, or the
    only two, the first one being the base. A file without a model's name gives its own; the same file given twice counts once.
    With two models the prediction is a crossover unless another is given. Raises PasskbError that names file, line and field;
    nothing is kept then.
    """
    if not files:
        raise PasskbError("import wants at least one file")
    paths = [Path(path).expanduser().absolute() for path in files]
    read = list({(path.name, _sha256(path)): (path, found) for path in paths for found in [read_results(path)]}.values())
    by_model = _by_model(read)
    roles = _roles(list(by_model), base, tuned)
    chosen = {role.name: _by_problem(by_model[role.original], role.original) for role in roles}
    warnings = [*(warning for _, found in read for warning in found.warnings), *_odd(by_model, roles, chosen, base, tuned)]
    sources = [{"file": str(path), "sha256": _sha256(path), "layout": found.layout} for path, found in read]
    spec = _spec(sources, roles, chosen, claim=_claim(home, claim), prediction=prediction)
    digest = _digest(sources, spec)
    runs = Runs(home)
    for run in runs.all():
        if run.state.get("imported", {}).get("digest") == digest and run.state["status"] == RunStatus.SUCCEEDED:
            _log.warning("this was imported before, as %s", run.id)
            return run
    for warning in warnings:
        _log.warning("%s", warning)
    recorded = frozenset.intersection(*(found.recorded for _, found in read))
    imported = {"files": sources, "digest": digest, "recorded": sorted(recorded), "warnings": warnings,
                "models": {role.name: role.original for role in roles}}  # fmt: skip
    return _kept(runs, spec, roles, chosen, imported)


def _kept(
    runs: Runs, spec: ExperimentSpec, roles: Sequence[_Role], chosen: Mapping[str, Entries], imported: dict[str, Any]
) -> Run:
    """A run cut short here stays one that failed, and is imported anew."""
    problems = sorted({problem for by_problem in chosen.values() for problem in by_problem})
    environment = {role.name: {"engine": "imported", "engine_version": "", "device": "", "asked": {}, "differs": {},
                               "effective": {"model": role.original}} for role in roles}  # fmt: skip
    ids = hashlib.sha256(json.dumps(problems, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
    run = runs.create(
        spec, status=RunStatus.FAILED, error="its import was cut short: import the files again", imported=imported,
        environment=environment, n_problems=len(problems), problems_sha256=ids,
    )  # fmt: skip
    try:
        for name, by_problem in chosen.items():
            for batch in _batches(by_problem):
                run.append(name, batch)
        run.write_counts({name: counts_of(run.tallies(name)) for name in chosen})
    except OSError as error:
        raise PasskbError(f"{run.folder} can not be written ({error.strerror}): make room, and import again") from error
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run.note(status=RunStatus.SUCCEEDED, error="", started=now, finished=now)
    return run


def _batches(by_problem: Entries) -> Iterator[list[tuple[Tally, Judged]]]:
    entries = list(by_problem.items())
    for i in range(0, len(entries), _BATCH):
        yield [_tallied(problem, rows) for problem, rows in entries[i : i + _BATCH]]


def _tallied(problem: str, rows: Sequence[Counted | Attempt]) -> tuple[Tally, Judged]:
    if isinstance(rows[0], Counted):
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


def _by_model(read: Sequence[tuple[Path, Read]]) -> dict[str, list[Counted | Attempt]]:
    """In order of first appearance; rows of a file that names no model bear the file's name."""
    out: dict[str, list[Counted | Attempt]] = {}
    for path, found in read:
        for row in found.rows:
            out.setdefault(row.model or _named_after(path), []).append(row)
    return out


def _named_after(path: Path) -> str:
    """The stem; where programs give every model's file the same kind of name, that of its folder."""
    stem = path.name.partition(".")[0] if path.name.endswith(".gz") else path.stem
    return path.parent.name if stem.startswith(("samples_", "eval_results")) or stem.isdigit() else stem


def _by_problem(rows: Sequence[Counted | Attempt], model: str) -> Entries:
    out: Entries = {}
    for row in rows:
        entries = out.setdefault(row.problem, [])
        if entries and (isinstance(row, Counted) or isinstance(entries[0], Counted)):
            raise PasskbError(
                f"{model or 'the file'} has problem {row.problem!r} twice: one line of counts a problem and model"
            )
        entries.append(row)
    return out


def _roles(names: Sequence[str], base: str, tuned: str) -> list[_Role]:
    listed = ", ".join(map(repr, names))
    for given, flag in ((base, "--base"), (tuned, "--tuned")):
        if given and given not in names:
            raise PasskbError(f"{flag} {given}: the files have no such model; theirs are {listed}")
    if base and base == tuned:
        raise PasskbError(f"--base and --tuned both name {base}: two different models are compared")
    if base or tuned:
        others = [name for name in names if name not in (base, tuned)]
        if not (base and tuned) and len(others) > 1:
            raise PasskbError(f"the files have the models {listed}: say both, --base NAME --tuned NAME")
        pairs = [("base", base or "".join(others)), ("tuned", tuned or "".join(others))]
        return [_Role(name, original) for name, original in pairs if original]
    if {"base", "tuned"} <= set(names):
        return [_Role("base", "base"), _Role("tuned", "tuned")]
    if len(names) > 2:
        raise PasskbError(f"the files have the models {listed}: say which two are compared, --base NAME --tuned NAME")
    if len({slug(name) for name in names}) < len(names):
        raise PasskbError(f"the models {listed} are hard to tell apart: say --base NAME --tuned NAME")
    ordered = sorted(names, key=lambda name: name == "tuned" or (name != "base" and "base" in names))
    return [_Role(name, name) for name in ordered]


def _odd(
    by_model: Mapping[str, Any], roles: Sequence[_Role], chosen: Mapping[str, Entries], base: str, tuned: str
) -> list[str]:
    """What the person should know of how the files were understood. Raises PasskbError when nothing can be compared."""
    said = []
    if left := [name for name in by_model if name not in {role.original for role in roles}]:
        said.append(f"left out: {', '.join(left)}")
    if len(roles) < 2:
        return said
    first, second = roles
    if not (base or tuned) and {first.name, second.name} != {"base", "tuned"}:
        said.append(f"{first.name} is taken for the base model and {second.name} for the tuned one; --base and --tuned say so")
    one, other = (set(problems) for problems in chosen.values())
    if not one & other:
        raise PasskbError(
            f"{first.original} and {second.original} have no problem in common ({min(one)!r}, {min(other)!r}, …): "
            "two models are compared on the same problems, under the same ids"
        )
    if one != other:
        said.append(f"{len(one ^ other)} problems are of one model only, and are not compared")
    return said


def _spec(
    sources: Sequence[Mapping[str, str]],
    roles: Sequence[_Role],
    chosen: Mapping[str, Entries],
    *,
    claim: str,
    prediction: Mapping[str, Any] | None,
) -> ExperimentSpec:
    """What was asked, as far as it is known: n is the least attempts that any problem has."""
    n = min(_attempts(rows) for by_problem in chosen.values() for rows in by_problem.values())
    digest = hashlib.sha256("".join(source["sha256"] for source in sources).encode()).hexdigest()
    given = {"kind": "crossover"} if prediction is None and len(roles) == 2 else prediction
    renamed = {role.original: role.name for role in roles}
    if isinstance(given, Mapping) and isinstance(given.get("model"), str):
        given = {**given, "model": renamed.get(given["model"], given["model"])}
    spec: dict[str, Any] = {
        "name": _named_after(Path(sources[0]["file"])),
        "claim": claim,
        "problems": {"set": f"imported-{digest[:12]}"},
        "models": {role.name: {"model": role.original} for role in roles},
        "sampling": {"n": n},
        "ks": list(range(1, n + 1) if n <= _EVERY else default_ks(n)),
    }
    return from_mapping({**spec, **({"prediction": given} if given is not None else {})}, "the import")


def _attempts(rows: Sequence[Counted | Attempt]) -> int:
    return rows[0].n if isinstance(rows[0], Counted) else len(rows)


def _claim(home: Path, claim: str) -> str:
    """`NOTE#ID` with the note's id. Raises PasskbError when there is no such claim."""
    if not claim:
        return ""
    if "#" not in claim:
        raise PasskbError(f"--claim {claim}: a claim is named NOTE#ID, `passkb claims` lists them")
    with KnowledgeBase(home) as kb:
        note_id, found = claim_named(kb, claim)
    return f"{note_id}#{found.id}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(sources: Sequence[Mapping[str, str]], spec: ExperimentSpec) -> str:
    asked = {**spec.to_json(), "name": ""}
    body = json.dumps([[source["sha256"] for source in sources], asked], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()
