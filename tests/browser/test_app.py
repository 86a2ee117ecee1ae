"""The app in Chromium, with a real home and a server in its own process."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.serving import ROOT, App, ask, passkb, served

QUESTION = "What does pass@k reveal about base model reasoning capacity?"
NOTE = "vault/does-rlvr-expand"
HOSTILE = """---
title: "Zebra <script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
aliases: ["zebra note"]
links:
  - {to: "[[does-rlvr-expand]]", type: contradicts, why: "<img src=x onerror='window.hacked=1'>"}
claims:
  - {id: stripes, text: "Zebras <script>window.hacked=1</script> have stripes.", settles: "<svg onload='window.hacked=1'>"}
---
Zebras graze on the savanna <img src=x onerror="window.hacked=1"> and carry stripes <script>window.hacked=1</script> all year.
A zebra's stripes confuse biting flies, [say the herders](javascript:window.hacked=1) of the savanna.

![pixel](https://evil.example/pixel.png) `{{constructor.constructor('window.hacked=1')()}}` ${window.hacked=1}

Nobody wrote [[Unwritten <img src=x onerror=window.hacked=1>]] yet.
"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home, vault = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notes") / "vault"
    shutil.copytree(ROOT / "samples" / "vault", vault)
    (vault / "zebra <b>note<b>.md").write_text(HOSTILE, "utf-8")
    passkb(home, "ingest", str(vault))
    with served(home) as address:
        yield App(address, chromium)


def test_a_question_is_answered_and_a_citation_opens_its_marked_sentence(app: App) -> None:
    page = app.page()
    page.wait_for_selector("#answer .welcome [data-ask]")
    assert re.search(r"\d+ notes · \d+ links", page.inner_text("#status"))
    ask(page, QUESTION)
    page.wait_for_selector("#answer .foot")
    assert page.inner_text("#answer .question") == QUESTION
    assert "q=What%20does%20pass" in page.url
    assert page.locator("#sources .source-list li").count() >= 3
    mark = page.locator("#answer .statement .cite").nth(1)
    statement = page.locator("#answer .statement", has=page.locator(".cite")).nth(1).inner_text()
    mark.click()
    page.wait_for_selector("#sources .slot mark")
    words = " ".join(page.locator("#sources .slot mark").all_inner_texts())
    assert words[:40] in statement
    assert mark.get_attribute("aria-current") == "true"
    assert page.get_attribute("#sources .slot h3 a", "data-note")
    page.close()


def test_earlier_questions_stay_on_the_page_and_keep_their_sources(app: App) -> None:
    page = app.page()
    page.wait_for_selector("#answer .welcome")
    ask(page, QUESTION)
    page.wait_for_selector("#answer .foot")
    ask(page, "How do I bake sourdough bread?")
    page.wait_for_selector("#answer .refusal")
    assert page.locator("#answer .statement").count() == 0
    assert page.locator("#answer .refusal [data-note]").count() >= 1
    page.click("#earlier summary")
    assert page.inner_text("#earlier summary") == QUESTION
    assert page.locator("#earlier .cite").first.is_visible()
    page.close()


def test_links_between_notes_and_the_back_button_work(app: App) -> None:
    page = app.page(f"/?note={NOTE}")
    page.wait_for_selector("#note-text .note-body")
    titles = [page.inner_text("#note-title h1")]
    for area in ("#note-links .contradicts [data-note]", "#note-map a[data-note]:not(.centre)", "#note-links [data-note]"):
        page.locator(area).first.click()
        page.wait_for_function("title => document.querySelector('#note-title h1').innerText !== title", arg=titles[-1])
        titles.append(page.inner_text("#note-title h1"))
        assert "?note=" in page.url
    page.go_back()
    page.wait_for_function("title => document.querySelector('#note-title h1').innerText === title", arg=titles[-2])
    page.reload()
    page.wait_for_function("title => document.querySelector('#note-title h1')?.innerText === title", arg=titles[-2])
    assert page.locator("#note-map svg circle").count() >= 2
    page.close()


def test_addresses_open_what_they_name(app: App) -> None:
    page = app.page(f"/?q={quote(QUESTION)}")
    page.wait_for_selector("#answer .foot")
    assert page.inner_text("#answer .question") == QUESTION
    page.reload()
    page.wait_for_selector("#answer .foot")
    page.goto(f"{app.address}/?note={quote('RLVR and coverage')}")
    page.wait_for_selector("#note-text .note-body math")
    page.goto(f"{app.address}/?note=vault/no-such-rlvr")
    page.wait_for_selector("#note-text .message")
    assert "vault/no-such-rlvr" in page.inner_text("#note-text")
    assert page.locator("#note-text [data-note]").count() >= 1
    page.close()


def test_search_as_you_type_finds_titles_and_texts(app: App) -> None:
    page = app.page()
    page.wait_for_selector("#answer .welcome")
    page.click("#tab-notes-button")
    page.keyboard.press("/")
    page.keyboard.type("confidence interval")
    page.wait_for_selector("#note-results .source-list li")
    page.keyboard.press("Enter")
    page.wait_for_selector("#note-text .note-body")
    assert "interval" in page.inner_text("#note-title h1").lower()
    page.close()


def test_the_keyboard_is_enough(app: App) -> None:
    page = app.page()
    page.wait_for_selector("#answer .welcome")
    page.keyboard.press("/")
    page.keyboard.type("What is pass@k?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("And pass^k?")
    assert page.input_value("#ask-input textarea") == "What is pass@k?\nAnd pass^k?"
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer .foot, #answer .refusal")
    page.locator("#answer :is(.cite, [data-note])").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#sources .slot mark, #note-text .note-body")
    page.close()


def test_empty_and_long_questions_show_a_message(app: App) -> None:
    page = app.page()
    page.wait_for_selector("#answer .welcome")
    page.click("#ask-button")
    page.wait_for_selector("#ask-hint .message")
    assert page.locator("#answer .welcome").count() == 1
    ask(page, "word " * 10_000)
    page.wait_for_function("document.querySelector('#ask-hint').innerText.includes('2,000 characters')")
    page.close()


def test_on_a_phone_the_sources_are_a_sheet(app: App) -> None:
    page = app.page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.wait_for_selector("#answer .welcome")
    ask(page, QUESTION)
    page.wait_for_selector("#answer .foot")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.locator("#source-column").is_visible()
    page.locator("#answer .cite").first.tap()
    page.wait_for_selector("#sources .slot mark", state="visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("#source-column", state="hidden")
    page.goto(f"{app.address}/?note={NOTE}")
    page.wait_for_selector("#note-map svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_dark_mode_follows_the_system(app: App) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = app.page(color_scheme=scheme)
        page.wait_for_selector("#answer .welcome")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
        page.close()
    assert shades["light"] > 600 and shades["dark"] < 150


def test_a_hostile_note_is_escaped(app: App) -> None:
    page = app.page(f"/?note={quote('zebra note')}")
    page.wait_for_selector("#note-text .note-body")
    assert "<script>" in page.inner_text("#note-title h1")
    page.click("#note-text .note-body .missing >> nth=0")
    page.locator("#note-map a[data-caption]").first.hover()
    page.locator("#note-links [data-note]").first.click()
    page.wait_for_selector("#note-links .links")
    page.goto(f"{app.address}/?q={quote('Why do zebra stripes confuse biting flies of the savanna?')}")
    page.wait_for_selector("#answer .foot")
    page.locator("#answer .cite").first.click()
    page.wait_for_selector("#sources .slot mark")
    page.click("#tab-notes-button")
    page.fill("#note-search input", "zebra")
    page.wait_for_selector("#note-results [data-note]")
    page.goto(f"{app.address}/?note={quote('<img src=x onerror=window.hacked=1>')}")
    page.wait_for_selector("#note-text .message")
    page.goto(f"{app.address}/?q={quote('<img src=x onerror=window.hacked=1> ${window.hacked=1} {{x}}')}")
    page.wait_for_selector("#answer :is(.foot, .refusal)")
    assert page.evaluate("window.hacked") is None
    page.close()


def test_no_foreign_requests_and_no_script_errors(app: App) -> None:
    """Runs last, and covers all pages above."""
    assert app.foreign == []
    assert app.errors == []
