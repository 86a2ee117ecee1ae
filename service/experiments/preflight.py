"""What stands in the way of a run, found before it is queued: models, programs that engines need, sandbox, servers, disk.

Reads a few small files and starts no engine. The worker still meets what changes afterwards, and says so itself.
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
_FLOOR = 100 * 2**20  # bytes of disk that any run needs
_BYTES_A_TOKEN = 0.3  # of a compressed completion; most end long before max_tokens, so a quarter of what the worst would take
_ANSWER = 5.0  # seconds that a server gets to answer


class NotReady(PasskbError):
    """The run can't succeed as things are; the message names each obstacle and what to do about it."""


def preflight(home: Path, spec: ExperimentSpec, problems: ProblemSet, *, reach: bool = True) -> None:
    """Raises NotReady. `reach`: also ask model servers and the hub, which a person's click or command allows."""
    if found := list(dict.fromkeys(obstacles(home, spec, problems, reach=reach))):
        raise NotReady("; ".join(found))


def obstacles(home: Path, spec: ExperimentSpec, problems: ProblemSet, *, reach: bool = True) -> Iterator[str]:
    """What stands in the way, each as a sentence; nothing when the run can begin."""
    for name, model in spec.models.items():
        try:
            _check_model(home, model, spec, problems.problems, reach=reach)
        except EngineError as error:
            yield f"models.{name}: {error}"
    if any(problem.kind == "code" for problem in problems.problems):
        yield from _sandbox()
    yield from _disk(home, spec, len(problems.problems))


def _check_model(home: Path, model: ModelSpec, spec: ExperimentSpec, problems: Sequence[Problem], *, reach: bool) -> None:
    """Raises EngineError, in the words of the engine where it has any."""
    if model.engine == "scripted":
        from service.experiments.engines.scripted import ScriptedEngine

        ScriptedEngine(model.model, spec.sampling.seed, problems).close()
    elif model.engine == "openai" and reach:
        from service.experiments.engines.endpoints import Patience
        from service.experiments.engines.openai import OpenAIEngine

        OpenAIEngine(model, patience=Patience(tries=1, timeout=_ANSWER)).close()
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
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    try:
        status = subprocess.run([str(python), "-c", probe], env=kept, cwd="/", capture_output=True, timeout=60).returncode
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
        raise EngineError(f"{folder} has no tokenizer ({_TOKENIZERS[0]} or like): copy the model's tokenizer files there")
    config = _json(folder / "config.json")
    context = config.get("max_position_embeddings")
    if isinstance(context, int) and spec.sampling.max_tokens >= context:
        told = f"sampling.max_tokens is {spec.sampling.max_tokens} and its context holds {context}, prompt included"
        raise EngineError(f"{folder}: {told}: lower max_tokens")
    if model.chat and not (_json(folder / "tokenizer_config.json").get("chat_template") or _has(folder, _TEMPLATES)):
        raise EngineError(f"{folder} has no chat template: leave 'chat' out, and write the prompt's form as 'template'")


def _check_weights(folder: Path) -> None:
    files = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]
    if not files:
        raise EngineError(f"{folder} holds no weights (*.safetensors): finish the download, or name another folder")
    for index in _INDEXES:
        named = set(map(str, (_json(folder / index).get("weight_map") or {}).values()))
        if missing := sorted(name for name in named if not (folder / name).is_file()):
            lacks = f"{len(missing)} of its {len(named)} weight files, {missing[0]} for one"
            raise EngineError(f"{folder} lacks {lacks}: finish the download")
    for file in files:
        with open(file, "rb") as opened:
            start = opened.read(len(_POINTER))
        if start == _POINTER:
            raise EngineError(f"{file} is a pointer of Git LFS, not weights: run `git lfs pull` there")
        if not start:
            raise EngineError(f"{file} is empty: fetch it again")


def _json(path: Path) -> dict[str, Any]:
    """A small JSON object; empty where there is none. Raises EngineError for a file that is no JSON object."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{path} can't be read ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise EngineError(f"{path} is no JSON object: fetch it again")
    return found


def _has(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _sandbox() -> Iterator[str]:
    from service.experiments.sandbox import available

    works, remedy = available()
    if not works:
        yield f"these problems are graded by running code, and the sandbox doesn't start: {remedy}"


def _disk(home: Path, spec: ExperimentSpec, problems: int) -> Iterator[str]:
    place = next(folder for folder in (home, *home.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    attempts = problems * spec.sampling.n * len(spec.models)
    needed = _FLOOR + int(attempts * spec.sampling.max_tokens * _BYTES_A_TOKEN)
    if free < needed:
        yield (
            f"{place} has {free / 2**20:,.0f} MiB free, and {attempts:,} attempts of up to {spec.sampling.max_tokens:,} tokens "
            f"want about {needed / 2**20:,.0f}: make room, use another --home, or lower n, limit or max_tokens"
        )
