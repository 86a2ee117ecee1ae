"""A pool of HTTP servers for JSON requests: load balancing, retries with back-off, failed servers suspended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.experiments.engines.base import EngineError
from service.llm.http_limits import HEADERS, MAX_BYTES, ResponseError, ResponseLimits, max_answer_bytes, redirect_target
from service.llm.retry import backoff, is_retryable, parse_retry_after

_LOCAL = ("127.", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` per request. The delay before a retry starts at `initial_delay` seconds and doubles up to `max_delay`, times a
    random factor from 0.5 to 1; a Retry-After header counts up to `max_retry_after`. `timeout`: seconds without a byte."""

    attempts: int = 8
    initial_delay: float = 0.5
    max_delay: float = 30.0
    max_retry_after: float = 120.0
    timeout: float = 600.0

    def delay(self, failures: int) -> float:
        return backoff(failures, self.initial_delay, self.max_delay) * random.uniform(0.5, 1)


@dataclass(slots=True)
class Endpoint:
    """A server with its `load` in flight; `available_at` is the end of its suspension (monotonic seconds)."""

    url: str
    load: int = 0
    failures: int = 0
    available_at: float = 0.0

    @property
    def local(self) -> bool:
        return (urlsplit(self.url).hostname or "").startswith(_LOCAL)

    def at(self, path: str) -> str:
        """`/path` is below the API's root, `../path` beside it."""
        return self.url.removesuffix("/v1") + path[2:] if path.startswith("../") else self.url + path


class Rejected(Exception):
    """The server rejected the request, so a retry is useless."""

    def __init__(self, status: int, message: str, url: str) -> None:
        super().__init__(f"{url} responds {status}: {message}")
        self.status, self.message, self.url = status, message, url


class _Retry(Exception):
    """A failure to retry, after `delay` seconds if the server sets a time."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Endpoints:
    """The servers at `urls`, each the root of an API (usually ending in /v1). `failure` returns an error when retrying is
    useless. Raises EngineError for an invalid address."""

    def __init__(self, urls: Sequence[str], patience: RetryPolicy, key: str, failure: Callable[[], EngineError | None]) -> None:
        self.all = [Endpoint(_root(url)) for url in urls]
        self.patience = patience
        self._failure = failure
        # Proxies from the environment must not handle servers on this machine.
        local = {urlsplit(endpoint.url).netloc for endpoint in self.all if endpoint.local}
        outside = any(not endpoint.local for endpoint in self.all)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
        direct = {f"all://{host.rpartition('@')[2]}": httpx.AsyncHTTPTransport(limits=limits) for host in local}
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(patience.timeout, connect=min(10.0, patience.timeout), pool=None),
            limits=limits,
            headers={**HEADERS, **({"Authorization": f"Bearer {key}"} if key else {})},
            follow_redirects=False,
            event_hooks={"response": [ResponseLimits().apply_async]},
            trust_env=outside,
            mounts=direct if outside else None,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(
        self, path: str, body: Mapping[str, Any], load: int = 1, check: Callable[[Any], str] = lambda _: ""
    ) -> dict[str, Any]:
        """The response of the least loaded server. `check` returns what is wrong with a response, or ""; it is retried like a
        status of 500. Raises Rejected, or EngineError after the last attempt."""
        reasons: list[str] = []
        while len(reasons) < self.patience.attempts:
            async with self._least_loaded(load) as endpoint:
                try:
                    answer = await self._once("POST", endpoint, path, body)
                    if problem := check(answer):
                        raise _Retry(problem)
                    endpoint.failures = 0
                    return answer
                except _Retry as fault:
                    reasons.append(f"{endpoint.url}: {fault}")
                    self.suspend(endpoint, fault.delay)
            if error := self._failure():
                raise error
        summary = "; ".join(dict.fromkeys(reasons[-3:]))
        raise EngineError(f"no completions after {len(reasons)} attempts ({summary}): check the server, then resume the run")

    async def get(self, endpoint: Endpoint, path: str) -> dict[str, Any]:
        """Requests once. Raises Rejected, or EngineError when the server doesn't respond."""
        try:
            return await self._once("GET", endpoint, path, None)
        except _Retry as fault:
            raise EngineError(f"{endpoint.url} does not answer ({fault}): start the server, or correct the url") from None

    async def _once(self, method: str, endpoint: Endpoint, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        url = endpoint.at(path)
        try:
            # The timeout applies to each read, so a slow response needs a limit in total.
            async with asyncio.timeout(2 * self.patience.timeout):
                response = await self._client.request(method, url, json=body, extensions={MAX_BYTES: _largest(body or {})})
        except ResponseError as error:
            raise EngineError(f"{url}: {error}: check the server, then resume the run") from None
        except TimeoutError:
            raise _Retry(f"no complete response in {2 * self.patience.timeout:g} s") from None
        except httpx.TimeoutException as error:
            raise _Retry(
                f"no response in {self.patience.timeout:g} s" if isinstance(error, httpx.ReadTimeout) else "timeout"
            ) from None
        except (httpx.HTTPError, OSError) as error:
            raise _Retry(str(error) or type(error).__name__) from None
        if is_retryable(response.status_code):
            delay = parse_retry_after(response.headers.get("retry-after"))
            delay = None if delay is None else min(delay, self.patience.max_retry_after)
            raise _Retry(f"{response.status_code} {_message(response)}".strip(), delay)
        if target := redirect_target(response):
            raise Rejected(response.status_code, f"it redirects to {target}, and passkb sends prompts to no other server", url)
        if response.status_code >= 300:
            raise Rejected(response.status_code, _message(response), url)
        try:
            answer = response.json()
        except ValueError:
            raise _Retry("the response is not JSON") from None
        if not isinstance(answer, dict):
            raise _Retry("the response is not a JSON object")
        return answer

    @asynccontextmanager
    async def _least_loaded(self, load: int) -> AsyncIterator[Endpoint]:
        while True:
            now = time.monotonic()
            ready = [endpoint for endpoint in self.all if endpoint.available_at <= now]
            if ready:
                break
            await asyncio.sleep(min(endpoint.available_at for endpoint in self.all) - now + 0.001)
        endpoint = min(ready, key=lambda endpoint: endpoint.load)
        endpoint.load += load
        try:
            yield endpoint
        finally:
            endpoint.load -= load

    def suspend(self, endpoint: Endpoint, delay: float | None = None) -> None:
        now = time.monotonic()
        if endpoint.available_at <= now or delay is not None:
            # Concurrent failures of a server count once.
            endpoint.failures += 1
            endpoint.available_at = now + (self.patience.delay(endpoint.failures) if delay is None else delay)


def _root(url: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError(f"{url!r} is not the address of a server: use for example http://127.0.0.1:8000/v1")
    return url.strip().rstrip("/") + ("/v1" if parts.path in ("", "/") else "")


def _largest(body: Mapping[str, Any]) -> int:
    """The largest response in bytes."""
    return max_answer_bytes(int(body.get("n") or 1), int(body.get("max_tokens") or 0), len(body.get("prompt") or ""))


def _message(response: httpx.Response) -> str:
    """The server's error message in one line; servers use different fields."""
    try:
        value = response.json()
    except ValueError:
        value = response.text
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    return " ".join(str(value).split())[:400]
