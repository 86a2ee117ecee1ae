"""The shipped environment in a temporary folder: a clone of the checkout, and a wheel outside it. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TERM")
# Of the first environment: what belongs to the clone, and not to its dependencies.
_OF_THE_CLONE = ("__editable__", "passkb-")


class Failure(AssertionError):
    """A journey that did not reach its end; the message says where."""


@dataclass
class Shipped:
    """`folder` holds everything, `checkout` is the clone of `source`, `environment` its .venv."""

    folder: Path
    source: Path
    checkout: Path = field(init=False)
    environment: Path = field(init=False)

    def __post_init__(self) -> None:
        self.checkout = self.folder / "checkout"
        self.environment = self.checkout / ".venv"

    @property
    def command(self) -> Path:
        return self.environment / "bin" / "passkb"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"


@contextmanager
def temporary(source: Path, keep: bool) -> Iterator[Shipped]:
    folder = Path(tempfile.mkdtemp(prefix="passkb-smoke-"))
    try:
        yield Shipped(folder, source)
    finally:
        if keep:
            print(f"smoke: kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def clean_variables(folder: Path) -> dict[str, str]:
    """The variables of a person who has just logged in: none of passkb's, none of this Python's."""
    home = folder / "person"
    home.mkdir(exist_ok=True)
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"HOME": str(home)}


def install_variables() -> dict[str, str]:
    """Those under which pip finds the indexes and the cache that are set up here. Compiling nothing ahead saves a minute."""
    outside = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if name not in outside and not name.startswith("PASSKB_")}
    return kept | {"PIP_NO_COMPILE": "1"}


def uncommitted(source: Path) -> list[str]:
    """Files of the checkout that a clone does not have as they are."""
    return _output(["git", "-C", str(source), "status", "--porcelain"]).splitlines()


def clone(shipped: Shipped) -> None:
    _run(["git", "clone", "--quiet", str(shipped.source), str(shipped.checkout)])


def head(source: Path) -> str:
    return _output(["git", "-C", str(source), "log", "-1", "--format=%h %s"]).strip()


def make_install(shipped: Shipped) -> None:
    """`make install`, as README says."""
    _run(["make", "install", f"PYTHON={sys.executable}"], cwd=shipped.checkout)


def install_wheel(shipped: Shipped) -> Path:
    """A wheel of the clone in a fresh environment far from it, which shares files, not paths, with the first; its `passkb`."""
    wheels, second = shipped.folder / "wheels", shipped.folder / "elsewhere" / "environment"
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), "."]
    _run([str(shipped.python), "-m", "pip", *build], cwd=shipped.checkout)
    (wheel,) = wheels.glob("passkb-*.whl")
    _run([sys.executable, "-m", "venv", "--without-pip", str(second)])
    packages = next(second.glob("lib/python*/site-packages"))
    for entry in next(shipped.environment.glob("lib/python*/site-packages")).iterdir():
        if not entry.name.startswith(_OF_THE_CLONE):
            _link(entry, packages / entry.name)
    python = second / "bin" / "python"
    _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], cwd=shipped.folder)
    return second / "bin" / "passkb"


def _link(entry: Path, target: Path) -> None:
    if entry.is_dir():
        shutil.copytree(entry, target, copy_function=os.link, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        os.link(entry, target)


def _run(command: list[str], cwd: Path | None = None) -> None:
    ran = subprocess.run(command, cwd=cwd, env=install_variables(), capture_output=True, text=True, check=False)
    if ran.returncode:
        lines = [line for line in (ran.stdout + ran.stderr).splitlines() if not line.startswith("WARNING")]
        raise Failure(f"`{' '.join(command)}` ended with {ran.returncode}:\n" + "\n".join(lines[-15:]))


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
