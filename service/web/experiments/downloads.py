"""A run's files at /runs/RUN/NAME, and nothing for another site. Who may use the app is decided before.

Only the five names that a run's page offers; a run's completions are not served.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kb.notes import PasskbError
from service.experiments.execution.run_store import Runs
from service.web.experiments.results import spec_yaml
from service.web.experiments.run_view import RunView, run_view

_WIDE, _HIGH = 720, 440
_SAFE = ("GET", "HEAD")


def file_of(home: Path, run_id: str, name: str) -> tuple[str, str]:
    """One file's text and its media type. Raises PasskbError when there is no such run or file."""
    if name not in _MADE:
        raise PasskbError(f"a run has no file {name!r}: there are {', '.join(_MADE)}")
    made, kind = _MADE[name]
    return made(home, run_view(home, run_id)), kind


def _counts(home: Path, view: RunView) -> str:
    try:
        return (Runs(home).find(view.id).folder / "counts.csv").read_text("utf-8")
    except OSError:
        raise PasskbError(f"{view.id} has no counts yet: it has drawn nothing") from None


def _difference(home: Path, view: RunView) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["k", "estimate", "low", "high"])
    for entry in (view.result.get("comparison") or {}).get("difference") or ():
        writer.writerow([entry.get(key) for key in ("k", "estimate", "low", "high")])
    return text.getvalue()


def _curve(home: Path, view: RunView) -> str:
    from service.experiments.report.curve import curve_svg

    return curve_svg(view.result, _WIDE, _HIGH)


def _result(home: Path, view: RunView) -> str:
    return json.dumps(view.result, ensure_ascii=False, indent=1, allow_nan=False)


_MADE: Mapping[str, tuple[Callable[[Path, RunView], str], str]] = {
    "counts.csv": (_counts, "text/csv"),
    "difference.csv": (_difference, "text/csv"),
    "curve.svg": (_curve, "image/svg+xml"),
    "spec.yaml": (lambda home, view: spec_yaml(view), "application/yaml"),
    "result.json": (_result, "application/json"),
}


class Downloads:
    """Answers /runs/RUN/NAME, and passes everything else on."""

    def __init__(self, app: ASGIApp, home: Path) -> None:
        self.app, self._home = app, home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = scope["path"].strip("/").split("/") if scope["type"] == "http" else []
        if len(parts) != 3 or parts[0] != "runs":
            await self.app(scope, receive, send)
            return
        response = await asyncio.to_thread(self._answer, *parts[1:])
        await response(scope, receive, send)

    def _answer(self, run_id: str, name: str) -> Response:
        try:
            text, kind = file_of(self._home, run_id, name)
        except PasskbError as error:
            return PlainTextResponse(str(error), 404)
        attached = {"content-disposition": f'attachment; filename="{run_id}-{name}"', "x-content-type-options": "nosniff"}
        return Response(text, media_type=kind, headers=attached)


class SameSite:
    """Refuses whatever another site asks a browser to do or to load here. Its links may be followed.

    Requests that no browser made (no such headers) pass; they come from programs on machines that may reach the app anyway."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and from_elsewhere(scope) and not _is_navigation(scope):
            await PlainTextResponse("this request came from another site", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_navigation(scope: Scope) -> bool:
    """Whether a link was followed, as browsers say; those that say nothing send no Origin with one either."""
    return scope["method"] in _SAFE and HTTPConnection(scope).headers.get("sec-fetch-mode") == "navigate"


def from_elsewhere(scope: Scope) -> bool:
    """Whether a page of another site made a browser ask."""
    headers = HTTPConnection(scope).headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    return bool(origin) and urlsplit(origin).netloc != headers.get("host")
