"""Several HTTP servers as one: load shared, failures retried with back-off, dead servers set aside.

Knows nothing about completions: JSON objects go out and come back.
"""

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

_RETRIED = (408, 409, 425, 429)
_LOCAL = ("127.", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Patience:
    """`tries` of one request in all; before another it waits `first` seconds, doubled each time up to `most`, times a random
    factor between a half and one. A server's Retry-After counts up to `asked`. `timeout`: seconds without a byte."""

    tries: int = 8
    first: float = 0.5
    most: float = 30.0
    asked: float = 120.0
    timeout: float = 600.0

    def wait(self, failures: int) -> float:
        return float(min(self.most, self.first * 2 ** (failures - 1)) * random.uniform(0.5, 1))


@dataclass(slots=True)
class Endpoint:
    """A server: `flying` is the load it has from us, `rested` when it may be asked again (monotonic seconds)."""

    url: str
    flying: int = 0
    failures: int = 0
    rested: float = 0.0

    @property
    def local(self) -> bool:
        return (urlsplit(self.url).hostname or "").startswith(_LOCAL)

    def at(self, path: str) -> str:
        """`/path` is below the API's root, `../path` beside it."""
        return self.url.removesuffix("/v1") + path[2:] if path.startswith("../") else self.url + path


class Refused(Exception):
    """The server understood and will not: asking again changes nothing."""

    def __init__(self, status: int, message: str, url: str) -> None:
        super().__init__(f"{url} answers {status}: {message}")
        self.status, self.message, self.url = status, message, url


class _Retry(Exception):
    """Worth another try, after `wait` seconds if the server named a time."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Endpoints:
    """The servers at `urls`, each with the path's root (usually ending in /v1). `lost` tells when there is no point in
    trying further, and why. Raises EngineError when there is no valid address."""

    def __init__(self, urls: Sequence[str], patience: Patience, key: str, lost: Callable[[], EngineError | None]) -> None:
        self.all = [Endpoint(_root(url)) for url in urls]
        self.patience = patience
        self._lost = lost
        # A proxy from the environment would be asked for a server on this machine, too.
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
        """The answer of the least loaded server. `check` says what is wrong with an answer ("" if nothing), which then counts
        as a failure like a status of 500. Raises Refused, or EngineError when patience is at its end."""
        reasons: list[str] = []
        while len(reasons) < self.patience.tries:
            async with self._least_loaded(load) as endpoint:
                try:
                    answer = await self._once("POST", endpoint, path, body)
                    if problem := check(answer):
                        raise _Retry(problem)
                    endpoint.failures = 0
                    return answer
                except _Retry as fault:
                    reasons.append(f"{endpoint.url}: {fault}")
                    self.set_aside(endpoint, fault.wait)
            if error := self._lost():
                raise error
        told = "; ".join(dict.fromkeys(reasons[-3:]))
        raise EngineError(f"no completions after {len(reasons)} tries ({told}): see to the server, then resume the run")

    async def get(self, endpoint: Endpoint, path: str) -> dict[str, Any]:
        """Asked once. Raises Refused, or EngineError when the server doesn't answer."""
        try:
            return await self._once("GET", endpoint, path, None)
        except _Retry as fault:
            raise EngineError(f"{endpoint.url} does not answer ({fault}): start the server, or correct the url") from None

    async def _once(self, method: str, endpoint: Endpoint, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        url = endpoint.at(path)
        try:
            # Bytes that come one by one are never late: the whole exchange has an end as well.
            async with asyncio.timeout(2 * self.patience.timeout):
                response = await self._client.request(method, url, json=body, extensions={MAX_BYTES: _largest(body or {})})
        except ResponseError as error:
            raise EngineError(f"{url}: {error}: see to the server, then resume the run") from None
        except TimeoutError:
            raise _Retry(f"no whole answer in {2 * self.patience.timeout:g} s") from None
        except httpx.TimeoutException as error:
            raise _Retry(
                f"no answer in {self.patience.timeout:g} s" if isinstance(error, httpx.ReadTimeout) else "timeout"
            ) from None
        except (httpx.HTTPError, OSError) as error:
            raise _Retry(str(error) or type(error).__name__) from None
        if response.status_code >= 500 or response.status_code in _RETRIED:
            raise _Retry(f"{response.status_code} {_message(response)}".strip(), _seconds(response, self.patience.asked))
        if target := redirect_target(response):
            raise Refused(response.status_code, f"it redirects to {target}, and prompts are not sent elsewhere", url)
        if response.status_code >= 300:
            raise Refused(response.status_code, _message(response), url)
        try:
            answer = response.json()
        except ValueError:
            raise _Retry("the answer is no JSON") from None
        if not isinstance(answer, dict):
            raise _Retry("the answer is no JSON object")
        return answer

    @asynccontextmanager
    async def _least_loaded(self, load: int) -> AsyncIterator[Endpoint]:
        while True:
            now = time.monotonic()
            ready = [endpoint for endpoint in self.all if endpoint.rested <= now]
            if ready:
                break
            await asyncio.sleep(min(endpoint.rested for endpoint in self.all) - now + 0.001)
        endpoint = min(ready, key=lambda endpoint: endpoint.flying)
        endpoint.flying += load
        try:
            yield endpoint
        finally:
            endpoint.flying -= load

    def set_aside(self, endpoint: Endpoint, wait: float | None = None) -> None:
        now = time.monotonic()
        if endpoint.rested <= now or wait is not None:
            # Requests that fail together are one failure of their server.
            endpoint.failures += 1
            endpoint.rested = now + (self.patience.wait(endpoint.failures) if wait is None else wait)


def _root(url: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError(f"{url!r} is no address of a server: write it like http://127.0.0.1:8000/v1")
    return url.strip().rstrip("/") + ("/v1" if parts.path in ("", "/") else "")


def _largest(body: Mapping[str, Any]) -> int:
    """Bytes that the answer to a request may have."""
    return max_answer_bytes(int(body.get("n") or 1), int(body.get("max_tokens") or 0), len(body.get("prompt") or ""))


def _message(response: httpx.Response) -> str:
    """What the server says went wrong, in one line; servers put it in different places."""
    try:
        value = response.json()
    except ValueError:
        value = response.text
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    return " ".join(str(value).split())[:400]


def _seconds(response: httpx.Response, most: float) -> float | None:
    """Retry-After, when it is a number of seconds."""
    try:
        return min(most, max(0.0, float(response.headers.get("retry-after", ""))))
    except ValueError:
        return None
