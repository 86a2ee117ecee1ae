"""A served app under waves of searches: as many handles and as much memory after the sixth as after the first."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.processes import handles, memory

FEW = 128  # as `ulimit -n 128`
AT_ONCE, WAVES = 40, 6


@contextmanager
def served(home: Path, limit: int) -> Iterator[tuple[str, int]]:
    """The address and the process of an app that may hold `limit` handles."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    command = [sys.executable, "-m", "service.cli", "--home", str(home), "serve", "--no-worker", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=limited) as server:
        try:
            assert server.stdout and server.stdout.readline().startswith("passkb: http")
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()
            server.wait(60)


def test_waves_of_searches_leave_handles_and_memory_flat_with_few_handles(sample_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "served"
    shutil.copytree(sample_home, home)
    with served(home, FEW) as (address, pid):
        failures: list[str] = []

        def search(query: str) -> None:
            try:
                with urllib.request.urlopen(f"{address}/api/v1/search?q={query}&k=3", timeout=120) as answer:
                    assert json.load(answer)["hits"]
            except Exception as error:
                failures.append(f"{error} {getattr(error, 'read', bytes)()!r}")

        after = []
        for wave in range(WAVES):
            threads = [threading.Thread(target=search, args=(f"entropy+{wave}+{i}",)) for i in range(AT_ONCE)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            after.append((handles(pid), memory(pid)))
        assert not failures
        assert max(number for number, _ in after[1:]) - after[0][0] <= 8, after
        assert after[-1][1] - after[0][1] <= 40, after
