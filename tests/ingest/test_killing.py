"""kill -9 at twenty random moments of an ingest and of a rebuild: a sync then ends where an undisturbed run does."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ingest.processes import finished, made_again, read_in, start, synced

if TYPE_CHECKING:
    from tests.conftest import Vault

MOMENTS = 20


@pytest.fixture
def folder(vault: Vault) -> Path:
    texts = {
        f"{i % 7}/Note {i}.md": f"# Note {i}\n\nWord{i} of otters. See [[Note {i * 7 % 150}]] and [[Unwritten {i % 9}]].\n\n"
        + f"## More\n\nsupports:: [[Note {i * 3 % 150}]] because {i}\n\n" + f"Gravel {i} and stones. " * 16
        for i in range(140)
    }  # fmt: skip
    page = "<html><head><title>Page {0}</title></head><body><h1>Page {0}</h1><p>Herons {0} wait for fish.</p></body></html>"
    return vault(texts | {f"pages/{i}.html": page.format(i) for i in range(8)})


def duration(work: Callable[..., None], *arguments: Any) -> float:
    process, pipe = start(work, *arguments)
    pipe.recv()
    began = time.perf_counter()
    pipe.recv()
    took = time.perf_counter() - began
    process.join()
    return took


def kill_after(seconds: float, work: Callable[..., None], *arguments: Any) -> bool:
    """Whether it was still at work then."""
    process, pipe = start(work, *arguments)
    pipe.recv()
    time.sleep(seconds)
    at_work = not pipe.poll()
    process.kill()
    process.join()
    return at_work


def moments(took: float) -> list[float]:
    """One in each twentieth of the time."""
    chance = random.Random(1120)
    return [took * (i + chance.random()) / MOMENTS for i in range(MOMENTS)]


def test_an_ingest_killed_anywhere_is_finished_by_a_sync(folder: Path, tmp_path: Path) -> None:
    whole = finished(read_in, tmp_path / "first", folder)
    took = duration(read_in, tmp_path / "undisturbed", folder)
    killed = 0
    for i, moment in enumerate(moments(took)):
        home = tmp_path / f"home{i}"
        killed += kill_after(moment, read_in, home, folder)
        state = finished(synced, home, folder)
        assert relocated(state, home, tmp_path / "first") == whole, f"killed after {moment:.3f} of {took:.3f} s"
        shutil.rmtree(home)
    assert killed >= MOMENTS / 2, "the machine is too uneven to kill it at work"


def test_a_rebuild_killed_anywhere_leaves_a_home_that_a_sync_completes(folder: Path, tmp_path: Path) -> None:
    """Every other home has a damaged database: the rebuild replaces it, and runs again if it did not come so far."""
    whole = finished(read_in, tmp_path / "first", folder)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    took = duration(made_again, tmp_path / "copy")
    killed = 0
    for i, moment in enumerate(moments(took)):
        home = tmp_path / f"home{i}"
        shutil.copytree(tmp_path / "first", home)
        if i % 2:
            (home / "kb.sqlite").write_bytes(b"noise " * 9000)
        killed += kill_after(moment, made_again, home)
        state = finished(synced, home, folder)
        assert relocated(state, home, tmp_path / "first") == whole, f"killed after {moment:.3f} of {took:.3f} s"
        shutil.rmtree(home)
    assert killed >= MOMENTS / 2, "the machine is too uneven to kill it at work"


def relocated(value: Any, home: Path, first: Path) -> Any:
    """Rows that name the home, as they would be in the other home."""
    if isinstance(value, str):
        return value.replace(str(home), str(first))
    if isinstance(value, dict):
        return {name: relocated(entry, home, first) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(relocated(entry, home, first) for entry in value)
    return value
