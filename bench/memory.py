"""The running app: how soon it answers after its start, and what memory it holds then."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench.data import REPOSITORY, vault
from bench.figures import Figure, median, spread
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase

QUESTION = "What is gradient descent?"
_STARTS = 3
_PATIENCE = 120.0
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def measure(scratch: Path) -> list[Figure]:
    """Starts the app several times and asks it one question each in Chromium, which is up before the app."""
    home = scratch / "app"
    with KnowledgeBase(home) as kb:
        report = ingest(kb, [vault()])
    served, answered, first, peak = [], [], [], []
    for _ in range(_STARTS):
        up, done, memory, most = _once(home)
        served.append(up)
        answered.append(done)
        first.append(memory)
        peak.append(most)
    return [
        Figure(f"app start to its page being served, s ({report.notes} notes)", spread(served, 2)),
        Figure(
            "**app start to first answer**, asked in a browser as soon as the page stands, s",
            spread(answered, 2),
            "under 10",
            median(answered) < 10,
        ),
        Figure("memory of the app after the first answer (VmRSS), MiB", spread(first, 0)),
        Figure("most it held until then (VmHWM), MiB", spread(peak, 0)),
    ]


def _once(home: Path) -> tuple[float, float, float, float]:
    """Seconds until served, seconds until answered, MiB held, MiB held at most."""
    port = _free_port()
    command = [sys.executable, "-m", "service.cli", "--home", str(home), "serve", "--port", str(port)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_FLAGS)
        page = browser.new_page()
        began = time.perf_counter()
        app = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait(address, app)
            up = time.perf_counter() - began
            page.goto(address, wait_until="domcontentloaded")
            page.fill("#ask-input textarea", QUESTION, timeout=60_000)
            page.press("#ask-input textarea", "Enter")
            page.wait_for_selector("#answer .statement", timeout=60_000)
            done = time.perf_counter() - began
            page.wait_for_selector("#answer .foot", timeout=60_000)
            return up, done, _mebibytes(app.pid, "VmRSS"), _mebibytes(app.pid, "VmHWM")
        finally:
            app.terminate()
            app.wait(timeout=30)
            browser.close()


def _wait(address: str, app: subprocess.Popen[bytes]) -> None:
    ends = time.perf_counter() + _PATIENCE
    while time.perf_counter() < ends and app.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise SystemExit("the app did not come up: try `passkb serve`")


def _mebibytes(process: int, key: str) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/{process}/status does not tell {key}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
