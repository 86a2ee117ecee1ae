"""The queue for questions: so many run, so many wait in order, the next is turned away. No clocks: work is held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.api import operations
from service.api.admission import RETRY_AFTER, Admission, Busy, Cancelled
from service.api.operations import Access
from service.web.api_mount import ApiMount
from tests.service.api.examples import ADDRESS, _nothing

RUNNING, WAITING = 2, 3


class Held:
    """An operation that says that it runs, and ends when it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._go = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        with self._lock:
            self.begun.append(name)
        assert self._go.acquire(timeout=60)
        return name

    def let_go(self, number: int = 1) -> None:
        self._go.release(number)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def filled(admission: Admission, held: Held, names: str) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(admission.run(held, name)) for name in names]


def test_so_many_run_so_many_wait_and_the_next_is_turned_away() -> None:
    async def scenario() -> None:
        admission, held = Admission(RUNNING, WAITING), Held()
        tasks = filled(admission, held, "abcde")
        await until(lambda: admission.in_line == WAITING and len(held.begun) == RUNNING)
        assert admission.full and sorted(held.begun) == ["a", "b"]
        with pytest.raises(Busy, match=f"try again in {RETRY_AFTER} seconds"):
            await admission.run(held, "f")
        held.let_go(5)
        assert await asyncio.gather(*tasks) == list("abcde")
        await until(lambda: admission.active == 0)
        assert not admission.full and admission.in_line == 0

    asyncio.run(scenario())


def test_places_that_become_free_go_to_those_who_wait_in_order() -> None:
    async def scenario() -> None:
        admission, held = Admission(1, 4), Held()
        tasks = [asyncio.create_task(admission.run(held, name)) for name in "abcde"]
        await until(lambda: admission.in_line == 4)
        for number in range(1, 5):
            await until(lambda number=number: len(held.begun) == number)  # type: ignore[misc]
            held.let_go()
        await until(lambda: len(held.begun) == 5)
        held.let_go()
        await asyncio.gather(*tasks)
        assert held.begun == list("abcde")

    asyncio.run(scenario())


def test_who_gives_up_leaves_the_line_and_what_runs_keeps_its_place_until_it_ends() -> None:
    async def scenario() -> None:
        admission, held = Admission(1, 2), Held()
        running, first, second = (asyncio.create_task(admission.run(held, name)) for name in "abc")
        await until(lambda: admission.in_line == 2 and held.begun == ["a"])
        first.cancel()
        running.cancel()
        await asyncio.gather(first, running, return_exceptions=True)
        assert admission.in_line == 1 and admission.active == 1, "its thread still works"
        third = asyncio.create_task(admission.run(held, "d"))
        held.let_go(3)
        assert list(await asyncio.gather(second, third)) == ["c", "d"] and held.begun == ["a", "c", "d"]
        await until(lambda: admission.active == 0)

    asyncio.run(scenario())


def test_threads_wait_in_the_same_line_and_leave_it_when_nobody_waits_for_them() -> None:
    admission, order, there = Admission(1, 2), list[str](), threading.Event()

    def operation(name: str, left: Callable[[], bool]) -> None:
        try:
            with admission.place(left):
                order.append(name)
        except Cancelled:
            order.append(f"{name} left")

    with admission.place():
        waiting = threading.Thread(target=operation, args=("stays", lambda: False))
        leaving = threading.Thread(target=operation, args=("leaves", there.is_set))
        for number, thread in enumerate((waiting, leaving), start=1):
            thread.start()
            asyncio.run(until(lambda number=number: admission.in_line == number))  # type: ignore[misc]
        with pytest.raises(Busy), admission.place():
            pass
        there.set()
        leaving.join(60)
        assert order.copy() == ["leaves left"] and admission.in_line == 1
    waiting.join(60)
    assert order[1:] == ["stays"] and admission.active == 0


def test_what_fails_gives_its_place_back() -> None:
    def fails() -> None:
        raise PasskbError("no")

    async def scenario() -> None:
        admission = Admission(1, 0)
        for _ in range(3):
            with pytest.raises(PasskbError, match="no"):
                await admission.run(fails)
            await until(lambda: admission.active == 0)
            with pytest.raises(PasskbError, match="no"), admission.place():
                fails()

    asyncio.run(scenario())


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Every search is held up."""
    operation = Held()

    def search(access: Access, query: str, k: int = 10) -> dict[str, Any]:
        return {"query": operation(query), "hits": []}

    monkeypatch.setattr(operations, "search", search)
    return operation


def asked(known: KnowledgeBase, scenario: Callable[[httpx2.AsyncClient, Admission], Awaitable[None]]) -> None:
    """Runs it with a client of the gate, in one event loop, as in a server."""
    admission = Admission(RUNNING, WAITING)
    gate = ApiMount(_nothing, replace(Access(known, lambda: None, ADDRESS), admission=admission))

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(gate), base_url=ADDRESS) as client:
            await scenario(client, admission)

    asyncio.run(run())


SEARCH = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "mcp"}}}
ACCEPT = {"accept": "application/json, text/event-stream"}


def test_a_program_beyond_the_limit_is_told_when_to_come_back(known: KnowledgeBase, held: Held) -> None:
    async def scenario(client: httpx2.AsyncClient, admission: Admission) -> None:
        tasks = [asyncio.create_task(client.get("/api/v1/search", params={"q": f"q{i}"})) for i in range(RUNNING + WAITING)]
        await until(lambda: admission.full and len(held.begun) == RUNNING)
        for answer in (
            await client.get("/api/v1/search", params={"q": "one more"}),
            await client.post("/api/v1/ask", json={"question": "What is pass@k?"}),
            await client.get("/api/v1/notes/vault/prorl"),
            await client.get("/api/v1/claims"),
            await client.post("/mcp", json=SEARCH, headers=ACCEPT),
        ):
            assert answer.status_code == 503 and answer.headers["retry-after"] == str(RETRY_AFTER), answer.text
            assert "passkb is busy" in answer.json()["error"]
        assert (await client.get("/api/openapi.json")).status_code == 200, "what costs nothing never waits"
        held.let_go(RUNNING + WAITING)
        assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200] * (RUNNING + WAITING)
        held.let_go(2)
        assert (await client.get("/api/v1/search", params={"q": "again"})).status_code == 200
        answer = await client.post("/mcp", json=SEARCH, headers=ACCEPT)
        assert answer.status_code == 200 and answer.json()["result"]["structuredContent"]["query"] == "mcp"

    asked(known, scenario)


def test_a_program_that_leaves_gives_its_place_up(known: KnowledgeBase, held: Held) -> None:
    async def scenario(client: httpx2.AsyncClient, admission: Admission) -> None:
        tasks = []
        for number in range(RUNNING + WAITING):  # one after another, so that the last one is last in line
            tasks.append(asyncio.create_task(client.get("/api/v1/search", params={"q": f"q{number}"})))
            await until(lambda number=number: admission.active + admission.in_line == number + 1)  # type: ignore[misc]
        tasks[-1].cancel()
        await until(lambda: admission.in_line == WAITING - 1)
        held.let_go(RUNNING + WAITING)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert f"q{RUNNING + WAITING - 1}" not in held.begun

    asked(known, scenario)
