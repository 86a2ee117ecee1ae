"""Many clients of one served app: requests a second, waiting times, memory and handles, against one client that asks in a row.

The clients of the REST API are threads of this process, each with a connection of its own that asks again as soon as it has
its answer. The browser sessions are pages of one Chromium, each of which asks a question every few seconds, as a person would.
Server, clients and browser share the machine's cores.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from playwright.async_api import Page, async_playwright

from bench.data import REPOSITORY, questions, vault
from bench.figures import Figure
from bench.memory import _FLAGS, _free_port, _mebibytes, _wait
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase

CLIENTS, PAGES = 50, 10
WARM, REFERENCE, PERIOD = 30.0, 40.0, 120.0  # seconds
IN_A_ROW = 2_000
_PAUSE = 8.0  # seconds that a person reads before the next question
_TIMEOUT = 60.0
_SETTLE = 3.0  # seconds for closed connections to be gone
_ASKED = 3_000


@dataclass(slots=True)
class Tally:
    """What came of requests: `took` in seconds, of those that were answered."""

    took: list[float] = field(default_factory=list)
    turned_away: int = 0
    timeouts: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    """What the server holds: MiB, open handles, threads; and the processor time it has used, in seconds."""

    memory: float
    handles: int
    threads: int
    cpu: float = 0.0


def measure(scratch: Path) -> list[Figure]:
    """One client in a row, then 50 at once, then the same with pages, then one client again, on the same running app. The
    faster of one client's two turns counts."""
    home, source = scratch / "home", vault()
    with KnowledgeBase(home) as kb:
        notes = ingest(kb, [source]).notes
    asked = questions(source, _ASKED)
    with _served(home) as (process, port):
        _one(port, asked, seconds=WARM)  # what is loaded or made once
        alone = _one(port, asked, seconds=REFERENCE, seed=CLIENTS + 1)
        before = resources(process)
        programs, _, _, lasted = asyncio.run(_together(process, port, asked, pages=0, seconds=PERIOD / 2))
        used = resources(process).cpu
        rest, pages, most, spent = asyncio.run(_together(process, port, asked, pages=PAGES, seconds=PERIOD))
        cores = (resources(process).cpu - used) / spent
        time.sleep(_SETTLE)
        after = resources(process)
        again = _one(port, asked, seconds=REFERENCE, seed=CLIENTS + 2)
        row, early, late = _in_a_row(process, port, asked)
    alone = max(alone, again, key=_rate)  # what questions leave in caches helps whoever comes later
    return [
        *_throughput(notes, alone, len(programs.took) / lasted, len(rest.took) / spent, len(pages.took) / spent, cores),
        *_figures(rest, pages, spent, (before, most, after), (row, early, late)),
    ]


def _throughput(notes: int, alone: Tally, programs: float, rest: float, pages: float, cores: float) -> list[Figure]:
    """Requests a second of one client, of all programs, and of programs and pages, whose browser shares the machine's cores."""
    single = _rate(alone)
    return [
        Figure(f"one client, requests a second (questions and searches by turns, {notes} notes)", f"{single:.1f}"),
        Figure("the same, s: median, 95 %", f"{_percentile(alone.took, 50):.3f}, {_percentile(alone.took, 95):.3f}"),
        Figure(f"**{CLIENTS} clients**, requests a second, relative to one client", f"{programs / single:.2f} ({programs:.1f})",
               "at least 1", programs >= single),
        Figure(f"**{CLIENTS} clients and {PAGES} browser pages**, requests a second, relative to one client",
               f"{(rest + pages) / single:.2f} ({rest:.1f} and {pages:.1f})", "at least 1", rest + pages >= single),
        Figure("processor cores that the app had meanwhile; clients and Chromium share them", f"{cores:.2f}"),
    ]  # fmt: skip


def _figures(
    rest: Tally,
    pages: Tally,
    spent: float,
    held: tuple[Resources, Resources, Resources],
    row: tuple[Tally, Resources, Resources],
) -> list[Figure]:
    before, most, after = held
    in_a_row, early, late = row
    many = len(rest.took) / spent
    p95, allowed = _percentile(rest.took, 95), 1.5 * CLIENTS / many
    lost = rest.timeouts + rest.failed + pages.timeouts + pages.failed
    told = f"MiB ({before.memory:.0f} after one client, {most.memory:.0f} at most, {after.memory:.0f} afterwards)"
    handles = f"handles ({before.handles} after one client, {most.handles} at most, {after.handles} afterwards)"
    flat = f"({early.memory:.0f} to {late.memory:.0f} MiB)"
    return [
        Figure("**waiting of a client, 95 %**, relative to clients / throughput", f"{1.5 * p95 / allowed:.2f} ({p95:.2f} s)",
               "at most 1.5", p95 <= allowed),
        Figure("median of a client; of a page, s", f"{_percentile(rest.took, 50):.2f}; {_percentile(pages.took, 50):.2f}"),
        Figure("timeouts and failures; turned away (503)", f"{lost}; {rest.turned_away}", "0; 0", lost + rest.turned_away == 0),
        Figure(f"**memory above one client's**, {told}", f"{most.memory - before.memory:.0f}", "within 200",
               most.memory - before.memory <= 200),
        Figure(f"**handles left when they are gone**, {handles}", f"{after.handles - before.handles:+d}", "flat (10)",
               after.handles - before.handles <= 10),
        Figure("threads after one client, at most, afterwards", f"{before.threads}, {most.threads}, {after.threads}"),
        Figure(f"**{len(in_a_row.took):,} questions in a row**, MiB {flat}", f"{late.memory - early.memory:+.0f}", "flat (20)",
               late.memory - early.memory <= 20),
        Figure("**handles over them**", f"{late.handles - early.handles:+d}", "flat (5)", late.handles - early.handles <= 5),
    ]  # fmt: skip


@contextmanager
def _served(home: Path) -> Iterator[tuple[int, int]]:
    """The process and the port of a running app."""
    port = _free_port()
    command = [sys.executable, "-m", "service.cli", "--home", str(home), "serve", "--no-worker", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    app = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/", app)
        yield app.pid, port
    finally:
        app.terminate()
        app.wait(timeout=30)


def resources(process: int) -> Resources:
    """What a process holds now."""
    handles = len(list(Path(f"/proc/{process}/fd").iterdir()))
    used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]  # user and system time, in ticks
    cpu = sum(map(int, used)) / os.sysconf("SC_CLK_TCK")
    return Resources(_mebibytes(process, "VmRSS"), handles, len(list(Path(f"/proc/{process}/task").iterdir())), cpu)


def _one(port: int, asked: Sequence[str], seconds: float, seed: int = 0) -> Tally:
    """One client that asks in a row for so long."""
    tally, ends = Tally(), time.perf_counter() + seconds
    _client(port, _shuffled(asked, seed), lambda: time.perf_counter() > ends, tally)
    return tally


def _rate(tally: Tally) -> float:
    """Requests a second of one client."""
    return len(tally.took) / sum(tally.took)


def _in_a_row(process: int, port: int, asked: Sequence[str]) -> tuple[Tally, Resources, Resources]:
    tally, early = Tally(), resources(process)
    for first in range(0, IN_A_ROW, IN_A_ROW // 10):
        turns = zip(itertools.repeat(0), itertools.islice(itertools.cycle(asked), first, first + IN_A_ROW // 10), strict=False)
        _client(port, turns, lambda: False, tally)
        if not first:
            early = resources(process)
    time.sleep(_SETTLE)
    return tally, early, resources(process)


async def _together(
    process: int, port: int, asked: Sequence[str], pages: int, seconds: float
) -> tuple[Tally, Tally, Resources, float]:
    """Clients and pages at once: what came of either, the most that the server held, and for how many seconds."""
    rest, shown, over = Tally(), Tally(), threading.Event()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_FLAGS)
        opened = [await _opened(await (await browser.new_context()).new_page(), port) for _ in range(pages)]
        threads = [
            threading.Thread(
                target=_client,
                args=(port, _shuffled(asked, seed), over.is_set, rest),
                daemon=True,
            )
            for seed in range(CLIENTS)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        reading = [asyncio.create_task(_person(page, asked, i, over, shown)) for i, page in enumerate(opened)]
        most = resources(process)
        while time.perf_counter() - began < seconds:
            await asyncio.sleep(0.5)
            now = resources(process)
            most = Resources(*map(max, zip(_numbers(most), _numbers(now), strict=True)))  # type: ignore[arg-type]
        over.set()
        spent = time.perf_counter() - began
        answered = Tally(list(rest.took), rest.turned_away, rest.timeouts, rest.failed)
        answers = Tally(list(shown.took), shown.turned_away, shown.timeouts, shown.failed)
        await asyncio.gather(*reading)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await browser.close()
    late = Tally([], rest.turned_away, rest.timeouts, rest.failed)  # of the requests that were still on their way
    return Tally(answered.took, late.turned_away, late.timeouts, late.failed), answers, most, spent


def _numbers(held: Resources) -> tuple[float, int, int]:
    return held.memory, held.handles, held.threads


def _shuffled(asked: Sequence[str], seed: int) -> Iterator[tuple[int, str]]:
    order = random.Random(seed).sample(asked, len(asked))
    return zip(itertools.count(seed), itertools.cycle(order), strict=False)


def _client(port: int, turns: Iterator[tuple[int, str]], over: object, tally: Tally) -> None:
    """Asks an even turn's question, and searches for an odd one's; after a 503 it waits as long as it is told to."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        for turn, question in turns:
            if over():  # type: ignore[operator]
                return
            began = time.perf_counter()
            try:
                status, wait = _request(connection, turn % 2 == 0, question)
            except TimeoutError:
                tally.timeouts += 1
                connection.close()
            except (OSError, http.client.HTTPException):
                tally.failed += 1
                connection.close()
            else:
                if status == 200:
                    tally.took.append(time.perf_counter() - began)
                elif status == 503:
                    tally.turned_away += 1
                    time.sleep(wait)
                else:
                    tally.failed += 1
    finally:
        connection.close()


def _request(connection: http.client.HTTPConnection, ask: bool, question: str) -> tuple[int, float]:
    if ask:
        body = json.dumps({"question": question})
        connection.request("POST", "/api/v1/ask", body, {"content-type": "application/json"})
    else:
        connection.request("GET", f"/api/v1/search?q={quote(question)}&k=10")
    response = connection.getresponse()
    response.read()
    return response.status, float(response.headers.get("retry-after") or 1)


async def _opened(page: Page, port: int) -> Page:
    await page.goto(f"http://127.0.0.1:{port}/", wait_until="domcontentloaded")
    await page.wait_for_selector("#ask-input textarea", timeout=60_000)
    return page


async def _person(page: Page, asked: Sequence[str], number: int, over: threading.Event, tally: Tally) -> None:
    """Asks, waits for the whole answer, reads it, asks again."""
    draw = random.Random(1_000 + number)
    await asyncio.sleep(_PAUSE * number / PAGES)
    while not over.is_set():
        question, began = draw.choice(asked), time.perf_counter()
        try:
            await page.fill("#ask-input textarea", question, timeout=1000 * _TIMEOUT)
            await page.press("#ask-input textarea", "Enter")
            await page.wait_for_function(_ANSWERED, arg=question, timeout=1000 * _TIMEOUT)
            tally.took.append(time.perf_counter() - began)
        except Exception as error:  # Playwright's own, of several kinds
            if "Timeout" in type(error).__name__:
                tally.timeouts += 1
            else:
                tally.failed += 1
        await asyncio.sleep(_PAUSE)


# An answer, or a refusal, that carries its record for the browser is whole.
_ANSWERED = """(question) => {
  const answer = document.querySelector('#answer');
  return answer && answer.innerText.includes(question) && answer.querySelector('.record, .foot, .refusal');
}"""


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else float("nan")
