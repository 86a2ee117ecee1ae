"""A client for language models on OpenAI-compatible servers, through llama-index.

The API key appears in the request header only and is removed from all messages.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from kb.notes import PasskbError
from kb.offline import go_offline
from service.llm.http_cancel import OpenResponses
from service.llm.retry import backoff, is_retryable, parse_retry_after
from service.llm.stream_reader import StreamReader

_LOCAL = ("127.", "localhost", "::1")
BAD_REQUEST_STATUS = (400, 422)
_TOO_LONG_MESSAGES = ("context length", "context window", "maximum context", "max_model_len", "too long", "too many tokens")
_POLL_SECONDS = 0.05  # seconds between checks for cancellation
_RETRY_FACTS_SECONDS = 5.0  # seconds before the model list is requested again
_MAX_CHARACTERS_PER_TOKEN = 24  # a stream with more characters per token counts as endless


class ModelError(PasskbError):
    """The model returned nothing. `too_long`: the prompt exceeds the context window."""

    def __init__(self, message: str, *, too_long: bool = False) -> None:
        super().__init__(message)
        self.too_long = too_long


class Interrupted(ModelError):
    """The answer is incomplete; the text so far is valid."""


class Exhausted(Interrupted):
    """The model reached its token limit."""


class Stopped(Interrupted):
    """The user stopped the model."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Retries and timeouts in seconds.

    A request without output is tried `tries` times, after `backoff` (doubled each time) or the server's Retry-After, if that
    is at most `max_retry_after`. `total`: the whole answer; `connect`: the connection.
    """

    tries: int = 3
    backoff: float = 0.5
    max_retry_after: float = 30.0
    first_output: float = 120.0
    between_outputs: float = 30.0
    total: float = 3600.0
    connect: float = 5.0
    model_list: float = 2.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the output. `is_reasoning`: the server marks it as reasoning."""

    text: str
    is_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a server: name, context window in tokens if known, and owner (such as `vllm`)."""

    name: str
    context: int | None
    owner: str


class Model(Protocol):
    """The interface of a language model."""

    @property
    def name(self) -> str:
        """The name on the server. Raises ModelError if it is unknown."""

    @property
    def context(self) -> int | None:
        """The context window in tokens; None if unknown."""

    @property
    def constrains(self) -> bool:
        """Whether the server supports constrained decoding by `pattern`."""

    def stream(
        self, system: str, user: str, *, max_tokens: int, pattern: str = "", stop: Callable[[], bool] | None = None
    ) -> Iterator[Piece]:
        """Streams the output. `pattern`: a regular expression for the whole output, if the server supports it.

        Raises ModelError before the first piece, Interrupted after it."""


class ChatModel(ABC):
    """A chat model of llama-index with retries, timeouts and cancellation. `where` names it in messages."""

    def __init__(
        self, where: str, key: str, timeouts: Timeouts | None, temperature: float, secrets: Sequence[str] = ()
    ) -> None:
        self._where, self._key, self._secrets = where, key, tuple(filter(None, (key, *secrets)))
        self.timeouts, self._temperature = timeouts or Timeouts(), temperature
        self._responses = OpenResponses()

    @property
    @abstractmethod
    def constrains(self) -> bool:
        """Whether the server supports constrained decoding by `pattern`."""

    @property
    @abstractmethod
    def _llm(self) -> Any:
        """The model as a llama-index LLM."""

    @abstractmethod
    def _convert_error(self, error: Exception) -> Exception:
        """Converts an exception of the libraries to one of ours, without secrets."""

    def stream(
        self, system: str, user: str, *, max_tokens: int, pattern: str = "", stop: Callable[[], bool] | None = None
    ) -> Iterator[Piece]:
        stopped = stop or (lambda: False)
        forms = [(system, pattern)] if pattern and self.constrains else []
        forms += [(system, ""), ("", "")]  # some servers reject patterns, some models system prompts
        reasons: list[str] = []
        while True:
            system_part, pattern_ = forms[0]
            messages = [("system", system_part), ("user", user)] if system_part else [("user", f"{system}\n\n{user}")]
            begun = False
            try:
                for piece in self._request(messages, max_tokens, pattern_, stopped):
                    begun = True
                    yield piece
                return
            except RetryableError as fault:
                if begun:
                    raise Interrupted(f"{self._where} closed the connection ({fault.reason}): try again") from None
                reasons.append(fault.reason)
                if len(reasons) >= self.timeouts.tries or (fault.wait or 0) > self.timeouts.max_retry_after:
                    raise ModelError(f"{self._where} does not respond ({'; '.join(dict.fromkeys(reasons))}): "
                                     "check the server, or ask without a model") from None  # fmt: skip
                _sleep(backoff(len(reasons), self.timeouts.backoff) if fault.wait is None else fault.wait, stopped)
            except BadRequestError as fault:
                too_long = any(words in fault.reason.lower() for words in _TOO_LONG_MESSAGES)
                if too_long or len(forms) == 1:
                    raise ModelError(f"{self._where} rejected the request: {fault.reason}", too_long=too_long) from None
                forms.pop(0)

    def _request(
        self, messages: list[tuple[str, str]], max_tokens: int, pattern: str, stop: Callable[[], bool]
    ) -> Iterator[Piece]:
        """One request. Raises RetryableError, BadRequestError, ModelError, Interrupted."""
        llm = self._llm
        reader = StreamReader(lambda: self._chunks(llm, messages, max_tokens, pattern), self._responses)
        begun, written = False, 0
        heard = began = time.monotonic()
        try:
            while True:
                if stop():
                    raise Stopped("stopped")
                if time.monotonic() - began > self.timeouts.total:
                    reason = f"{self._where} took longer than {self.timeouts.total:g} s for one answer"
                    raise Interrupted(f"{reason}: try again") if begun else ModelError(f"{reason}: check the server")
                try:
                    item = reader.queue.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    patience = self.timeouts.between_outputs if begun else self.timeouts.first_output
                    if time.monotonic() - heard > patience:
                        message = f"{self._where} sent nothing for {patience:g} s"
                        raise (
                            Interrupted(f"{message}: try again") if begun else ModelError(f"{message}: check the server")
                        ) from None
                    continue
                if isinstance(item, Exception):
                    fault = self._convert_error(item)
                    raise Interrupted(str(fault)) if begun and type(fault) is ModelError else fault
                if isinstance(item, StreamEnd):
                    reader.ended = True
                    self._check_end(item, begun, max_tokens)
                    return
                heard = time.monotonic()
                if item.text:
                    begun, written = True, written + len(item.text)
                    yield item
                if written > _MAX_CHARACTERS_PER_TOKEN * max_tokens:
                    raise Exhausted(f"{self._where} does not stop writing: try again, or use another model")
        finally:
            reader.cancel()

    def _check_end(self, end: StreamEnd, begun: bool, max_tokens: int) -> None:
        if end.reason == "length":
            raise Exhausted(f"the model reached its limit of {max_tokens:,} tokens: ask a narrower question")
        if not end.reason and begun:
            raise Interrupted(f"{self._where} closed the connection: try again")
        if not end.reason:
            raise RetryableError("it closed the connection without output")

    def _chunks(self, llm: Any, messages: list[tuple[str, str]], max_tokens: int, pattern: str) -> Iterator[Piece | StreamEnd]:
        from llama_index.core.base.llms.types import ChatMessage

        options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": self._temperature}
        if pattern:
            options["extra_body"] = {"structured_outputs": {"regex": pattern}}
        reason = ""
        for chunk in llm.stream_chat([ChatMessage(role=role, content=text) for role, text in messages], **options):
            if thought := chunk.additional_kwargs.get("thinking_delta"):
                yield Piece(_without_surrogates(str(thought)), is_reasoning=True)
            yield Piece(_without_surrogates(chunk.delta or ""))
            choices = getattr(chunk.raw, "choices", None)
            reason = (choices[0].finish_reason if choices else None) or reason
        yield StreamEnd(reason)

    def _redact(self, text: str) -> str:
        """The text without secrets, shortened and printable."""
        return redact(text, self._secrets)


class LanguageModel(ChatModel):
    """The model `name` (empty: the only one served) of the OpenAI-compatible server at `url`. Thread-safe.

    Raises ModelError for an invalid URL.
    """

    # Servers default to sampling for chats; answers from sources use temperature 0.
    def __init__(
        self, url: str, name: str = "", api_key: str = "", timeouts: Timeouts | None = None, temperature: float = 0.0
    ) -> None:
        self.url, self._name = url.strip().rstrip("/"), name.strip()
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = redact(url, filter(None, (api_key, parts.password, parts.username)))
            raise ModelError(f"{shown!r} is not the URL of a model server: use a URL such as http://localhost:8000/v1")
        if not parts.path and not parts.query:
            self.url, parts = f"{self.url}/v1", urlsplit(f"{self.url}/v1")
        where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "") + parts.path
        super().__init__(where, api_key, timeouts, temperature, (parts.password or "", parts.username or ""))
        # Never use a proxy from the environment for a local server.
        self._trust = not str(parts.hostname).startswith(_LOCAL)
        self._lock = threading.Lock()
        self._models: tuple[ServedModel, ...] = ()
        self._ask_again = 0.0
        self._fetcher: threading.Thread | None = None
        # Load the libraries in the background: it takes seconds.
        threading.Thread(target=_load_libraries, name="model-libraries", daemon=True).start()

    @property
    def name(self) -> str:
        if self._name:
            return self._name
        served = self._served
        if len(served) == 1:
            return served[0].name
        names = ", ".join(entry.name for entry in served[:8])
        raise ModelError(
            f"{self._where} serves several models ({names}): choose one with --model" if served
            else f"{self._where} does not list its models: start the server, or choose a model with --model"
        )  # fmt: skip

    @property
    def context(self) -> int | None:
        return next((entry.context for entry in self._served if entry.name == self.name), None)

    @property
    def constrains(self) -> bool:
        return any(entry.owner == "vllm" for entry in self._served)

    def _convert_error(self, error: Exception) -> Exception:
        """Converts an exception of the libraries to one of ours, without the key."""
        import openai

        from service.llm.http_limits import ResponseError, redirect_target

        refused = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        if isinstance(refused, ResponseError):
            return ModelError(f"{self._where}: {self._redact(str(refused))}")
        message = self._redact(str(getattr(error, "message", "") or error) or type(error).__name__)
        if isinstance(error, openai.APIStatusError):
            if target := redirect_target(error.response):
                pointed = (
                    f"{self._where} redirects to {self._redact(target)}, and passkb does not follow redirects with prompts"
                )
                return ModelError(f"{pointed}: if that is your server, pass its URL as --llm")
            status, reason = error.status_code, f"{error.status_code} {_error_message(error) or message}"
            reason = self._redact(reason)
            if status in BAD_REQUEST_STATUS:
                return BadRequestError(reason)
            if is_retryable(status):
                return RetryableError(reason, parse_retry_after(error.response.headers.get("retry-after")))
            if status in (401, 403):
                return ModelError(f"{self._where} rejected the API key ({reason}): set PASSKB_LLM_API_KEY")
            if status == 404:
                self._models = ()  # it may serve another model now
                self.__dict__.pop("_llm", None)
                return ModelError(f"{self._where} does not know the model or the path ({reason}): correct --llm or --model")
            return ModelError(f"{self._where} rejected the request: {reason}")
        if isinstance(error, openai.APITimeoutError):
            return RetryableError(f"no connection in {self.timeouts.connect:g} s")
        if isinstance(error, openai.APIConnectionError):
            return RetryableError(self._redact(str(error.__cause__ or error)))
        return RetryableError(message)  # a broken stream: httpx, json and openai raise different errors

    @cached_property
    def _llm(self) -> Any:
        from llama_index.llms.openai_like import OpenAILike

        with self._lock:
            _ = self._client.chat.completions  # load now, so that loading does not count as server time
            return OpenAILike(
                model=self.name, api_base=self.url, api_key="none", is_chat_model=True, max_retries=0,
                openai_client=self._client, context_window=1_000_000,
            )  # fmt: skip

    @cached_property
    def _client(self) -> Any:
        import openai

        from service.llm.http_limits import HEADERS, ResponseLimits

        timeout = openai.Timeout(self.timeouts.first_output + 5, connect=self.timeouts.connect)
        # Do not send OpenAI settings from the environment to other servers.
        headers: dict[str, Any] = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit(), **HEADERS}
        hooks = {"response": [self._responses.opened, ResponseLimits(streaming=True).apply]}
        return openai.OpenAI(
            api_key=self._key or "none", base_url=self.url, max_retries=0, timeout=timeout, default_headers=headers,
            http_client=openai.DefaultHttpxClient(trust_env=self._trust, follow_redirects=False, event_hooks=hooks),
        )  # fmt: skip

    @property
    def _served(self) -> tuple[ServedModel, ...]:
        """The models of the server; empty if it does not list them in time. Retried until it does."""
        if not self._models and time.monotonic() >= self._ask_again:
            self._ask_again = time.monotonic() + _RETRY_FACTS_SECONDS
            if self._fetcher is None or not self._fetcher.is_alive():
                self._fetcher = threading.Thread(target=self._fetch_models, name="model-facts", daemon=True)
                self._fetcher.start()
            self._fetcher.join(2 * self.timeouts.model_list)  # the timeout is per read, so limit the total
        return self._models

    def _fetch_models(self) -> None:
        with suppress(Exception):  # many servers have no model list
            models = self._client.with_options(timeout=self.timeouts.model_list).models.list().data
            self._models = tuple(_parse_served_model(entry) for entry in models if getattr(entry, "id", None))


@dataclass(frozen=True, slots=True)
class StreamEnd:
    reason: str


class RetryableError(Exception):
    """Can be retried, after `wait` seconds if the server said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class BadRequestError(Exception):
    """The server rejected the form of the request."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without secrets, shortened and printable."""
    clear = "".join(c if c.isprintable() else " " for c in text)
    for secret in secrets:
        clear = clear.replace(secret, "…")
    return " ".join(clear.split())[:300]


def _load_libraries() -> None:
    go_offline()
    import llama_index.llms.openai_like  # noqa: F401
    import openai.resources.chat.completions  # noqa: F401


def _without_surrogates(text: str) -> str:
    """The text without lone surrogates, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        if stop():
            raise Stopped("stopped")
        time.sleep(min(remaining, _POLL_SECONDS))


def _error_message(error: Any) -> str:
    """The server's error message, from the usual places in the response body."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error", body)
    message = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else inner
    return str(message or "")


def _parse_served_model(entry: Any) -> ServedModel:
    extra = getattr(entry, "model_extra", None) or {}
    length = extra.get("max_model_len")
    return ServedModel(
        str(entry.id), length if isinstance(length, int) and length > 0 else None, str(getattr(entry, "owned_by", ""))
    )
