"""The panel under the header: what failed, what was left out by which rule, and a button that tries again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.serving import App, passkb, served
from tests.ingest.readers.test_pdf import made

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror='window.hacked=1'>.md"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes") / "vault"
    files: dict[str, bytes] = {
        "good.md": b"# Good\n\nThe good note can be read.",
        "late.md": b"\0 not text",
        "paper.pdf": b"%PDF-1.4\ntruncated",
        "drafts/one.md": b"A draft.",
        f"drafts/{EVIL}": b"A draft.",
        ".trash/old.md": b"Thrown away.",
        "templates/day.md": b"A template.",
        ".passkbignore": b"drafts/\n",
        ".obsidian/app.json": json.dumps({"userIgnoreFilters": ["templates/"]}).encode(),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def app(chromium: Any, vault: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("home")
    passkb(home, "ingest", str(vault), check=False)
    with served(home) as address:
        yield App(address, chromium)


def opened(app: App, **options: Any) -> Any:
    page = app.page(**options)
    page.wait_for_selector("#status .status-line")
    page.wait_for_function("!document.querySelector('#status .going')")
    page.focus("#status-toggle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sources-list .source")
    return page


def test_failures_and_rules_are_shown_with_their_reasons(app: App) -> None:
    page = opened(app)
    assert "2 files failed" in page.inner_text("#status")
    failed, skipped = page.inner_text("#sources-list .failed"), page.inner_text("#sources-list .skipped")
    assert "paper.pdf" in failed and "damaged or incomplete" in failed and "not a text file" in failed
    assert ".passkbignore, line 1: drafts/" in skipped and "drafts/one.md" in skipped and EVIL in skipped
    assert "Obsidian's excluded files: templates/" in skipped and ".trash/ (1 file)" in skipped
    assert page.get_attribute("#status-toggle", "aria-expanded") == "true"
    assert page.evaluate("window.hacked") is None
    page.focus("#try-again")
    page.keyboard.press("Escape")
    page.wait_for_selector("#sources-status", state="hidden")
    assert page.evaluate("document.activeElement.id") == "status-toggle"
    page.click("#tab-notes-button")
    page.click("#status .status-line")
    page.wait_for_selector("#sources-list details summary", state="visible")
    page.click("#sources-list details summary")
    page.click("#sources-list details [data-note]")
    page.wait_for_selector("#note-text .note-body")
    page.wait_for_selector("#sources-status", state="hidden")
    assert "indexed in 1 passage" in page.inner_text("#note-text .path")
    page.close()


def test_on_a_phone_nothing_is_wider_than_the_screen(app: App) -> None:
    page = opened(app, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_repaired_file_is_indexed_after_sync_now(app: App, vault: Path) -> None:
    page = opened(app)
    (vault / "late.md").write_text("# Late\n\nA note in text at last.", "utf-8")
    (vault / "paper.pdf").write_bytes(made([[(72, 700, 12, "Wombats dig long burrows below the hills at night.")]]))
    page.click("#try-again")
    page.wait_for_function("!document.querySelector('#sources-list .failed') && !document.querySelector('#try-again').disabled")
    assert "failed" not in page.inner_text("#status")
    assert "3 notes" in page.inner_text("#status") and page.inner_text("#try-again") == "Sync now"
    assert "Last synced" in page.inner_text("#sources-summary") and "failed" not in page.inner_text("#sources-summary")
    page.keyboard.press("Escape")
    page.click("#tab-notes-button")
    page.fill("#note-search input", "wombats burrows")
    page.wait_for_selector("#note-results [data-note='vault/paper']")
    page.close()


def test_no_foreign_requests_and_no_script_errors(app: App) -> None:
    """Runs last, and covers all pages above."""
    assert app.foreign == []
    assert app.errors == []
