"""The vllm engine: one true run on a tiny model where `.venv-vllm` is installed, and what its logs and environment can tell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.experiments.engines import vllm, watchdog
from service.experiments.engines.base import EngineError, Request, Settings
from service.experiments.engines.factory import open_engine
from service.experiments.engines.vllm import find_python, probe
from service.experiments.engines.vllm_errors import explain
from service.experiments.spec import ModelSpec
from service.experiments.types import Completion, Problem

PROMPTS = ["1 2 3 -> 6 :", "4 5 -> 9 :", "10 11 12 13 -> 46 :"]
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def python() -> Path:
    path = ROOT / ".venv-vllm" / "bin" / "python"
    if not path.is_file():
        pytest.skip("vLLM is not installed: `make vllm`")
    return path


@pytest.fixture(scope="module")
def running(python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("run")
    model, told = ModelSpec(str(tiny_model), "vllm", max_model_len=96), Settings(max_tokens=12, logprobs=True)
    engine = open_engine(model, told, home_or_log_folder=folder, vllm_python=str(python), seed=5)
    yield engine
    engine.close()


def requests(n: int, first: int = 0) -> list[Request]:
    return [
        Request(Problem(f"p{i}", "maths", prompt, {}, (" 7",)), prompt, first, n, 50 * i) for i, prompt in enumerate(PROMPTS)
    ]


def drawn(engine: Any, asked: list[Request], **more: Any) -> list[Completion]:
    found = [
        c for completions in engine.sample(asked, Settings(**{"max_tokens": 12, "logprobs": True, **more})) for c in completions
    ]
    return sorted(found, key=lambda c: (c.problem_id, c.attempt))


def group_of(log: Path) -> set[int]:
    """The processes that have the log open as their output."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "fd/1").resolve() == log.resolve():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def test_a_true_run(running: Any, tiny_model: Path) -> None:
    """Started, sampled, scored, left, killed; one test, as a start takes half a minute."""
    effective = running.effective
    assert {"max_model_len": 96, "dtype": "float32", "tokens": "counted by the server"}.items() <= effective.items()
    assert running.version.removeprefix("vllm ")[0].isdigit() and running.most_per_request == effective["cap_on_n"] > 0
    found = drawn(running, requests(8))
    assert [(c.problem_id, c.attempt) for c in found] == [(f"p{i}", j) for i in range(3) for j in range(8)]
    assert all(0 < c.tokens <= 12 and " 7" not in c.text and c.logprob is not None and c.logprob < 0 for c in found)
    halves = [Request(r.problem, r.prompt, first, 4, r.seed) for r in requests(8) for first in (0, 4)]
    alike = sum(a.text == b.text for a, b in zip(found, drawn(running, halves), strict=True))
    assert alike >= 20 and len({c.text for c in found}) > 12, "seeds go by attempt, up to rounding in another batch"
    _agrees_with_transformers(running, tiny_model)
    with pytest.raises(EngineError, match=r"context .*lower sampling\.max_tokens"):
        drawn(running, requests(1), max_tokens=95)
    _leaves_in_two_seconds(running)
    _tells_that_it_died(running)


def _agrees_with_transformers(running: Any, tiny_model: Path) -> None:
    """Greedy completions and scores are the embedded engine's; at another temperature, log-probabilities are still those of
    the distribution sampled from."""
    engines = pytest.importorskip("service.experiments.engines.transformers")
    other = engines.TransformersEngine(ModelSpec(str(tiny_model)), str(tiny_model))
    ours, theirs = drawn(running, requests(1), temperature=0), drawn(other, requests(1), temperature=0)
    assert [(c.text, c.tokens, c.finish) for c in ours] == [(c.text, c.tokens, c.finish) for c in theirs]
    pairs = [(PROMPTS[0], " 1 + 2 = 3"), (PROMPTS[1], " 5"), (PROMPTS[2], "")]
    for (one, many), (two, more) in zip(running.score(pairs), other.score(pairs), strict=True):
        assert one == pytest.approx(two, abs=1e-3) and many == more
    cool = [c.logprob for c in drawn(running, requests(8), temperature=0.3)]
    warm = [c.logprob for c in drawn(running, requests(8), temperature=2.0)]
    assert sum(cool) / len(cool) > sum(warm) / len(warm) + 1  # type: ignore[arg-type]
    other.close()


def _leaves_in_two_seconds(running: Any) -> None:
    stream = running.sample([r for first in range(0, 6000, 1000) for r in requests(1000, first)], Settings(max_tokens=80))
    threading.Timer(0.5, stream.close).start()
    began = time.monotonic()
    list(stream)
    assert time.monotonic() - began < 2.5


def killed(processes: set[int]) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)


def _tells_that_it_died(running: Any) -> None:
    """Killed while it works: an EngineError within seconds that names the log, and no process of it is left."""
    log = running._log
    stream = running.sample([r for first in range(0, 60000, 1000) for r in requests(1000, first)], Settings(max_tokens=80))
    members = group_of(log)
    assert len(members) >= 3
    threading.Timer(0.5, killed, [members - {running._process.pid}]).start()
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"vLLM exited: .*vllm\.log"):
        list(stream)
    assert time.monotonic() - began < 15 and not group_of(log), members


def test_what_a_parent_that_was_killed_had_started_ends(tmp_path: Path) -> None:
    """The guard sees that its parent is gone, and ends the command and what that started."""
    log = tmp_path / "log"
    program = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
    )
    start = (
        "import os, subprocess, sys\n"
        f"log = open({str(log)!r}, 'wb')\n"
        f"subprocess.Popen([sys.executable, '-I', {watchdog.__file__!r}, str(os.getpid()), sys.executable, '-c', {program!r}],"
        " stdout=log, stderr=log, start_new_session=True)\n"
        "import time; time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", start])
    deadline = time.monotonic() + 20
    while not (log.exists() and len(group_of(log)) == 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(group_of(log)) == 3
    parent.kill()
    parent.wait()
    while group_of(log) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group_of(log)


@pytest.mark.parametrize("code, told", [("raise SystemExit(3)", 3), ("import os, signal; os.kill(os.getpid(), 9)", 137)])
def test_the_guard_gives_the_commands_exit_status(code: str, told: int) -> None:
    command = [sys.executable, "-I", watchdog.__file__, str(os.getpid()), sys.executable, "-c", code]
    assert subprocess.run(command, start_new_session=True, check=False).returncode == told


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path, tiny_model: Path) -> None:
    """An interpreter that stands in for vLLM's: it knows the probe, and the server stops with a line of a real log."""
    stand_in = tmp_path / "bin" / "python"
    stand_in.parent.mkdir()
    stand_in.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then echo \'PROBE{"version": "1", "most": 64, "gpu": {}}\'; exit 0; fi\n'
        "echo 'ValueError: User-specified max_model_len (9999) is greater than the derived max_model_len' >&2\nexit 1\n"
    )
    stand_in.chmod(0o755)
    model = ModelSpec(str(tiny_model), "vllm", max_model_len=9999)
    with pytest.raises(EngineError, match=r"max_model_len exceeds .*lower it.*log: ValueError: User-specified"):
        open_engine(model, Settings(), home_or_log_folder=tmp_path, vllm_python=str(stand_in), seed=0)
    assert not group_of(tmp_path / vllm.LOG) and "--max-model-len 9999" in (tmp_path / vllm.LOG).read_text()


@pytest.mark.parametrize(
    "log, code, told",
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 1, "doesn't fit into memory"),
        (
            "(EngineCore pid=9) ERROR 11-20 19:27:28 [core.py:15] ValueError: Free memory on device cuda:0 (3.1/139.8 GiB) on "
            "startup is less than desired GPU memory utilization (0.9, 125.8 GiB).",
            1,
            r"use the GPU.*log: ValueError: Free memory",
        ),
        (
            "ValueError: To serve at least one request with the model's max seq len (9), 16 GiB KV cache is needed",
            1,
            "lower max",
        ),
        ("OSError: x is not a local folder and is not a valid model identifier", 1, "correct the name"),
        ("huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co", 1, "download it first"),
        ("ValueError: Model architectures ['X'] are not supported for now", 1, "architecture of m: use engine: transformers"),
        ("safetensors_rust.SafetensorError: Error while deserializing header: header too large", 1, "damaged"),
        ("INFO starting", 132, "float32"),
        ("INFO starting", 137, "memory ran out"),
        ("INFO\nKeyError: 'a'\nRuntimeError: the second\n", 1, "exit status 1; log: RuntimeError: the second"),
        (
            "(Worker pid=9) ERROR 11-20 19:49:01 [multiproc_executor.py:1063] TypeError: the cause\n"
            "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above).",
            0,
            "log: TypeError: the cause;",
        ),
        ("", 1, "gives no reason"),
    ],
)
def test_a_log_is_explained(log: str, code: int, told: str) -> None:
    assert re.search(told, explain(log, code, "m"))


def test_the_number_format_in_force_is_read_from_what_vllm_says() -> None:
    said = "INFO non-default args: {'dtype': 'auto'}\n(EngineCore) with config: model='m', dtype=torch.bfloat16, max_seq_len=9"
    assert vllm._EFFECTIVE_DTYPE.findall(said) == ["bfloat16"]


def test_a_gpu_in_use_gives_vllm_the_rest_or_is_told() -> None:
    gpu = {"name": "H", "total": 100 * 2**30}
    assert [vllm._share({**gpu, "free": part * 2**30}) for part in (100, 59.5, 19.5)] == [0.9, 0.56, 0.16]
    with pytest.raises(EngineError, match=r"GPU .*is in use: 10.7 of 107.4 GB are free"):
        vllm._share({**gpu, "free": 10 * 2**30})


def test_vllm_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="is not a Python interpreter"):
        find_python(str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vllm, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    with pytest.raises(EngineError, match="make vllm"):
        find_python()
    with pytest.raises(EngineError, match=r"can't be imported .*vllm.*make vllm"):
        probe(Path(sys.executable), tmp_path)
