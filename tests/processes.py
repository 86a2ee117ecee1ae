"""What tests ask of processes: how many handles one holds, and what a script says that runs in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def handles(pid: int | str = "self") -> int:
    """How many file handles a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int | str = "self") -> int:
    """What a process holds of memory, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")


def run_python(script: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done
