"""Trains, measures and describes a family of small models (organisms). Imports PyTorch only for training.

A family has three members: `base`, pretrained on noisy worked solutions; `tuned`, GRPO from the base; `distilled`, the base
fine-tuned on a solver's traces. Each is a folder in Hugging Face format with an `organism.json` that records its training and
its pass rates. Finished members are kept; an unfinished one restarts in a scratch folder.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kb.files import write_atomic
from kb.notes import PasskbError
from service.experiments.datasets.countdown import countdown
from service.experiments.statistics.estimators import pass_at_k
from service.experiments.types import seed_of

MEMBERS = ("base", "tuned", "distilled")
KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RECORD = "organism.json"
CAUTION = "Toy model: it shows the mechanism in a small model tuned without KL and says nothing about large models."
HELD_OUT = "1 in 16 of all problems, by a hash of the target and of the numbers in rising order; no member was trained on one"
WHAT = {
    "base": "pretrained on worked solutions: half right, a quarter ending elsewhere, a quarter with a fudged last equality",
    "tuned": "GRPO from the base with a binary verifier, on-policy, without KL or entropy term",
    "distilled": "the base, fine-tuned on a solver's correct solutions",
}
# steps, learning rate, rows a step (GRPO: problems), completions a problem. Only `small` has been trained to the end so far.
RECIPES: Mapping[str, Mapping[str, tuple[int, float, int, int]]] = {
    "tiny": {"base": (1_000, 3e-3, 256, 1), "tuned": (150, 3e-4, 32, 32), "distilled": (500, 1e-3, 256, 1)},
    "small": {"base": (1_000, 3e-3, 256, 1), "tuned": (150, 3e-4, 32, 32), "distilled": (500, 1e-3, 256, 1)},
    "medium": {"base": (2_000, 6e-4, 512, 1), "tuned": (300, 5e-5, 64, 32), "distilled": (1_000, 3e-4, 512, 1)},
    "large": {"base": (4_000, 3e-4, 1_024, 1), "tuned": (300, 2e-5, 64, 64), "distilled": (2_000, 1e-4, 1_024, 1)},
}

Progress = Callable[[str], None]
"""Receives about twenty progress lines per stage."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a family, apart from the machine; fields as in `train_family`."""

    seed: int = 0
    size: str = "small"
    steps: Mapping[str, int] | None = None
    problems: int = 128
    attempts: int = 512

    def recipe(self, member: str) -> dict[str, Any]:
        """The training parameters of a member. Raises PasskbError."""
        if self.size not in RECIPES:
            raise PasskbError(f"unknown size {self.size!r}: use one of {', '.join(RECIPES)}")
        if unknown := set(self.steps or {}) - set(MEMBERS):
            raise PasskbError(f"unknown stage {min(unknown)!r}: the stages are {', '.join(MEMBERS)}")
        steps, rate, rows, completions = RECIPES[self.size][member]
        steps = (self.steps or {}).get(member, steps)
        if steps < 1:
            raise PasskbError(f"stage {member} needs at least one step, not {steps}")
        return {"steps": steps, "rate": rate, "rows": rows, "completions": completions}

    def lineage(self, member: str) -> dict[str, Any]:
        """What determines the member's weights: its recipe, and the base's recipe for members that start from the base."""
        recipes = {stage: self.recipe(stage) for stage in dict.fromkeys(("base", member))}
        return {"seed": self.seed, "size": self.size, "recipe": recipes}


def train_family(
    out: Path,
    seed: int = 0,
    size: str = "small",
    device: str = "auto",
    steps: Mapping[str, int] | None = None,
    progress: Progress = lambda line: None,
    *,
    threads: int = 1,
    problems: int = 128,
    attempts: int = 512,
    command: str = "",
) -> dict[str, Any]:
    """Trains the missing members of a family below `out`, measures them on held-out `problems`, and returns `describe(out)`.

    `size`: a key of `RECIPES`. `device`: auto, cpu or cuda. `steps` overrides a recipe's steps per stage. `attempts` per
    problem for measuring (0: do not measure). `command` is recorded.

    Deterministic for seed, size and steps on one machine with the same number of CPU `threads`. More than one thread gains
    little because rows are short. Raises PasskbError.
    """
    plan = Plan(seed, size, steps, problems, attempts)
    lineages = {member: plan.lineage(member) for member in MEMBERS}
    missing = [member for member in MEMBERS if not _finished(out / member, lineages[member])]
    training = _training()
    command = command or f"passkb organism train --out {out} --seed {plan.seed} --size {plan.size}"
    with training.on(device, threads) as place:
        details = {"command": command, "device": str(place), "threads": threads, "machine": platform.machine(), **_versions()}
        for member in missing:
            _make(training, place, out, member, plan, {"member": member, "lineage": lineages[member], **details}, progress)
        for member in MEMBERS:
            progress(f"{member}: measuring on {problems} held-out problems, {attempts} attempts each")
            _measure(training, place, out / member, plan)
    return describe(out)


def describe(folder: Path) -> dict[str, Any]:
    """Describes a member's or a family's folder: its records, `caution`, and `sentences` in English.

    A family has `members`, and when measured `compared`: the base against each other member. Raises PasskbError.
    """
    if (folder / RECORD).is_file():
        record = _record(folder)
        return {**record, "caution": CAUTION, "sentences": [*_sentences(record), CAUTION]}
    members = {member: _record(folder / member) for member in MEMBERS if (folder / member / RECORD).is_file()}
    if not members:
        raise PasskbError(f"{folder} is not an organism: train one with `passkb organism train`")
    measured = {member: record["measured"] for member, record in members.items() if "measured" in record}
    others = [member for member in measured if member != "base" and "base" in measured]
    compared = {member: _compared(measured["base"], measured[member]) for member in others}
    sentences = [sentence for record in members.values() for sentence in _sentences(record)]
    sentences += [_contrast(name, figures) for name, figures in compared.items()]
    return {"members": members, "compared": compared, "caution": CAUTION, "sentences": [*sentences, CAUTION]}


def _training() -> ModuleType:
    try:
        from service.experiments.organisms import training
    except ModuleNotFoundError as error:
        raise PasskbError(f"training needs {error.name}: pip install torch transformers") from error
    return training


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "transformers", "passkb")}}


def _finished(folder: Path, lineage: Mapping[str, Any]) -> bool:
    """Raises PasskbError when the folder has another organism."""
    if not folder.exists():
        return False
    if not (folder / RECORD).is_file():
        raise PasskbError(f"{folder} exists and is not an organism: train into another folder")
    existing = _record(folder)["lineage"]
    if existing != lineage:
        raise PasskbError(
            f"{folder} has another organism (size {existing['size']}, seed {existing['seed']}, steps "
            f"{[recipe['steps'] for recipe in existing['recipe'].values()]}): use another folder, or remove this one"
        )
    return True


def _make(
    training: ModuleType, place: Any, out: Path, member: str, plan: Plan, record: dict[str, Any], progress: Progress
) -> None:
    """Trains the member in a scratch folder and moves it into place."""
    recipe = plan.recipe(member)
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{member}-", dir=out))
    try:
        started, used = time.monotonic(), time.process_time()
        parameters = training.make(
            member,
            scratch,
            start=plan.size if member == "base" else out / "base",
            how=training.Schedule(**recipe),
            seed=seed_of("organism", plan.seed, member),
            device=place,
            report=_reporter(member, recipe["steps"], progress),
        )
        durations = {"seconds": round(time.monotonic() - started), "cpu_seconds": round(time.process_time() - used)}
        _write(scratch, {**record, "parameters": parameters, "what": WHAT[member], "held_out": HELD_OUT, **durations})
        # Temporary folders and the files of safetensors are readable by their owner only.
        for path, mode in ((scratch, 0o755), *((file, 0o644) for file in scratch.iterdir())):
            path.chmod(mode)
        scratch.rename(out / member)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reporter(member: str, steps: int, progress: Progress) -> Callable[[int, float], None]:
    started, measure = time.monotonic(), "passed" if member == "tuned" else "loss"

    def report(step: int, value: float) -> None:
        if step % max(1, steps // 20) == 0 or step == steps:
            progress(f"{member}: step {step} of {steps}, {measure} {value:.3f}, {time.monotonic() - started:.0f} s")

    return report


def _measure(training: ModuleType, place: Any, folder: Path, plan: Plan) -> None:
    """Measures the member's pass rates on held-out problems, unless they are recorded."""
    if not plan.attempts:
        return
    record, problems = _record(folder), countdown(plan.problems, plan.seed)
    about = {"problems": problems.name, "problems_sha256": problems.sha256, "count": plan.problems, "n": plan.attempts}
    if about.items() <= record.get("measured", {}).items():
        return
    seed = seed_of("measure", plan.seed, record["member"])
    passed = training.count_passed(folder, problems.problems, plan.attempts, seed, place)
    curve = {str(k): round(value, 4) for k, value in _curve(passed, plan.attempts, KS).items()}
    _write(folder, record | {"measured": {**about, "temperature": 1.0, "passed": passed, "pass_at_k": curve}})


def _curve(passed: Sequence[int], n: int, ks: Sequence[int]) -> dict[int, float]:
    """Mean pass@k over the problems for the k up to n."""
    within = [k for k in ks if k <= n]
    values = pass_at_k(np.full(len(passed), n), np.array(passed), within).mean(axis=1)
    return dict(zip(within, values.tolist(), strict=True))


def _compared(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The solved sets, and the smallest k up to n/2 from which the base is not behind."""
    n, ks = min(base["n"], other["n"]), range(1, max(2, min(base["n"], other["n"]) // 2 + 1))
    ours, theirs = _curve(base["passed"], base["n"], ks), _curve(other["passed"], other["n"], ks)
    last_behind = max((k for k in ks if ours[k] < theirs[k]), default=0)
    crossing = last_behind + 1 if last_behind < max(ks) else None
    pairs = [(a > 0, b > 0) for a, b in zip(base["passed"], other["passed"], strict=True)]
    names = {"both": (True, True), "base_only": (True, False), "other_only": (False, True), "neither": (False, False)}
    return {"n": n, "crossing": crossing, "solved": {name: pairs.count(pair) for name, pair in names.items()}}


def _sentences(record: Mapping[str, Any]) -> list[str]:
    out = [f"{record['member']}: {record['what']}; {record['parameters']:,} parameters, seed {record['lineage']['seed']}."]
    if measured := record.get("measured"):
        curve = ", ".join(f"{value:.2f} at k = {k}" for k, value in measured["pass_at_k"].items() if k in ("1", "16", "256"))
        out.append(f"{record['member']}: pass@k on {measured['count']} held-out problems, n = {measured['n']}, T = 1: {curve}.")
    return out


def _contrast(name: str, figures: Mapping[str, Any]) -> str:
    solved, crossing = figures["solved"], figures["crossing"]
    where = (
        f"is not behind {name} from k = {crossing}" if crossing else f"does not overtake {name} up to k = {figures['n'] // 2}"
    )
    return f"base {where}; only base solves {solved['base_only']} problems, only {name} solves {solved['other_only']}."


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PasskbError(f"{path} can't be read ({error}): train the organism again") from error
    if not isinstance(value, dict) or not {"member", "lineage", "what", "parameters"} <= value.keys():
        raise PasskbError(f"{path} is not an organism's record: train it again")
    return value


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_atomic(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
