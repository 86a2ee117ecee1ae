"""What all tests share: real parts in temporary folders, the person's own folders out of reach, the network closed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import settings

from ingest.pipeline import ingest
from kb.embedding import HashedWords, MiniLM
from kb.knowledge_base import KnowledgeBase

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
_REQUIRE_ALL = os.environ.get("PASSKB_REQUIRE_ALL") == "1"
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")
settings.register_profile("passkb", deadline=None)  # on a busy machine an example may take any time
settings.load_profile("passkb")
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", ANONYMIZED_TELEMETRY="False", HF_HUB_OFFLINE="1")


def _stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses every connection that would leave this machine, whichever library asks for it."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host and not str(host).startswith(_LOCAL):
        raise ConnectionRefusedError(f"a test wanted to reach {host}")


sys.addaudithook(_stay_here)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what repeats a test on larger data, where there is none: the same test runs on tests/data everywhere."""
    if SHARED.is_dir():
        return
    absent = [item for item in items if item.get_closest_marker("shared")]
    items[:] = [item for item in items if item not in absent]
    config.hook.pytest_deselected(items=absent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip((yield))


_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


def _no_skip(report: _Report) -> _Report:
    """Under PASSKB_REQUIRE_ALL=1 a skip is a failure; an expected failure is none."""
    if _REQUIRE_ALL and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason}\nPASSKB_REQUIRE_ALL=1 lets no test skip."
    return report


class Vault(Protocol):
    def __call__(self, files: Mapping[str, str | bytes], name: str = "vault") -> Path:
        """Writes files (path below the vault -> content) into a folder called `name`, and gives the folder."""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PASSKB_") and name != "PASSKB_REQUIRE_ALL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PASSKB_HOME", str(tmp_path / "home"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    def write(files: Mapping[str, str | bytes], name: str = "vault") -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return write


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    return MiniLM()


@pytest.fixture
def kb(home: Path) -> Iterator[KnowledgeBase]:
    """An empty knowledge base whose embedder knows words but no meaning."""
    with KnowledgeBase(home, HashedWords()) as opened:
        yield opened


@pytest.fixture
def meaningful(home: Path, minilm: MiniLM) -> Iterator[KnowledgeBase]:
    """An empty knowledge base with the real embedder."""
    with KnowledgeBase(home, minilm) as opened:
        yield opened


@pytest.fixture(scope="session")
def sample_home(tmp_path_factory: pytest.TempPathFactory, minilm: MiniLM) -> Path:
    """A home in which the sample vault is indexed; for tests that only read."""
    folder = tmp_path_factory.mktemp("sample") / "home"
    with KnowledgeBase(folder, minilm) as opened:
        report = ingest(opened, [ROOT / "samples" / "vault"])
    assert report.notes >= 45 and not report.failed, report
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """Files of other projects that tests need; tests/data/README.md names their origins and licences."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Larger data beside the repository, for tests marked `shared`."""
    return SHARED / "data"


@pytest.fixture(scope="session")
def chromium() -> str:
    return _program("chromium")


@pytest.fixture(scope="session")
def bubblewrap() -> str:
    return _program("bwrap")


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
