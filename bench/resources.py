"""What threads leave behind, what a search waits for while notes are embedded, and what opening a home costs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.data import notes, questions, vault
from bench.figures import Figure, median, spread
from ingest.pipeline import ingest
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase

_THREADS, _AT_ONCE = 600, 40
_TEXTS, _WORDS = 3_000, 24
_QUESTIONS = 40
_PAUSE = 0.1  # seconds between two searches: a reader, not a load
_OPENINGS = 20


def measure(scratch: Path) -> list[Figure]:
    source = vault()
    embedder = MiniLM()
    with KnowledgeBase(scratch / "home", embedder) as kb:
        report = ingest(kb, [source])
        asked = questions(source, _QUESTIONS)
        for question in asked:
            kb.search(question)
        return [
            *_ended_threads(kb, asked, f"{report.notes} notes"),
            *_beside_embedding(kb, asked, source),
            *_opening(scratch / "home", embedder),
        ]


def _ended_threads(kb: KnowledgeBase, asked: list[str], size: str) -> list[Figure]:
    """Short threads, some at a time, each of which searches once and ends."""
    _in_threads(_AT_ONCE, lambda i: kb.search(asked[i % len(asked)]))
    handles, memory = _handles(), _memory()
    for _ in range(_THREADS // _AT_ONCE):
        _in_threads(_AT_ONCE, lambda i: kb.search(asked[i % len(asked)]))
    more, grown = _handles() - handles, _memory() - memory
    return [
        Figure(f"handles held before ({size}, {_AT_ONCE} threads ended)", str(handles)),
        Figure(f"**handles more after {_THREADS} ended threads**", str(more), "at most 8", more <= 8),
        Figure(f"**memory more after them, MiB** (of {memory})", str(grown), "at most 40", grown <= 40),
    ]


def _beside_embedding(kb: KnowledgeBase, asked: list[str], source: Path) -> list[Figure]:
    """Searches one after another, alone and while one call embeds many texts; then how long the call itself took."""
    words = " ".join(path.read_text(encoding="utf-8", errors="replace") for path in notes(source)[:200]).split()
    texts = [" ".join(words[i * _WORDS : (i + 1) * _WORDS]) or f"text {i}" for i in range(_TEXTS)]
    alone = [_seconds(partial(kb.search, question)) for question in asked]
    took: list[float] = []
    begun = threading.Event()

    def embed() -> None:
        begun.set()
        took.append(_seconds(lambda: kb.sentence_vectors(texts)))

    thread = threading.Thread(target=embed)
    thread.start()
    begun.wait()
    beside: list[float] = []
    while thread.is_alive():
        beside.append(_seconds(partial(kb.search, asked[len(beside) % len(asked)])))
        time.sleep(_PAUSE)
    thread.join()
    slow = max(beside) / took[0]
    return [
        Figure("a search alone, ms", f"{1000 * median(alone):.1f}"),
        Figure(f"a search while {_TEXTS:,} texts are embedded, ms ({len(beside)} of them)", f"{1000 * median(beside):.1f}"),
        Figure("its median, relative to alone", f"{median(beside) / median(alone):.1f}"),
        Figure("embedding them, s", f"{took[0]:.1f}"),
        Figure("**the slowest search, as a share of that time**", f"{slow:.3f}", "at most 0.1", slow <= 0.1),
    ]


def _opening(home: Path, embedder: MiniLM) -> list[Figure]:
    def once() -> None:
        with KnowledgeBase(home, embedder) as kb:
            kb.store.counts()

    opening = [1000 * _seconds(once) for _ in range(_OPENINGS)]
    with KnowledgeBase(home, embedder) as kb:
        again = [1e6 * _seconds(lambda: kb.store.generation) for _ in range(2_000)]
    return [
        Figure("opening a home and counting what is in it, ms", spread(opening, 1)),
        Figure("one small read of an open home, µs", f"{median(again):.0f}"),
    ]


def _in_threads(count: int, work: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def _memory() -> int:
    """MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024
