"""Runs a command under strace and lists what its whole process tree did outside loopback and outside the folders it may write.

Native code is seen like any other: these are its system calls. Processes in a mount namespace of their own (the sandbox's) are
held to the network rules only, since their paths mean other files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
_NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg", "bind")
_FILES = (
    "open", "openat", "openat2", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "link",
    "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir", "truncate", "chmod", "fchmodat", "utimensat",
)  # fmt: skip
_PROCESSES = ("clone", "clone3", "fork", "vfork", "unshare", "chdir", "fchdir")
# `?` lets strace pass over calls that this architecture lacks.
_CALLS = ",".join(f"?{name}" for name in (*_NETWORK, *_FILES, *_PROCESSES, "io_uring_setup"))
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (\?|-?\d+|0x[0-9a-f]+)(?:<[^>]*>)?(?: (E\w+))?")
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_UNIX = re.compile(r'sun_path=(@?)"((?:[^"\\]|\\.)*)"')
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_WRITES = re.compile(r"O_(?:WRONLY|RDWR|CREAT|TRUNC|TMPFILE)")
_HARMLESS = {"mkdir": "EEXIST", "mkdirat": "EEXIST", "unlink": "ENOENT", "unlinkat": "ENOENT", "rmdir": "ENOENT"}
_DEVICES = ("/dev/", "/proc/")


@cache
def unavailable() -> str:
    """Why no process can be traced here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run([*_strace(Path("/dev/null")), "true"], capture_output=True, text=True, check=False)
    return f"strace does not work here: {(probe.stderr.strip().splitlines() or ['?'])[-1]}" if probe.returncode else ""


def _strace(log: Path) -> list[str]:
    # What goes through io_uring is no system call that can be seen: as if the kernel had none, programs do without it.
    seen = ["-e", f"trace={_CALLS}", "-e", "signal=none", "-e", "inject=io_uring_setup:error=ENOSYS"]
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", *seen, "-o", str(log)]


@dataclass
class Guard:
    """`folder` holds HOME, which must stay empty, and what may be written: `home` and `temporary`."""

    folder: Path
    logs: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in (self.user, self.temporary):
            path.mkdir(parents=True)

    @property
    def user(self) -> Path:
        return self.folder / "user"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the caller's that could close what the product has to close."""
        own = {"HOME": str(self.user), "TMPDIR": str(self.temporary), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return {**own, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """The process of strace, which ends when the last process of the tree has ended."""
        log = self.folder / f"{len(self.logs)}.strace"
        self.logs.append(log)
        return subprocess.Popen(
            [*_strace(log), *command], env=self.environment(**(environment or {})), cwd=self.temporary, text=True, **options
        )

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(command, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(list(command), process.returncode, out, err)

    def passkb(self, *arguments: str, **environment: str) -> str:
        """What a command prints; the test fails where it does."""
        done = self.run(self.command(*arguments), environment)
        assert done.returncode == 0, f"passkb {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "service.cli", "--home", str(self.home), *arguments]

    def violations(self) -> list[str]:
        """Each forbidden call once, of all commands so far, and what lies in HOME."""
        allowed = tuple(str(path.resolve()) for path in (self.home, self.temporary))
        calls = [line for log in self.logs for line in forbidden(log.read_text("utf-8", "replace"), self.temporary, allowed)]
        left = [f"left in HOME: {path}" for path in sorted(self.user.rglob("*"))]
        return [*dict.fromkeys(calls), *left]


def terminate(strace: subprocess.Popen[Any], seconds: float = 60.0) -> None:
    """Ends what strace traces, as a user would, and waits for the whole tree."""
    children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text("ascii").split()
    for child in children:
        os.kill(int(child), 15)
    deadline = time.monotonic() + seconds
    while strace.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if strace.poll() is None:
        strace.kill()
        raise AssertionError(f"the processes did not end within {seconds:g} s")


def forbidden(log: str, folder: Path, allowed: Sequence[str]) -> Iterator[str]:
    """The calls of a log that reach beyond loopback, ask a name server, or change a file outside `allowed`. `folder`: where the
    first process was started."""
    calls = list(_calls(log.splitlines()))
    parents, private = _tree(calls)
    folders: dict[str, Path] = defaultdict(lambda: folder)
    for pid, name, arguments, result, error in calls:
        if pid in parents and pid not in folders:
            folders[pid] = folders[parents[pid]]
        if name == "chdir" and result == "0" and (changed := _PATH.match(arguments)):
            folders[pid] = folders[pid] / changed[2]
        elif name in _NETWORK:
            if (reason := _network(name, arguments)) or (
                reason := _bound(name, arguments, folders[pid], allowed, pid in private)
            ):
                yield f"{reason}: {name}({arguments[:200]})"
        elif name in _FILES and pid not in private and _HARMLESS.get(name) != error:
            for path in _changed(name, arguments, folders[pid]):
                if not path.startswith(_DEVICES) and not _within(path, allowed):
                    yield f"writes outside its folders: {name}({arguments[:200]}) = {error or result}"


def _calls(lines: Sequence[str]) -> Iterator[tuple[str, str, str, str, str]]:
    """Process, name, arguments, result and error of each call, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in lines:
        if m := _UNFINISHED.match(line):
            begun[m[1]] = m[2]
            continue
        if m := _RESUMED.match(line):
            line = f"{m[1]} {begun.pop(m[1], '')}{m[2]}"
        if call := _LINE.match(line):
            yield call[1], call[2], call[3], call[4], call[5] or ""
    for pid, text in begun.items():  # the process ended within the call
        name, _, arguments = text.partition("(")
        yield pid, name.strip(), arguments, "?", ""


def _tree(calls: Sequence[tuple[str, str, str, str, str]]) -> tuple[dict[str, str], set[str]]:
    """Each process's parent, and those that have left our mount namespace, with their children."""
    parents = {result: pid for pid, name, _, result, _ in calls if name in ("clone", "clone3", "fork", "vfork")}
    left = {
        result if name.startswith("clone") else pid
        for pid, name, arguments, result, error in calls
        if name in ("clone", "clone3", "unshare") and "CLONE_NEWNS" in arguments and not error
    }
    private = set(left)
    for pid in parents:
        above = pid
        while above in parents and above not in left:
            above = parents[above]
        if above in left:
            private.add(pid)
    return parents, private


def _network(name: str, arguments: str) -> str:
    ports = [int(port) for port in _PORT.findall(arguments)]
    addresses = [ip_address((a or b).partition("%")[0]) for a, b in _ADDRESS.findall(arguments)]
    if name != "bind" and 53 in ports:
        return "asks a name server"
    if name != "bind" and any("systemd/resolve" in path for _, path in _UNIX.findall(arguments)):
        return "asks a name server"
    inner = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    unspecified = [address for address in inner if address.is_unspecified and name == "bind"]
    if [address for address in inner if not address.is_loopback and address not in unspecified]:
        return "reaches beyond this machine"
    return "listens to other machines" if unspecified and ports != [0] else ""


def _bound(name: str, arguments: str, folder: Path, allowed: Sequence[str], private: bool) -> str:
    """A socket in the file system is a file."""
    paths = [str(folder / path) for at, path in _UNIX.findall(arguments) if not at] if name == "bind" and not private else []
    return "writes outside its folders" if any(not _within(os.path.normpath(path), allowed) for path in paths) else ""


def _changed(name: str, arguments: str, folder: Path) -> list[str]:
    """The paths, without `..`, that a call would create, change or remove."""
    if name in ("open", "openat", "openat2") and not _WRITES.search(arguments):
        return []
    found = [os.path.normpath(folder / directory / path) for directory, path in _PATH.findall(arguments)]
    if name in ("link", "linkat", "symlink", "symlinkat"):
        return found[-1:]  # what it points to is left as it is
    return found


def _within(path: str, folders: Sequence[str]) -> bool:
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return any(real == folder or real.startswith(f"{folder}/") for folder in folders)


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()
