"""How far the reading of notes in the background has come; shared between the thread that reads and the page."""

from __future__ import annotations

import threading
import traceback
from dataclasses import dataclass, field

from ingest.pipeline import sync
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.web.markup import counted, text


@dataclass(slots=True)
class Indexing:
    """Written by one thread, read by many. `total` 0: nothing to count yet. `problem`: why reading stopped early."""

    stage: str = ""
    done: int = 0
    total: int = 0
    finished: bool = True
    problem: str = ""
    failed: tuple[tuple[str, str], ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self) -> None:
        with self._lock:
            self.stage, self.done, self.total, self.finished, self.problem, self.failed = "", 0, 0, False, "", ()

    def progress(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            self.stage, self.done, self.total = stage, done, total

    def end(self, failed: tuple[tuple[str, str], ...] = (), problem: str = "") -> None:
        with self._lock:
            self.finished, self.failed, self.problem = True, failed, problem

    def words(self) -> str:
        """What is going on, for the header; empty when nothing is."""
        with self._lock:
            if self.finished:
                return ""
            verb = {"reading": "Reading", "embedding": "Indexing"}.get(self.stage, "Looking for changes")
            what = "passages" if self.stage == "embedding" else "notes"
            return f"{verb} {self.done:,} of {counted(self.total, what[:-1])}" if self.total else f"{verb} in the notes"

    def start(self, kb: KnowledgeBase) -> threading.Thread:
        """Reads the registered sources again in a thread of its own."""
        self.begin()
        thread = threading.Thread(target=self.run, args=(kb,), name="indexing", daemon=True)
        thread.start()
        return thread

    def run(self, kb: KnowledgeBase) -> None:
        """Reads the registered sources again, here and now; what goes wrong is kept to be shown, never raised."""
        self.begin()
        failed: tuple[tuple[str, str], ...] = ()
        problem = ""
        try:
            kb.search("first", 1)  # loads the embedder, so that the first question does not wait for it
            failed = tuple(sync(kb, progress=self.progress).failed)
        except PasskbError as error:
            problem = str(error)
        except Exception as error:
            traceback.print_exc()
            problem = f"reading the notes stopped ({type(error).__name__}: {error}); `passkb sync` tries again"
        self.end(failed, problem)


def status_html(kb: KnowledgeBase, indexing: Indexing) -> str:
    """The line in the header: how much is known, what is going on, and what failed."""
    kinds, types, _ = kb.store.counts()
    notes = sum(count for kind, count in kinds.items() if kind != "stub")
    parts = [f"{counted(notes, 'note')} · {counted(sum(types.values()), 'link')}"]
    if going := indexing.words():
        parts.append(f'<span class="going">{text(going)}</span>')
    if indexing.problem:
        parts.append(f'<span class="message">{text(indexing.problem)}</span>')
    failed = indexing.failed or tuple((file.path, file.failure) for file in kb.store.files() if file.failure)
    if failed:
        listed = "".join(
            f"<li><code>{text(path)}</code> {text(reason.removeprefix(f'{path}: '))}</li>" for path, reason in failed
        )
        parts.append(f"<details><summary>{counted(len(failed), 'file')} could not be read</summary><ul>{listed}</ul></details>")
    return f'<div class="status-line" role="status">{" ".join(parts)}</div>'
