"""The vLLM engine: starts a vLLM server from its own environment, samples from it through `openai`, and stops it.

A subprocess in vLLM's environment reads its version, its cap on n and its GPU.

On a CPU it uses float32 (bfloat16 fails on processors without its instructions), eager mode and no chunked prefill, because a
seeded request whose prompt is split between steps crashes vLLM 0.32 there (`CPU Generator does not use offset`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from service.experiments.engines import vllm_errors, watchdog
from service.experiments.engines.base import EngineError, Request, Settings
from service.experiments.engines.endpoints import RetryPolicy
from service.experiments.engines.memory import GB, free_memory, weights_bytes
from service.experiments.engines.openai import OpenAIEngine
from service.experiments.engines.stream import Stream
from service.experiments.spec import ModelSpec

LOG = "vllm.log"
_PROBE = """
import json, importlib.metadata as m
import torch, vllm, vllm.envs as envs
most = int(getattr(envs, "VLLM_MAX_N_SEQUENCES", 0) or 0)
gpu = {}
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    gpu = {"name": torch.cuda.get_device_name(), "free": free, "total": total}
print("PROBE" + json.dumps({"version": vllm.__version__, "most": most, "gpu": gpu}))
"""
_SILENCE = 900.0  # seconds without a new log line after which a start counts as stuck
_SMALL = 2e8  # bytes of weights below which a CPU decodes 1,024 rows as fast as one
_GROUP_CHECKS = 20
_EFFECTIVE_DTYPE = re.compile(r"\bdtype=torch\.(\w+)")
_SPARE = 0.03  # share of the GPU's memory left to other processes


class VLLMEngine:
    """`where` is the model's folder or hub name, `python` the interpreter of vLLM's environment; it logs to `folder`/vllm.log.

    Raises EngineError with the reason from the log when vLLM is missing or doesn't start."""

    name = "vllm"

    def __init__(self, spec: ModelSpec, where: str, settings: Settings, python: Path, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / LOG).resolve()
        properties = probe(python, folder)
        port = _free_port()
        arguments = _arguments(spec, where, settings, properties["gpu"], seed)
        self._model = spec.model
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self._process = self._start(python, [*arguments, "--port", str(port)], _environment(python, where))
        try:
            self._wait_until_healthy(port)
            rows = int(arguments[arguments.index("--max-num-seqs") + 1])
            self._server = OpenAIEngine(
                replace(spec, url=f"http://127.0.0.1:{port}/v1"),
                patience=RetryPolicy(attempts=6, timeout=3600.0),
                rows=2 * rows,
                most_per_request=properties["most"] or rows,
                sampled_logprobs=settings.logprobs and settings.temperature > 0,
                failure=self._failure,
            )
        except BaseException:
            self._end()
            raise
        self.rows, self.most_per_request = 2 * rows, properties["most"] or rows
        self.version = f"vllm {properties['version']}"
        self.device = properties["gpu"].get("name") or f"cpu, {os.cpu_count()} cores"
        options = {name.removeprefix("--"): value for name, value in pairwise(arguments) if name in _RECORDED}
        dtypes = _EFFECTIVE_DTYPE.findall(self._read_log())  # resolves `auto`
        options |= {"dtype": dtypes[-1]} if dtypes else {}
        self.effective: Mapping[str, Any] = {**self._server.effective, **options, "cap_on_n": properties["most"]}

    def sample(self, requests: Iterable[Request], settings: Settings) -> Stream:
        return self._server.sample(requests, settings)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        return self._server.score(pairs)

    def close(self) -> None:
        self._server.close()
        self._end()

    def _start(self, python: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # The `vllm` command fails in the CPU build. Python searches the working folder for modules, so it must not be ours.
        command = [str(python), "-m", "vllm.entrypoints.openai.api_server", *arguments]
        with self._log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=environment,
                start_new_session=True,
            )

    def _wait_until_healthy(self, port: int) -> None:
        seen, since = 0, time.monotonic()
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while True:
                if error := self._failure():
                    raise error
                with suppress(httpx.HTTPError):
                    if client.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        return
                size = self._log.stat().st_size
                if size != seen:
                    seen, since = size, time.monotonic()
                if time.monotonic() - since > _SILENCE:
                    raise EngineError(f"vLLM has logged nothing for {_SILENCE / 60:.0f} minutes at its start: see {self._log}")
                time.sleep(0.2)

    def _failure(self) -> EngineError | None:
        """Why vLLM exited, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        self._end()
        return EngineError(f"vLLM exited: {vllm_errors.explain(self._read_log(), code, self._model)} (log: {self._log})")

    def _read_log(self) -> str:
        """The log since this start; the file can have earlier starts."""
        with self._log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._log_start)
            return log.read()

    def _end(self) -> None:
        """Terminates, then kills the process group; parts of it can outlive the leader."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(8)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # The GPU's memory is free only when the last process has ended; unreaped zombies stay in the group.
            for _ in range(_GROUP_CHECKS):
                os.killpg(self._process.pid, 0)
                time.sleep(0.1)
        self._process.wait()


_RECORDED = ("--dtype", "--max-num-seqs", "--max-num-batched-tokens", "--gpu-memory-utilization", "--logprobs-mode", "--seed")


def find_python(setting: str = "") -> Path:
    """The interpreter of vLLM's environment: $PASSKB_VLLM_PYTHON, the setting, or `.venv-vllm` in the project or here.

    Raises EngineError when there is none."""
    for configured in (os.environ.get("PASSKB_VLLM_PYTHON", ""), setting):
        if configured:
            path = Path(configured).expanduser().absolute()
            if not path.is_file():
                raise EngineError(f"{configured} is not a Python interpreter: correct PASSKB_VLLM_PYTHON or vllm_python")
            return path
    for folder in (Path.cwd(), Path(__file__).parents[3]):
        if (path := folder / ".venv-vllm" / "bin" / "python").is_file():
            return path
    raise EngineError("vLLM isn't installed: run `make vllm`, set PASSKB_VLLM_PYTHON, or use the transformers engine")


def probe(python: Path, folder: Path) -> dict[str, Any]:
    """Properties of vLLM's environment: `version`; `most`, its cap on n (0: none); `gpu`: name, free, total bytes, or empty."""
    environment = _environment(python, "/")
    try:
        result = subprocess.run(
            [str(python), "-c", _PROBE], capture_output=True, text=True, cwd=folder, env=environment, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{python} doesn't run ({error}): run `make vllm`, or correct PASSKB_VLLM_PYTHON") from error
    for line in result.stdout.splitlines():
        if line.startswith("PROBE"):
            properties: dict[str, Any] = json.loads(line.removeprefix("PROBE"))
            return properties
    last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise EngineError(f"vLLM can't be imported by {python} ({last[:200]}): run `make vllm` to reinstall it")


def _arguments(spec: ModelSpec, where: str, settings: Settings, gpu: Mapping[str, Any], seed: int) -> list[str]:
    small = Path(where).is_dir() and weights_bytes(Path(where), 4) < _SMALL
    big_gpu = gpu and gpu["total"] >= 70 * 2**30
    # vLLM's defaults for offline batches; those of its server are lower.
    rows, tokens = (1024, 16_384) if big_gpu else (256, 8192) if gpu else (1024 if small else 256, 0)
    out = ["--model", where, "--served-model-name", spec.model, "--host", "127.0.0.1", "--seed", str(seed)]
    out += ["--max-num-seqs", str(rows), "--disable-uvicorn-access-log", "--generation-config", "vllm"]
    out += ["--max-num-batched-tokens", str(tokens)] if tokens else []
    out += ["--max-model-len", str(spec.max_model_len)] if spec.max_model_len else []
    # Log-probabilities of the distribution after temperature and top-p.
    out += ["--logprobs-mode", "processed_logprobs"] if settings.logprobs else []
    if gpu:
        return [*out, "--dtype", spec.dtype, "--gpu-memory-utilization", str(_share(gpu))]
    dtype = "float32" if spec.dtype == "auto" else spec.dtype
    return [*out, "--dtype", dtype, "--enforce-eager", "--no-enable-chunked-prefill"]


def _share(gpu: Mapping[str, Any]) -> float:
    """The share of the GPU's memory for vLLM: 0.9 of a free GPU, less beside other processes."""
    free = gpu["free"] / gpu["total"]
    if free < 0.15:
        memory = f"{gpu['free'] / GB:.1f} of {gpu['total'] / GB:.1f} GB are free"
        raise EngineError(f"the GPU ({gpu['name']}) is in use: {memory}; stop other programs (see `nvidia-smi`), then resume")
    return min(0.9, int(100 * (free - _SPARE)) / 100)


def _environment(python: Path, where: str) -> dict[str, str]:
    """This process's environment without the variables that would make vLLM's interpreter import our packages."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment.get('PATH', '')}"
    if Path(where).is_absolute():
        environment |= {"HF_HUB_OFFLINE": "1"}
    space = max(1, min(8, int(0.25 * free_memory() / 2**30)))
    return {"VLLM_CPU_KVCACHE_SPACE": str(space), **environment, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
