"""Serves the files that a run's page offers, at /runs/RUN/NAME."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kb.notes import PasskbError
from service.experiments.execution.run_store import Runs
from service.experiments.report.schema import Result
from service.web.experiments.results import spec_yaml
from service.web.experiments.run_view import RunView, run_view

_WIDTH, _HEIGHT = 720, 440  # pixels


def read_file(home: Path, run_id: str, name: str) -> tuple[str, str]:
    """A file's text and media type. Raises PasskbError for an unknown run or file."""
    if name not in _FILES:
        raise PasskbError(f"a run has no file {name!r}: it has {', '.join(_FILES)}")
    make, media_type = _FILES[name]
    return make(home, run_view(home, run_id)), media_type


def _counts(home: Path, view: RunView) -> str:
    try:
        return (Runs(home).find(view.id).folder / "counts.csv").read_text("utf-8")
    except OSError:
        raise PasskbError(f"{view.id} has no counts yet: it has sampled nothing") from None


def _difference(home: Path, view: RunView) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["k", "estimate", "low", "high"])
    comparison = _result(view).comparison
    writer.writerows(
        [point.k, point.estimate, point.low, point.high] for point in (comparison.difference if comparison else ())
    )
    return text.getvalue()


def _curve(home: Path, view: RunView) -> str:
    from service.experiments.report.curve import curve_svg

    return curve_svg(_result(view), _WIDTH, _HEIGHT)


def _result_json(home: Path, view: RunView) -> str:
    return json.dumps(_result(view).to_json(), ensure_ascii=False, indent=1, allow_nan=False)


def _result(view: RunView) -> Result:
    if view.result is None:
        raise PasskbError(view.problem)
    return view.result


_FILES: Mapping[str, tuple[Callable[[Path, RunView], str], str]] = {
    "counts.csv": (_counts, "text/csv"),
    "difference.csv": (_difference, "text/csv"),
    "curve.svg": (_curve, "image/svg+xml"),
    "spec.yaml": (lambda home, view: spec_yaml(view), "application/yaml"),
    "result.json": (_result_json, "application/json"),
}


class Downloads:
    """Middleware that answers /runs/RUN/NAME."""

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
            text, media_type = read_file(self._home, run_id, name)
        except PasskbError as error:
            return PlainTextResponse(str(error), 404)
        headers = {"content-disposition": f'attachment; filename="{run_id}-{name}"', "x-content-type-options": "nosniff"}
        return Response(text, media_type=media_type, headers=headers)
