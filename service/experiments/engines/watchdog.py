"""Runs a command and kills its process group when the parent process ends. Standard library only.

    python watchdog.py PARENT_PID COMMAND [ARGUMENT ...]

It leads its own process group, so killing the group ends everything. PR_SET_PDEATHSIG alone is not enough: it fires when the
*thread* that started the process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

_POLL = 0.25
_GRACE = 5.0


def main() -> int:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    # SIGTERM to the group is for the command; the watchdog waits for its end. Unlike SIG_IGN, a handler is not inherited.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_watchdog)
    while child.poll() is None and os.getppid() == parent:
        time.sleep(_POLL)
    if child.returncode is None:
        os.killpg(0, signal.SIGTERM)
        _wait(child, _GRACE)
        os.killpg(0, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(seconds)


def _die_with_watchdog() -> None:
    """Kills the command when the watchdog is killed (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
