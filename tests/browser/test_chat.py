"""Answers written by a model, as people meet them in the app: streamed, stopped, cut off, retried, quoted instead, remembered.

The model is a server on this machine that says what the question asks for; everything else is the app itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.answering.generate.prompts import CORRECTION_RULES
from service.answering.retrieve.question_rewrite import SYSTEM_PROMPT as UNDERSTANDING
from tests.browser.serving import App, ask, passkb, served
from tests.service.answering.scripted_server import Body, Reply, ScriptedServer, said, serving
from tests.service.answering.zebras import FLIES, HEAT, TRIAL, VAULT, key_of

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror='window.hacked=1'><div><b"
WHY = "Why do zebras have stripes, do zebra stripes keep biting flies away?"
SLOW = "Do zebra stripes keep biting flies away, told slowly?"
DYING = "Do zebra stripes keep biting flies away, told by a server that dies?"
HOSTILE = "Do zebra stripes keep biting flies away, told with markup?"
THOUGHTS = "<think>The person asks about stripes.</think>"


def reply(body: Body) -> Reply:
    """Each question gets the answer that its words name."""
    system, prompt = body["messages"][0]["content"], body["messages"][-1]["content"]
    if system == CORRECTION_RULES:
        return said("1. DROP\n2. DROP")
    if system == UNDERSTANDING:
        return said("Do zebra stripes serve against heat or flies?")
    flies, heat = f"[{key_of(body, FLIES)}]", f"[{key_of(body, HEAT)}]"
    good = f"{FLIES[:-1]} {flies}."
    if SLOW in prompt:
        return said(f"{good} " + "Zebras carry stripes on their coats all year long. " * 400, between=0.05)
    if DYING in prompt and not dead:
        dead.append(1)
        return said(f"{good} In a field trial striped hor", dies=True)
    if HOSTILE in prompt:
        return said(f"{THOUGHTS}{EVIL} {good} <table><td>Half open {EVIL}", between=0.01)
    wrong = TRIAL.replace("25 %", "95 %")[:-1]
    text = f"{THOUGHTS}{good}\n\n{HEAT[:-1]} {heat}. {wrong} [{key_of(body, TRIAL)}]. Nobody doubts that."
    return said(text, between=0.01)


dead: list[int] = []


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedServer]:
    with serving(reply, model="zebra-7b") as server:
        yield server


@pytest.fixture(scope="module")
def app(chromium: Any, model: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    vault = tmp_path_factory.mktemp("notes") / "vault"
    vault.mkdir()
    for name, text in VAULT.items():
        (vault / name).write_text(text, "utf-8")
    home = tmp_path_factory.mktemp("home")
    passkb(home, "ingest", str(vault))
    with served(home, "--no-worker", "--llm", model.url) as address:
        yield App(address, chromium)


def opened(app: App, **options: Any) -> Any:
    page = app.page(**options)
    page.wait_for_selector("#answer .welcome")
    return page


def answered(page: Any, question: str) -> None:
    """Waits for the complete answer to this question."""
    whole = "q => document.querySelector('#answer .foot') && document.querySelector('#answer .question').innerText === q"
    page.wait_for_function(whole, arg=question)


def test_a_written_answer_is_streamed_and_each_sentence_graded(app: App) -> None:
    page = opened(app)
    ask(page, WHY)
    page.wait_for_selector("#answer .growing p")
    assert page.locator("#ask-stop").is_visible() and not page.locator("#ask-button").is_visible()
    answered(page, WHY)
    assert page.locator("#ask-button").is_visible() and not page.locator("#ask-stop").is_visible()
    grades = page.locator("#answer .statement .grade").all_inner_texts()
    assert grades[0] == "✓" and "✗ no citation" in grades
    assert "zebra-7b" in page.inner_text("#answer .foot")
    assert "95 %" not in page.inner_text("#answer .lede") and "95 %" not in page.inner_text("#answer .says")
    page.click("#answer .dropped summary")
    assert "95 %" in page.inner_text("#answer .dropped") and "missing number" in page.inner_text("#answer .dropped")
    assert "asks about stripes" not in page.inner_text("#answer")
    page.click("#answer .reasoning summary")
    assert "asks about stripes" in page.inner_text("#answer .thoughts")
    page.locator("#answer .cite").first.click()
    page.wait_for_selector("#sources .slot mark")
    assert FLIES in page.inner_text("#sources .slot mark")
    page.close()


def test_stopping_keeps_the_draft_and_frees_the_page(app: App) -> None:
    page = opened(app)
    ask(page, SLOW)
    page.wait_for_function("document.querySelector('#answer .growing')?.innerText.includes('all year long')")
    page.click("#ask-stop")
    answered(page, SLOW)
    assert "Stopped" in page.inner_text("#answer .fault")
    assert FLIES[:-1] in page.inner_text("#answer .lede")
    ask(page, WHY)
    answered(page, WHY)
    page.close()


def test_a_new_question_ends_the_answer_that_is_being_written(app: App) -> None:
    page = opened(app)
    ask(page, SLOW)
    page.wait_for_selector("#answer .growing p")
    ask(page, WHY)
    answered(page, WHY)
    assert page.inner_text("#earlier summary") == SLOW
    page.close()


def test_a_failing_server_leaves_its_draft_and_can_be_asked_again(app: App) -> None:
    page = opened(app)
    ask(page, DYING)
    answered(page, DYING)
    assert "Incomplete" in page.inner_text("#answer .fault") and "striped hor" in page.inner_text("#answer")
    assert "cut off" in page.inner_text("#answer")
    page.click("#answer .fault button")
    page.wait_for_function("document.querySelector('#answer .foot') && !document.querySelector('#answer .fault')")
    assert "striped hor" not in page.inner_text("#answer .lede") + page.inner_text("#answer .says")
    page.close()


def test_markup_of_a_model_is_escaped(app: App) -> None:
    page = opened(app)
    ask(page, HOSTILE)
    page.wait_for_selector("#answer .growing p")
    answered(page, HOSTILE)
    assert page.locator("#answer :is(img, table)").count() == 0
    assert "<table>" in page.inner_text("#answer")
    assert page.locator("#answer .foot").count() == 1 and page.locator("#ask-input").is_visible()
    assert page.evaluate("window.hacked") is None
    page.close()


def test_any_answer_can_be_replaced_by_quotes(app: App) -> None:
    page = opened(app)
    ask(page, WHY)
    answered(page, WHY)
    page.click("#answer [data-mode=quoted]")
    page.wait_for_selector("#answer .grade.quoted")
    assert page.locator("#answer .grade:not(.quoted)").count() == 0
    page.click("#answer [data-mode=generated]")
    page.wait_for_selector("#answer .foot >> text=zebra-7b")
    page.click("#ask-mode label:nth-of-type(2)")
    ask(page, "Do zebra stripes cool the animal?")
    page.wait_for_selector("#answer .grade.quoted")
    page.close()


def test_a_follow_up_shows_its_interpretation(app: App) -> None:
    page = opened(app)
    ask(page, WHY)
    answered(page, WHY)
    ask(page, "And against heat?")
    answered(page, "And against heat?")
    assert "Understood as: Do zebra stripes serve against heat or flies?" in page.inner_text("#answer .understood")
    page.close()


def test_earlier_questions_are_stored_in_this_browser_only(app: App) -> None:
    context = app.browser.new_context()
    page = app.watched(context.new_page())
    page.wait_for_selector("#answer .welcome")
    ask(page, WHY)
    answered(page, WHY)
    page.wait_for_function("(localStorage.getItem('passkb-asked') ?? '').includes('zebra-7b')")
    page.goto(app.address)
    page.wait_for_selector("#earlier summary")
    page.click("#earlier summary")
    page.locator("#earlier .cite").first.click()
    page.wait_for_selector("#sources .slot mark")
    assert FLIES in page.inner_text("#sources .slot mark")
    ask(page, "How do I bake sourdough bread?")
    page.wait_for_selector("#answer .refusal")
    page.wait_for_selector("#sources .slot mark", state="detached")
    page.evaluate("document.querySelector('#earlier details').open = true")  # it may still be open from before
    page.locator("#earlier .cite").first.click()
    page.wait_for_selector("#sources .slot mark")  # a refusal has no sources, and those of earlier answers still open
    other = opened(app)
    assert other.locator("#earlier summary").count() == 0
    other.close()
    page.click("#earlier [data-forget]")
    page.wait_for_selector("#earlier summary", state="detached")
    assert page.evaluate("localStorage.getItem('passkb-asked')") is None
    context.close()


def test_forged_records_are_escaped(app: App) -> None:
    cited = {"number": 1, "note_id": "vault/flies", "title": EVIL, "start": 0, "end": 5, "quote": "nowhere in it"}
    answer = {
        "question": f"Zebra {EVIL}?", "answered": True, "mode": "generated", "model": EVIL, "reasoning": EVIL, "fault": EVIL,
        "statements": [{"text": EVIL, "support": "supported", "citations": [cited]}],
        "dropped": [{"text": EVIL, "support": "unsupported", "citations": [], "reason": EVIL}],
    }  # fmt: skip
    records = [json.dumps({"at": "2026-01-01", "answer": answer}), "{", "[]", json.dumps({"at": 1, "answer": {"question": 3}})]
    entries = [{"at": str(i), "question": "q", "text": text} for i, text in enumerate(records)]
    context = app.browser.new_context()
    page = app.watched(context.new_page())
    page.evaluate("entries => localStorage.setItem('passkb-asked', JSON.stringify(entries))", entries)
    page.goto(app.address)
    page.wait_for_selector("#earlier summary")
    assert page.locator("#earlier .earlier > details").count() == 1  # what is no record is left
    page.click("#earlier summary >> nth=0")
    assert page.locator("#earlier img").count() == 0 and page.evaluate("window.hacked") is None
    assert "no longer contains" in (page.text_content("#opened-sources") or "")
    context.close()


def test_an_answer_is_copied_and_exported_with_its_citations(app: App, tmp_path: Path) -> None:
    context = app.browser.new_context(permissions=["clipboard-read", "clipboard-write"], accept_downloads=True)
    page = app.watched(context.new_page())
    page.wait_for_selector("#answer .welcome")
    ask(page, WHY)
    answered(page, WHY)
    page.click("#answer [data-copy]")
    page.wait_for_selector("#answer [data-copy] >> text=Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert FLIES[:-1] in copied and re.search(r"\[\^1\]: .*flies.*“Zebra stripes keep biting flies", copied), copied
    ask(page, "How do I bake sourdough bread?")
    page.wait_for_selector("#answer .refusal")
    with page.expect_download() as download:
        page.click("[data-export]")
    download.value.save_as(tmp_path / "answers.md")
    exported = (tmp_path / "answers.md").read_text("utf-8")
    assert WHY in exported and "[^1]:" in exported and "sourdough" in exported
    context.close()


def test_an_answer_is_saved_as_an_inquiry_linked_from_its_sources(app: App) -> None:
    page = opened(app)
    ask(page, WHY)
    answered(page, WHY)
    page.evaluate("document.querySelector('#answer [data-keep]').click()")
    page.wait_for_timeout(1_500)
    assert page.locator("#answer .kept").count() == 0  # a script's click saves nothing
    page.click("#answer [data-keep]")
    page.wait_for_selector("#answer .kept")
    assert "Saved as an inquiry" in page.inner_text("#answer .kept")
    page.click("#answer .foot [data-keep]")
    page.wait_for_selector("#answer .kept >> text=already")
    page.click("#answer .kept a")
    page.wait_for_selector("#note-text .note-body >> text=[1]")
    assert page.inner_text("#note-title h1") == WHY
    page.goto(f"{app.address}/?note=vault/flies")
    page.wait_for_selector(f"#note-links >> text={WHY}")
    page.close()


def test_a_written_answer_fits_a_phone(app: App) -> None:
    page = opened(app, viewport={"width": 390, "height": 844}, color_scheme="dark")
    ask(page, WHY)
    page.wait_for_selector("#ask-stop", state="visible")
    answered(page, WHY)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_no_foreign_requests_and_no_script_errors(app: App) -> None:
    """Runs last, and covers all pages above."""
    assert app.foreign == []
    assert app.errors == []
