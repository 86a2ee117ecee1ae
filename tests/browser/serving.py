"""Runs the app in its own process, and opens Chromium pages that record errors and foreign requests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class App:
    """A running server and a browser; `page` opens tabs that notice errors and requests to other machines."""

    address: str
    browser: Any
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def page(self, path: str = "/", **options: Any) -> Any:
        return self.watched(self.browser.new_page(**options), path)

    def watched(self, page: Any, path: str = "/") -> Any:
        """A page of whatever context, opened at `path`."""
        page.set_default_timeout(60_000)  # a busy machine takes its time; nothing here is timed
        page.on("request", lambda request: self._check(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.address + path)
        return page

    def _check(self, address: str) -> None:
        if not address.startswith((self.address, "data:", "blob:", "about:")):
            self.foreign.append(address)


def passkb(home: Path, *arguments: str, check: bool = True) -> bytes:
    """What a command prints."""
    command = [sys.executable, "-m", "service.cli", "--home", str(home), *arguments]
    return subprocess.run(command, cwd=ROOT, check=check, capture_output=True).stdout


@contextmanager
def served(home: Path, *options: str, port: int = 0) -> Iterator[str]:
    """`passkb serve` on `port`, or a free one, while it lasts; its address."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [sys.executable, "-m", "service.cli", "--home", str(home), "serve", "--port", str(port), *options]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the app did not start within two minutes")


def ask(page: Any, question: str) -> None:
    page.fill("#ask-input textarea", question)
    page.press("#ask-input textarea", "Enter")
