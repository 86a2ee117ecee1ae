"""Access to the APIs through the app's middleware: accounts, cross-site requests, host names, body sizes."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from kb.knowledge_base import KnowledgeBase
from service.api.operations import Access
from service.auth.accounts import Accounts
from service.web.api_mount import MAX_BYTES
from service.web.middleware import middleware_stack
from tests.service.api.examples import ADDRESS, ROOT

ACCOUNT = ("jürgen", "päss:wörd")
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream"}
CALLS = [("GET", "/api/v1/claims", None), ("POST", "/api/v1/ask", {"question": "What is pass@k?"}), ("POST", "/mcp", CALL)]


def guarded(kb: KnowledgeBase, host: str = "127.0.0.1", account: tuple[str, str] | None = None) -> TestClient:
    """An app behind the whole middleware, whose own pages are plain text."""

    def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("the app itself")

    access = Access(kb, lambda: None, ADDRESS)
    app = Starlette(
        routes=[Route("/{path:path}", page, methods=["GET", "POST"])],
        middleware=middleware_stack(host, access, Accounts([account]) if account else None),
    )
    return TestClient(app, base_url=ADDRESS)


@pytest.fixture
def web(known: KnowledgeBase) -> Iterator[TestClient]:
    with guarded(known) as opened:  # one event loop for all requests, as in a server
        yield opened


@pytest.fixture
def private(known: KnowledgeBase) -> Iterator[TestClient]:
    with guarded(known, account=ACCOUNT) as opened:
        yield opened


def call(web: TestClient, method: str, path: str, body: Any, **headers: str) -> Any:
    return web.request(method, path, json=body, headers={**ACCEPT, **{k.replace("_", "-"): v for k, v in headers.items()}})


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_program_on_this_machine_may_ask(web: TestClient, method: str, path: str, body: Any) -> None:
    answer = call(web, method, path, body)
    assert answer.status_code == 200 and answer.json() and answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:7860.evil.example"}, {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:3000"},
    ],
)  # fmt: skip
def test_a_page_of_another_site_may_not(web: TestClient, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
    answer = call(web, method, path, body, **headers)
    assert answer.status_code == 403 and "cross-site request refused" in answer.json()["error"]


@pytest.mark.parametrize("headers", [{"origin": ADDRESS}, {"sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}])
def test_the_apps_own_page_may(web: TestClient, headers: dict[str, str]) -> None:
    assert call(web, "GET", "/api/v1/claims", None, **headers).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", ""])
def test_a_name_that_was_pointed_here_is_not_answered_to(web: TestClient, method: str, path: str, body: Any, host: str) -> None:
    answer = call(web, method, path, body, host=host)
    assert answer.status_code == 400 and "claims" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_the_guards_of_every_loopback_name_refuse_others(known: KnowledgeBase, host: str) -> None:
    with guarded(known, host) as web:
        for name, status in (("127.0.0.1:1", 200), ("localhost", 200), ("[::1]:7860", 200), ("evil.example", 400)):
            assert call(web, "GET", "/api/v1/claims", None, host=name).status_code == status, name


def basic(account: str) -> str:
    return "Basic " + base64.b64encode(account.encode()).decode()


@pytest.mark.parametrize(("method", "path", "body"), [*CALLS, ("GET", "/api", None), ("GET", "/api/openapi.json", None)])
def test_an_account_is_asked_for_everywhere(private: TestClient, method: str, path: str, body: Any) -> None:
    refused = call(private, method, path, body)
    assert refused.status_code == 401 and "sign in: send USER:PASSWORD" in refused.json()["error"]
    assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert call(private, method, path, body, authorization=basic(":".join(ACCOUNT))).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (basic("jürgen:päss:wörd"), 200), (basic("jürgen:päss:wörd").replace("Basic", "BASIC"), 200),
        (basic("jürgen:päss:wörd").replace("Basic", "Bearer"), 200),
        (basic("jürgen:päss:wörd "), 401), (basic("jürgen:päss"), 401), (basic("jürgen"), 401), (basic(""), 401),
        (basic("jürgen:päss:wörd")[:-4], 401), ("Basic", 401), ("Basic jürgen:päss:wörd", 401), ("Basic !!!!", 401),
        ("Digest " + basic("jürgen:päss:wörd")[6:], 401), ("", 401), ("Bearer", 401), ("Bearer wrong", 401),
    ],
)  # fmt: skip
def test_only_the_account_signs_in(private: TestClient, authorization: str, status: int) -> None:
    answer = private.get("/api/v1/claims", headers=[(b"authorization", authorization.encode())])
    assert answer.status_code == status
    plainly = private.get("/api/v1/claims", headers=[(b"authorization", "Bearer jürgen:päss:wörd".encode())])
    assert plainly.status_code == 200


def test_an_account_does_not_help_a_page_of_another_site(private: TestClient) -> None:
    """A browser that once signed in sends the password along, whoever's page asks."""
    headers = {"authorization": basic(":".join(ACCOUNT)), "origin": "http://evil.example"}
    assert call(private, "GET", "/api/v1/claims", None, **headers).status_code == 403


def test_too_much_is_refused_before_it_is_read(web: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BYTES // 1024 + 1):
            sent.append(1)
            yield b" " * 1024

    for path in ("/api/v1/ask", "/mcp"):
        sent: list[int] = []
        for body in (b" " * (MAX_BYTES + 1), endless()):
            answer = web.post(path, content=body, headers={"content-type": "application/json", **ACCEPT})
            assert answer.status_code == 413 and f"the limit is {MAX_BYTES:,} bytes" in answer.json()["error"]
        assert len(sent) == MAX_BYTES // 1024 + 1
    stated = web.post("/api/v1/ask", content=b"{}", headers={"content-length": str(10**12)})
    assert stated.status_code == 413
    question = b'{"question": "What is pass@k?"' + b" " * (MAX_BYTES - 31) + b"}"
    assert len(question) == MAX_BYTES and web.post("/api/v1/ask", content=question, headers=JSON).status_code == 200


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [("GET", "/mcp", 405, "send POST"), ("DELETE", "/mcp", 405, "send POST"), ("POST", "/mcp/x", 404, "is at /mcp")],
)
def test_the_protocol_has_one_address_and_one_method(web: TestClient, method: str, path: str, status: int, words: str) -> None:
    answer = web.request(method, path, headers=ACCEPT)
    assert answer.status_code == status and words in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/theme.css", "/assets/index.js", "/static/img/x.svg"])
def test_the_rest_of_the_app_is_passed_on(web: TestClient, path: str) -> None:
    assert web.get(path).text == "the app itself"


@pytest.mark.parametrize("path", ["/mcps", "/apis/v1", "/x/api/v1/claims", "/gradio_api/mcp", "/gradio_api/file=/etc/passwd"])
def test_what_the_page_does_not_use_is_closed(web: TestClient, path: str) -> None:
    assert web.get(path).status_code == 404 and web.post(path).status_code == 404


def test_guesses_are_slowed_down_through_whichever_door(private: TestClient) -> None:
    """REST, MCP and the sign-in page count together; a cookie that is signed in and a page's visit are not affected."""
    doors = [("GET", "/api/v1/claims"), ("POST", "/mcp"), ("GET", "/api/v1/claims"), ("POST", "/mcp")]
    for number, (method, path) in enumerate(doors):
        assert call(private, method, path, CALL, authorization=basic(f"jürgen:{number}")).status_code == 401
    form = {"username": "jürgen", "password": "fifth"}
    assert private.post("/login", data=form).status_code == 429
    for method, path in doors:
        refused = call(private, method, path, CALL, authorization=basic(":".join(ACCOUNT)))
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1 and "wait" in refused.json()["error"]
    assert private.post("/login", data=form | {"password": ACCOUNT[1]}).status_code == 429
    assert private.get("/login").status_code == 200


def test_commands_do_not_pay_for_it() -> None:
    """The command line loads none of it; what stands before the app loads neither the SDK nor FastAPI before it is asked."""
    check = "import sys, service.cli.main; print({'mcp', 'mcp_types', 'fastapi', 'pydantic', 'starlette'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
    check = "import sys, service.web.middleware; print({'mcp', 'mcp_types', 'fastapi'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
