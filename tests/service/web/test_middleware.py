"""A served app under raw HTTP requests without a browser: events that write are refused."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from service.web.app import build
from service.web.event_effects import Effect, effects

ROOT = Path(__file__).parents[3]
SPEC = """
name: forged
problems: {set: countdown, limit: 5}
models: {base: {model: "beta:1,3", engine: scripted}}
sampling: {n: 4}
"""


@dataclass
class Caller:
    """A program that speaks HTTP. After `load` it has what a browser would have got with the page."""

    port: int
    cookie: str = ""
    token: str = ""
    page: str = field(default_factory=lambda: secrets.token_hex(6))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        heads = {name.lower(): value for name, value in answer.getheaders()}
        streamed = "event-stream" in heads.get("content-type", "")
        content = b"" if streamed else answer.read()
        connection.close()
        return answer.status, content, heads

    def load(self) -> Caller:
        status, content, headers = self.ask("GET", "/", accept="text/html")
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]
        match = re.search(rb'name="passkb-token" content="([^"]+)"', content)
        assert match is not None
        self.token = match[1].decode()
        return self

    def event(self, number: int, data: list[Any], path: str = "/gradio_api/queue/join", **headers: str) -> int:
        body = {"fn_index": number, "data": data, "event_data": None, "session_hash": self.page, "trigger_id": None}
        return self.ask("POST", path, body, **headers)[0]

    @property
    def signed(self) -> dict[str, str]:
        return {"cookie": self.cookie, "x_passkb_token": self.token}


@dataclass
class Served:
    port: int
    home: Path
    log: Path


@contextmanager
def serving(home: Path, log: Path, *arguments: str, **variables: str) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "service.cli", "--home", str(home), "serve", "--no-worker", "--port", str(port)]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("passkb: http")
            yield Served(port, home, log)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def served(sample_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("border")
    shutil.copytree(sample_home, folder / "home")
    with serving(folder / "home", folder / "log") as app:
        yield app


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Effect | None]:
    """What each event of the page does, by its number."""
    with KnowledgeBase(tmp_path_factory.mktemp("events") / "home", HashedWords()) as kb:
        return effects(build(kb))


def written(home: Path) -> dict[str, float]:
    """Files that an event could have written, with their times."""
    parts = [home / name for name in ("notes", "runs", "sources.json", "dismissed.json", "jobs.sqlite")]
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*"))]
    return {str(file): file.stat().st_mtime for file in files}


def test_the_served_events_are_those_that_are_marked(served: Served, events: dict[int, Effect | None]) -> None:
    caller = Caller(served.port).load()
    config = json.loads(caller.ask("GET", "/config", cookie=caller.cookie)[1])
    assert {event["id"] for event in config["dependencies"] if event["backend_fn"]} == set(events)
    assert None not in events.values()
    assert caller.ask("GET", "/config")[0] == 403


def test_no_event_is_taken_without_the_token_of_its_page(served: Served, events: dict[int, Effect | None]) -> None:
    """By every address that could take one, with each token that is not this page's."""
    mine, other = Caller(served.port).load(), Caller(served.port).load()
    expiry, _, mac = mine.token.partition(".")
    forged = f"{int(expiry) + 10}.{mac}"
    headers: list[dict[str, str]] = [
        {}, {"cookie": mine.cookie}, {"x_passkb_token": mine.token}, {"cookie": mine.cookie, "x_passkb_token": ""},
        {"cookie": mine.cookie, "x_passkb_token": other.token}, {"cookie": other.cookie, "x_passkb_token": mine.token},
        {"cookie": mine.cookie, "x_passkb_token": forged}, {"cookie": mine.cookie, "x_passkb_token": f"1.{mac}"},
        {"cookie": mine.cookie[:-3] + "AAA", "x_passkb_token": mine.token},
        {"cookie": mine.cookie, "x_passkb_token": mine.token, "origin": "http://evil.example"},
        {"cookie": mine.cookie, "x_passkb_token": mine.token, "sec_fetch_site": "same-site"},
    ]  # fmt: skip
    before = written(served.home)
    for number in events:
        for sent in headers:
            assert mine.event(number, [SPEC], **sent) == 403, (number, sent)
            assert mine.event(number, [SPEC], "/gradio_api/run/predict", **sent) == 403, (number, sent)
    assert written(served.home) == before
    log = served.log.read_text()
    assert "refused POST /gradio_api/queue/join from 127.0.0.1: it has no token" in log and mine.token not in log


def test_other_addresses_of_gradio_are_closed_even_with_a_token(served: Served, events: dict[int, Effect | None]) -> None:
    mine = Caller(served.port).load()
    caller = Caller(served.port).load()
    config = json.loads(caller.ask("GET", "/config", cookie=caller.cookie)[1])
    names = [event["api_name"] for event in config["dependencies"]]
    for number, name in enumerate(names):
        for path in (
            f"/gradio_api/call/{name}",
            f"/gradio_api/call/v2/{name}",
            f"/gradio_api/api/{name}",
            f"/gradio_api/run/{name}",
        ):
            assert mine.event(number, [SPEC], path, **mine.signed) == 404, path
    for path in (
        "component_server",
        "stream/x",
        "stream/x/close",
        "process_recording",
        "vibe-edit",
        "vibe-code",
        "run-history/connect",
    ):
        assert mine.ask("POST", f"/gradio_api/{path}", {}, **mine.signed)[0] == 404, path
    secret = str(served.home / "kb.sqlite")
    for path in (
        f"/gradio_api/file={secret}", "/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd",
        "/gradio_api/file=../../etc/passwd", "/gradio_api/file=http://127.0.0.1:1/", "/gradio_api/proxy=http://127.0.0.1:1/",
        f"/gradio_api/deep_link?session_hash={mine.page}", "/gradio_api/openapi.json", "/gradio_api/info", "/gradio_api/runs",
        "/monitoring", "/monitoring/summary", "/gradio_api/token", "/svelte/x", "/gradio_api/dev/reload",
        "/gradio_api/custom_component/a/client/b/c", "/docs", "/openapi.json",
    ):  # fmt: skip
        assert mine.ask("GET", path, **mine.signed)[0] == 404, path
    for path in (
        "/static/../../blocks.py",
        "/assets/%2e%2e/%2e%2e/%2e%2e/blocks.py",
        "/static/..%2f..%2fblocks.py",
        "/assets//etc/passwd",
    ):
        assert mine.ask("GET", path)[0] in (403, 404), path


def test_a_page_with_its_token_may(served: Served, events: dict[int, Effect | None]) -> None:
    """The same calls that are refused above do start something once they carry what the page got."""
    mine = Caller(served.port).load()
    start = next(number for number, effect in events.items() if effect and effect.action == "start a run")
    before = set(written(served.home))
    assert mine.event(start, [SPEC], **mine.signed) == 200
    deadline = time.monotonic() + 60
    while set(written(served.home)) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [path for path in set(written(served.home)) - before if "/runs/" in path]


def test_a_page_belongs_to_its_session(served: Served, events: dict[int, Effect | None]) -> None:
    """Another session, with a good token of its own, can neither stop nor follow what this page does."""
    mine, other = Caller(served.port).load(), Caller(served.port).load()
    search = next(number for number, effect in events.items() if effect and not effect.writes)
    assert mine.event(search, [False], **mine.signed) == 200
    other.page = mine.page
    stop = next(number for number, effect in events.items() if effect and effect.action == "stop an answer")
    assert other.event(stop, [], "/gradio_api/run/predict", **other.signed) == 403
    assert other.event(search, [False], **other.signed) == 403
    cancel = {"session_hash": mine.page, "fn_index": search, "event_id": "x"}
    assert other.ask("POST", "/gradio_api/cancel", cancel, **other.signed)[0] == 403
    assert other.ask("POST", "/gradio_api/cancel", cancel)[0] == 403
    for path in (f"/gradio_api/queue/data?session_hash={mine.page}", f"/gradio_api/heartbeat/{mine.page}"):
        assert other.ask("GET", path, cookie=other.cookie)[0] == 403
        assert other.ask("GET", path)[0] == 403
    assert mine.event(stop, [], "/gradio_api/run/predict", **mine.signed) == 200


def test_uploads_need_the_token_and_have_bounds(served: Served, events: dict[int, Effect | None]) -> None:
    mine = Caller(served.port).load()
    form = b'--x\r\ncontent-disposition: form-data; name="files"; filename="../../a.csv"\r\n\r\nmodel\r\n--x--\r\n'
    kind = {"content_type": "multipart/form-data; boundary=x"}
    assert mine.ask("POST", "/gradio_api/upload", form, **kind)[0] == 403
    assert mine.ask("POST", "/gradio_api/upload", form, **kind, cookie=mine.cookie)[0] == 403
    status, content, _ = mine.ask("POST", "/gradio_api/upload", form, **kind, **mine.signed)
    (path,) = json.loads(content)
    assert status == 200 and Path(path).name == "a.csv" and "passkb-uploads-" in path
    assert oct(Path(path).parents[1].stat().st_mode & 0o777) == "0o700"
    assert mine.ask("GET", f"/gradio_api/file={path}", **mine.signed)[0] == 404
    bring = next(number for number, effect in events.items() if effect and effect.action == "import results")
    for address in ("http://127.0.0.1:9/x.csv", "HTTPS://example.org/x.csv"):
        file = {"path": address, "meta": {"_type": "gradio.FileData"}}
        assert mine.event(bring, [[file], "", "", "", ""], **mine.signed) == 422  # which Gradio would fetch
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as raw:
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: {mine.cookie}\r\nx-passkb-token: {mine.token}\r\n"
        )
        raw.sendall(f"{head}content-type: {kind['content_type']}\r\ncontent-length: {10**12}\r\n\r\n--x".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_an_event_has_bounds(served: Served) -> None:
    mine = Caller(served.port).load()
    signed = mine.signed
    for body, status in (
        (b"{", 422),
        (b"[1]", 422),
        (b'{"session_hash": 5}', 422),
        (b"[" * 100_000, 422),
        (b" " * 17 * 2**20, 413),
    ):
        assert mine.ask("POST", "/gradio_api/queue/join", body, **signed)[0] == status
    assert mine.ask("POST", "/gradio_api/queue/join", {"session_hash": "x" * 101}, **signed)[0] == 422


def test_no_name_but_this_machines_and_no_websocket(served: Served) -> None:
    mine = Caller(served.port)
    assert mine.ask("GET", "/", host="evil.example")[0] == 400
    assert mine.ask("POST", "/gradio_api/queue/join", {}, host=f"evil.example:{served.port}")[0] == 400
    upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    upgrade += "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    for path in ("/", "/gradio_api/queue/join", "/gradio_api/queue/data"):
        assert b" 101 " not in raw_answer(served.port, f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{upgrade}\r\n")


def raw_answer(port: int, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(request.encode())
        return raw.recv(200)


def test_pages_are_not_cached_and_cannot_be_framed(served: Served) -> None:
    mine = Caller(served.port).load()
    status, content, headers = mine.ask("GET", "/", accept="text/html", cookie=mine.cookie)
    policy = headers["content-security-policy"]
    nonces = set(re.findall(rb'<script nonce="([^"]+)"', content))
    assert status == 200 and len(nonces) == 1 and f"'nonce-{nonces.pop().decode()}'" in policy
    assert len(re.findall(rb"<script\b", content)) == len(re.findall(rb"<script nonce=", content)) > 3
    script = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe-inline" not in script and "frame-ancestors 'none'" in policy and "object-src 'none'" in policy
    for path in (
        "/",
        "/config",
        "/api/v1/claims",
        "/theme.css",
        "/runs/x/counts.csv",
        "/nowhere",
        "/gradio_api/queue/data?session_hash=a",
    ):
        heads = mine.ask("GET", path, cookie=mine.cookie)[2]
        assert heads["x-content-type-options"] == "nosniff" and heads["x-frame-options"] == "DENY", path
        assert heads["referrer-policy"] == "same-origin" and "content-security-policy" in heads
        assert (heads.get("cache-control") == "no-store") is (path != "/theme.css"), path


def test_the_cookie_is_for_this_site_only(served: Served) -> None:
    headers = Caller(served.port).ask("GET", "/", accept="text/html")[2]
    flags = {part.strip().lower() for part in headers["set-cookie"].split(";")[1:]}
    assert flags == {"httponly", "samesite=strict", "path=/"}
    mine = Caller(served.port).load()
    assert "set-cookie" not in mine.ask("GET", "/", cookie=mine.cookie)[2]
    followed = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    status, content, heads = mine.ask("GET", "/?q=%22%3E%3Cscript%3E", **followed)
    assert status == 200 and "set-cookie" not in heads and b"passkb-token" not in content
    assert b'url=/?q=%22%3E%3Cscript%3E"' in content
