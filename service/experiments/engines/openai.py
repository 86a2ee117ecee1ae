"""Any server that speaks OpenAI's completions API, or several of them that share the load.

Knows nothing about starting servers, nor about problems beyond their prompt and stop strings. vLLM's extensions are used
where the server says that it is vLLM: token ids (exact token counts), /tokenize and prompt log-probabilities (`score`), and
neutral values for what a model's generation_config.json would otherwise change in silence (top_k, min_p, penalties).

Seeds: attempt i of a request is asked for with `attempt_seed`; vLLM gives the children of one request seed, seed + 1, ...
Servers that ignore seeds, and batching in those that don't, make repeated draws differ: a seed here is for independence.
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
from service.experiments.engines.completion_response import logprob_of, text_of, token_counts, wrong_with
from service.experiments.engines.endpoints import Endpoint, Endpoints, Patience, Refused
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
    """The model `spec.model` as served at `spec.url` (several: commas between them). Raises EngineError when none of the
    servers can be asked, or one that can doesn't serve the model.

    `most_per_request` 64 is what we ask of a server whose own cap can't be read; one that gives or allows fewer is asked again
    for the rest. `sampled_logprobs`: the server's log-probabilities are known to be those of the distribution sampled from."""

    name = "openai"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        patience: Patience | None = None,
        rows: int = 256,
        most_per_request: int = 64,
        sampled_logprobs: bool = False,
        lost: Callable[[], EngineError | None] = lambda: None,
    ) -> None:
        urls = [url for url in spec.url.split(",") if url.strip()]
        self.spec = spec
        self.rows = rows * len(urls)
        self.most_per_request = self._cap = most_per_request
        self._sampled_logprobs = sampled_logprobs
        self._is_vllm = self._closed = False
        self._door = threading.Lock()  # whoever comes in before closing is sent away by it, and nobody after
        self._drawing: dict[Channel, set[asyncio.Task[None]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="completions", daemon=True)
        self._thread.start()
        try:
            self._endpoints: Endpoints = self._wait(_made(urls, patience or Patience(), os.environ.get(_KEY, ""), lost))
            self.effective: Mapping[str, Any] = self._wait(self._look())
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
            farewell=self._leave,
        )

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Prompt and completion are tokenised apart by vLLM; of other servers, tokens that end within the completion count."""
        return self._wait(self._score_all(pairs))

    def close(self) -> None:
        with self._door:
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
                # Work that came in while the loop was ending is never begun.
                if future.done():
                    raise
                if not self._thread.is_alive():
                    raise EngineError(CLOSED) from None

    def _send(self, more: Sequence[Request], settings: Settings, channel: Channel) -> None:
        with self._door:
            if self._closed:
                channel.fail(EngineError(CLOSED))
            else:
                self._loop.call_soon_threadsafe(self._start, more, settings, channel)

    def _leave(self, channel: Channel) -> None:
        with self._door:
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

    # What the servers are.

    async def _look(self) -> dict[str, Any]:
        found = await asyncio.gather(*(self._look_at(endpoint) for endpoint in self._endpoints.all), return_exceptions=True)
        effective = [one for one in found if isinstance(one, dict)]
        for error in found:
            if isinstance(error, BaseException) and (not effective or not isinstance(error, _Silent)):
                raise error
        for endpoint, one in zip(self._endpoints.all, found, strict=True):
            if isinstance(one, _Silent):
                self._endpoints.set_aside(endpoint)
        if len({str(one) for one in effective}) > 1:
            raise EngineError(f"the servers differ ({'; '.join(map(str, effective))}): give those that serve the same")
        self._is_vllm = effective[0]["server"].startswith("vllm")
        counted = "counted by the server" if self._is_vllm else "a request's total, apportioned by length of text when n > 1"
        return {**effective[0], "servers": len(found), "answering": len(effective), "chat": self.spec.chat, "tokens": counted}

    async def _look_at(self, endpoint: Endpoint) -> dict[str, Any]:
        try:
            models = (await self._endpoints.get(endpoint, "/models")).get("data") or []
        except Refused as refusal:
            if refusal.status != 404:
                raise self._explained(refusal) from None
            return {"model": self.spec.model, "max_model_len": None, "server": "openai-compatible, no list of models"}
        except EngineError as error:
            raise _Silent(str(error)) from None
        served = {str(model.get("id")): model for model in models if isinstance(model, dict)}
        if self.spec.model not in served:
            raise EngineError(_no_such_model(endpoint.url, self.spec.model, list(served)))
        own = served[self.spec.model]
        version = await self._version(endpoint) if own.get("owned_by") == "vllm" else ""
        server = f"vllm {version}" if version else "openai-compatible"
        return {"model": self.spec.model, "max_model_len": own.get("max_model_len"), "server": server}

    async def _version(self, endpoint: Endpoint) -> str:
        try:
            answer = await self._endpoints.get(endpoint, "../version")
            return str(answer.get("version", "of unknown version"))
        except (Refused, EngineError):
            return "of unknown version"

    # Drawing.

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
        """The attempts `start` to `start + count` of a request, in as many HTTP requests as the server's cap wants."""
        if count > self._cap:
            bounds = range(start, start + count, self._cap)
            step, end = self._cap, start + count
            parts = await asyncio.gather(*(self._draw(request, settings, at, min(step, end - at)) for at in bounds))
            return [completion for part in parts for completion in part]
        path, body = self._body(request, settings, start, count)
        try:
            answer = await self._endpoints.post(path, body, load=count, check=wrong_with)
        except Refused as refusal:
            if count > 1 and (fewer := _FEWER.search(refusal.message)):
                self._cap = max(1, min(int(fewer[1] or 1), count - 1))
                return await self._draw(request, settings, start, count)
            raise self._explained(refusal, request, settings) from None
        self._check_room(answer.get("usage") or {}, request, settings)
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index") or 0)[:count]
        drawn = self._completions(request, settings, start, choices, answer.get("usage") or {})
        if len(drawn) < count:
            self._cap = len(drawn)
            drawn += await self._draw(request, settings, start + len(drawn), count - len(drawn))
        return drawn

    def _check_room(self, usage: Mapping[str, Any], request: Request, settings: Settings) -> None:
        """vLLM lowers max_tokens in silence where the context ends sooner: the completions are not those asked for."""
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
        known = settings.logprobs and (plain or self._sampled_logprobs)
        return [
            Completion(
                problem_id=request.problem.id,
                attempt=request.first + start + index,
                text=text,
                tokens=count,
                finish="length" if choice.get("finish_reason") == "length" else "stop",
                logprob=logprob_of(choice) if known else None,
            )
            for index, (choice, text, count) in enumerate(zip(choices, texts, tokens, strict=True))
        ]

    def _explained(self, refusal: Refused, request: Request | None = None, settings: Settings | None = None) -> EngineError:
        message = refusal.message
        if refusal.status in (401, 403):
            return EngineError(f"{refusal.url} wants a key ({refusal.status}): put it into ${_KEY}")
        if request and settings and _TOO_LONG.search(message):
            what = f"problem {request.problem.id} with max_tokens {settings.max_tokens} doesn't fit the model's context"
            return EngineError(f"{what} ({message}): lower sampling.max_tokens, or raise max_model_len")
        if refusal.status == 404:
            return EngineError(
                f"{refusal.url} is not there, or has no model {self.spec.model!r} ({message}): correct url or model"
            )
        if self.spec.chat and "template" in message:
            return EngineError(f"{self.spec.model} has no chat template ({message}): set chat: false")
        return EngineError(f"{refusal}: change the spec, or the server")

    # Scoring.

    async def _score_all(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        at_once = asyncio.Semaphore(32 * len(self._endpoints.all))

        async def one(prompt: str, completion: str) -> tuple[float, int]:
            if not completion:
                return 0.0, 0
            async with at_once:
                try:
                    return await (self._score_ids if self._is_vllm else self._score_echo)(prompt, completion)
                except Refused as refusal:
                    if _TOO_LONG.search(refusal.message):
                        told = f"a prompt and its completion don't fit the context of {self.spec.model} ({refusal.message})"
                        raise EngineError(f"{told}: raise max_model_len") from None
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
        """By vLLM's extension: the prompt is token ids, and each one's log-probability comes back."""
        before = await self._ids(
            {"messages": [{"role": "user", "content": prompt}], "add_generation_prompt": True}
            if self.spec.chat
            else {"prompt": prompt}
        )
        after = await self._ids({"prompt": completion, "add_special_tokens": False})
        if not after:
            return 0.0, 0
        if not before:
            raise EngineError("an empty prompt can't be scored: there is nothing that its first token follows")
        body = {"model": self.spec.model, "prompt": before + after, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 1}
        answer = await self._endpoints.post("/completions", body, check=wrong_with)
        given = answer["choices"][0].get("prompt_logprobs")
        if not isinstance(given, list) or len(given) != len(before) + len(after):
            raise _no_prompt_logprobs("the answer has none")
        values = [entry[str(token)]["logprob"] for entry, token in zip(given[len(before) :], after, strict=True)]
        return math.fsum(values), len(values)

    async def _ids(self, text: Mapping[str, Any]) -> list[int]:
        answer = await self._endpoints.post("../tokenize", {"model": self.spec.model, **text})
        return [int(token) for token in answer["tokens"]]

    async def _score_echo(self, prompt: str, completion: str) -> tuple[float, int]:
        """By OpenAI's older way: the prompt is echoed with log-probabilities, and nothing generated."""
        if self.spec.chat:
            raise _no_prompt_logprobs("chat requests have none")
        body = {"model": self.spec.model, "prompt": prompt + completion, "max_tokens": 0, "echo": True, "logprobs": 1}
        answer = await self._endpoints.post("/completions", body, check=wrong_with)
        told = answer["choices"][0].get("logprobs") or {}
        values, offsets, pieces = (told.get(key) or [] for key in ("token_logprobs", "text_offset", "tokens"))
        total = len(prompt) + len(completion)
        inside = [
            value
            for value, offset, piece in zip(values, offsets, pieces, strict=False)
            if len(prompt) < offset + len(piece) <= total and offset < total
        ]
        if not inside or None in inside or not len(values) == len(offsets) == len(pieces):
            raise _no_prompt_logprobs("the echo has none")
        return math.fsum(inside), len(inside)


class _Silent(EngineError):
    """A server that doesn't answer; the others may."""


async def _made(urls: Sequence[str], patience: Patience, key: str, lost: Callable[[], EngineError | None]) -> Endpoints:
    return Endpoints(urls, patience, key, lost)


def _no_such_model(url: str, model: str, served: Sequence[str]) -> str:
    return (
        f"{url} has no model {model!r}: it serves {', '.join(served[:8]) or 'none'}; name one of these, or start another server"
    )


def _no_prompt_logprobs(why: str) -> EngineError:
    return EngineError(
        f"this server gives no prompt log-probabilities ({why}): use the vllm or transformers engine, or leave perplexity out"
    )
