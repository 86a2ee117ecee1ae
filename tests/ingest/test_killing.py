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


def at_moments(took: float, killed_at: Callable[[int, float], bool]) -> int:
    """One moment in each twentieth of the time `took`, and how many of them came before the end. Where one does not, the
    machine has become quicker: it is tried again in a shorter time."""
    chance, at_work = random.Random(1120), 0
    for i in range(MOMENTS):
        for _ in range(4):
            moment = took * (i + chance.random()) / MOMENTS
            if killed_at(i, moment):
                at_work += 1
                break
            took = moment
    return at_work


def test_an_ingest_killed_anywhere_is_finished_by_a_sync(folder: Path, tmp_path: Path) -> None:
    whole = finished(read_in, tmp_path / "first", folder)

    def killed_at(i: int, moment: float) -> bool:
        home = tmp_path / f"home{i}"
        at_work = kill_after(moment, read_in, home, folder)
        assert finished(synced, home, folder) == whole, f"killed after {moment:.3f} s"
        shutil.rmtree(home)
        return at_work

    assert at_moments(duration(read_in, tmp_path / "undisturbed", folder), killed_at) >= MOMENTS / 2


def test_a_rebuild_killed_anywhere_leaves_a_home_that_a_sync_completes(folder: Path, tmp_path: Path) -> None:
    """Every other home has a damaged database: the rebuild replaces it, and runs again if it did not come so far."""
    home, state = tmp_path / "home", tmp_path / "kept"
    whole = finished(read_in, home, folder)
    shutil.copytree(home, state)

    def killed_at(i: int, moment: float) -> bool:
        shutil.rmtree(home)
        shutil.copytree(state, home)
        if i % 2:
            (home / "kb.sqlite").write_bytes(b"noise " * 9000)
        at_work = kill_after(moment, made_again, home)
        assert finished(synced, home, folder) == whole, f"killed after {moment:.3f} s"
        return at_work

    assert at_moments(duration(made_again, home), killed_at) >= MOMENTS / 2
