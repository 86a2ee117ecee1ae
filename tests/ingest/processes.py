"""Work on a home in processes of their own, which start quickly because what they import is loaded once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from ingest.pipeline import ingest, rebuild, sync
from kb.notes import PasskbError
from kb.store.schema import DatabaseDamaged
from tests.ingest.states import WithHashedWords, whole_state

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["chromadb", "ingest.readers.html.reader", "tests.ingest.processes"])


def start(work: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    """Runs `work(its end of a pipe, *arguments)` in a process, and gives the other end."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    return process, here


def finished(work: Callable[..., None], *arguments: Any) -> Any:
    """What `work` sends last."""
    process, pipe = start(work, *arguments)
    message = None
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            process.join()
            return message


def read_in(pipe: Connection, home: Path, folder: Path) -> None:
    with WithHashedWords(home) as kb:
        pipe.send("begins")
        ingest(kb, [folder])
        pipe.send(whole_state(kb))


def made_again(pipe: Connection, home: Path) -> None:
    pipe.send("begins")
    try:
        rebuild(home, WithHashedWords)
        pipe.send("done")
    except PasskbError as error:
        pipe.send(str(error))


def synced(pipe: Connection, home: Path, folder: Path) -> None:
    """Sends the whole state after a sync; as a person would, registers what was not yet, rebuilds what says so."""
    try:
        WithHashedWords(home).close()
    except DatabaseDamaged as error:
        assert "passkb rebuild" in str(error)
        rebuild(home, WithHashedWords)
    with WithHashedWords(home) as kb:
        report = sync(kb) if (home / "sources.json").exists() else ingest(kb, [folder])
        assert not report.failed and not report.pending_deletions, report
        pipe.send(whole_state(kb))


def opened_and_closed(pipe: Connection, home: Path) -> None:
    with WithHashedWords(home) as kb:
        pipe.send(kb.store.generation > 0)


def versions_written(pipe: Connection, home: Path, folder: Path, count: int) -> None:
    """Writes every note anew with one word in all, syncs, and again with the next word."""
    with WithHashedWords(home) as kb:
        for version in range(count):
            for path in sorted(folder.glob("*.md")):
                path.write_text(f"# {path.stem}\n\nOtters keep word{version} in a pouch. See [[0]].\n")
            sync(kb)
            pipe.send(version)


def rebuilt_while_open(pipe: Connection, home: Path, word: str) -> None:
    """Has the home open, Chroma included; says what it finds before and after somebody else has rebuilt it."""
    with WithHashedWords(home) as kb:
        for _ in range(2):
            vector, hits = kb.search(word, 3)
            near = kb.index.nearest(vector, 1)
            pipe.send(([hit.text for hit in hits[:1]], near[0][0], near[0][1] > 0.3, kb.index.count()))
            pipe.recv()
