"""Tests programs with two sandboxes, one for the program and one for its tests, connected by a socket.

The tests receive plain data from the program, and this process receives none. A sandbox that dies is replaced, and its program
is `lost`.
"""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from service.experiments.sandbox import protocol
from service.experiments.sandbox.bubblewrap import Died, Limits, Sandbox

# A healthy sandbox can be slow on a busy machine.
_GRACE_S = 10.0
_NOW, _ENDING = b"n", b"e"
_NOT_CONFINED = 70
_LONGEST = 2**20
# The limit counts ticks, the usage exact time; the two differ on a busy machine.
_NEARLY = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """`program` is complete; `prefix` is the part by the problem's author, whose helpers the tests can use."""

    program: str
    tests: str
    entry_point: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`kind`: pass, fail, timeout, tests (the tests are invalid) or lost (the sandbox died). `shape`: equal for programs that
    differ in layout and comments only, "" if not Python. `defined`: the program defines the entry point."""

    kind: str
    reason: str = ""
    shape: str = ""
    defined: bool = False
    cpu_s: float = 0.0


class Examiner:
    """Tests one program at a time. Use and close it in the thread that created it, because its sandboxes end with that thread.

    Raises SandboxUnavailable."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.sandboxes: dict[str, Sandbox] = {}
        for role in ("programs", "tests"):
            self._sandbox(role)

    def examine(self, case: Case) -> Outcome:
        """Raises SandboxUnavailable when a sandbox that died can't be replaced."""
        if len(case.program) > _LONGEST:
            return Outcome("fail", f"a program of {len(case.program)} characters is over the limit of {_LONGEST}")
        deadline = time.monotonic() + self.limits.wall_s
        programs, tests = self._sandbox("programs"), self._sandbox("tests")
        try:
            _start(programs, tests, case, self.limits)
            report = _receive(tests, deadline)
            end = _stop(programs, _ENDING if report and report["outcome"] == "ended" else _NOW)
        except Died as error:
            # Discard both: the other one is in the middle of the case.
            self._discard("programs", "tests")
            return Outcome("lost", str(error))
        if report is None and not _tests_ended(tests):
            self._discard("tests")
        return self._outcome(report, end)

    def abandon(self) -> None:
        """Aborts the current test from any thread."""
        for sandbox in list(self.sandboxes.values()):
            sandbox.process.kill()

    def close(self) -> None:
        while self.sandboxes:
            self.sandboxes.popitem()[1].close()

    def _sandbox(self, role: str) -> Sandbox:
        if role not in self.sandboxes:
            self.sandboxes[role] = Sandbox(role, self.limits)
        return self.sandboxes[role]

    def _discard(self, *roles: str) -> None:
        for role in roles:
            self.sandboxes.pop(role).kill()

    def _outcome(self, report: dict[str, Any] | None, end: dict[str, Any]) -> Outcome:
        cpu_s, why, status = end["cpu_s"], end["why"], end["status"]
        if report is None:
            return Outcome("timeout", f"not finished after {self.limits.wall_s:g} s", cpu_s=cpu_s)
        kind, reason = report["outcome"], report["reason"]
        if kind == "ended" and status == _NOT_CONFINED << 8 and not report["shape"]:
            # This happened before the program was read, so the program can't fake it.
            kind, reason = "lost", "its process could not be confined"
        elif kind == "ended":
            kind, reason = "fail", _ending(reason, end)
            if not why and status in (signal.SIGXCPU, signal.SIGKILL) and cpu_s >= _NEARLY * self.limits.cpu_s:
                kind, reason = "timeout", f"over {math.ceil(self.limits.cpu_s)} s of CPU time"
        return Outcome(kind, reason, report["shape"], report["defined"], cpu_s)


def _start(programs: Sandbox, tests: Sandbox, case: Case, limits: Limits) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _send(programs, {"cpu_s": math.ceil(limits.cpu_s)}, theirs)
        request = {"program": case.program, "tests": case.tests, "entry_point": case.entry_point, "prefix": case.prefix}
        _send(tests, request, ours)


def _send(sandbox: Sandbox, request: dict[str, Any], channel: socket.socket) -> None:
    sandbox.control.settimeout(_GRACE_S)
    try:
        protocol.send(sandbox.control, request, channel)
    except OSError as error:
        raise Died(f"a sandbox does not accept requests: {error}") from error


def _receive(sandbox: Sandbox, deadline: float) -> dict[str, Any] | None:
    """None at the deadline. Raises Died."""
    sandbox.control.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        return dict(protocol.receive(sandbox.control))
    except TimeoutError:
        return None
    except (EOFError, OSError, protocol.WireError, ValueError, TypeError) as error:
        raise Died(f"a sandbox died on this program: {error}") from error


def _stop(programs: Sandbox, how: bytes) -> dict[str, Any]:
    with contextlib.suppress(OSError):
        programs.control.sendall(how)
    end = _receive(programs, time.monotonic() + _GRACE_S)
    if end is None:
        raise Died("the sandbox does not end its program")
    return end


def _tests_ended(tests: Sandbox) -> bool:
    """Whether the tests ended after the program was stopped; their report is ignored."""
    try:
        return _receive(tests, time.monotonic() + _GRACE_S) is not None
    except Died:
        return False


def _ending(reason: str, end: dict[str, Any]) -> str:
    status = end["status"]
    if end["why"]:
        return str(end["why"])
    if end["alive"]:
        return reason
    if status & 0x7F:
        return f"{reason} (by {signal.Signals(status & 0x7F).name})"
    return f"{reason} (exit status {status >> 8})"
