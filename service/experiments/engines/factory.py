"""Opens the engine of a model's spec; engines are imported on demand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from service.experiments.engines.base import Engine, EngineError, Settings
from service.experiments.spec import ModelSpec
from service.experiments.types import Problem


class _HasEffective(Protocol):
    effective: Mapping[str, Any]


T = TypeVar("T", bound=_HasEffective)
_HUB_TIMEOUT = 10.0  # seconds


def open_engine(
    model: ModelSpec,
    settings: Settings,
    *,
    home_or_log_folder: Path,
    vllm_python: str = "",
    seed: int,
    problems: Sequence[Problem] = (),
) -> Engine:
    """Opens the engine of `model`; the caller closes it.

    vLLM logs to `home_or_log_folder`. `seed` is the run's; the scripted engine checks that it has a rate for all `problems`.
    Raises EngineError with a remedy."""
    if model.engine == "scripted":
        from service.experiments.engines.scripted import ScriptedEngine

        return ScriptedEngine(model.model, seed, problems)
    if model.engine == "openai":
        from service.experiments.engines.openai import OpenAIEngine

        return _record_settings(OpenAIEngine(model), settings)
    if model.engine == "vllm":
        from service.experiments.engines.vllm import VLLMEngine, find_python

        python = find_python(vllm_python)
        return _record_settings(VLLMEngine(model, locate(model.model), settings, python, home_or_log_folder, seed), settings)
    if model.engine == "transformers":
        try:
            from service.experiments.engines.transformers import TransformersEngine
        except ImportError as error:
            raise EngineError(
                f"the transformers engine needs {error.name or error}, which isn't installed: run `make install`"
            ) from error
        return _record_settings(TransformersEngine(model, locate(model.model)), settings)
    raise EngineError(f"unknown engine {model.engine!r}: use vllm, openai, transformers or scripted")


def locate(model: str) -> str:
    """The absolute folder of a model, or its name on the hub or in the hub cache. Raises EngineError."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EngineError(f"{model} has no config.json, so it is not a model folder: correct the path")
        return str(folder.resolve())
    if looks_like_a_path(model):
        raise EngineError(f"the folder {model} does not exist: correct the path, which is relative to {Path.cwd()}")
    _ask_the_hub(model)
    return model


def looks_like_a_path(model: str) -> bool:
    """Whether a model's name is a path; hub names have at most one slash."""
    return Path(model).expanduser().is_absolute() or model.startswith(("./", "../", "~")) or model.count("/") > 1


def _ask_the_hub(model: str) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        if isinstance(huggingface_hub.try_to_load_from_cache(model, "config.json"), str):
            return
        huggingface_hub.model_info(model, timeout=_HUB_TIMEOUT)  # fails faster than a download, which retries for half a minute
        huggingface_hub.hf_hub_download(model, "config.json")
    except errors.HFValidationError as error:
        raise EngineError(f"{model!r} is neither a folder nor a valid hub name: correct it") from error
    except errors.GatedRepoError as error:
        raise EngineError(f"{model} is gated: request access at huggingface.co/{model}, then run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise EngineError(f"{model} is neither a folder nor a model on the hub: correct the name") from error
    except errors.EntryNotFoundError as error:
        # The library raises the same error for an uncached file when the hub can't be reached.
        if not isinstance(error, errors.LocalEntryNotFoundError):
            raise EngineError(f"{model} on the hub has no config.json: use another model") from error
        raise _unreachable(model) from error
    except Exception as error:
        raise _unreachable(model) from error


def _unreachable(model: str) -> EngineError:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no", "off"):
        reason = f"{model} is neither a folder nor in the Hugging Face cache, and passkb does not download models"
        return EngineError(f"{reason}: run `hf download {model}`, set HF_HUB_OFFLINE=0 to allow downloads, or use a folder")
    reason = f"{model} is not a folder, and huggingface.co can't be reached"
    return EngineError(f"{reason}: download it first (`hf download {model}`), or use a folder")


def _record_settings(engine: T, settings: Settings) -> T:
    """Adds the sampling settings to the engine's effective settings."""
    requested = {"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens}
    engine.effective = {**requested, **engine.effective}
    return engine
