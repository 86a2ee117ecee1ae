"""How far the reading of notes in the background has come; shared between the thread that reads and the page."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.pipeline import sync
from ingest.report import IngestReport
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.log import logger
from service.web.components.html import counted, run_link, text

_log = logger("index")


@dataclass(slots=True)
class Indexing:
    """Written by one thread, read by many. `total` 0: nothing to count yet. `problem`: why reading stopped early.

    `report` says what the last reading did, and `ended` when; both are None before the first has ended. `ready`: a question can
    be answered, as what it needs has been loaded.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    finished: bool = True
    ready: bool = False
    problem: str = ""
    report: IngestReport | None = None
    ended: datetime.datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self) -> bool:
        """False when a reading is going on."""
        with self._lock:
            fresh = self.finished
            self.finished = False
            if fresh:
                self.stage, self.done, self.total, self.problem = "", 0, 0, ""
            return fresh

    def progress(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            self.stage, self.done, self.total = stage, done, total

    def end(self, report: IngestReport | None, problem: str = "") -> None:
        with self._lock:
            self.finished, self.report, self.problem = True, report, problem
            self.ended = datetime.datetime.now().astimezone()

    def words(self) -> str:
        """What is going on, for the header; empty when nothing is."""
        with self._lock:
            if self.finished:
                return ""
            verb = {"reading": "Reading", "embedding": "Indexing"}.get(self.stage, "Looking for changes")
            what = "passages" if self.stage == "embedding" else "notes"
            return f"{verb} {self.done:,} of {counted(self.total, what[:-1])}" if self.total else verb

    def start(self, kb: KnowledgeBase) -> bool:
        """Reads the registered sources again in a thread of its own; False when that is going on already."""
        if not self.begin():
            return False
        threading.Thread(target=self.run, args=(kb,), name="indexing", daemon=True).start()
        return True

    def run(self, kb: KnowledgeBase) -> None:
        """Reads the registered sources again, here and now, after a reading that goes on; what goes wrong is kept to be
        shown, never raised."""
        with self._turn:
            self.begin()
            report: IngestReport | None = None
            problem = ""
            try:
                kb.search("first", 1)  # loads the embedder, so that the first question does not wait for it
                self.ready = True
                report = sync(kb, progress=self.progress)
            except PasskbError as error:
                problem = str(error)
                _log.warning("%s", problem)
            except Exception as error:
                _log.exception("reading the notes stopped")
                problem = f"reading the notes stopped ({type(error).__name__}: {error}); `passkb sync` tries again"
            self.end(report, problem)
            if report:
                _log_report(report)


def _log_report(report: IngestReport) -> None:
    changed = report.added + report.updated + report.moved + report.deleted
    level = logging.INFO if changed or report.failed or report.held else logging.DEBUG
    _log.log(
        level, "read the sources in %.1f s: %d added, %d updated, %d moved, %d deleted, %d unchanged, %d failed",
        report.seconds, report.added, report.updated, report.moved, report.deleted, report.unchanged, len(report.failed),
    )  # fmt: skip


def failures(kb: KnowledgeBase, indexing: Indexing) -> dict[str, str]:
    """What could not be read, by path: files as they are known now, and what else the last reading met."""
    known = {file.path: file.failure for file in kb.store.files()}
    met = dict(indexing.report.failed) if indexing.report else {}
    return {path: why for path, why in (met | known).items() if why}


def status_html(kb: KnowledgeBase, indexing: Indexing, runs: Sequence[str] = ()) -> str:
    """The line in the header: how much is known, what is going on, and whether something needs a look at the details. `runs`:
    the experiments that wait or go on."""
    kinds, types, _ = kb.store.counts()
    notes = sum(count for kind, count in kinds.items() if kind != "stub")
    parts = [f"<span>{counted(notes, 'note')} · {counted(sum(types.values()), 'link')}</span>"]
    if runs:
        parts.append(run_link(runs[0], f"{counted(len(runs), 'experiment')} going on", "runs"))
    if going := indexing.words():
        parts.append(f'<span class="going">{text(going)}</span>')
    if indexing.problem:
        parts.append(f'<span class="message">{text(indexing.problem)}</span>')
    if failed := failures(kb, indexing):
        parts.append(f'<span class="message">{len(failed):,} could not be read</span>')
    if indexing.report and indexing.report.held:
        parts.append('<span class="message">deletions held back</span>')
    return f'<div class="status-line" role="status" data-sources>{" ".join(parts)}</div>'
