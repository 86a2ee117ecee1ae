"""Sign-in and outdated pages in Chromium, under the real content security policy."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.serving import App, served

NOTE = "/?note=vault/codex-paper"


@pytest.fixture(scope="module")
def home(sample_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(sample_home, tmp_path_factory.mktemp("sign-in") / "home"))


@pytest.fixture(scope="module")
def private(home: Path, chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    file = tmp_path_factory.mktemp("accounts") / "accounts"
    file.touch(0o600)
    file.write_text("ada:se:cret\n", "utf-8")
    with served(home, "--no-worker", "--auth-file", str(file)) as address:
        yield App(address, chromium)


@pytest.fixture(scope="module")
def open_app(home: Path, chromium: Any) -> Iterator[App]:
    with served(home, "--no-worker") as address:
        yield App(address, chromium)


def sign_in(page: Any, password: str = "se:cret") -> None:
    page.fill("#username", "ada")
    page.fill("#password", password)
    page.press("#password", "Enter")


def test_a_person_signs_in_reads_and_signs_out(private: App) -> None:
    context = private.browser.new_context()
    page = private.watched(context.new_page(), NOTE)
    assert "/login" in page.url and "Evaluating" not in page.content()
    sign_in(page, "wrong")
    page.wait_for_selector("[role=alert]")
    assert page.inner_text("[role=alert]") == "The user name or the password is wrong."
    assert page.evaluate("document.activeElement.id") == "password"
    sign_in(page)
    page.wait_for_selector("#note-title h1")
    assert page.url.endswith(NOTE) and "Evaluating Large Language Models" in page.inner_text("#note-title")
    # A link on another site leads in as well, though a browser sends no strict cookie with it.
    other = context.new_page()
    other.set_content(f'<a href="{private.address}{NOTE}">a link elsewhere</a>')
    other.click("a")
    other.wait_for_selector("#note-title h1")
    page.click("#sign-out button")
    page.wait_for_selector("#username")
    # What is still open elsewhere says that nothing is done any more, and leads to the sign-in page.
    other.click("#tab-claims-button")
    other.wait_for_selector("#stale-page")
    assert "You are signed out" in other.inner_text("#stale-page")
    other.click("#stale-page button")
    other.wait_for_selector("#username")
    assert not private.errors and not private.foreign
    context.close()


def test_a_page_renews_its_token_by_itself(open_app: App) -> None:
    """After twelve hours, or after the server was started again: here by a token that is not good any more."""
    context = open_app.browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "new MutationObserver(() => { const m = document.querySelector('meta[name=passkb-token]');"
        "if (m && !m.dataset.old) { m.dataset.old = 1; m.content = '1.old'; } })"
        ".observe(document, {childList: true, subtree: true})"
    )
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status == 403 else None)
    page = open_app.watched(page, NOTE)
    page.wait_for_selector("#note-title h1")
    page.click("#tab-claims-button")
    page.wait_for_selector("#claims-table table")
    assert refused and page.query_selector("#stale-page") is None and not open_app.errors
    context.close()


def test_a_page_outlives_a_restart_of_the_server(home: Path, chromium: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(home, "--no-worker", port=port):
        page = chromium.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"http://127.0.0.1:{port}{NOTE}")
        page.wait_for_selector("#note-title h1")
    with served(home, "--no-worker", port=port):
        for _ in range(60):  # Gradio may reload the page in the meantime, which clears the search box
            page.fill("#note-search :is(input, textarea)", "")
            page.fill("#note-search :is(input, textarea)", "entropy")
            page.wait_for_timeout(1_000)
            if page.locator("#note-results [data-note]").count():
                break
        assert page.locator("#note-results [data-note]").count() and page.locator("#stale-page").count() == 0
        page.close()


def test_a_page_of_another_session_shows_that_it_is_out_of_date(open_app: App) -> None:
    context = open_app.browser.new_context()
    page = open_app.watched(context.new_page(), NOTE)
    page.wait_for_selector("#note-title h1")
    context.clear_cookies()
    page.fill("#note-search :is(input, textarea)", "entropy")
    page.wait_for_selector("#stale-page")
    assert page.inner_text("#stale-page").startswith("This page is out of date, so nothing was changed.")
    page.click("#stale-page button")
    page.wait_for_selector("#note-title h1")
    assert page.query_selector("#stale-page") is None
    context.close()


def test_a_script_that_is_put_into_the_page_does_not_run(open_app: App) -> None:
    page = open_app.page(NOTE)
    page.wait_for_selector("#note-title h1")
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.injected = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.injected = 2\">'); }"
    )
    page.wait_for_timeout(500)
    assert page.evaluate("window.injected") is None
    page.close()
