"""Ten thousand notes: how long a `sync` takes that finds nothing changed, and what memory an ingest holds at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.data import REPOSITORY, grow, vault
from bench.figures import Figure, median, spread

TIMES = 14
_SYNCS = 5
_SETTLED = 3.0  # seconds: a file younger than that is read again to be sure, as nobody's vault of last week is


def measure(scratch: Path) -> list[Figure]:
    """The whole command each time, in a process of its own; memory is the greatest resident set of that process (ru_maxrss)."""
    folder, home = scratch / "vault", scratch / "home"
    count = grow(vault(), folder, TIMES)
    time.sleep(_SETTLED)
    report, took, most = _passkb(home, "ingest", str(folder))
    syncs = [_passkb(home, "sync") for _ in range(_SYNCS)]
    seconds = [taken for _, taken, _ in syncs]
    unchanged = all(result["unchanged"] == count and not result["embedded"] for result, _, _ in syncs)
    if report["added"] != count or not unchanged:
        raise SystemExit(f"the measurement is not what it says: {report['added']} of {count} added, {syncs[0][0]}")
    one = folder / "one more.md"
    one.write_text("One more note, which says something that no other says.\n", encoding="utf-8")
    _, added, _ = _passkb(home, "sync")
    return [
        Figure(f"`passkb ingest` of {count} notes ({report['embedded']} chunks embedded), s", f"{took:.0f}"),
        Figure("**peak memory of that ingest**, MiB", f"{most:.0f}", "under 1,536", most < 1536),
        Figure("**`passkb sync`, nothing changed**, whole command, s", spread(seconds, 2), "under 3", median(seconds) < 3),
        Figure("peak memory of that sync, MiB", spread([peak for _, _, peak in syncs], 0)),
        Figure("`passkb sync`, one note added, whole command, s", f"{added:.2f}"),
    ]


def _passkb(home: Path, *arguments: str) -> tuple[dict[str, Any], float, float]:
    """What the command printed, its seconds, and the most MiB it held."""
    command = [sys.executable, "-m", "service.cli", "--home", str(home), *arguments, "--json"]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`passkb {' '.join(arguments)}` ended with {process.returncode}")
    return json.loads(printed), time.perf_counter() - began, usage.ru_maxrss / 1024
