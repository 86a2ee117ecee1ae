"""One true experiment: the shipped models in real vLLM, from a claim's test to an evidence note that an answer cites."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.experiments.engines.base import EngineError
from service.experiments.engines.vllm import find_python

ROOT = Path(__file__).parents[4]
MODELS = ROOT / "samples" / "models" / "countdown"
QUESTION = "Does the base model of the toy Countdown family overtake its tuned model at large k?"
NOTE = f"""---
title: The toy Countdown family
claims:
  - id: crossover
    text: The tuned model of the toy Countdown family wins at small k, and its base model overtakes it at large k.
    test:
      question: {QUESTION}
      problems: {{set: countdown, limit: 100, seed: 3}}
      models: {{base: {{model: models/base, engine: ENGINE}}, tuned: {{model: models/tuned, engine: ENGINE}}}}
      sampling: {{n: 64, temperature: 1.0, max_tokens: 32, seed: 0}}
      prediction: {{kind: crossover}}
---
Whether the base model of the toy Countdown family overtakes its tuned model at large k is an open question of this note.
"""


def passkb(home: Path, *arguments: object) -> Any:
    command = [sys.executable, "-m", "service.cli", "--home", str(home), *map(str, arguments), "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=570)
    assert ran.returncode == 0, (
        f"{ran.stderr[-2000:]}\n{(home / 'worker.log').read_text() if (home / 'worker.log').exists() else ''}"
    )
    return json.loads(ran.stdout)


def vault(folder: Path, engine: str) -> Path:
    folder.mkdir()
    (folder / "models").symlink_to(MODELS)
    (folder / "toy.md").write_text(NOTE.replace("ENGINE", engine))
    return folder


@pytest.fixture(scope="module")
def vllm() -> None:
    try:
        find_python()
    except EngineError as error:
        pytest.skip(str(error))


def test_an_experiment_on_vllm_ends_in_a_cited_evidence_note_and_agrees_with_transformers(vllm: None, tmp_path: Path) -> None:
    found = {}
    for engine in ("transformers", "vllm"):
        home = tmp_path / f"home-{engine}"
        passkb(home, "ingest", vault(tmp_path / engine, engine))
        assert passkb(home, "claims")["claims"][0]["status"] == "untested"
        found[engine] = passkb(home, "experiment", "run", f"{engine}/toy#crossover", "--wait")
    run = found["vllm"]
    assert run["status"] == "succeeded" and "vllm" in run["environment"]["engine_version"]
    assert [(m["n_problems"], m["n"]) for m in run["models"]] == [(100, 64), (100, 64)]
    assert run["prediction"]["verdict"] == found["transformers"]["prediction"]["verdict"] == "supported"
    for ours, theirs in zip(found["vllm"]["models"], found["transformers"]["models"], strict=True):
        for one, other in zip(ours["pass_at_k"], theirs["pass_at_k"], strict=True):
            assert one["low"] <= other["estimate"] <= one["high"] and other["low"] <= one["estimate"] <= other["high"], one["k"]
    home = tmp_path / "home-vllm"
    claim = passkb(home, "claims")["claims"][0]
    assert claim["status"] == "supported" and claim["evidence"] == [run["evidence_note_id"]]
    answer = passkb(home, "ask", QUESTION)
    assert [entry["run_id"] for entry in answer["evidence"]] == [run["run_id"]] and answer["evidence"][0]["date"]
    note = passkb(home, "note", run["evidence_note_id"])
    assert note["kind"] == "evidence" and "toy" in note["text"]
    cited = [c for s in answer["statements"] for c in s["citations"] if c["note_id"] == run["evidence_note_id"]]
    assert cited and all(note["text"][c["start"] : c["end"]] == c["quote"] for c in cited)
