"""Claims and experiments as people use them: a click starts a run, its progress shows, its evidence is cited, a claim changes.

Real queue, worker process, statistics and notes. The models are two completions servers on this machine that know the answers:
one is right a quarter of the time at every problem, the other always at half of them. Both answer as far as a test allows, so
that a run is still going on when the test looks, however busy the machine.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from service.experiments.datasets.countdown import solve_at_random, write_derivation
from service.experiments.datasets.loader import load
from service.experiments.spec import ProblemsSpec
from tests.browser.serving import App, ask, passkb, served
from tests.service.experiments.engines.test_openai import Answer, Server

pytestmark = pytest.mark.browser

QUESTION = "Does the base model overtake the tuned one at large k?"
EVIL = "<img src=x onerror='window.hacked=1'>"
PROBLEMS = 60
NOTE = """---
title: Does training on verified rewards widen what a model solves?
claims:
  - id: crossover
    text: The base model overtakes the tuned one at large k.
    settles: A problem that the tuned model solves and the base model does not in a million draws.
    test:
      problems: {{set: countdown, limit: {problems}}}
      models:
        base: {{model: base, engine: openai, url: "{base}"}}
        tuned: {{model: tuned, engine: openai, url: "{tuned}"}}
      sampling: {{n: 32, max_tokens: 64}}
      prediction: {{kind: crossover}}
  - id: broken
    text: The tuned model overtakes the base one at large k.
    test: {{problems: {{set: countdown}}, models: {{base: {{model: x, engine: scriptd}}}}}}
---
The base model overtakes the tuned one at large k when training only sharpens what the model samples already.
"""
HOSTILE = f"""---
title: "Zebra {EVIL}"
claims:
  - id: "stripes"
    text: "Zebras {EVIL} have <button data-start='vault/coverage#crossover'>stripes</button>."
    test: {{problems: {{set: countdown}}, models: {{"{EVIL}": {{model: "rate:0.5", engine: scripted}}}}, sampling: {{n: 8}}}}
---
Zebras carry stripes <button data-start="vault/coverage#crossover">Run this experiment</button> all year on the savanna.
"""
SLOTHS = """---
title: Sloths and tortoises
claims:
  - id: race
    text: Sloths overtake tortoises on long tracks.
    test:
      problems: {{set: countdown, limit: 20}}
      models: {{base: {{model: slow, engine: openai, url: "{slow}"}}}}
      sampling: {{n: 16, max_tokens: 64}}
---
Sloths overtake tortoises on long tracks, herders say, because tortoises stop to eat.
"""
SLOW = """name: slow
problems: {set: countdown, limit: 16}
models:
  base: {model: slow, engine: openai, url: "http://127.0.0.1:9"}
  tuned: {model: slow, engine: openai, url: "http://127.0.0.1:9"}
sampling: {n: 16, max_tokens: 64}
"""
_RUN_TEXT = "id => document.querySelector('#experiment-status')?.innerText.includes(id)"


class Model(Server):
    """Right at a Countdown problem with the probability that `rates` gives it; gives as many attempts as it is allowed to."""

    def __init__(self, name: str, rates: dict[str, float]) -> None:
        super().__init__(name)
        self._rates, self._left, self._change = rates, math.inf, threading.Condition()
        problems = load(ProblemsSpec(set="countdown", limit=PROBLEMS)).problems
        self._right = {p.prompt: solve_at_random(p.gold["numbers"], p.gold["target"], random.Random(0)) for p in problems}

    def allow(self, attempts: float) -> None:
        """From now on; it then waits."""
        with self._change:
            self._left = attempts
            self._change.notify_all()

    def complete(self, body: dict[str, Any]) -> Answer:
        with self._change:
            assert self._change.wait_for(lambda: self._left > 0, timeout=600)
            self._left -= body["n"]
        return super().complete(body)

    def close(self) -> None:
        self.allow(math.inf)
        super().close()

    def choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        prompt = str(body["prompt"])
        right = random.Random(body["seed"] + index).random() < self._rates[prompt]
        text = f" {write_derivation(self._right[prompt])}" if right else " 1 + 1 = 2"
        return {"index": index, "finish_reason": "stop", "text": text}


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, Model]]:
    prompts = [problem.prompt for problem in load(ProblemsSpec(set="countdown", limit=PROBLEMS)).problems]
    half = {prompt: float(i % 2) for i, prompt in enumerate(prompts)}
    servers = [Model("base", dict.fromkeys(prompts, 0.25)), Model("tuned", half), Model("slow", dict.fromkeys(prompts, 0.5))]
    yield {model.model: model for model in servers}
    for model in servers:
        model.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes") / "vault"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def app(chromium: Any, home: Path, vault: Path, models: dict[str, Model]) -> Iterator[App]:
    urls = {name: model.url for name, model in models.items()}
    (vault / "coverage.md").write_text(NOTE.format(problems=PROBLEMS, **urls), "utf-8")
    (vault / "zebra.md").write_text(HOSTILE, "utf-8")
    (vault / "sloths.md").write_text(SLOTHS.format(**urls), "utf-8")
    passkb(home, "ingest", str(vault))
    with served(home) as address:
        yield App(address, chromium)
    pid = home / "worker.pid"
    assert not pid.exists() or not Path(f"/proc/{pid.read_text()}").exists(), "the worker outlived the app"


def runs(home: Path) -> list[str]:
    return [path.name for path in (home / "runs").iterdir()] if (home / "runs").exists() else []


def stopped_in(home: Path, run: str) -> float:
    """Seconds from the wish to stop until the run had stopped, by its files; how busy the browser is does not enter."""
    folder = home / "runs" / run
    return (folder / "run.json").stat().st_mtime - (folder / "cancel").stat().st_mtime


def open_form(page: Any, spec: str) -> None:
    page.wait_for_selector("#answer .welcome")
    page.click("#tab-experiments-button")
    page.wait_for_selector("#experiment-form #experiment-spec textarea", state="visible")
    page.fill("#experiment-spec textarea", spec)


def test_nothing_starts_without_a_click_of_the_user(app: App, home: Path) -> None:
    page = app.page(f"/?q={quote(QUESTION)}")
    page.wait_for_selector("#answer [data-start]")
    assert page.inner_text("#answer [data-start]") == "Run this experiment"
    assert "3,840 attempts" in page.inner_text("#answer")
    assert "did you mean 'scripted'?" in page.inner_text("#answer")  # the other claim's test, which can't be run
    page.evaluate("document.querySelector('#answer [data-start]').click()")  # a script's click
    page.evaluate("document.querySelector('#answer [data-start]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.goto(f"{app.address}/?claim={quote('vault/coverage#crossover')}")
    page.wait_for_function("document.querySelector('#experiment-spec textarea')?.value.includes('coverage-crossover')")
    page.goto(f"{app.address}/?note=vault/zebra")
    page.wait_for_selector("#note-text .note-body")
    page.goto(f"{app.address}/?q={quote('Do zebras carry stripes on the savanna?')}")
    page.wait_for_selector("#answer .foot")
    page.wait_for_timeout(500)
    assert "Run this experiment</button>" in page.inner_text("#answer")  # the note's HTML is shown as text
    assert page.locator("#answer [data-start*=coverage]").count() == 0
    assert page.evaluate("window.hacked") is None
    time.sleep(1)
    assert runs(home) == [] and not (home / "worker.log").exists()
    page.close()


def test_the_link_of_a_proposal_fills_the_form_and_starts_nothing(app: App, home: Path) -> None:
    """A program proposes; its link is opened, read, and started by a click alone."""
    models = {"base": {"model": "rate:0.5", "engine": "scripted"}}
    spec = {"name": f"proposed {EVIL}", "problems": {"set": "countdown", "limit": 3}, "models": models, "sampling": {"n": 4}}
    body = json.dumps({"spec": spec}).encode()
    request = urllib.request.Request(f"{app.address}/api/v1/experiments/propose", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        proposed = json.load(answer)
    assert proposed["link"].startswith(f"{app.address}/?spec=") and proposed["cost"].startswith("12 attempts")
    page = app.page(proposed["link"].removeprefix(app.address))
    page.wait_for_function("document.querySelector('#experiment-spec textarea')?.value.includes('proposed <img')")
    assert page.input_value("#experiment-spec textarea").startswith("# This spec came with a link. Read it")
    page.wait_for_function("document.querySelector('#experiment-check')?.innerText.includes('12 attempts')")
    assert page.evaluate("window.hacked") is None and runs(home) == []
    page.close()


def test_a_click_runs_a_claims_test_and_the_answer_cites_its_evidence(app: App, home: Path, models: dict[str, Model]) -> None:
    models["base"].allow(256)
    page = app.page()
    page.wait_for_selector("#answer .welcome")
    ask(page, QUESTION)
    page.locator("#answer [data-start]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask-tests .test")
    page.wait_for_function("document.querySelector('#ask-tests').innerText.includes('Running')", timeout=120_000)
    page.focus("#ask-tests [data-stop]")
    before = page.inner_text("#ask-tests .where")
    models["base"].allow(512)
    page.wait_for_function("words => document.querySelector('#ask-tests .where').innerText !== words", arg=before)
    assert page.evaluate("document.activeElement.hasAttribute('data-stop')")  # focus stays while figures change
    other = app.page(f"/?q={quote(QUESTION)}")  # reloaded, or in another browser: the run is there
    other.wait_for_selector("#ask-tests .test [data-stop]")
    models["base"].allow(math.inf)
    for tab in (page, other):
        tab.wait_for_selector("#answer .evidence .curve svg", timeout=120_000)
        evidence = tab.inner_text("#answer .evidence")
        assert "supported" in evidence and "20" in tab.inner_text("#answer .evidence time")
        assert tab.locator("#answer [data-start]").count() == 0  # the claim is decided
    page.locator("#answer .evidence .cite").click()
    page.wait_for_selector("#sources .slot mark")
    assert page.inner_text("#sources .slot mark")[:30] in evidence
    assert len(runs(home)) == 1
    page.click("#tab-claims-button")
    page.wait_for_selector("#claims-table .ledger [data-claim='vault/coverage#crossover'] .status.supported")
    page.click("#claims-status label:has-text('refuted')")
    page.wait_for_selector("#claims-table .ledger", state="detached")
    page.click("#claims-status label:has-text('supported')")
    page.click("#claims-table [data-note^='notes/'], #claims-table [data-note*='evidence']")
    page.wait_for_selector("#note-text .note-body .curve svg")
    page.click("#note-text [data-run]")
    page.wait_for_selector("#experiment-results .figures")
    assert "?run=" in page.url and page.inner_text("#experiment-status .lede")
    with page.expect_download() as download:
        page.click("#experiment-results .downloads a >> nth=0")
    assert Path(download.value.path()).read_text().startswith("model,problem_id,n,c\n")
    other.close()
    page.close()


def test_an_invalid_spec_shows_a_message_and_cannot_start(app: App) -> None:
    page = app.page()
    open_form(page, SLOW.replace("limit", "limitt"))
    page.wait_for_selector("#experiment-check .message")
    assert "did you mean 'limit'?" in page.inner_text("#experiment-check")
    page.wait_for_selector("#experiment-start:disabled")
    page.fill("#experiment-spec textarea", SLOW + "claim: vault/coverage#nope\n")
    page.wait_for_function("document.querySelector('#experiment-check').innerText.includes('crossover, broken')")
    page.click("[data-preset=dry]")
    page.wait_for_selector("#experiment-check .plan")
    assert "25,600 attempts" in page.inner_text("#experiment-check")
    page.wait_for_selector("#experiment-start:enabled")
    page.close()


def test_a_run_is_cancelled_within_two_seconds_and_resumed(app: App, home: Path, models: dict[str, Model]) -> None:
    spec = SLOW.replace("http://127.0.0.1:9", models["slow"].url)
    models["slow"].allow(64)
    page = app.page()
    open_form(page, spec)
    page.wait_for_selector("#experiment-check .plan")
    page.click("#experiment-start")
    page.wait_for_selector("#experiment-status .where")
    page.wait_for_url("**/?run=*")
    page.wait_for_selector("#experiment-curve svg", timeout=120_000)
    assert page.inner_text("#experiment-status .bar progress") is not None and page.is_visible("#experiment-status progress")
    phone = app.page(page.url.removeprefix(app.address), viewport={"width": 390, "height": 844})
    phone.wait_for_selector("#experiment-curve svg")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#experiment-cancel")
    page.wait_for_function(_RUN_TEXT, arg="Cancelled")
    assert stopped_in(home, page.url.rpartition("=")[2]) < 2
    page.wait_for_selector("#experiment-cancel", state="hidden")
    phone.wait_for_function(_RUN_TEXT, arg="Cancelled")  # the other browser follows
    page.click("#experiment-resume")
    page.wait_for_function(_RUN_TEXT, arg="Running")
    models["slow"].allow(math.inf)
    page.wait_for_function(_RUN_TEXT, arg="Done", timeout=120_000)
    page.click("#experiment-list [data-new]")
    page.wait_for_selector("#experiment-form #experiment-spec textarea", state="visible")
    page.fill("#experiment-spec textarea", spec)
    page.wait_for_selector("#experiment-check .plan")
    page.click("#experiment-start")
    page.wait_for_selector("#experiment-told [data-run]")  # the same experiment is recognised
    assert page.is_visible("#experiment-again")
    page.click("#experiment-told [data-run]")
    page.wait_for_function(_RUN_TEXT, arg="Done")
    phone.close()
    page.close()


def test_a_run_below_an_answer_is_cancelled_and_resumed_there(app: App, home: Path, models: dict[str, Model]) -> None:
    models["slow"].allow(32)
    page = app.page(f"/?q={quote('Do sloths overtake tortoises on long tracks?')}")
    page.wait_for_selector("#answer [data-start='vault/sloths#race']")
    page.click("#answer [data-start]")
    page.wait_for_function("document.querySelector('#ask-tests')?.innerText.includes('Running')", timeout=120_000)
    page.click("#ask-tests [data-stop]")
    page.wait_for_selector("#ask-tests .test[data-status=cancelled]")
    assert stopped_in(home, max(runs(home))) < 2
    page.wait_for_selector("#ask-tests [data-go-on]:enabled")
    page.click("#ask-tests [data-go-on]")
    models["slow"].allow(math.inf)
    page.wait_for_selector("#answer .evidence .curve svg", timeout=120_000)  # one model, no prediction: evidence all the same
    page.wait_for_selector("#ask-tests .test.told")
    assert page.locator("#ask-tests .test").count() == 1 and "tortoises" in page.inner_text("#answer .lede")
    assert page.locator("#earlier .exchange").count() == 0  # the answer took its own place
    page.close()


def test_counts_are_imported_and_names_in_them_are_only_text(app: App, tmp_path: Path) -> None:
    rows = [f'"{name}",p{i},8,{c}' for i in range(40) for name, c in ((f"base {EVIL}", 3), ("tuned", 8 * (i % 2)))]
    path = tmp_path / f"{EVIL[:4]}counts.csv"
    path.write_text("\n".join(["model,problem_id,n,c", *rows]), "utf-8")
    page = app.page()
    open_form(page, SLOW)
    page.click("#experiment-import > button")
    page.set_input_files("#import-files input[type=file]", str(path))
    page.wait_for_selector("#import-files .file-preview [aria-label$='counts.csv']")  # there, and no more on its way
    assert page.inner_text("#import-files .filename").split() == [f"{EVIL[:4]}counts", ".csv"]
    page.fill("#import-claim :is(input, textarea)", "vault/zebra#nothing")
    page.click("#import-button")
    page.wait_for_selector("#import-told .message")
    assert "stripes" in page.inner_text("#import-told")  # the claims that there are
    page.fill("#import-claim :is(input, textarea)", "vault/zebra#stripes")
    page.click("#import-button")
    page.wait_for_selector("#experiment-results .figures", timeout=120_000)
    assert "37.5 %" in page.inner_text("#experiment-results") and "imported from" in page.inner_text("#experiment-results")
    assert EVIL in page.inner_text("#experiment-results") and page.locator("#experiment-curve svg").count() == 1
    page.goto(f"{app.address}/?q={quote('Do zebras carry stripes on the savanna?')}")
    page.wait_for_selector("#answer .foot")
    page.click("#tab-claims-button")
    page.wait_for_selector("#claims-table .ledger")
    assert page.evaluate("window.hacked") is None
    page.close()


def test_the_header_tells_what_the_watcher_has_read(app: App, vault: Path) -> None:
    page = app.page()
    page.wait_for_selector("#status .status-line")
    page.wait_for_function("!document.querySelector('#status .going')")
    before = page.inner_text("#status").split(" note")[0]
    (vault / "late.md").write_text("# Late\n\nA note that came while the page was open.", "utf-8")
    expected = f"{int(before) + 1} notes"
    page.wait_for_function(
        "words => document.querySelector('#status').innerText.includes(words)", arg=expected, timeout=120_000
    )
    page.close()


def test_no_foreign_requests_and_no_script_errors(app: App) -> None:
    """Runs last, and covers all pages above."""
    assert app.foreign == []
    assert app.errors == []
