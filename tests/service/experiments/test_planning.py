"""Plans: what a run would show and cost, from earlier runs where there are any, from a stated assumption else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb.notes import PasskbError
from service.experiments.execution.run_store import Run, Runs, RunStatus, Tally
from service.experiments.planning import plan, plan_text
from service.experiments.spec import ExperimentSpec, from_mapping


def asked(n: int = 32, limit: int = 40, models: int = 2, **extra: Any) -> ExperimentSpec:
    names = ("base", "tuned")[:models]
    sampling = {"n": n, **extra.pop("sampling", {})}
    named = {name: {"model": f"org/{name}", "engine": "vllm"} for name in names}
    problems = {"set": "countdown", "limit": limit}
    return from_mapping({"problems": problems, "models": named, "sampling": sampling, **extra})


def ran(home: Path, spec: ExperimentSpec, tokens: int = 100, seconds: float = 64.0) -> Run:
    """A finished run of 20 problems whose models pass 1 of 8 and half of the attempts."""
    run = Runs(home).create(spec)
    rng, n = np.random.default_rng(0), spec.sampling.n
    for name, rate in zip(spec.models, (0.125, 0.5), strict=False):
        passed = rng.binomial(n, rate, 20).tolist()
        run.append(name, [(Tally(f"p{i}", 0, n, c, {"pass": c}, tokens=tokens * n), ()) for i, c in enumerate(passed)])
    run.update(status=RunStatus.SUCCEEDED, seconds=seconds)
    return run


def test_without_a_run_the_assumption_is_told_and_the_cost_is_unknown(home: Path) -> None:
    spec = asked(sampling={"max_tokens": 100})
    found = plan(spec, home)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["pilot"] is None and "Beta(0.3, 1)" in found["assumption"]
    cost = found["cost"]
    assert (cost["attempts"], cost["tokens"], cost["seconds"], cost["tokens_at_most"]) == (2560, None, None, 256_000)
    text = plan_text(found)
    assert "unknown: this home has no run of base and tuned" in text and "256,000" in text and "k = 32*" in text
    assert 0 <= found["power"]["decided"] <= 1 and found["prediction"] == "crossover"


def test_more_problems_narrow_the_intervals_more_than_as_many_more_attempts(home: Path) -> None:
    def width(**given: Any) -> float:
        return next(float(row["difference"]) for row in plan(asked(**given), home)["widths"] if row["k"] == 8)

    assert width(limit=160) == pytest.approx(width(limit=40) / 2, rel=0.05)
    assert width(limit=160) < 0.8 * width(n=128) < width(n=32)


def test_an_earlier_run_of_the_same_models_is_the_pilot_and_gives_the_rate(home: Path) -> None:
    run = ran(home, asked(n=16, name="pilot"))
    found = plan(asked(prediction={"kind": "higher", "model": "tuned"}), home)
    assert found["pilot"] == run.id and found["assumption"] is None and found["power"]["decided"] > 0.99
    assert found["cost"]["tokens"] == 2560 * 100
    assert found["cost"]["seconds"] == pytest.approx(256_000 / (2 * 20 * 16 * 100 / 64.0))
    assert run.id in plan_text(found) and "That is enough" in found["advice"]


def test_a_run_with_other_settings_or_of_one_model_only_is_no_pilot(home: Path) -> None:
    ran(home, asked(n=16, sampling={"temperature": 0.6}))
    found = plan(asked(), home)
    assert found["pilot"] is None and found["cost"]["tokens"] is None
    ran(home, asked(n=16, models=1))
    found = plan(asked(), home)
    assert found["pilot"] is None and "no run of tuned with" in found["cost"]["text"]


def test_one_model_and_a_subset_are_planned_without_power(home: Path) -> None:
    ran(home, asked(n=16, models=1))
    alone = plan(asked(models=1), home)
    assert alone["power"] is None and alone["widths"][0]["difference"] is None and alone["cost"]["attempts"] == 1280
    assert alone["cost"]["tokens"] == 128_000 and "difference" not in plan_text(alone)
    assert "No power simulation" in plan(asked(prediction={"kind": "subset"}), home)["advice"]


def test_screening_is_cheaper_and_the_direct_control_is_counted(home: Path, tmp_path: Path) -> None:
    whole = plan(asked(n=64), home)["cost"]["attempts"]
    assert plan(asked(n=64, sampling={"screen": 8}), home)["cost"]["attempts"] < 0.8 * whole
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"question": f"{i} + 1?", "answer": str(i + 1)}) + "\n" for i in range(40))
    )
    sums = {"file": str(tmp_path / "sums.jsonl"), "format": "gsm8k"}
    assert plan(asked(n=64, direct=4, problems=sums), home)["cost"]["attempts"] == whole + 2 * 40 * 4


def test_problems_that_can_not_be_loaded_are_named(home: Path) -> None:
    spec = from_mapping({"problems": {"set": "nothing"}, "models": {"base": "x"}})
    with pytest.raises(PasskbError, match="nothing"):
        plan(spec, home)
