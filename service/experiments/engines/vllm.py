"""Starts vLLM from its own environment, watches it, samples from it as any completions server, and ends it for certain.

vLLM is never imported here: its version, its cap on n and what GPU it sees are read by a subprocess in its environment.
Knows nothing about requests; `openai` makes them.

On a CPU: float32 (bfloat16 stops on processors without its instructions), eager mode, and no chunked prefill, because a
seeded request whose prompt is split between steps ends vLLM 0.32 there (`CPU Generator does not use offset`).
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
from service.experiments.engines.endpoints import Patience
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
_SILENCE = 900.0  # seconds without a new line in the log before a start counts as stuck; downloads write lines
_SMALL = 2e8  # bytes of weights below which a CPU decodes 1,024 rows as one
_LAST_LOOKS = 20
_IN_FORCE = re.compile(r"\bdtype=torch\.(\w+)")
_SPARE = 0.03  # share of a GPU's memory left to what is there already, as it may grow a little


class VLLMEngine:
    """`where` is the model's folder or hub name; `python` belongs to vLLM's environment; the log goes to `folder`/vllm.log.

    Raises EngineError when vLLM isn't there, doesn't start (with what its log says) or doesn't serve."""

    name = "vllm"

    def __init__(self, spec: ModelSpec, where: str, settings: Settings, python: Path, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / LOG).resolve()
        found = probe(python, folder)
        port = _free_port()
        arguments = _arguments(spec, where, settings, found["gpu"], seed)
        self._model = spec.model
        self._began = self._log.stat().st_size if self._log.exists() else 0
        self._process = self._start(python, [*arguments, "--port", str(port)], _environment(python, where))
        try:
            self._wait_until_healthy(port)
            rows = int(arguments[arguments.index("--max-num-seqs") + 1])
            self._server = OpenAIEngine(
                replace(spec, url=f"http://127.0.0.1:{port}/v1"),
                patience=Patience(tries=6, timeout=3600.0),
                rows=2 * rows,
                most_per_request=found["most"] or rows,
                sampled_logprobs=settings.logprobs and settings.temperature > 0,
                lost=self._lost,
            )
        except BaseException:
            self._end()
            raise
        self.rows, self.most_per_request = 2 * rows, found["most"] or rows
        self.version = f"vllm {found['version']}"
        self.device = found["gpu"].get("name") or f"cpu, {os.cpu_count()} cores"
        told = {name.removeprefix("--"): value for name, value in pairwise(arguments) if name in _TOLD}
        in_force = _IN_FORCE.findall(self._said())  # of `auto`, what became of it
        told |= {"dtype": in_force[-1]} if in_force else {}
        self.effective: Mapping[str, Any] = {**self._server.effective, **told, "cap_on_n": found["most"]}

    def sample(self, requests: Iterable[Request], settings: Settings) -> Stream:
        return self._server.sample(requests, settings)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        return self._server.score(pairs)

    def close(self) -> None:
        self._server.close()
        self._end()

    def _start(self, python: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # The `vllm` command fails in the CPU build. The working folder is searched for modules: not ours, then.
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
                if error := self._lost():
                    raise error
                with suppress(httpx.HTTPError):
                    if client.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        return
                size = self._log.stat().st_size
                if size != seen:
                    seen, since = size, time.monotonic()
                if time.monotonic() - since > _SILENCE:
                    raise EngineError(f"vLLM has said nothing for {_SILENCE / 60:.0f} minutes while starting: see {self._log}")
                time.sleep(0.2)

    def _lost(self) -> EngineError | None:
        """Why vLLM is gone, when it is."""
        code = self._process.poll()
        if code is None:
            return None
        self._end()
        return EngineError(f"vLLM ended: {vllm_errors.explained(self._said(), code, self._model)} (its log is {self._log})")

    def _said(self) -> str:
        """Its log since it was started; the file may hold earlier starts."""
        with self._log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._began)
            return log.read()

    def _end(self) -> None:
        """The whole group: asked first, then killed. Parts of it may be left when the leader is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(8)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # A GPU's memory is free again only when the last of them is gone; zombies nobody waits for stay in the group.
            for _ in range(_LAST_LOOKS):
                os.killpg(self._process.pid, 0)
                time.sleep(0.1)
        self._process.wait()


_TOLD = ("--dtype", "--max-num-seqs", "--max-num-batched-tokens", "--gpu-memory-utilization", "--logprobs-mode", "--seed")


def find_python(setting: str = "") -> Path:
    """The interpreter of vLLM's environment: $PASSKB_VLLM_PYTHON, the setting, or `.venv-vllm` beside the project or here.

    Raises EngineError when there is none."""
    for told in (os.environ.get("PASSKB_VLLM_PYTHON", ""), setting):
        if told:
            path = Path(told).expanduser().absolute()
            if not path.is_file():
                raise EngineError(f"{told} is no Python interpreter: correct PASSKB_VLLM_PYTHON or the setting vllm_python")
            return path
    for folder in (Path.cwd(), Path(__file__).parents[3]):
        if (path := folder / ".venv-vllm" / "bin" / "python").is_file():
            return path
    raise EngineError("vLLM isn't installed here: `make vllm`, or say where it is in PASSKB_VLLM_PYTHON, or use transformers")


def probe(python: Path, folder: Path) -> dict[str, Any]:
    """What vLLM's environment holds: `version`; `most`, its cap on n (0: none); `gpu` (name; free, total: bytes) or nothing."""
    environment = _environment(python, "/")
    try:
        told = subprocess.run(
            [str(python), "-c", _PROBE], capture_output=True, text=True, cwd=folder, env=environment, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{python} doesn't run ({error}): `make vllm`, or correct PASSKB_VLLM_PYTHON") from error
    for line in told.stdout.splitlines():
        if line.startswith("PROBE"):
            found: dict[str, Any] = json.loads(line.removeprefix("PROBE"))
            return found
    last = (told.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise EngineError(f"vLLM can't be imported by {python} ({last[:200]}): `make vllm` installs it anew")


def _arguments(spec: ModelSpec, where: str, settings: Settings, gpu: Mapping[str, Any], seed: int) -> list[str]:
    small = Path(where).is_dir() and weights_bytes(Path(where), 4) < _SMALL
    big_gpu = gpu and gpu["total"] >= 70 * 2**30
    # vLLM's own defaults for offline batches; those of its server are lower.
    rows, tokens = (1024, 16_384) if big_gpu else (256, 8192) if gpu else (1024 if small else 256, 0)
    out = ["--model", where, "--served-model-name", spec.model, "--host", "127.0.0.1", "--seed", str(seed)]
    out += ["--max-num-seqs", str(rows), "--disable-uvicorn-access-log", "--generation-config", "vllm"]
    out += ["--max-num-batched-tokens", str(tokens)] if tokens else []
    out += ["--max-model-len", str(spec.max_model_len)] if spec.max_model_len else []
    # A sum of log-probabilities is of the distribution sampled from, after temperature and top-p.
    out += ["--logprobs-mode", "processed_logprobs"] if settings.logprobs else []
    if gpu:
        return [*out, "--dtype", spec.dtype, "--gpu-memory-utilization", str(_share(gpu))]
    dtype = "float32" if spec.dtype == "auto" else spec.dtype
    return [*out, "--dtype", dtype, "--enforce-eager", "--no-enable-chunked-prefill"]


def _share(gpu: Mapping[str, Any]) -> float:
    """The part of a GPU's memory that vLLM may take: 0.9 when it is free, less beside other processes."""
    free = gpu["free"] / gpu["total"]
    if free < 0.15:
        told = f"{gpu['free'] / GB:.1f} of {gpu['total'] / GB:.1f} GB are free"
        raise EngineError(f"the GPU ({gpu['name']}) is in use: {told}; end what holds it (`nvidia-smi` shows it), then resume")
    return min(0.9, int(100 * (free - _SPARE)) / 100)


def _environment(python: Path, where: str) -> dict[str, str]:
    """Ours, without what would lead vLLM's interpreter to our packages."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    kept["PATH"] = f"{python.parent}{os.pathsep}{kept.get('PATH', '')}"
    if Path(where).is_absolute():
        kept |= {"HF_HUB_OFFLINE": "1"}
    space = max(1, min(8, int(0.25 * free_memory() / 2**30)))
    return {"VLLM_CPU_KVCACHE_SPACE": str(space), **kept, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
