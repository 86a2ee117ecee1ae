"""A language model behind a server that speaks OpenAI's chat protocol, reached through llama-index.

The only file that knows llama-index and the openai package. Knows nothing about notes, prompts or what is done with the words.
The API key goes into the request's header and nowhere else: whatever a server says is cleared of it before it is told.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from kb.notes import PasskbError
from kb.offline import go_offline
from service.llm.http_cancel import OpenResponses
from service.llm.stream_reader import StreamReader

_LOCAL = ("127.", "localhost", "::1")
_RETRYABLE_STATUS = (408, 409, 425, 429)
_BAD_REQUEST_STATUS = (400, 422)
_TOO_LONG_MESSAGES = ("context length", "context window", "maximum context", "max_model_len", "too long", "too many tokens")
_POLL_SECONDS = 0.05  # seconds between two looks at whether to stop
_RETRY_FACTS_SECONDS = 5.0  # seconds before a server that did not say what it serves is asked again
_MAX_CHARACTERS_PER_TOKEN = 24  # characters a token at most, before a stream counts as one without end


class ModelError(PasskbError):
    """The model's server gave nothing. `too_long`: the prompt does not fit its context window."""

    def __init__(self, message: str, *, too_long: bool = False) -> None:
        super().__init__(message)
        self.too_long = too_long


class Interrupted(ModelError):
    """The words that came before this are good, and not all."""


class Exhausted(Interrupted):
    """The model did not come to an end in the tokens it was given."""


class Stopped(Interrupted):
    """A person wanted no more."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`tries` of a request that has brought nothing; before another it waits `pause` seconds, doubled each time, or what
    the server's Retry-After says, if that is at most `asked`. Seconds without a word: `first` before the first one (a prompt
    takes long to read without a GPU), `silence` after it; `whole` for one answer in all; `connect` to reach the server,
    `facts` to learn what it serves."""

    tries: int = 3
    pause: float = 0.5
    asked: float = 30.0
    first: float = 120.0
    silence: float = 30.0
    whole: float = 3600.0
    connect: float = 5.0
    facts: float = 2.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of what the model writes. `thought`: the server says that it is reasoning and no answer."""

    text: str
    is_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a server: its name, context window in tokens if told, and what runs it (`vllm`), if told."""

    name: str
    context: int | None
    owner: str


class Model(Protocol):
    """What an answer needs of a language model."""

    @property
    def name(self) -> str:
        """As the server knows it. Raises ModelError when there is no telling."""

    @property
    def context(self) -> int | None:
        """The context window in tokens; None where the server does not say."""

    @property
    def constrains(self) -> bool:
        """Whether `pattern` is kept to while decoding."""

    def stream(
        self, system: str, user: str, *, max_tokens: int, pattern: str = "", stop: Callable[[], bool] | None = None
    ) -> Iterator[Piece]:
        """What the model writes, as it comes. `pattern`: a regular expression that all of it matches, where the server can
        hold it to one. Raises ModelError before the first piece, Interrupted after it."""


class LanguageModel:
    """The model called `name` (the only one served, if empty) at `url`, which usually ends in /v1.

    Safe to use from several threads. Raises ModelError for an address that is none.
    """

    # The servers' sampling defaults suit chats; an answer from sources wants the likeliest words: temperature 0.
    def __init__(
        self, url: str, name: str = "", api_key: str = "", timeouts: Timeouts | None = None, temperature: float = 0.0
    ) -> None:
        self.url, self._name, self._key = url.strip().rstrip("/"), name.strip(), api_key
        self.timeouts, self._temperature = timeouts or Timeouts(), temperature
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelError(
                f"{self._redact(url)!r} is no address of a model server: give one such as http://localhost:8000/v1"
            )
        if not parts.path and not parts.query:
            self.url, parts = f"{self.url}/v1", urlsplit(f"{self.url}/v1")
        self._where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "") + parts.path
        # A proxy from the environment would be asked for a server on this machine, too.
        self._trust = not str(parts.hostname).startswith(_LOCAL)
        self._lock = threading.Lock()
        self._responses = OpenResponses()
        self._models: tuple[ServedModel, ...] = ()
        self._ask_again = 0.0
        self._fetcher: threading.Thread | None = None
        # Loading the libraries takes seconds: meanwhile the notes can be searched.
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
            f"{self._where} serves several models ({names}): say which by --model" if served
            else f"{self._where} does not say which models it serves: start it, or name one by --model"
        )  # fmt: skip

    @property
    def context(self) -> int | None:
        return next((entry.context for entry in self._served if entry.name == self.name), None)

    @property
    def constrains(self) -> bool:
        return any(entry.owner == "vllm" for entry in self._served)

    def stream(
        self, system: str, user: str, *, max_tokens: int, pattern: str = "", stop: Callable[[], bool] | None = None
    ) -> Iterator[Piece]:
        stopped = stop or (lambda: False)
        forms = [(system, pattern)] if pattern and self.constrains else []
        forms += [(system, ""), ("", "")]  # some servers refuse a pattern, some models a system prompt
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
            except _RetryableError as fault:
                if begun:
                    raise Interrupted(f"{self._where} broke off ({fault.reason}): ask again") from None
                reasons.append(fault.reason)
                if len(reasons) >= self.timeouts.tries or (fault.wait or 0) > self.timeouts.asked:
                    raise ModelError(f"{self._where} does not answer ({'; '.join(dict.fromkeys(reasons))}): "
                                     "see to the server, or ask without a model") from None  # fmt: skip
                _sleep(self.timeouts.pause * 2 ** (len(reasons) - 1) if fault.wait is None else fault.wait, stopped)
            except _BadRequestError as fault:
                too_long = any(words in fault.reason.lower() for words in _TOO_LONG_MESSAGES)
                if too_long or len(forms) == 1:
                    raise ModelError(f"{self._where} refuses the request: {fault.reason}", too_long=too_long) from None
                forms.pop(0)

    def _request(
        self, messages: list[tuple[str, str]], max_tokens: int, pattern: str, stop: Callable[[], bool]
    ) -> Iterator[Piece]:
        """One request. Raises _Again, _BadRequest, ModelError, Interrupted."""
        llm = self._llm
        reader = StreamReader(lambda: self._chunks(llm, messages, max_tokens, pattern), self._responses)
        begun, written = False, 0
        heard = began = time.monotonic()
        try:
            while True:
                if stop():
                    raise Stopped("stopped")
                if time.monotonic() - began > self.timeouts.whole:
                    reason = f"{self._where} takes longer than {self.timeouts.whole:g} s for one answer"
                    raise Interrupted(f"{reason}: ask again") if begun else ModelError(f"{reason}: see to the server")
                try:
                    item = reader.queue.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    patience = self.timeouts.silence if begun else self.timeouts.first
                    if time.monotonic() - heard > patience:
                        message = f"{self._where} has said nothing for {patience:g} s"
                        raise (
                            Interrupted(f"{message}: ask again")
                            if begun
                            else ModelError(f"{message}: see to the server, or wait longer")
                        ) from None
                    continue
                if isinstance(item, Exception):
                    fault = self._convert_error(item)
                    raise Interrupted(str(fault)) if begun and type(fault) is ModelError else fault
                if isinstance(item, _StreamEnd):
                    reader.ended = True
                    self._check_end(item, begun, max_tokens)
                    return
                heard = time.monotonic()
                if item.text:
                    begun, written = True, written + len(item.text)
                    yield item
                if written > _MAX_CHARACTERS_PER_TOKEN * max_tokens:
                    raise Exhausted(f"{self._where} writes without end: ask again, or use another model")
        finally:
            reader.cancel()

    def _check_end(self, end: _StreamEnd, begun: bool, max_tokens: int) -> None:
        if end.reason == "length":
            raise Exhausted(f"the model came to its limit of {max_tokens:,} tokens: ask a narrower question")
        if not end.reason and begun:
            raise Interrupted(f"{self._where} broke off: ask again")
        if not end.reason:
            raise _RetryableError("it closed the connection without a word")

    def _chunks(self, llm: Any, messages: list[tuple[str, str]], max_tokens: int, pattern: str) -> Iterator[Piece | _StreamEnd]:
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
        yield _StreamEnd(reason)

    def _convert_error(self, error: Exception) -> Exception:
        """What an exception of the libraries means to us, in words without the key."""
        import openai

        from service.llm.http_limits import ResponseError, redirect_target

        refused = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        if isinstance(refused, ResponseError):
            return ModelError(f"{self._where}: {self._redact(str(refused))}")
        message = self._redact(str(getattr(error, "message", "") or error) or type(error).__name__)
        if isinstance(error, openai.APIStatusError):
            if target := redirect_target(error.response):
                pointed = f"{self._where} redirects to {self._redact(target)}, and the prompt is not sent elsewhere"
                return ModelError(f"{pointed}: if that is your server, give its address as --llm")
            status, reason = error.status_code, f"{error.status_code} {_error_message(error) or message}"
            reason = self._redact(reason)
            if status in _BAD_REQUEST_STATUS:
                return _BadRequestError(reason)
            if status >= 500 or status in _RETRYABLE_STATUS:
                return _RetryableError(reason, _parse_retry_after(error.response.headers.get("retry-after")))
            if status in (401, 403):
                return ModelError(f"{self._where} wants another API key ({reason}): set PASSKB_LLM_API_KEY")
            if status == 404:
                self._models = ()  # it may serve another model by now
                self.__dict__.pop("_llm", None)
                return ModelError(f"{self._where} does not know the model or the path ({reason}): correct --llm or --model")
            return ModelError(f"{self._where} refuses the request: {reason}")
        if isinstance(error, openai.APITimeoutError):
            return _RetryableError(f"no connection in {self.timeouts.connect:g} s")
        if isinstance(error, openai.APIConnectionError):
            return _RetryableError(self._redact(str(error.__cause__ or error)))
        return _RetryableError(message)  # a stream cut or garbled: httpx, json and openai each have their own word for it

    def _redact(self, text: str) -> str:
        """Without the key, short, and fit for a terminal."""
        clear = "".join(c if c.isprintable() else " " for c in text)
        clear = clear.replace(self._key, "…") if self._key else clear
        parts = urlsplit(self.url)
        for secret in filter(None, (parts.password, parts.username)):
            clear = clear.replace(secret, "…")
        return " ".join(clear.split())[:300]

    @cached_property
    def _llm(self) -> Any:
        from llama_index.llms.openai_like import OpenAILike

        with self._lock:
            _ = self._client.chat.completions  # loaded when first asked for, which must not count as the server's silence
            return OpenAILike(
                model=self.name, api_base=self.url, api_key="none", is_chat_model=True, max_retries=0,
                openai_client=self._client, context_window=1_000_000,
            )  # fmt: skip

    @cached_property
    def _client(self) -> Any:
        import openai

        from service.llm.http_limits import HEADERS, ResponseLimits

        timeout = openai.Timeout(self.timeouts.first + 5, connect=self.timeouts.connect)
        # The environment's are meant for OpenAI, not for whatever server this is.
        headers: dict[str, Any] = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit(), **HEADERS}
        hooks = {"response": [self._responses.opened, ResponseLimits(streaming=True).apply]}
        return openai.OpenAI(
            api_key=self._key or "none", base_url=self.url, max_retries=0, timeout=timeout, default_headers=headers,
            http_client=openai.DefaultHttpxClient(trust_env=self._trust, follow_redirects=False, event_hooks=hooks),
        )  # fmt: skip

    @property
    def _served(self) -> tuple[ServedModel, ...]:
        """What the server says it serves, asked until it has said so; nothing where it does not in time."""
        if not self._models and time.monotonic() >= self._ask_again:
            self._ask_again = time.monotonic() + _RETRY_FACTS_SECONDS
            if self._fetcher is None or not self._fetcher.is_alive():
                self._fetcher = threading.Thread(target=self._fetch_models, name="model-facts", daemon=True)
                self._fetcher.start()
            self._fetcher.join(2 * self.timeouts.facts)  # each byte may take that long, and so all of them for ever
        return self._models

    def _fetch_models(self) -> None:
        with suppress(Exception):  # servers without that page are many, and none is needed
            models = self._client.with_options(timeout=self.timeouts.facts).models.list().data
            self._models = tuple(_parse_served_model(entry) for entry in models if getattr(entry, "id", None))


@dataclass(frozen=True, slots=True)
class _StreamEnd:
    reason: str


class _RetryableError(Exception):
    """Worth another try, after `wait` seconds if the server named a time."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class _BadRequestError(Exception):
    """The server understood, and wants the request otherwise."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _load_libraries() -> None:
    go_offline()
    import llama_index.llms.openai_like  # noqa: F401
    import openai.resources.chat.completions  # noqa: F401


def _without_surrogates(text: str) -> str:
    """Without lone surrogates, which JSON can spell and nothing can store."""
    return text.encode("utf-8", "replace").decode()


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        if stop():
            raise Stopped("stopped")
        time.sleep(min(remaining, _POLL_SECONDS))


def _parse_retry_after(header: str | None) -> float | None:
    """Retry-After in seconds; None where there is none, or a date."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _error_message(error: Any) -> str:
    """What the server says is wrong, from the usual places in its answer's body."""
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
