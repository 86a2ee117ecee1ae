"""A run's downloads, and the refusal of cross-site requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from service.experiments.importers.import_run import import_files
from service.experiments.spec import read_spec
from service.web.experiments.downloads import Downloads
from service.web.experiments.results import DOWNLOADS
from service.web.security.same_site import SameSite


def client(home: Path) -> TestClient:
    def done(request: Any) -> PlainTextResponse:
        return PlainTextResponse("done")

    routes = [Route("/{path:path}", done, methods=["GET", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(SameSite), Middleware(Downloads, home=home)]))


@pytest.fixture
def run_id(home: Path, tmp_path: Path, counts: Callable[..., Path]) -> str:
    return import_files(home, [counts(tmp_path)]).id


def test_every_offered_file_is_served(home: Path, run_id: str) -> None:
    web = client(home)
    got = {name: web.get(f"/runs/{run_id}/{name}") for name in DOWNLOADS}
    assert {name: answer.status_code for name, answer in got.items()} == dict.fromkeys(DOWNLOADS, 200)
    assert got["counts.csv"].text.splitlines()[:2] == ["model,problem_id,n,c", "base,p0,16,4"]
    assert got["difference.csv"].text.startswith("k,estimate,low,high\n1,0.25,")
    assert got["result.json"].json()["prediction"]["verdict"] == "supported"
    assert got["curve.svg"].text.startswith("<svg") and got["curve.svg"].headers["content-type"] == "image/svg+xml"
    assert list(read_spec(got["spec.yaml"].text).models) == ["base", "tuned"] or "imported" in got["spec.yaml"].text
    assert "attachment" in got["counts.csv"].headers["content-disposition"]


@pytest.mark.parametrize("path", ["/runs/no-such-run/counts.csv", "/runs/{}/run.json", "/runs/{}/completions"])
def test_nothing_else_of_a_run_is_served(home: Path, run_id: str, path: str) -> None:
    assert client(home).get(path.format(run_id)).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200), ({"origin": "http://testserver"}, 200), ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403), ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://testserver"}, 403),
    ],
)  # fmt: skip
def test_cross_site_requests_are_refused(home: Path, headers: dict[str, str], status: int) -> None:
    web = client(home)
    assert web.post("/gradio_api/queue/join", headers=headers).status_code == status
    assert web.get("/", headers=headers).status_code == status  # nor read this page
    followed = {name: value for name, value in headers.items() if name != "origin"} | {"sec-fetch-mode": "navigate"}
    assert web.get("/", headers=followed).status_code == 200  # but can link to it
