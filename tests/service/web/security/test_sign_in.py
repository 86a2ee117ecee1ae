"""Sign-in: routes without an account, signing in and out, rate limits."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.testclient import TestClient

from kb.knowledge_base import KnowledgeBase
from service.api.operations import Access
from service.auth.accounts import Accounts
from service.web.app import appearance, build
from service.web.middleware import middleware_stack
from service.web.security.session_token import HEADER, SessionTokens
from service.web.security.sessions import Sessions
from service.web.security.sign_in import OPEN
from tests.service.web.test_middleware import Caller, serving

ADDRESS = "http://127.0.0.1:7860"
NOTE = "A note that nobody may read who did not sign in."
RIGHT = {"username": "ada", "password": "se:cret"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(kb: KnowledgeBase, clock: Clock) -> Any:
    """The whole app as it is served, without a server around it."""
    sessions, launched = Sessions(SessionTokens(), clock), threading.Event()
    launched.set()
    blocks = build(kb, sessions=sessions, can_sign_out=True)
    access = Access(kb, lambda: None, ADDRESS)
    middleware = middleware_stack("127.0.0.1", access, Accounts([("ada", "se:cret")]), sessions, launched)
    blocks.theme = appearance()["theme"]  # as `launch` does
    blocks.config = blocks.get_config_file()
    return gr.routes.App.create_app(blocks, app_kwargs={"middleware": middleware})


@pytest.fixture
def web(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url=ADDRESS, follow_redirects=False) as opened:
        yield opened


def route_paths(routes: Any) -> Iterator[str]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from route_paths(inner.routes) if inner is not None else [route.path]


def test_no_address_answers_without_an_account(app: Any, web: TestClient) -> None:
    """Every route of the app, and the routes of its middleware."""
    paths = {re.sub(r"\{[^}]*\}", "x", path) for path in route_paths(app.routes)} | {
        "/",
        "/nowhere",
        "/runs/x/counts.csv",
        "/api",
        "/mcp",
    }
    assert len(paths) > 60
    for path in sorted(paths):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            for accept in ("*/*", "text/html"):
                answer = web.request(method, path, headers={"accept": accept})
                if path in OPEN or path == "/login/":
                    continue
                assert answer.status_code in (303, 401, 403, 404, 405), (method, path, answer.status_code)
                assert answer.status_code != 303 or answer.headers["location"].startswith("/login"), path
                assert "gradio_config" not in answer.text and "components" not in answer.text
    assert frozenset({"/login", "/healthz"}) == OPEN


def test_signing_in_and_out(web: TestClient) -> None:
    first = web.get("/?note=a b", headers={"accept": "text/html"})
    assert first.status_code == 303 and first.headers["location"] == "/login?next=%2F%3Fnote%3Da%2520b"
    form = web.get(first.headers["location"])
    assert form.status_code == 200 and 'name="next" value="/?note=a%20b"' in form.text and "set-cookie" not in form.headers
    entered = web.post("/login", data={**RIGHT, "next": "/?note=a%20b"})
    assert entered.status_code == 303 and entered.headers["location"] == "/?note=a%20b"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "secure" not in cookie
    page = web.get("/")
    assert page.status_code == 200 and "passkb-token" in page.text and "Sign out" in page.text
    assert web.get("/login").headers["location"] == "/"
    brought = dict(web.cookies)
    assert web.get("/logout").status_code == 405  # a link does not sign out
    left = web.post("/logout")
    assert left.headers["location"] == "/login" and "max-age=0" in left.headers["set-cookie"].lower()
    web.cookies.update(brought)  # the old cookie is worth nothing
    assert web.get("/").status_code == 303
    token = re.search(r'name="passkb-token" content="([^"]+)"', page.text)
    assert token and web.post("/gradio_api/queue/join", json={}, headers={HEADER: token[1]}).status_code == 401


def test_signing_in_starts_a_new_session(web: TestClient) -> None:
    """An attacker who plants a cookie does not share the session (session fixation)."""
    web.post("/login", data=RIGHT)
    planted = dict(web.cookies)
    again = web.post("/login", data=RIGHT)
    assert again.status_code == 303 and dict(web.cookies) != planted
    web.cookies.clear()
    web.cookies.update(planted)
    assert web.get("/").status_code == 303


def test_a_session_ends_after_a_day_without_a_request(web: TestClient, clock: Clock) -> None:
    web.post("/login", data=RIGHT)
    clock.now += 80_000
    assert web.get("/").status_code == 200
    clock.now += 80_000
    assert web.get("/").status_code == 200
    clock.now += 90_000
    assert web.get("/").status_code == 303


def test_the_cookie_is_secure_behind_https(app: Any) -> None:
    with TestClient(app, base_url="https://127.0.0.1:7860", follow_redirects=False) as web:
        assert "secure" in web.post("/login", data=RIGHT).headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/login",
        "/\tx",
        "",
    ],
)
def test_signing_in_redirects_within_the_site_only(web: TestClient, target: str) -> None:
    assert web.post("/login", data={**RIGHT, "next": target}).headers["location"] == "/"


def test_repeated_wrong_passwords_must_wait(web: TestClient) -> None:
    for number in range(4):
        answer = web.post("/login", data={"username": "<b>ada", "password": f"wrong {number}"})
        assert answer.status_code == 401 and "The user name or the password is wrong." in answer.text
        assert "&lt;b&gt;ada" in answer.text and "wrong 3" not in answer.text
    answer = web.post("/login", data={"username": "ada", "password": "wrong"})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1" and "Wait 1 second" in answer.text
    assert web.post("/login", data=RIGHT).status_code == 429
    assert web.get("/api/v1/claims", headers={"authorization": "Bearer ada:se:cret"}).status_code == 429


@pytest.mark.parametrize(
    "body", [b"", b"username=ada", b"password=se:cret", b"\xff\xfe", b"username=ada&username=x&password=se:cret&password="]
)
def test_an_invalid_form_does_not_sign_in(web: TestClient, body: bytes) -> None:
    answer = web.post("/login", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert "set-cookie" not in answer.headers or (answer.status_code == 303 and body.startswith(b"username=ada&username"))
    assert web.post("/login", content=b"x" * 10_000).status_code == 413


def test_too_many_form_fields_are_rejected(web: TestClient) -> None:
    assert web.post("/login", content=b"a=1&" * 100).status_code == 401


def test_another_site_cannot_sign_in(web: TestClient) -> None:
    assert web.post("/login", data=RIGHT, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_served_app_with_a_password_file(sample_home: Path, tmp_path: Path) -> None:
    """The password is not in the process list, in child processes or in the log."""
    file = tmp_path / "accounts"
    file.write_text("ada:se:cret\n", "utf-8")
    file.chmod(0o644)
    home = tmp_path / "home"
    shutil.copytree(sample_home, home)
    with serving(home, tmp_path / "log", "--auth-file", str(file)) as app:
        caller = Caller(app.port)
        assert caller.ask("GET", "/gradio_api/startup-events")[0] == 401
        assert caller.ask("GET", "/config")[0] == 401 and caller.ask("GET", "/theme.css")[0] == 401
        kind = {"content_type": "application/x-www-form-urlencoded"}
        # A local program can't claim to be another address for each guess.
        wrong = [caller.ask("POST", "/login", f"username=ada&password={n}".encode(), **kind, x_forwarded_for=f"10.0.0.{n}")[0]
                 for n in range(6)]  # fmt: skip
        assert wrong == [401] * 4 + [429, 429]
    log = (tmp_path / "log").read_text()
    assert f"other users can read {file}" in log and "wrong password for 'ada' from 127.0.0.1 (sign-in page)" in log
    assert "se:cret" not in log


def test_accounts_from_an_environment_variable(sample_home: Path, tmp_path: Path) -> None:
    shutil.copytree(sample_home, tmp_path / "home")
    with serving(tmp_path / "home", tmp_path / "log", PASSKB_AUTH="ada:se:cret") as app:
        caller = Caller(app.port)
        form = b"username=ada&password=se%3Acret"
        status, _, headers = caller.ask("POST", "/login", form, content_type="application/x-www-form-urlencoded")
        assert status == 303
        cookie = headers["set-cookie"].partition(";")[0]
        assert b"passkb-token" in caller.ask("GET", "/", cookie=cookie)[1]
        assert caller.ask("GET", "/api/v1/claims", authorization="Bearer ada:se:cret")[0] == 200
