"""A home that cannot be written can be asked: every command that reads works, every other says that it is read-only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.pipeline import ingest
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from kb.store.queries import Store
from tests.conftest import ROOT, Vault

_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'

Passkb = Callable[..., subprocess.CompletedProcess[str]]


def read_only_command(home: Path) -> list[str]:
    """What a command is begun with so that it finds `home` read-only. Permissions do not hold root: it gets a mount."""
    if os.geteuid():
        for path in (home, *home.rglob("*")):
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        return []
    command = ["unshare", "-m", "sh", "-c", _MOUNT, str(home)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("root can not mount a folder read-only here")
    return command


@pytest.fixture
def frozen(sample_home: Path, tmp_path: Path) -> Iterator[tuple[Path, Passkb]]:
    """A home, and what runs a command on it while it is read-only."""
    home = tmp_path / "frozen"
    shutil.copytree(sample_home, home)
    prefix = read_only_command(home)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-m", "service.cli", "--home", str(home), *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    yield home, run
    for path in (home, *home.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def contents(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}


def test_everything_that_reads_works(frozen: tuple[Path, Passkb], tmp_path: Path) -> None:
    home, passkb = frozen
    before = contents(home)
    answer = json.loads(passkb("ask", "What does pass@k reveal about base models?", "--json").stdout)
    assert answer["answered"] and answer["statements"]
    assert json.loads(passkb("search", "entropy", "--json").stdout)["hits"]
    commands: list[list[object]] = [
        ["note", "vault/prorl"], ["path", "vault/prorl", "vault/does-rlvr-expand"], ["map", "--out", tmp_path / "map.json"],
        ["claims"], ["inquiries"], ["suggest", "vault/prorl"], ["experiment", "list"],
    ]  # fmt: skip
    for command in commands:
        done = passkb(*command)
        assert done.returncode == 0 and not done.stderr, (command, done.stderr)
    status = json.loads(passkb("status", "--json").stdout)
    assert status["chunks"] and "is read-only" in status["problems"][0]
    assert contents(home) == before


def test_everything_that_writes_says_that_the_home_is_read_only(frozen: tuple[Path, Passkb]) -> None:
    home, passkb = frozen
    before = contents(home)
    commands: list[list[object]] = [
        ["sync"], ["ingest", ROOT / "samples" / "vault"], ["forget", "vault", "--yes"], ["rebuild"],
        ["keep", "What is entropy collapse?"], ["suggest", "vault/prorl", "--accept", "vault/one-example-rlvr"],
    ]  # fmt: skip
    for command in commands:
        done = passkb(*command)
        assert done.returncode == 1 and "read-only" in done.stderr and str(home) in done.stderr, (command, done.stderr)
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert contents(home) == before


def test_it_is_served(frozen: tuple[Path, Passkb]) -> None:
    home, _ = frozen
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*read_only_command(home), sys.executable, "-m", "service.cli", "--home", str(home), "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout and server.stdout.readline().startswith("passkb: http")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/search?q=entropy", timeout=120) as answer:
                assert json.load(answer)["hits"]
        finally:
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=60)
    assert "Traceback" not in errors


def frozen_store(home: Path, work: Callable[[], Any]) -> Any:
    """What `work` gives while the folder looks read-only; for root as well, in this process."""
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("kb.store.schema.is_writable", lambda folder: folder != home)
        return work()


def test_a_log_that_was_left_beside_the_database_is_read(home: Path, vault: Vault) -> None:
    """As after a server that was killed: what it wrote last stands in the log only."""
    with KnowledgeBase(home, HashedWords()) as kb:
        ingest(kb, [vault({"a.md": "Otters."})])
        stored = home.parent / "kept"
        shutil.copytree(home, stored)
        assert (stored / "kb.sqlite-wal").stat().st_size
    assert frozen_store(stored, lambda: [row[0] for row in Store(stored / "kb.sqlite").titles()]) == ["vault/a"]


def test_a_change_by_somebody_who_may_write_is_seen(home: Path, vault: Vault) -> None:
    folder = vault({"a.md": "Otters."})
    with KnowledgeBase(home, HashedWords()) as kb:
        ingest(kb, [folder])

    def read() -> None:
        store = Store(home / "kb.sqlite")
        assert len(store.titles()) == 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kb.store.schema.is_writable", lambda _: True)
            with KnowledgeBase(home, HashedWords()) as writer:
                (folder / "b.md").write_text("Herons.")
                ingest(writer, [folder])
                patch.setattr("kb.store.schema.is_writable", lambda place: place != home)
                assert len(store.titles()) == 2  # it stands in the log of the one that writes
                patch.setattr("kb.store.schema.is_writable", lambda _: True)
        patch.undo()
        assert len(store.titles()) == 2

    frozen_store(home, read)


def test_without_a_database_it_says_what_to_do(home: Path) -> None:
    home.mkdir()
    with pytest.raises(PasskbError, match=r"does not exist, and its folder is read-only: .*make it writable"):
        frozen_store(home, lambda: Store(home / "kb.sqlite"))
