"""Checks before a run is queued that it can succeed: models, engine software, sandbox, servers, disk space.

Reads a few small files and starts no engine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kb.notes import PasskbError
from service.config import read_config
from service.experiments.engines.base import EngineError
from service.experiments.spec import ExperimentSpec, ModelSpec
from service.experiments.types import Problem, ProblemSet

_LOCAL = ("transformers", "vllm")  # engines that load a model's files
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_POINTER = b"version https://git-lfs.github.com/"
_MIN_DISK = 100 * 2**20  # bytes
_BYTES_PER_TOKEN = 0.3  # compressed, and a quarter of the worst case because most completions end long before max_tokens
_SERVER_TIMEOUT = 5.0  # seconds


class NotReady(PasskbError):
    """The run can't succeed; the message names each obstacle and its remedy."""


def preflight(home: Path, spec: ExperimentSpec, problems: ProblemSet, *, reach: bool = True) -> None:
    """Raises NotReady. `reach` also contacts model servers and the hub."""
    if messages := list(dict.fromkeys(obstacles(home, spec, problems, reach=reach))):
        raise NotReady("; ".join(messages))


def obstacles(home: Path, spec: ExperimentSpec, problems: ProblemSet, *, reach: bool = True) -> Iterator[str]:
    """One message for each obstacle."""
    for name, model in spec.models.items():
        try:
            _check_model(home, model, spec, problems.problems, reach=reach)
        except EngineError as error:
            yield f"models.{name}: {error}"
    if any(problem.kind == "code" for problem in problems.problems):
        yield from _sandbox()
    yield from _disk(home, spec, len(problems.problems))


def _check_model(home: Path, model: ModelSpec, spec: ExperimentSpec, problems: Sequence[Problem], *, reach: bool) -> None:
    """Raises EngineError, with the engine's own message where it has one."""
    if model.engine == "scripted":
        from service.experiments.engines.scripted import ScriptedEngine

        ScriptedEngine(model.model, spec.sampling.seed, problems).close()
    elif model.engine == "openai" and reach:
        from service.experiments.engines.endpoints import RetryPolicy
        from service.experiments.engines.openai import OpenAIEngine

        OpenAIEngine(model, patience=RetryPolicy(attempts=1, timeout=_SERVER_TIMEOUT)).close()
    elif model.engine in _LOCAL:
        _check_engine(home, model.engine)
        _check_folder(model, spec, reach=reach)


def _check_engine(home: Path, engine: str) -> None:
    if engine == "transformers":
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise EngineError(f"the transformers engine needs {package}, which isn't installed: run `make install`")
        return
    from service.experiments.engines.vllm import find_python

    python = find_python(read_config(home).vllm_python)
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    try:
        status = subprocess.run(
            [str(python), "-c", probe], env=environment, cwd="/", capture_output=True, timeout=60
        ).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{python} doesn't run ({error}): run `make vllm`, or correct PASSKB_VLLM_PYTHON") from error
    if status:
        raise EngineError(f"{python} has no vLLM: run `make vllm`, or correct PASSKB_VLLM_PYTHON")


def _check_folder(model: ModelSpec, spec: ExperimentSpec, *, reach: bool) -> None:
    from service.experiments.engines.factory import locate, looks_like_a_path

    if not Path(model.model).expanduser().is_dir() and not reach and not looks_like_a_path(model.model):
        return  # a hub's name, perhaps
    folder = Path(locate(model.model))
    if not folder.is_dir():
        return  # on the hub, or in its cache
    _check_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise EngineError(f"{folder} has no tokenizer (such as {_TOKENIZERS[0]}): copy the model's tokenizer files there")
    config = _json(folder / "config.json")
    context = config.get("max_position_embeddings")
    if isinstance(context, int) and spec.sampling.max_tokens >= context:
        limit = f"the model's context has {context} tokens, prompt included"
        raise EngineError(f"{folder}: sampling.max_tokens is {spec.sampling.max_tokens}, but {limit}: lower max_tokens")
    if model.chat and not (_json(folder / "tokenizer_config.json").get("chat_template") or _has(folder, _TEMPLATES)):
        raise EngineError(f"{folder} has no chat template: remove 'chat', and write the prompt's format as 'template'")


def _check_weights(folder: Path) -> None:
    files = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]
    if not files:
        raise EngineError(f"{folder} has no weights (*.safetensors): finish the download, or use another folder")
    for index in _INDEXES:
        names = set(map(str, (_json(folder / index).get("weight_map") or {}).values()))
        if missing := sorted(name for name in names if not (folder / name).is_file()):
            lacking = f"{len(missing)} of {len(names)} weight files, for example {missing[0]}"
            raise EngineError(f"{folder} lacks {lacking}: finish the download")
    for file in files:
        with open(file, "rb") as opened:
            start = opened.read(len(_POINTER))
        if start == _POINTER:
            raise EngineError(f"{file} is a Git LFS pointer: run `git lfs pull` in its folder")
        if not start:
            raise EngineError(f"{file} is empty: download it again")


def _json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when the file does not exist. Raises EngineError for anything else."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{path} can't be read ({error}): download it again") from error
    if not isinstance(value, dict):
        raise EngineError(f"{path} is not a JSON object: download it again")
    return value


def _has(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _sandbox() -> Iterator[str]:
    from service.experiments.sandbox import available

    works, remedy = available()
    if not works:
        yield f"grading these problems runs code, and the sandbox doesn't start: {remedy}"


def _disk(home: Path, spec: ExperimentSpec, problems: int) -> Iterator[str]:
    folder = next(folder for folder in (home, *home.parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    attempts = problems * spec.sampling.n * len(spec.models)
    needed = _MIN_DISK + int(attempts * spec.sampling.max_tokens * _BYTES_PER_TOKEN)
    if free < needed:
        yield (
            f"{folder} has {free / 2**20:,.0f} MiB free, and {attempts:,} attempts of up to {spec.sampling.max_tokens:,} "
            f"tokens need about {needed / 2**20:,.0f}: make room, use another --home, or lower n, limit or max_tokens"
        )
