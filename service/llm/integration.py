"""Language models of any llama-index integration, such as `ollama/llama3.2`, imported on demand."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from contextlib import suppress
from functools import cached_property
from typing import Any

from kb.offline import go_offline
from service.llm.client import (
    BAD_REQUEST_STATUS,
    BadRequestError,
    ChatModel,
    ModelError,
    RetryableError,
    StreamEnd,
    Timeouts,
)
from service.llm.retry import is_retryable


class IntegrationModel(ChatModel):
    """The model `NAME` of the integration `llama-index-llms-PROVIDER`, for a spec `PROVIDER/NAME`.

    `url` and `api_key` are passed to the integration if it takes them; otherwise it uses its own environment variables.
    Timeouts and `stop` end an answer at once, but the connection only with the next piece that the server sends. The limits
    on the size of responses do not apply. Raises ModelError if the package is not installed.
    """

    constrains = False

    def __init__(self, spec: str, url: str = "", api_key: str = "", timeouts: Timeouts | None = None) -> None:
        self.name = spec
        provider, _, self._model = spec.partition("/")
        self._module, self._url = f"llama_index.llms.{provider.replace('-', '_')}", url
        super().__init__(spec, api_key, timeouts, temperature=0.0)
        package = f"llama-index-llms-{provider}"
        if not re.fullmatch(r"[a-z][a-z0-9-]*", provider) or not self._model:
            raise ModelError(f"{self._redact(spec)!r} is not a model: use PROVIDER/NAME such as ollama/llama3.2, or a URL")
        if importlib.util.find_spec(self._module) is None:
            raise ModelError(f"{spec} needs the package {package}: install it with `pip install {package}`")

    @property
    def context(self) -> int | None:
        with suppress(Exception):  # some integrations ask their server
            return int(self._llm.metadata.context_window)
        return None

    @cached_property
    def _llm(self) -> Any:
        go_offline()
        class_ = _find_class(importlib.import_module(self._module), self._module.rpartition(".")[2])
        known = {*inspect.signature(class_.__init__).parameters, *class_.model_fields}
        options = {"api_base": self._url, "base_url": self._url, "api_key": self._key, "is_chat_model": True, "max_retries": 0}
        options = {key: value for key, value in options.items() if key in known and value != ""}
        return class_(model=self._model, **options)

    def _convert_error(self, error: Exception) -> Exception:
        status = getattr(error, "status_code", None)
        reason = self._redact(f"{type(error).__name__}: {error}")
        if status in BAD_REQUEST_STATUS:
            return BadRequestError(reason)
        if isinstance(status, int) and is_retryable(status):
            return RetryableError(reason)
        return ModelError(f"{self._where} failed ({reason}): check the model, its server and its API key")

    def _check_end(self, end: StreamEnd, begun: bool, max_tokens: int) -> None:
        if end.reason or not begun:  # most integrations give no reason for the end
            super()._check_end(end, begun, max_tokens)


def _find_class(module: Any, name: str) -> Any:
    """The LLM class of an integration: the one with the integration's name, or the only one."""
    from llama_index.core.llms import LLM

    classes = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, LLM) and c is not LLM]
    named = [c for c in classes if c.__name__.lower() == name.replace("_", "")]
    if not named and len(classes) != 1:
        raise ModelError(f"{module.__name__} has no language model that passkb can identify")
    return (named or classes)[0]
