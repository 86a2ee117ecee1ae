"""The first process of a sandbox: forks a process for each program and cleans up after it, or runs tests. Standard library
only.

As the first process of its namespace it can't be killed from inside, `kill(-1)` reaches all other processes, and when it ends
the kernel ends them. A program's text goes to the forked process on its own socket, so no program can find another's text in
memory.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from service.experiments.sandbox import confinement, program_host, protocol

# Frequently imported modules; every preloaded module makes forks slower.
PRELOADED = (
    "abc bisect collections contextlib copy decimal enum fractions functools heapq itertools json math numbers operator os "
    "random re string struct time types typing"
).split()
_POLL_MS = 50
_DYING_S = 1.0
_ENDING = b"e"
_NOT_CONFINED = 70
_TEMPORARY = "/tmp"


def main() -> None:
    """Arguments: role (`programs` or `tests`), descriptor of the control socket, limits as JSON."""
    role, descriptor, limits = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    with socket.socket(fileno=descriptor) as control:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        confinement.unreadable()
        confinement.confine()
        serve = _programs if role == "programs" else _tests
        if role == "programs":
            confinement.limit(limits["memory"], limits["file"], limits["files"])
            _preload()
        else:
            importlib.import_module("service.experiments.sandbox.test_runner")
            confinement.lower(resource.RLIMIT_AS, 2 * limits["memory"], 2 * limits["memory"])
        _prove_confinement()
        gc.collect()
        gc.freeze()
        protocol.send(control, "ready")
        with contextlib.suppress(EOFError, OSError):
            while True:
                serve(control, limits)


def _preload() -> None:
    confinement.fork_filter()
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    try:
        # `random` would reseed in every fork, which takes longer than the fork; it gets a fixed seed instead.
        for name in PRELOADED:
            importlib.import_module(name)
    finally:
        os.register_at_fork = register
    program_host.warm_up()
    sys.modules["random"].seed(0)


def _request(control: socket.socket) -> tuple[Any, socket.socket]:
    head, descriptors, _, _ = socket.recv_fds(control, 4, 1)
    if len(head) < 4 or not descriptors:
        raise EOFError
    # With explicit types Python makes no system call.
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptors[0])
    return protocol.receive_body(control, int.from_bytes(head, "big")), channel


def _tests(control: socket.socket, _: dict[str, int]) -> None:
    # Imported here, because the other role does not need it.
    from service.experiments.sandbox import test_runner

    case, channel = _request(control)
    with channel:
        report = test_runner.examine(channel, case)
    protocol.send(control, report)


def _programs(control: socket.socket, limits: dict[str, int]) -> None:
    request, channel = _request(control)
    child = os.fork()
    if not child:
        _become_host(control, channel, int(request["cpu_s"]))
    channel.close()
    protocol.send(control, _watch(child, control, limits["threads"]))


def _become_host(control: socket.socket, channel: socket.socket, cpu_s: int) -> NoReturn:
    try:
        # Until the program starts, because parsing allocates much and frees little.
        gc.disable()
        control.close()
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.closerange(3, channel.fileno())
        os.closerange(channel.fileno() + 1, 1024)
        confinement.limit_cpu(cpu_s)
        confinement.forbid_fork()
        program_host.run_host(channel)
    finally:
        os._exit(_NOT_CONFINED)


def _watch(child: int, control: socket.socket, threads: int) -> dict[str, Any]:
    """Waits for the stop message and cleans up: the child's exit status, CPU seconds, and why it was stopped."""
    ended: tuple[int, float] | None = None
    why = ""
    watched = os.pidfd_open(child)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(watched, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(_POLL_MS if ended is None else None)}
        if watched in ready:
            poll.unregister(watched)
            ended = _reap(child)
        elif not ready and _thread_count(child) > threads:
            why = f"it started more than {threads} threads"
            os.kill(child, signal.SIGKILL)
        if control.fileno() in ready:
            how = control.recv(1)
            if not how:
                raise EOFError
            if how == _ENDING and ended is None and _ends(watched):
                ended = _reap(child)
            break
    os.close(watched)
    status, cpu_s = _end_all(child) if ended is None else ended
    _empty(_TEMPORARY)
    return {"status": status, "cpu_s": cpu_s, "why": why, "alive": ended is None}


def _ends(watched: int) -> bool:
    """Whether a process that closed its channel exits soon."""
    return bool(select.select([watched], [], [], _DYING_S)[0])


def _end_all(child: int) -> tuple[int, float]:
    os.kill(-1, signal.SIGKILL)
    return _reap(child)


def _reap(child: int) -> tuple[int, float]:
    """Waits for the child, then kills and reaps the remaining processes."""
    _, status, usage = os.wait4(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return status, usage.ru_utime + usage.ru_stime


def _thread_count(child: int) -> int:
    try:
        return len(os.listdir(f"/proc/{child}/task"))
    except OSError:
        return 0


def _empty(folder: str) -> None:
    """Removes a program's files. Raises OSError on failure, which ends this sandbox.

    Moves nested folders up first, so that no path exceeds the kernel's limit."""
    folders = _remove_files(folder)
    unused = (path for path in map(f"{folder}/{{}}".format, itertools.count()) if not os.path.lexists(path))
    while folders:
        emptied = folders.pop()
        for inner in _remove_files(emptied):
            folders.append(next(unused))
            os.rename(inner, folders[-1])
        os.rmdir(emptied)


def _remove_files(folder: str) -> list[str]:
    """Removes the files in a folder, and returns its folders with permissions reset."""
    folders = []
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            folders.append(entry.path)
        else:
            os.unlink(entry.path)
    return folders


def _prove_confinement() -> None:
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            confinement.prove()
            os._exit(0)
        os._exit(1)
    if os.wait4(child, 0)[1]:
        raise RuntimeError("the kernel does not enforce the seccomp filters")
