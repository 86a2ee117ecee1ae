"""Starts an isolated Python process with bubblewrap and separate namespaces.

The process sees the interpreter, its standard library and the system libraries, all read-only, and a /tmp in memory. It has no
network, environment, capabilities, home or packages.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kb.notes import PasskbError
from service.experiments.sandbox import protocol
from service.experiments.sandbox.confinement import ARCHITECTURES

_HERE = Path(__file__).resolve().parent
_INSIDE = ("confinement", "init", "program_host", "protocol", "test_runner")
_PACKAGE = "/passkb/service/experiments/sandbox"
_START = "import sys; sys.path.insert(0, '/passkb'); from service.experiments.sandbox.init import main; main()"
_STARTS_WITHIN_S = 30
_INSTALL = "install bubblewrap (Debian and Ubuntu: `apt-get install bubblewrap`)"
_NAMESPACES = (
    "allow unprivileged user namespaces (`sysctl -w user.max_user_namespaces=15000`, on Debian also "
    "`kernel.unprivileged_userns_clone=1`, on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`; in Docker run with "
    "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`)"
)


class SandboxUnavailable(PasskbError):
    """Programs can't be isolated on this machine; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program. `cpu_s`: CPU time, rounded up to whole seconds; `wall_s`: duration, generous for busy machines.
    Bytes: `memory` of address space, `file` per file, `temporary` for /tmp. Its output is discarded."""

    cpu_s: float = 3.0
    wall_s: float = 15.0
    memory: int = 2**30
    file: int = 16 * 2**20
    temporary: int = 64 * 2**20
    files: int = 64
    threads: int = 64


class Died(Exception):
    """The sandbox exited or does not answer in time."""


class Sandbox:
    """A running sandbox with a control socket to its first process. `role`: `programs` or `tests`.

    Ends when closed, and when this process or the *thread* that opened it ends. Raises SandboxUnavailable."""

    def __init__(self, role: str, limits: Limits) -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxUnavailable(f"grading code needs a sandbox: {_INSTALL}")
        if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
            raise SandboxUnavailable(f"grading code needs Linux on {' or '.join(ARCHITECTURES)}: use such a machine")
        self.control, theirs = socket.socketpair()
        settings = json.dumps({"memory": limits.memory, "file": limits.file, "files": limits.files, "threads": limits.threads})
        with theirs, tempfile.TemporaryFile() as stderr:
            command = [program, *arguments(limits.temporary), *interpreter(), role, str(theirs.fileno()), settings]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
            theirs.close()
            self._await(stderr)

    def _await(self, stderr: object) -> None:
        self.control.settimeout(_STARTS_WITHIN_S)
        try:
            if protocol.receive(self.control) == "ready":
                return
            reason = "it does not answer"
        except (EOFError, OSError, protocol.WireError) as error:
            reason = str(error)
        self.kill()
        stderr.seek(0)  # type: ignore[attr-defined]
        last_line = stderr.read().decode(errors="replace").strip().splitlines()[-1:]  # type: ignore[attr-defined]
        raise SandboxUnavailable(f"the sandbox for grading code does not start ({''.join(last_line) or reason}): {_NAMESPACES}")

    def close(self) -> None:
        """Closing the control socket ends the first process and with it the sandbox."""
        self.control.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()


def arguments(temporary: int) -> list[str]:
    """The options of bubblewrap; `temporary` is the size of /tmp in bytes."""
    options = ["--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
    options += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"]
    # LD_BIND_NOW: the loader resolves each function once before the forks.
    environment = {"HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}
    environment["LD_LIBRARY_PATH"] = _libraries()
    for name, value in environment.items():
        options += ["--setenv", name, value]
    options += _system() + _python()
    for name in _INSIDE:
        options += ["--ro-bind", str(_HERE / f"{name}.py"), f"{_PACKAGE}/{name}.py"]
    options += ["--proc", "/proc", "--dev", "/dev", "--size", str(temporary), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    for folder in ("/proc", "/dev", "/"):
        options += ["--remount-ro", folder]
    return [*options, "--"]


def interpreter() -> list[str]:
    """The command in the sandbox: no site packages, no current folder on the path, no byte code."""
    return [str(_binary()), "-P", "-s", "-S", "-B", "-c", _START]


def _system() -> list[str]:
    """Binds the system libraries at the loader's paths and preserves links."""
    options = ["--ro-bind", "/usr/lib", "/usr/lib", "--ro-bind-try", "/usr/lib64", "/usr/lib64"]
    options += [
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
        "--ro-bind-try",
        "/usr/share/zoneinfo",
        "/usr/share/zoneinfo",
    ]
    for name in ("/lib", "/lib64"):
        if os.path.islink(name):
            options += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            options += ["--ro-bind", name, name]
    return [*options, *_hidden(Path("/usr/lib/python3/dist-packages"))]


def _python() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    paths = [_binary(), library, Path(sysconfig.get_config_var("DESTSHARED") or library)]
    shared = sysconfig.get_config_var("INSTSONAME")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and shared:
        paths.append(Path(_libraries()) / shared)
    options = [part for path in dict.fromkeys(paths) if path.exists() for part in ("--ro-bind", str(path), str(path))]
    return [*options, *_hidden(library / "site-packages")]


def _hidden(folder: Path) -> Iterator[str]:
    return iter(("--tmpfs", str(folder), "--remount-ro", str(folder)) if folder.is_dir() else ())


def _libraries() -> str:
    return str(sysconfig.get_config_var("LIBDIR") or "/usr/lib")


def _binary() -> Path:
    """The real interpreter, not a virtual environment's link to it."""
    named = Path(sys.base_exec_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (named if named.exists() else Path(sys.executable)).resolve()


@functools.cache
def available() -> tuple[bool, str]:
    """Whether a sandbox starts on this machine, and the remedy if not. Cached per process."""
    try:
        Sandbox("tests", Limits()).close()
    except SandboxUnavailable as error:
        return False, str(error)
    return True, ""
