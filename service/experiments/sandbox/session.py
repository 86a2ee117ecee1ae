"""Tests programs: one sandbox holds a model's program, another runs the tests, and the two talk over a socket made for that.

What a program says reaches the tests as plain data, and reaches this process not at all. Knows nothing about problems,
completions or verdict words; a sandbox that dies is replaced, and the program it died on is `lost`.
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

# Under a load of many programs a core, a healthy sandbox may be slow to answer.
_GRACE_S = 10.0
_NOW, _ENDING = b"n", b"e"
_NOT_CONFINED = 70
_LONGEST = 2**20
# The kernel counts ticks for its limit, and exact time for what was used: the two differ on a busy machine.
_NEARLY = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """`program` is whole; `prefix` is the part of it that the problem's author wrote, whose helpers the tests may use."""

    program: str
    tests: str
    entry_point: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`kind`: pass, fail, timeout, tests (at fault, whatever the program) or lost (the sandbox died). `shape`: equal for
    programs that differ in layout and comments only, "" when it is no Python. `defined`: it defines the entry point."""

    kind: str
    reason: str = ""
    shape: str = ""
    defined: bool = False
    cpu_s: float = 0.0


class Examiner:
    """Examines one program at a time. Use it, and close it, in the thread that made it: its sandboxes end with that thread.

    Raises SandboxUnavailable when they can't be had."""

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
            report = _answer(tests, deadline)
            end = _stop(programs, _ENDING if report and report["outcome"] == "gone" else _NOW)
        except Died as error:
            # Both go: the one that is alive holds half of an unfinished case.
            self._discard("programs", "tests")
            return Outcome("lost", str(error))
        if report is None and not _settled(tests):
            self._discard("tests")
        return self._outcome(report, end)

    def abandon(self) -> None:
        """From any thread: what is being examined is lost."""
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
            return Outcome("timeout", f"not done after {self.limits.wall_s:g} s", cpu_s=cpu_s)
        kind, reason = report["outcome"], report["reason"]
        if kind == "gone" and status == _NOT_CONFINED << 8 and not report["shape"]:
            # Before the program was read, so it is not the program that says so.
            kind, reason = "lost", "its process could not be confined"
        elif kind == "gone":
            kind, reason = "fail", _ending(reason, end)
            if not why and status in (signal.SIGXCPU, signal.SIGKILL) and cpu_s >= _NEARLY * self.limits.cpu_s:
                kind, reason = "timeout", f"over {math.ceil(self.limits.cpu_s)} s of CPU time"
        return Outcome(kind, reason, report["shape"], report["defined"], cpu_s)


def _start(programs: Sandbox, tests: Sandbox, case: Case, limits: Limits) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _ask(programs, {"cpu_s": math.ceil(limits.cpu_s)}, theirs)
        request = {"program": case.program, "tests": case.tests, "entry_point": case.entry_point, "prefix": case.prefix}
        _ask(tests, request, ours)


def _ask(sandbox: Sandbox, request: dict[str, Any], channel: socket.socket) -> None:
    sandbox.control.settimeout(_GRACE_S)
    try:
        protocol.send(sandbox.control, request, channel)
    except OSError as error:
        raise Died(f"a sandbox takes no request: {error}") from error


def _answer(sandbox: Sandbox, deadline: float) -> dict[str, Any] | None:
    """None at the deadline. Raises Died."""
    sandbox.control.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        return dict(protocol.receive(sandbox.control))
    except TimeoutError:
        return None
    except (EOFError, OSError, protocol.WireError, ValueError, TypeError) as error:
        raise Died(f"a sandbox ended on this program: {error}") from error


def _stop(programs: Sandbox, how: bytes) -> dict[str, Any]:
    with contextlib.suppress(OSError):
        programs.control.sendall(how)
    end = _answer(programs, time.monotonic() + _GRACE_S)
    if end is None:
        raise Died("the sandbox does not end its program")
    return end


def _settled(tests: Sandbox) -> bool:
    """Whether the tests gave up once the program was stopped; what they then say comes too late."""
    try:
        return _answer(tests, time.monotonic() + _GRACE_S) is not None
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
