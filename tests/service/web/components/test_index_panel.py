"""The panel of sources: escaping, pending deletions, truncated lists, one sync at a time."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ingest.report import IngestReport, PendingDeletion
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.status import FileState, Skipped, SourceState, State
from service.web import indexing_progress
from service.web.components.index_panel import sources_html, summary_html
from service.web.indexing_progress import Indexing, status_html

if TYPE_CHECKING:
    from tests.conftest import Vault

NOW = datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.UTC)


def test_nothing_from_a_file_runs(evil: str, harmless: Callable[[str], None]) -> None:
    pair = ((evil, evil),)
    source = SourceState(
        evil, evil, 1, 1, pair, (Skipped(evil, evil), Skipped(evil + "/", evil, 2)), pair, pair, {evil: 1},
        (FileState(evil, State.INDEXED, evil, 1), FileState(evil, State.FAILED, reason=evil)),
    )  # fmt: skip
    harmless(sources_html([source]))
    harmless(sources_html([], IngestReport(pending_deletions=[PendingDeletion(evil, evil, 3, evil)]), evil))


def test_empty_state_and_pending_deletions() -> None:
    assert "No sources yet" in sources_html([])
    assert "Not synced yet." in summary_html(None, None)
    report = IngestReport(
        unchanged=3, pending_deletions=[PendingDeletion("vault", "/media/vault", 40, "all 40 notes are gone: put it back")]
    )
    html = summary_html(report, NOW) + sources_html([], report, "the disk is full")
    assert "Deletions waiting for confirmation" in html and "all 40 notes are gone" in html and "The disk is full" in html
    assert "3 unchanged" in html and "1 added, 1 failed" in summary_html(IngestReport(added=1, failed=[("a", "b")]), NOW)


def test_long_lists_are_truncated_with_a_count() -> None:
    many = tuple((f"/v/{i:03}.md", "why") for i in range(400))
    files = tuple(FileState(path, State.INDEXED, path[3:-3], 1) for path, _ in many)
    skipped = tuple(Skipped(path, "ignored by .passkbignore, line 1: *.md") for path, _ in many)
    html = sources_html([SourceState("v", "/v", failed=many, skipped=skipped, files=files)])
    assert "and 370 more" in html and "and 396 more" in html and "and 100 more" in html and "<code>000.md</code>" in html


def test_one_sync_at_a_time(kb: KnowledgeBase, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    go, going = threading.Event(), threading.Semaphore(0)
    runs: list[int] = []

    def slow(kb: KnowledgeBase, progress: Any) -> IngestReport:
        runs.append(threading.active_count())
        going.release()
        assert go.wait(10)
        return IngestReport(failed=[("/gone", "not there")])

    monkeypatch.setattr(indexing_progress, "sync", slow)
    reading = Indexing()
    assert reading.start(kb) and going.acquire(timeout=10)
    second = threading.Thread(target=reading.run, args=(kb,))
    second.start()
    assert not reading.start(kb) and not going.acquire(timeout=0.2) and len(runs) == 1
    go.set()
    second.join(10)
    assert len(runs) == 2 and reading.finished and reading.ended and reading.progress_text() == ""
    assert "1 file failed" in status_html(kb, reading)


def test_a_failed_sync_shows_its_reason(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kb: KnowledgeBase, progress: Any) -> IngestReport:
        raise PasskbError("sources.json can not be read")

    monkeypatch.setattr(indexing_progress, "sync", broken)
    reading = Indexing()
    reading.run(kb)
    assert reading.report is None and "sources.json can not be read" in status_html(kb, reading)
