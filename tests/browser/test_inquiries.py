"""Inquiries and suggested links in Chromium: real clicks, and a vault that changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser.serving import App, passkb, served

EVIL = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
QUESTION = "Why do zebras have stripes, do zebra stripes keep biting flies away?"
OLD, NEW = "Zebra stripes keep biting flies from landing.", "Zebra stripes keep most biting flies from landing at noon."
FILES = {
    "flies.md": f"---\ntitle: Zebra stripes against flies\n---\n{OLD} In a trial, striped horses had fewer fly landings.\n",
    "heat.md": (
        "---\ntitle: Zebra stripes against heat\nlinks:\n  - {to: '[[flies]]', type: contradicts, why: cooling}\n---\n"
        "Zebra stripes cool the animal by stirring the air above its coat, and flies have nothing to do with it.\n"
    ),
    "horses.md": f"# Horses\n\nPlain coats were set beside zebra stripes against flies, {EVIL} in one field.\n",
}

pytestmark = pytest.mark.browser


@dataclass
class Zebras:
    app: App
    vault: Path
    inquiry: str
    home: Path


@pytest.fixture(scope="module")
def zebras(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zebras]:
    home, vault = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("zebras") / "vault"
    vault.mkdir()
    for name, text in FILES.items():
        (vault / name).write_text(text, "utf-8")
    passkb(home, "ingest", str(vault))
    saved = passkb(home, "keep", QUESTION, "--json")
    with served(home) as address:
        yield Zebras(App(address, chromium), vault, str(json.loads(saved)["id"]), home)


def test_an_inquiry_becomes_stale_and_is_asked_again(zebras: Zebras) -> None:
    page = zebras.app.page("/?note=vault/flies")
    page.locator("#note-text section", has_text="Inquiries that use this note").locator("[data-note]").first.click()
    page.wait_for_selector("#note-text .standing")
    assert page.inner_text("#note-title h1") == QUESTION and "have not changed" in page.inner_text("#note-text .standing")
    page.locator("#note-text .footnotes code [data-note]").first.click()
    page.wait_for_function("title => document.querySelector('#note-title h1').innerText !== title", arg=QUESTION)
    path = zebras.vault / "flies.md"
    path.write_text(path.read_text("utf-8").replace(OLD, NEW), "utf-8")
    for _ in range(60):  # until the app has read the change
        page.goto(f"{zebras.app.address}/?note={zebras.inquiry}")
        page.wait_for_selector("#note-text .standing")
        if page.locator("#note-text .standing.stale").count():
            break
        page.wait_for_timeout(500)
    stale = page.locator("#note-text .standing.stale")
    assert stale.locator("del").inner_text() == OLD and stale.locator("ins").inner_text() == NEW
    page.evaluate("document.querySelector('[data-tend=refresh]').click()")  # a script's click starts nothing
    page.wait_for_timeout(300)
    assert stale.count() == 1
    page.click("[data-tend=refresh]")
    page.wait_for_selector("#note-text .changes[open] .diff ins")
    assert NEW in page.inner_text("#note-text .changes .diff") and OLD in page.inner_text("#note-text .changes .diff")
    assert stale.count() == 0 and NEW in page.inner_text("#note-text .note-body")
    page.reload()
    page.wait_for_selector("#note-text .changes")
    assert page.locator("#note-text .changes[open]").count() == 0
    page.close()


def test_a_suggested_link_is_accepted_removed_and_dismissed_by_clicks(zebras: Zebras) -> None:
    page = zebras.app.page("/?note=vault/horses")
    suggested = page.locator("#note-links .suggested li:has(> [data-note='vault/flies'])")
    suggested.wait_for()
    assert "this note mentions it without a link: “Plain coats" in suggested.inner_text()
    page.evaluate("document.querySelector('[data-tend=accept]').click()")
    page.wait_for_timeout(300)
    assert suggested.count() == 1
    suggested.locator("[data-tend=accept]").click()
    page.wait_for_selector("#note-links [data-tend=take_back]")
    assert "flies" in page.inner_text("#note-links .related [data-note='vault/flies']") and suggested.count() == 0
    assert (zebras.vault / "horses.md").read_text("utf-8") == FILES["horses.md"]
    assert list((zebras.home / "notes" / "links").glob("*.md"))
    page.click("[data-tend=take_back]")
    suggested.wait_for()
    suggested.locator("[data-tend=dismiss]").click()
    page.wait_for_function("!document.querySelector(\"#note-links .suggested li > [data-note='vault/flies']\")")
    page.reload()
    page.wait_for_selector("#note-text .note-body")
    assert suggested.count() == 0 and page.evaluate("window.hacked") is None
    assert not zebras.app.errors and not zebras.app.foreign
    page.close()


def test_an_inquirys_page_fits_a_phone(zebras: Zebras) -> None:
    page = zebras.app.page(f"/?note={zebras.inquiry}", viewport={"width": 390, "height": 844})
    page.wait_for_selector("#note-text .standing")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
