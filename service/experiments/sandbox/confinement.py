"""What a program may ask of the kernel, as limits and seccomp filters that hold for its process. Standard library only.

A program gets one process: no fork, no exec, no sockets, nothing that outlives it (System V and POSIX queues, keys), nothing
that reaches another process (ptrace, others' limits, priorities). Threads are allowed. Nothing of this can be taken off again.

Knows nothing about namespaces, which bubblewrap sets up, nor about programs. Linux on x86-64 or 64-bit ARM; see seccomp(2) and
the kernel's `syscall_64.tbl` and `asm-generic/unistd.h` for the numbers.
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
# The address that the kernel is handed, the program that lies there, and its instructions: both have to be kept.
_Filter = tuple[ctypes.c_ulong, ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]


class _Numbers:
    """System calls of an architecture, by number."""

    def __init__(self, audit: int, clone: int, forks: tuple[int, ...], prlimit: int, refused: tuple[int, ...]) -> None:
        self.audit, self.clone, self.forks, self.prlimit, self.refused = audit, clone, forks, prlimit, refused


# In the order: execve, execveat, socket, ptrace, process_vm_readv, process_vm_writev, kcmp; shmget, shmat, shmctl, semget,
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
    """Closes this process's memory and descriptors to others of the same user."""
    _prctl(_SET_DUMPABLE, _NOTHING)


def limit(memory: int, file: int, files: int) -> None:
    """Sets the limits that this process shares with those it forks, where they then cost nothing: bytes of address space, bytes
    a file, open files."""
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
    """Seconds of CPU from this process's start. SIGXCPU comes first, then SIGKILL."""
    lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)


def lower(what: int, soft: int, hard: int) -> None:
    """Sets a limit, or what is in force where that is lower already."""
    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))


def confine() -> None:
    """Puts on this process and its children the filter that leaves forking alone. It is the long one, and checking it costs the
    kernel a millisecond. Raises OSError where the kernel has no filters, KeyError on another architecture."""
    numbers = _numbers()
    steps = [step for number in (*numbers.refused, *_NEWER) for step in _refuse(number)]
    _prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    _put_on(_compiled(steps + _if_argument(numbers.prlimit, (_EQUAL, 0, 1, 0))))


def stay_one() -> None:
    """Refuses this process any other; threads it may have. Raises OSError, KeyError."""
    _put_on(one_process())


@functools.cache
def one_process() -> _Filter:
    """What `stay_one` puts on. Asked for before a fork, it is made once for all processes."""
    numbers = _numbers()
    steps = [step for number in (*numbers.forks, _PIDFD_OPEN) for step in _refuse(number)]
    # Told that there is no clone3, glibc takes clone, whose flags a filter can read.
    steps += _refuse(_CLONE3, errno.ENOSYS)
    return _compiled(steps + _if_argument(numbers.clone, (_ANY_BIT, 0, 1, _CLONE_THREAD)))


def prove() -> None:
    """Tries what the filters refuse, in a process that may be given up. Raises RuntimeError for what was not refused."""
    stay_one()
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


def _compiled(steps: list[_Step]) -> _Filter:
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


def _put_on(put: _Filter) -> None:
    _prctl(_SET_SECCOMP, _FILTER_MODE, put[0])


def _refuse(number: int, code: int = errno.EPERM) -> list[_Step]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | code)]


def _if_argument(number: int, test: _Step) -> list[_Step]:
    """Allows the call when its first argument passes the test, else refuses it."""
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
