"""What passkb does by itself stays on this machine and in its folders: every command, with all its processes, under the guard.

The commands run one after another in one home. The folders that are indexed may not be written to.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.syscalls import ROOT, Guard, line_of, terminate
from tests.service.answering.scripted_server import said, serving

VAULT = ROOT / "samples" / "vault"
NOTES = 12
QUESTION = "Does RLVR expand what models can reason about?"
MODELS = ROOT / "samples" / "models" / "countdown"
SPEC = {
    "name": "toy",
    "question": QUESTION,
    "problems": {"set": "countdown", "limit": 2, "seed": 0},
    "models": {name: {"model": str(MODELS / name), "engine": "transformers"} for name in ("base", "tuned")},
    "sampling": {"n": 4, "temperature": 1.0, "max_tokens": 16, "seed": 0},
}
CODE = {
    "name": "code",
    "question": "Are programs graded without a network?",
    "problems": {"file": "problems.jsonl", "format": "humaneval"},
    "models": {"base": {"model": "beta:0.5,0.5", "engine": "scripted"}},
    "sampling": {"n": 4, "max_tokens": 64, "seed": 0},
}
PROBLEM = {
    "task_id": "t/0", "prompt": "def one():\n", "canonical_solution": "    return 1\n", "entry_point": "one",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}  # fmt: skip
# A page that would fetch a picture and a script, and a PDF, which is read in a process of its own.
PAGE = "<html><head><title>Burrows</title><script src='https://example.invalid/x.js'></script></head><body><img "
PAGE += f"src='https://example.invalid/x.png'><h1>Burrows</h1><p>{'Wombats dig deep burrows. ' * 40}</p></body></html>"


@pytest.fixture(scope="module")
def indexed(guard: Guard) -> Guard:
    vault, pages = guard.folder / "vault", guard.folder / "pages"
    vault.mkdir()
    pages.mkdir()
    chosen = sorted(VAULT.glob("*.md"), key=lambda path: (path.stem != "does-rlvr-expand", path.name))
    for note in chosen[:NOTES]:
        shutil.copy(note, vault)
    (pages / "burrows.html").write_text(PAGE, "utf-8")
    (pages / "paper.pdf").write_bytes(pdf("Wombats dig their burrows three metres deep."))
    report = json.loads(guard.passkb("ingest", str(vault), str(pages), "--json"))
    assert report["added"] == NOTES + 2 and not report["failed"], report
    return guard


def pdf(text: str) -> bytes:
    """A page with one line of text."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    return (
        b"%PDF-1.4\n"
        + b"".join(b"%d 0 obj%sendobj\n" % (i, part) for i, part in enumerate(parts, 1))
        + b"trailer<</Root 1 0 R>>"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("sync",),
        ("status", "--files"),
        ("search", "entropy collapse", "-k", "3"),
        ("ask", QUESTION),
        ("note", "vault/does-rlvr-expand"),
        ("rebuild",),
        ("keep", QUESTION),
        ("suggest", "vault/does-rlvr-expand"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_stays_here(indexed: Guard, arguments: tuple[str, ...]) -> None:
    indexed.passkb(*arguments)
    assert indexed.violations() == []


def test_the_doctor_stays_here(indexed: Guard) -> None:
    done = indexed.run(indexed.command("doctor"))
    assert "embedder" in done.stdout, done.stderr
    assert indexed.violations() == []


def test_a_written_answer_reaches_its_server_only_and_past_a_proxy(indexed: Guard) -> None:
    """The proxy of the environment is an address that nothing answers at, and may not even be tried."""
    proxy = "http://192.0.2.1:3128"
    with serving(said("RLVR makes right answers likelier [1]."), said("RLVR makes right answers likelier [1].")) as server:
        told = indexed.passkb(
            "ask", QUESTION, "--llm", server.url, "--json", http_proxy=proxy, https_proxy=proxy, ALL_PROXY=proxy
        )
        assert json.loads(told)["mode"] == "generated" and server.asked
    assert indexed.violations() == []


@pytest.mark.parametrize("spec", [SPEC, CODE], ids=["toy family", "code"])
def test_an_experiment_and_its_worker_stay_here(indexed: Guard, spec: dict[str, Any]) -> None:
    file = indexed.temporary / f"{spec['name']}.json"
    file.write_text(json.dumps(spec), "utf-8")
    (indexed.temporary / "problems.jsonl").write_text(json.dumps(PROBLEM) + "\n", "utf-8")
    shown = json.loads(indexed.passkb("experiment", "run", str(file), "--wait", "--json"))
    assert shown["status"] == "succeeded", shown
    assert indexed.violations() == []


def test_the_tools_on_standard_input_and_output_stay_here(indexed: Guard) -> None:
    process = indexed.start(indexed.command("mcp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(method: str, params: dict[str, Any], number: int | None = None) -> Any:
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if number is None else {"id": number})
        assert process.stdin is not None
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        return None if number is None else json.loads(line_of(process.stdout))

    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "0"}}
    assert "result" in send("initialize", client, 1)
    send("notifications/initialized", {})
    answer = send("tools/call", {"name": "ask", "arguments": {"question": QUESTION}}, 2)
    assert not answer["result"].get("isError"), answer
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert indexed.violations() == []


def test_a_served_app_with_its_worker_stays_here(indexed: Guard) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxy = "http://192.0.2.1:3128"
    app = indexed.start(indexed.command("serve", "--port", str(port)), {"http_proxy": proxy, "https_proxy": proxy})
    address = f"http://127.0.0.1:{port}"
    try:
        page = _fetched(address)
        assert b"passkb" in page
        assert _fetched(f"{address}/config") and _fetched(f"{address}/?note=vault/does-rlvr-expand")
        body = json.dumps({"question": QUESTION}).encode()
        answer = json.loads(_fetched(f"{address}/api/v1/ask", body))
        assert answer["answered"]
        spec = SPEC | {"models": {"base": {"model": "beta:0.5,0.5", "engine": "scripted"}}}
        file = indexed.temporary / "served.json"
        file.write_text(json.dumps(spec), "utf-8")
        run = json.loads(indexed.passkb("experiment", "run", str(file), "--json"))["run_id"]
        _until_succeeded(indexed.home, run)
    finally:
        terminate(app)
    assert indexed.violations() == []


# Keeps the session that the page was served with, as a browser does.
_BROWSER = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())


def _fetched(address: str, body: bytes | None = None) -> bytes:
    deadline = time.monotonic() + 120
    while True:
        request = urllib.request.Request(address, body, {"content-type": "application/json"} if body else {})
        try:
            with _BROWSER.open(request, timeout=60) as response:
                return bytes(response.read())
        except ConnectionError:
            pass
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
        assert time.monotonic() < deadline, f"{address} does not answer"
        time.sleep(0.2)


def _until_succeeded(home: Path, run: str) -> None:
    deadline = time.monotonic() + 180
    state = {"status": "?"}
    while state["status"] != "succeeded" and time.monotonic() < deadline:
        time.sleep(0.5)
        state = json.loads(next(home.rglob(f"{run}/run.json")).read_text("utf-8"))
    assert state["status"] == "succeeded", state
