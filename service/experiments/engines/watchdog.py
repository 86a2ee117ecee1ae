"""Runs a command for a parent process and ends it, with all that it started, when the parent is gone. Standard library only.

    python guard.py PARENT_PID COMMAND [ARGUMENT ...]

Started as the leader of a process group of its own: whoever ends that group ends everything. A parent that was killed can't
do so, which is what the guard is for. (PR_SET_PDEATHSIG alone won't do: it fires when the *thread* that started us ends.)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

_LOOK = 0.25
_GRACE = 5.0


def main() -> int:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    # The group's SIGTERM is for the command; the guard stays to see it end. A handler, unlike SIG_IGN, is not inherited.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_the_guard)
    while child.poll() is None and os.getppid() == parent:
        time.sleep(_LOOK)
    if child.returncode is None:
        os.killpg(0, signal.SIGTERM)
        _wait(child, _GRACE)
        os.killpg(0, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(seconds)


def _die_with_the_guard() -> None:
    """Linux only: should the guard itself be killed, its command goes along."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
