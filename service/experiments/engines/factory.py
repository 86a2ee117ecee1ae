"""Opens the engine that a model's spec names. Each is imported only here, and only when it is asked for."""

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
_HUB = 10.0  # seconds that the hub gets to answer


def open_engine(
    model: ModelSpec,
    settings: Settings,
    *,
    home_or_log_folder: Path,
    vllm_python: str = "",
    seed: int,
    problems: Sequence[Problem] = (),
) -> Engine:
    """An engine ready to sample `model`; whoever opened it closes it.

    `home_or_log_folder` is where vLLM's log goes. `seed` is the run's; `problems` are those it will be asked for, so that a
    script that lacks one says so at once. Raises EngineError that says what to do."""
    if model.engine == "scripted":
        from service.experiments.engines.scripted import ScriptedEngine

        return ScriptedEngine(model.model, seed, problems)
    if model.engine == "openai":
        from service.experiments.engines.openai import OpenAIEngine

        return _in_force(OpenAIEngine(model), settings)
    if model.engine == "vllm":
        from service.experiments.engines.vllm import VLLMEngine, find_python

        python = find_python(vllm_python)
        return _in_force(VLLMEngine(model, locate(model.model), settings, python, home_or_log_folder, seed), settings)
    if model.engine == "transformers":
        try:
            from service.experiments.engines.transformers import TransformersEngine
        except ImportError as error:
            raise EngineError(
                f"the transformers engine needs {error.name or error}, which isn't here: `make install`"
            ) from error
        return _in_force(TransformersEngine(model, locate(model.model)), settings)
    raise EngineError(f"there is no engine {model.engine!r}: write vllm, openai, transformers or scripted")


def locate(model: str) -> str:
    """The absolute folder of a model, or its hub name when the hub, or the cache of it, has it. Raises EngineError."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EngineError(f"{model} holds no model: there is no config.json in it; name the folder that has one")
        return str(folder.resolve())
    if looks_like_a_path(model):
        raise EngineError(f"{model} is no folder here: correct the path, which is relative to {Path.cwd()}")
    _ask_the_hub(model)
    return model


def looks_like_a_path(model: str) -> bool:
    """Whether a model's name can be no name of the hub, which has one slash at most."""
    return Path(model).expanduser().is_absolute() or model.startswith(("./", "../", "~")) or model.count("/") > 1


def _ask_the_hub(model: str) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        if isinstance(huggingface_hub.try_to_load_from_cache(model, "config.json"), str):
            return
        huggingface_hub.model_info(model, timeout=_HUB)  # asked once: a download would try again for half a minute
        huggingface_hub.hf_hub_download(model, "config.json")
    except errors.HFValidationError as error:
        raise EngineError(f"{model!r} is neither a folder here nor a hub's name: correct it") from error
    except errors.GatedRepoError as error:
        raise EngineError(f"{model} asks for consent at huggingface.co/{model}: give it there, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise EngineError(f"{model} is no folder here, and the hub has no such model: correct the name") from error
    except errors.EntryNotFoundError as error:
        # Of a file that isn't in the cache while the hub can't be asked, the hub's library says the same.
        if not isinstance(error, errors.LocalEntryNotFoundError):
            raise EngineError(f"{model} on the hub holds no model (there is no config.json): name another") from error
        raise _unreachable(model) from error
    except Exception as error:
        raise _unreachable(model) from error


def _unreachable(model: str) -> EngineError:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no", "off"):
        reason = f"{model} is neither a folder here nor in the Hugging Face cache, and passkb downloads no models by itself"
        return EngineError(f"{reason}: run `hf download {model}`, set HF_HUB_OFFLINE=0 to allow downloads, or give a folder")
    reason = f"{model} is no folder here, and huggingface.co can't be reached"
    return EngineError(f"{reason}: download it first (`hf download {model}`), or give a folder")


def _in_force(engine: T, settings: Settings) -> T:
    """Records the sampling settings that the engine was opened for; these engines take them as they are."""
    asked = {"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens}
    engine.effective = {**asked, **engine.effective}
    return engine
