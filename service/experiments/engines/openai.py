"""The engine for OpenAI-compatible completions servers, which share the load.

For vLLM servers it uses token ids (exact token counts), /tokenize and prompt log-probabilities (`score`), and sets neutral
values for the sampling settings that a model's generation_config.json would change (top_k, min_p, penalties).

Attempt i of a request has the seed `attempt_seed`; vLLM uses seed, seed + 1, ... within a request. Seeds make attempts
independent, not reproducible: batching and servers that ignore seeds change the completions.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from service.experiments.engines.base import CLOSED, EngineError, Request, Settings
from service.experiments.engines.completion_response import find_error, logprob_of, text_of, token_counts
from service.experiments.engines.endpoints import Endpoint, Endpoints, Rejected, RetryPolicy
from service.experiments.engines.stream import Channel, Stream, attempt_seed
from service.experiments.spec import ModelSpec
from service.experiments.types import Completion

T = TypeVar("T")
_KEY = "PASSKB_ENGINE_API_KEY"
_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_TOO_LONG = re.compile(
    r"context.{0,10}(length|window|size)|max_model_len|maximum (model|input) length|too (long|many tokens)|reduce the length",
    re.I,
)
_CAP = r"(?:at most|up to|less than or equal to|<=|maximum(?: of)?)\s*(\d+)"
_FEWER = re.compile(rf"\bn\b.{{0,60}}?{_CAP}|\bn\b.{{0,30}}?(?:not supported|must be (?:1|one)\b)", re.I)


class OpenAIEngine:
    """The model `spec.model` on the servers in `spec.url`, separated by commas. Raises EngineError when no server responds, or
    one doesn't serve the model.

    `most_per_request` is the initial cap on `n`; a server that returns or allows fewer gets further requests for the rest.
    `sampled_logprobs`: the server's log-probabilities are of the distribution after temperature and top-p."""

    name = "openai"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        patience: RetryPolicy | None = None,
        rows: int = 256,
        most_per_request: int = 64,
        sampled_logprobs: bool = False,
        failure: Callable[[], EngineError | None] = lambda: None,
    ) -> None:
        urls = [url for url in spec.url.split(",") if url.strip()]
        self.spec = spec
        self.rows = rows * len(urls)
        self.most_per_request = self._cap = most_per_request
        self._sampled_logprobs = sampled_logprobs
        self._is_vllm = self._closed = False
        self._lock = threading.Lock()  # guards _closed, so that close ends every stream
        self._drawing: dict[Channel, set[asyncio.Task[None]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="completions", daemon=True)
        self._thread.start()
        try:
            self._endpoints: Endpoints = self._wait(
                _open_endpoints(urls, patience or RetryPolicy(), os.environ.get(_KEY, ""), failure)
            )
            self.effective: Mapping[str, Any] = self._wait(self._inspect_all())
        except BaseException:
            self.close()
            raise
        self.version = self.effective["server"]
        self.device = "as the server has it"

    def sample(self, requests: Iterable[Request], settings: Settings) -> Stream:
        return Stream(
            requests,
            self.rows,
            submit=lambda more, channel: self._send(more, settings, channel),
            on_close=self._leave,
        )

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """vLLM tokenizes prompt and completion separately; with other servers, tokens that end within the completion count."""
        return self._wait(self._score_all(pairs))

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(2)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(2)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise EngineError(CLOSED)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return future.result(0.5)
            except TimeoutError:
                # Work submitted while the loop ends never starts.
                if future.done():
                    raise
                if not self._thread.is_alive():
                    raise EngineError(CLOSED) from None

    def _send(self, more: Sequence[Request], settings: Settings, channel: Channel) -> None:
        with self._lock:
            if self._closed:
                channel.fail(EngineError(CLOSED))
            else:
                self._loop.call_soon_threadsafe(self._start, more, settings, channel)

    def _leave(self, channel: Channel) -> None:
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._abandon, channel)

    async def _end(self) -> None:
        for channel in list(self._drawing):
            channel.fail(EngineError(CLOSED))
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if hasattr(self, "_endpoints"):
            await self._endpoints.close()

    async def _inspect_all(self) -> dict[str, Any]:
        results = await asyncio.gather(*(self._inspect(endpoint) for endpoint in self._endpoints.all), return_exceptions=True)
        effective = [result for result in results if isinstance(result, dict)]
        for error in results:
            if isinstance(error, BaseException) and (not effective or not isinstance(error, _Unreachable)):
                raise error
        for endpoint, result in zip(self._endpoints.all, results, strict=True):
            if isinstance(result, _Unreachable):
                self._endpoints.suspend(endpoint)
        if len(set(map(str, effective))) > 1:
            raise EngineError(
                f"the servers differ ({'; '.join(map(str, effective))}): use servers with the same model and settings"
            )
        self._is_vllm = effective[0]["server"].startswith("vllm")
        counted = "counted by the server" if self._is_vllm else "a request's total, apportioned by length of text when n > 1"
        return {**effective[0], "servers": len(results), "answering": len(effective), "chat": self.spec.chat, "tokens": counted}

    async def _inspect(self, endpoint: Endpoint) -> dict[str, Any]:
        try:
            models = (await self._endpoints.get(endpoint, "/models")).get("data") or []
        except Rejected as refusal:
            if refusal.status != 404:
                raise self._explain(refusal) from None
            return {"model": self.spec.model, "max_model_len": None, "server": "openai-compatible, no list of models"}
        except EngineError as error:
            raise _Unreachable(str(error)) from None
        served = {str(model.get("id")): model for model in models if isinstance(model, dict)}
        if self.spec.model not in served:
            raise EngineError(_no_such_model(endpoint.url, self.spec.model, list(served)))
        entry = served[self.spec.model]
        version = await self._version(endpoint) if entry.get("owned_by") == "vllm" else ""
        server = f"vllm {version}" if version else "openai-compatible"
        return {"model": self.spec.model, "max_model_len": entry.get("max_model_len"), "server": server}

    async def _version(self, endpoint: Endpoint) -> str:
        try:
            answer = await self._endpoints.get(endpoint, "../version")
            return str(answer.get("version", "of unknown version"))
        except (Rejected, EngineError):
            return "of unknown version"

    def _start(self, more: Sequence[Request], settings: Settings, channel: Channel) -> None:
        if channel.stopped.is_set():
            return
        tasks = self._drawing.setdefault(channel, set())
        for request in more:
            task = self._loop.create_task(self._deliver(request, settings, channel))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def _abandon(self, channel: Channel) -> None:
        for task in self._drawing.pop(channel, ()):
            task.cancel()

    async def _deliver(self, request: Request, settings: Settings, channel: Channel) -> None:
        try:
            channel.give(await self._draw(request, settings, 0, request.n))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            channel.fail(error)
            self._abandon(channel)

    async def _draw(self, request: Request, settings: Settings, start: int, count: int) -> list[Completion]:
        """The attempts `start` to `start + count` of a request, in HTTP requests within the server's cap."""
        if count > self._cap:
            bounds = range(start, start + count, self._cap)
            step, end = self._cap, start + count
            parts = await asyncio.gather(*(self._draw(request, settings, at, min(step, end - at)) for at in bounds))
            return [completion for part in parts for completion in part]
        path, body = self._body(request, settings, start, count)
        try:
            answer = await self._endpoints.post(path, body, load=count, check=find_error)
        except Rejected as refusal:
            if count > 1 and (fewer := _FEWER.search(refusal.message)):
                self._cap = max(1, min(int(fewer[1] or 1), count - 1))
                return await self._draw(request, settings, start, count)
            raise self._explain(refusal, request, settings) from None
        self._check_room(answer.get("usage") or {}, request, settings)
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index") or 0)[:count]
        completions = self._completions(request, settings, start, choices, answer.get("usage") or {})
        if len(completions) < count:
            self._cap = len(completions)
            completions += await self._draw(request, settings, start + len(completions), count - len(completions))
        return completions

    def _check_room(self, usage: Mapping[str, Any], request: Request, settings: Settings) -> None:
        """Raises EngineError where vLLM would silently lower max_tokens to fit the context."""
        room, prompt = self.effective["max_model_len"], usage.get("prompt_tokens")
        if isinstance(room, int) and isinstance(prompt, int) and prompt + settings.max_tokens > room:
            what = f"problem {request.problem.id} ({prompt} tokens) with max_tokens {settings.max_tokens}"
            raise EngineError(
                f"{what} doesn't fit the model's context of {room}: lower sampling.max_tokens, or raise max_model_len"
            )

    def _body(self, request: Request, settings: Settings, start: int, count: int) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": self.spec.model,
            "n": count,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_tokens,
            "seed": attempt_seed(request, start),
        }
        if request.problem.stop:
            body["stop"] = list(request.problem.stop)
        if self._is_vllm:
            body |= {**_NEUTRAL, "return_token_ids": True}
        if self.spec.chat:
            if settings.logprobs:
                body["logprobs"] = True
            return "/chat/completions", body | {"messages": [{"role": "user", "content": request.prompt}]}
        if settings.logprobs:
            body["logprobs"] = 0 if self._is_vllm else 1
        return "/completions", body | {"prompt": request.prompt}

    def _completions(
        self, request: Request, settings: Settings, start: int, choices: Sequence[Any], usage: Mapping[str, Any]
    ) -> list[Completion]:
        texts = [text_of(choice) for choice in choices]
        tokens = token_counts(choices, texts, usage)
        plain = settings.temperature == 1 and settings.top_p == 1
        has_logprob = settings.logprobs and (plain or self._sampled_logprobs)
        return [
            Completion(
                problem_id=request.problem.id,
                attempt=request.first + start + index,
                text=text,
                tokens=count,
                finish="length" if choice.get("finish_reason") == "length" else "stop",
                logprob=logprob_of(choice) if has_logprob else None,
            )
            for index, (choice, text, count) in enumerate(zip(choices, texts, tokens, strict=True))
        ]

    def _explain(self, refusal: Rejected, request: Request | None = None, settings: Settings | None = None) -> EngineError:
        message = refusal.message
        if refusal.status in (401, 403):
            return EngineError(f"{refusal.url} needs an API key ({refusal.status}): set ${_KEY}")
        if request and settings and _TOO_LONG.search(message):
            what = f"problem {request.problem.id} with max_tokens {settings.max_tokens} doesn't fit the model's context"
            return EngineError(f"{what} ({message}): lower sampling.max_tokens, or raise max_model_len")
        if refusal.status == 404:
            return EngineError(
                f"{refusal.url} does not exist, or has no model {self.spec.model!r} ({message}): correct the url or the model"
            )
        if self.spec.chat and "template" in message:
            return EngineError(f"{self.spec.model} has no chat template ({message}): set chat: false")
        return EngineError(f"{refusal}: change the spec or the server")

    async def _score_all(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        at_once = asyncio.Semaphore(32 * len(self._endpoints.all))

        async def one(prompt: str, completion: str) -> tuple[float, int]:
            if not completion:
                return 0.0, 0
            async with at_once:
                try:
                    return await (self._score_ids if self._is_vllm else self._score_echo)(prompt, completion)
                except Rejected as refusal:
                    if _TOO_LONG.search(refusal.message):
                        reason = f"a prompt and its completion don't fit the context of {self.spec.model} ({refusal.message})"
                        raise EngineError(f"{reason}: raise max_model_len") from None
                    raise _no_prompt_logprobs(str(refusal)) from None

        tasks = [asyncio.ensure_future(one(*pair)) for pair in pairs]
        try:
            return list(await asyncio.gather(*tasks))
        except asyncio.CancelledError:
            raise EngineError(CLOSED) from None
        finally:
            for task in tasks:
                task.cancel()

    async def _score_ids(self, prompt: str, completion: str) -> tuple[float, int]:
        """vLLM returns a log-probability for each token id of the prompt."""
        before = await self._ids(
            {"messages": [{"role": "user", "content": prompt}], "add_generation_prompt": True}
            if self.spec.chat
            else {"prompt": prompt}
        )
        after = await self._ids({"prompt": completion, "add_special_tokens": False})
        if not after:
            return 0.0, 0
        if not before:
            raise EngineError("an empty prompt can't be scored: the first token has no context")
        body = {"model": self.spec.model, "prompt": before + after, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 1}
        answer = await self._endpoints.post("/completions", body, check=find_error)
        logprobs = answer["choices"][0].get("prompt_logprobs")
        if not isinstance(logprobs, list) or len(logprobs) != len(before) + len(after):
            raise _no_prompt_logprobs("the answer has none")
        values = [entry[str(token)]["logprob"] for entry, token in zip(logprobs[len(before) :], after, strict=True)]
        return math.fsum(values), len(values)

    async def _ids(self, text: Mapping[str, Any]) -> list[int]:
        answer = await self._endpoints.post("../tokenize", {"model": self.spec.model, **text})
        return [int(token) for token in answer["tokens"]]

    async def _score_echo(self, prompt: str, completion: str) -> tuple[float, int]:
        """OpenAI's legacy API echoes the prompt with log-probabilities and generates nothing."""
        if self.spec.chat:
            raise _no_prompt_logprobs("chat requests have none")
        body = {"model": self.spec.model, "prompt": prompt + completion, "max_tokens": 0, "echo": True, "logprobs": 1}
        answer = await self._endpoints.post("/completions", body, check=find_error)
        logprobs = answer["choices"][0].get("logprobs") or {}
        values, offsets, pieces = (logprobs.get(key) or [] for key in ("token_logprobs", "text_offset", "tokens"))
        total = len(prompt) + len(completion)
        inside = [
            value
            for value, offset, piece in zip(values, offsets, pieces, strict=False)
            if len(prompt) < offset + len(piece) <= total and offset < total
        ]
        if not inside or None in inside or not len(values) == len(offsets) == len(pieces):
            raise _no_prompt_logprobs("the echo has none")
        return math.fsum(inside), len(inside)


class _Unreachable(EngineError):
    """A server that doesn't respond; others may."""


async def _open_endpoints(
    urls: Sequence[str], patience: RetryPolicy, key: str, failure: Callable[[], EngineError | None]
) -> Endpoints:
    return Endpoints(urls, patience, key, failure)


def _no_such_model(url: str, model: str, served: Sequence[str]) -> str:
    return (
        f"{url} has no model {model!r}: it serves {', '.join(served[:8]) or 'none'}; use one of these, or start another server"
    )


def _no_prompt_logprobs(reason: str) -> EngineError:
    return EngineError(
        f"this server returns no prompt log-probabilities ({reason}): use the vllm or transformers engine, or remove perplexity"
    )
