"""/healthz and the request log: their content, and the absence of private data."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from service.api.admission import Admission
from service.api.operations import Access
from service.auth.accounts import Accounts
from service.version import version
from service.web.middleware import middleware_stack
from service.web.server.health import HealthCheck, index_is_usable
from tests.conftest import Vault

ADDRESS = "http://127.0.0.1:7860"
SECRET = "entropy collapse of my private model"


@pytest.fixture
def kb(tmp_path: Path, vault: Vault) -> Iterator[KnowledgeBase]:
    from kb.embedding import HashedWords

    with KnowledgeBase(tmp_path / "home", HashedWords()) as opened:
        ingest(opened, [vault({"a.md": f"# A\n\nOn {SECRET}."})])
        yield opened


def app(kb: KnowledgeBase, ready: bool = True, account: tuple[str, str] | None = None, admission: Any = None) -> Starlette:
    def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("a page")

    access = replace(Access(kb, lambda: None, ADDRESS), admission=admission or Admission())
    accounts = Accounts([account]) if account else None
    middleware = middleware_stack("127.0.0.1", access, accounts, health=HealthCheck(kb.home, lambda: ready))
    built = Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST"])], middleware=middleware)
    built.auth = None  # type: ignore[attr-defined]  # as Gradio's app has it
    return built


def test_health_needs_no_account_and_reveals_no_paths_or_notes(kb: KnowledgeBase) -> None:
    with TestClient(app(kb, account=("me", "secret")), base_url=ADDRESS) as web:
        answer = web.get("/healthz")
        assert web.get("/api/v1/claims").status_code == 401
        assert web.post("/healthz").status_code == 405 and web.head("/healthz").status_code == 200
    body = answer.json()
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert body.keys() == {"status", "version", "ready", "index", "uptime_s"}
    assert (body["status"], body["ready"], body["index"], body["version"]) == ("ok", True, "usable", version())
    assert str(kb.home) not in answer.text and "entropy" not in answer.text


def test_health_while_starting_and_without_an_index(kb: KnowledgeBase, tmp_path: Path) -> None:
    with TestClient(app(kb, ready=False), base_url=ADDRESS) as web:
        answer = web.get("/healthz")
    assert answer.status_code == 503 and answer.json()["status"] == "starting"
    copy = tmp_path / "copy.sqlite"
    assert not index_is_usable(copy)
    assert not copy.exists(), "a look makes nothing"
    copy.write_bytes(b"not a database" * 1000)
    assert not index_is_usable(copy)
    shutil.copy(kb.home / "kb.sqlite", copy)
    for end in ("-wal", "-shm"):
        if (kb.home / f"kb.sqlite{end}").exists():
            shutil.copy(kb.home / f"kb.sqlite{end}", tmp_path / f"copy.sqlite{end}")
    assert index_is_usable(copy)
    (kb.home / "kb.sqlite").unlink()
    with TestClient(app(kb), base_url=ADDRESS) as web:
        answer = web.get("/healthz")
    assert answer.status_code == 503 and (answer.json()["status"], answer.json()["index"]) == ("unusable", "unusable")


def test_health_never_waits_behind_questions(kb: KnowledgeBase) -> None:
    async def scenario() -> None:
        admission = Admission(running=1, waiting=0)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app(kb, admission=admission)), base_url=ADDRESS) as client:
            with admission.place():
                assert (await client.get("/api/v1/search?q=x")).status_code == 503
                assert (await client.get("/healthz")).json()["status"] == "ok"

    asyncio.run(scenario())


def test_a_request_is_one_line_without_the_text_of_its_query(kb: KnowledgeBase, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "passkb")
    with TestClient(app(kb), base_url=ADDRESS) as web:
        web.get("/api/v1/search", params={"q": SECRET})
        web.post("/api/v1/ask", json={"question": f"What is {SECRET}?"})
        web.get("/api/v1/notes/no%0Asuch%20note")
        web.get("/anything", headers={"host": "evil.example"})
        web.get("/healthz")
        web.get("/assets/page.js")
    lines = [record.getMessage() for record in caplog.records if record.name == "passkb.request"]
    assert [line.split(" ")[:3] for line in lines] == [
        ["GET", "/api/v1/search", "200"], ["POST", "/api/v1/ask", "200"], ["GET", "/api/v1/notes/no%0Asuch%20note", "404"],
        ["GET", "/anything", "400"],
    ]  # fmt: skip
    assert all(" ms " in line and line.endswith(" bytes") for line in lines)
    assert "entropy" not in caplog.text
