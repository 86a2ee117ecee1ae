"""The state of background syncs, shared between the thread that syncs and the pages."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from ingest.pipeline import sync
from ingest.report import IngestReport
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.log import logger
from service.web.components.formatting import count
from service.web.components.templates import render

_log = logger("index")


@dataclass(slots=True)
class Indexing:
    """Written by one thread, read by many. `total` 0: not counted yet. `problem`: why the last sync stopped early.

    `report`: the result of the last sync, and `ended` its end; None before the first has ended. `ready`: the embedder is
    loaded, so that questions can be answered.
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
    _sync_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self) -> bool:
        """Marks a sync as running. False if one was running."""
        with self._lock:
            was_idle = self.finished
            self.finished = False
            if was_idle:
                self.stage, self.done, self.total, self.problem = "", 0, 0, ""
            return was_idle

    def progress(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            self.stage, self.done, self.total = stage, done, total

    def end(self, report: IngestReport | None, problem: str = "") -> None:
        with self._lock:
            self.finished, self.report, self.problem = True, report, problem
            self.ended = datetime.datetime.now().astimezone()

    def progress_text(self) -> str:
        """The progress of a running sync, for the header; empty if none runs."""
        with self._lock:
            if self.finished:
                return ""
            verb = {"reading": "Reading", "embedding": "Indexing"}.get(self.stage, "Looking for changes")
            unit = "passage" if self.stage == "embedding" else "note"
            return f"{verb} {self.done:,} of {count(self.total, unit)}" if self.total else verb

    def start(self, kb: KnowledgeBase) -> bool:
        """Syncs the registered sources in a new thread; False if a sync is running."""
        if not self.begin():
            return False
        threading.Thread(target=self.run, args=(kb,), name="indexing", daemon=True).start()
        return True

    def run(self, kb: KnowledgeBase) -> None:
        """Syncs the registered sources, after a running sync. Stores errors in `problem` instead of raising them."""
        with self._sync_lock:
            self.begin()
            report: IngestReport | None = None
            problem = ""
            try:
                kb.search("first", 1)  # loads the embedder before the first question
                self.ready = True
                report = sync(kb, progress=self.progress)
            except PasskbError as error:
                problem = str(error)
                _log.warning("%s", problem)
            except Exception as error:
                _log.exception("sync failed")
                problem = f"sync failed ({type(error).__name__}: {error}): run `passkb sync`"
            self.end(report, problem)
            if report:
                _log_report(report)


def _log_report(report: IngestReport) -> None:
    changed = report.added + report.updated + report.moved + report.deleted
    level = logging.INFO if changed or report.failed or report.pending_deletions else logging.DEBUG
    _log.log(
        level, "synced in %.1f s: %d added, %d updated, %d moved, %d deleted, %d unchanged, %d failed",
        report.seconds, report.added, report.updated, report.moved, report.deleted, report.unchanged, len(report.failed),
    )  # fmt: skip


def failures(kb: KnowledgeBase, indexing: Indexing) -> dict[str, str]:
    """The reason of each failed file, by path: from the store, and from the last sync."""
    stored = {file.path: file.failure for file in kb.store.files()}
    reported = dict(indexing.report.failed) if indexing.report else {}
    return {path: reason for path, reason in (reported | stored).items() if reason}


def status_html(kb: KnowledgeBase, indexing: Indexing, runs: Sequence[str] = ()) -> Markup:
    """The line in the header: number of notes and links, progress and problems. `runs`: the ids of pending experiments."""
    kinds, types, _ = kb.store.counts()
    messages = [indexing.problem] if indexing.problem else []
    if failed := failures(kb, indexing):
        messages.append(f"{count(len(failed), 'file')} failed")
    if indexing.report and indexing.report.pending_deletions:
        messages.append("deletions waiting for confirmation")
    return render(
        "components/index_status.html",
        notes=sum(number for kind, number in kinds.items() if kind != "stub"),
        links=sum(types.values()),
        runs=runs,
        progress=indexing.progress_text(),
        messages=messages,
    )
