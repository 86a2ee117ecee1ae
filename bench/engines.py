"""Completions per second through the engine contract, against each engine's own offline batch of the same attempts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from bench.data import REPOSITORY, Absent
from bench.figures import Figure, median, spread
from kb.notes import PasskbError
from service.experiments.datasets.countdown import countdown
from service.experiments.engines.base import Engine, Request, Settings
from service.experiments.engines.factory import open_engine
from service.experiments.engines.vllm import find_python
from service.experiments.execution.run import execute
from service.experiments.execution.run_store import Runs, RunStatus
from service.experiments.spec import EngineName, ModelSpec, from_mapping
from service.experiments.types import Problem, seed_of

MODEL = REPOSITORY / "samples" / "models" / "countdown" / "base"
BUDGET = 0.9
_PROBLEMS, _N, _TOKENS, _ROUNDS = 128, 64, 48, 3

# Each reads {model, prompts, seeds, n, tokens, rows, arguments} and prints {"drawn", "tokens", "seconds": [...]}.
_VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    job = json.load(open(sys.argv[1]))
    llm = LLM(job["model"], max_num_seqs=job["rows"], generation_config="vllm", **job["arguments"])
    settings = [SamplingParams(n=job["n"], max_tokens=job["tokens"], seed=seed) for seed in job["seeds"]]
    llm.generate(job["prompts"][:2], settings[:2], use_tqdm=False)
    seconds = []
    for _ in range(job["rounds"]):
        began = time.perf_counter()
        found = llm.generate(job["prompts"], settings, use_tqdm=False)
        seconds.append(time.perf_counter() - began)
    outputs = [output for result in found for output in result.outputs]
    tokens = sum(len(output.token_ids) for output in outputs)
    print("FOUND" + json.dumps({"drawn": len(outputs), "tokens": tokens, "seconds": seconds}))
"""
_TRANSFORMERS = """
import json, sys, time
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
job = json.load(open(sys.argv[1]))
device = "cuda" if torch.cuda.is_available() else "cpu"
model = AutoModelForCausalLM.from_pretrained(job["model"]).to(device).eval()
tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
def draw(prompts):
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False).to(device)
    width = batch["input_ids"].shape[1]
    made = model.generate(**batch, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, num_return_sequences=job["n"],
                          max_new_tokens=job["tokens"], pad_token_id=tokenizer.pad_token_id)[:, width:]
    texts = tokenizer.batch_decode(made, skip_special_tokens=True)
    return len(texts), int((made != tokenizer.pad_token_id).sum())
torch.manual_seed(0)
draw(job["prompts"][:2])
seconds = []
for _ in range(job["rounds"]):
    began = time.perf_counter()
    drawn, tokens = draw(job["prompts"])
    seconds.append(time.perf_counter() - began)
print("FOUND" + json.dumps({"drawn": drawn, "tokens": tokens, "seconds": seconds}))
"""


def measure(scratch: Path) -> list[Figure]:
    """One engine at a time, offline first; a round draws every attempt, after a small one to warm up."""
    if not (MODEL / "config.json").is_file():
        raise Absent(f"{MODEL} is not there")
    problems = countdown(_PROBLEMS).problems
    figures = _compared("transformers", scratch, problems, Path(sys.executable), _TRANSFORMERS)
    try:
        python = find_python()
    except PasskbError as error:
        return [*figures, Figure("vllm", f"not measured: {error}")]
    return [*figures, *_compared("vllm", scratch, problems, python, _VLLM)]


def _compared(name: EngineName, scratch: Path, problems: Sequence[Problem], python: Path, program: str) -> list[Figure]:
    asked = [Request(problem, problem.prompt, 0, _N, seed_of("bench", problem.id)) for problem in problems]
    engine = open_engine(ModelSpec(str(MODEL), name), Settings(max_tokens=_TOKENS), home_or_log_folder=scratch, seed=0)
    try:
        rows, device, version = engine.rows, engine.device, engine.version
        ours, tokens = _through(engine, asked)
        whole = _whole(engine, name, scratch)
    finally:
        engine.close()
    arguments = {"dtype": "float32", "enforce_eager": True, "enable_chunked_prefill": False} if "cpu" in device else {}
    job = {"model": str(MODEL), "prompts": [r.prompt for r in asked], "seeds": [r.seed for r in asked], "n": _N,
           "tokens": _TOKENS, "rounds": _ROUNDS, "rows": rows // 2, "arguments": arguments}  # fmt: skip
    offline = _offline(scratch / name, python, program, job)
    ratio = median(whole) / median(offline)
    what = f"{name} ({version}; {device}; {_PROBLEMS} prompts, n = {_N}, {tokens / (_PROBLEMS * _N):.1f} tokens each)"
    return [
        Figure(f"{what}: its own offline batch, completions/s", spread(offline, 0)),
        Figure(f"{name}: through the engine contract, completions/s", spread(ours, 0)),
        Figure(f"{name}: a whole run, with grading and what is kept on disk, completions/s", spread(whole, 0)),
        Figure(
            f"**{name}: a whole run relative to the engine's own offline batch**",
            f"{ratio:.2f}",
            f"at least {BUDGET}",
            ratio >= BUDGET,
        ),
    ]


def _through(engine: Engine, asked: Sequence[Request]) -> tuple[list[float], int]:
    """Completions per second of each round, and the tokens of the last."""
    rates, settings, tokens = [], Settings(max_tokens=_TOKENS), 0
    list(engine.sample(asked[:2], settings))
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        found = [completion for completions in engine.sample(asked, settings) for completion in completions]
        rates.append(len(found) / (time.perf_counter() - began))
        tokens = sum(completion.tokens for completion in found)
    return rates, tokens


class _Open:
    """An engine that stays open: a run's rate is wanted without its start."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None: ...


def _whole(engine: Engine, name: str, scratch: Path) -> list[float]:
    """Completions per second of runs from queue to counts: sampling, grading, shards, tallies, progress."""
    rates = []
    for i in range(_ROUNDS):
        spec = from_mapping({"problems": {"set": "countdown", "limit": _PROBLEMS}, "models": {"base": {"model": str(MODEL)}},
                             "sampling": {"n": _N, "max_tokens": _TOKENS, "seed": i}})  # fmt: skip
        run = Runs(scratch / f"{name} runs").create(spec)
        began = time.perf_counter()
        if execute(run, lambda *_: cast(Engine, _Open(engine))) is not RunStatus.SUCCEEDED:
            raise SystemExit(f"the run failed: {run.state['error']}")
        rates.append(_PROBLEMS * _N / (time.perf_counter() - began))
    return rates


def _offline(folder: Path, python: Path, program: str, job: dict[str, object]) -> list[float]:
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "program.py").write_text(program)
    command = [str(python), "program.py", "job.json"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "4", **os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("FOUND"):
            found = json.loads(line.removeprefix("FOUND"))
            return [found["drawn"] / seconds for seconds in found["seconds"]]
    raise SystemExit(f"the offline batch failed:\n{done.stderr[-2000:]}")
