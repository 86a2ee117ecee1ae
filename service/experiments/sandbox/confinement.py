"""Resource limits and seccomp filters that restrict a program's system calls. Standard library only.

A program has one process: no fork, exec or sockets, nothing that outlives it (System V and POSIX queues, keys), nothing that
affects other processes (ptrace, limits, priorities). Threads are allowed. The filters can't be removed.

Linux on x86-64 or 64-bit ARM; the numbers are in seccomp(2) and the kernel's `syscall_64.tbl` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import resource
import socket
import struct
from collections.abc import Callable

_SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS, _FILTER_MODE = 4, 22, 38, ctypes.c_ulong(2)
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_CLONE_THREAD, _X32 = 0x00010000, 0x40000000

# pidfd_send_signal, io_uring (3), open_tree to fspick (6), pidfd_getfd, process_madvise, mount_setattr, process_mrelease
_NEWER = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 448)


_Step = tuple[int, int, int, int]
# The address for the kernel, the program at that address, and its instructions; both must stay alive.
_Filter = tuple[ctypes.c_ulong, ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]


class _Numbers:
    """System call numbers of an architecture."""

    def __init__(self, audit: int, clone: int, forks: tuple[int, ...], prlimit: int, refused: tuple[int, ...]) -> None:
        self.audit, self.clone, self.forks, self.prlimit, self.refused = audit, clone, forks, prlimit, refused


# In this order: execve, execveat, socket, ptrace, process_vm_readv, process_vm_writev, kcmp; shmget, shmat, shmctl, semget,
# semop, semctl, msgget, msgsnd, msgrcv, msgctl, mq_open; add_key, request_key, keyctl; setpriority, sched_setparam,
# sched_setscheduler, sched_setaffinity, sched_setattr, ioprio_set, migrate_pages, move_pages; personality, mount, umount2,
# pivot_root, unshare, setns, bpf, perf_event_open, userfaultfd, kexec_load, init_module, finit_module.
_ARCHITECTURES = {
    "x86_64": _Numbers(
        0xC000003E,
        clone=56,
        forks=(57, 58),
        prlimit=302,
        refused=(
            *(59, 322, 41, 101, 310, 311, 312),
            *(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240),
            *(248, 249, 250),
            *(141, 142, 144, 203, 314, 251, 256, 279),
            *(135, 165, 166, 155, 272, 308, 321, 298, 323, 246, 175, 313),
        ),
    ),
    "aarch64": _Numbers(
        0xC00000B7,
        clone=220,
        forks=(),
        prlimit=261,
        refused=(
            *(221, 281, 198, 117, 270, 271, 272),
            *(194, 196, 195, 190, 193, 191, 186, 189, 188, 187, 180),
            *(217, 218, 219),
            *(140, 118, 119, 122, 274, 30, 238, 239),
            *(92, 40, 39, 41, 97, 268, 280, 241, 282, 104, 105, 273),
        ),
    ),
}
_CLONE3, _PIDFD_OPEN = 435, 434
ARCHITECTURES = tuple(_ARCHITECTURES)


def unreadable() -> None:
    """Protects this process's memory and descriptors from other processes of the same user."""
    _prctl(_SET_DUMPABLE, _NOTHING)


def limit(memory: int, file: int, files: int) -> None:
    """Sets limits that forked processes inherit: bytes of address space, bytes per file, open files."""
    pairs = [
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ]
    for what, most in pairs:
        lower(what, most, most)


def limit_cpu(cpu_s: int) -> None:
    """Limits CPU seconds since the start of this process: SIGXCPU, then SIGKILL."""
    lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)


def lower(what: int, soft: int, hard: int) -> None:
    """Lowers a limit; a lower existing limit stays."""
    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))


def confine() -> None:
    """Installs the filter for this process and its children that still allows forking. The kernel needs a millisecond to
    check it. Raises OSError without kernel support, KeyError on another architecture."""
    numbers = _numbers()
    steps = [step for number in (*numbers.refused, *_NEWER) for step in _refuse(number)]
    _prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    _install(_compile(steps + _if_argument(numbers.prlimit, (_EQUAL, 0, 1, 0))))


def forbid_fork() -> None:
    """Forbids this process to fork; threads stay allowed. Raises OSError, KeyError."""
    _install(fork_filter())


@functools.cache
def fork_filter() -> _Filter:
    """The filter of `forbid_fork`, cached so that a call before forking serves all processes."""
    numbers = _numbers()
    steps = [step for number in (*numbers.forks, _PIDFD_OPEN) for step in _refuse(number)]
    # Without clone3, glibc uses clone, whose flags a filter can read.
    steps += _refuse(_CLONE3, errno.ENOSYS)
    return _compile(steps + _if_argument(numbers.clone, (_ANY_BIT, 0, 1, _CLONE_THREAD)))


def prove() -> None:
    """Tries the forbidden calls in a disposable process. Raises RuntimeError for a call that succeeds."""
    forbid_fork()
    attempts: dict[str, Callable[[], object]] = {
        "fork": os.fork,
        "exec": lambda: os.execv("/proc/self/exe", ["python", "-c", ""]),
        "socket": lambda: socket.socket(socket.AF_UNIX),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, 10),
        "limits of another process": lambda: resource.prlimit(1, resource.RLIMIT_NOFILE),
    }
    for what, attempt in attempts.items():
        try:
            attempt()
        except PermissionError:
            continue
        raise RuntimeError(f"the kernel did not refuse {what}")


def _numbers() -> _Numbers:
    return _ARCHITECTURES[os.uname().machine]


def _compile(steps: list[_Step]) -> _Filter:
    """Classic BPF, each instruction eight bytes: code, jump if true, jump if false, operand."""
    opening = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _numbers().audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE | errno.EPERM),
    ]
    body = b"".join(struct.pack("HBBI", *step) for step in [*opening, *steps, (_RETURN, 0, 0, _ALLOW)])
    instructions = ctypes.create_string_buffer(body, len(body))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(body) // 8, ctypes.addressof(instructions)))
    return ctypes.c_ulong(ctypes.addressof(program)), program, instructions


def _install(put: _Filter) -> None:
    _prctl(_SET_SECCOMP, _FILTER_MODE, put[0])


def _refuse(number: int, code: int = errno.EPERM) -> list[_Step]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | code)]


def _if_argument(number: int, test: _Step) -> list[_Step]:
    """Allows the call if its first argument passes the test, else refuses it."""
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        test,
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE | errno.EPERM),
    ]


_libc = ctypes.CDLL(None, use_errno=True)


_NOTHING = ctypes.c_ulong(0)


def _prctl(option: int, value: ctypes.c_ulong, more: ctypes.c_ulong = _NOTHING) -> None:
    if _libc.prctl(option, value, more, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")
