"""Reads a run from its files, for the pages that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kb.notes import PasskbError
from service.experiments.execution import control
from service.experiments.execution.run_store import ENDED, Run, Runs, RunStatus, read_json
from service.experiments.report.disclaimers import toys
from service.experiments.report.schema import Imported, PredictionResult, Result
from service.experiments.spec import ExperimentSpec

CURVE_SIZE = (560, 330)  # pixels


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list. `share`: completed fraction from 0 to 1; None if unknown."""

    id: str
    name: str
    status: str
    verdict: str = ""
    claim: str = ""
    created: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run. `result`: its figures, None if they can't be computed. `toys`: the toy models among
    its models. `problem`: why part of it can't be shown."""

    id: str
    status: RunStatus
    spec: ExperimentSpec
    state: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    result: Result | None = None
    toys: tuple[str, ...] = ()
    problem: str = ""

    @property
    def live(self) -> bool:
        """Whether it still changes: it is queued, runs, or its evidence note is being written."""
        return self.status not in ENDED or (self.status is RunStatus.SUCCEEDED and not self.evidence)

    @property
    def evidence(self) -> str:
        """The id of its evidence note; empty before there is one."""
        return str(self.state.get("evidence_note_id") or "")

    @property
    def claim(self) -> str:
        """NOTE#ID, or empty."""
        return str(self.state.get("claim") or self.spec.claim)

    @property
    def imported(self) -> Imported | None:
        """Its imported files; None for a run that passkb executed."""
        return self.result.imported if self.result else None

    @property
    def prediction(self) -> PredictionResult | None:
        return self.result.prediction if self.result else None

    @property
    def version(self) -> str:
        """Changes whenever the page of the run can change."""
        return f"{self.id} {self.status} {self.progress} {self.evidence} {self.state.get('error', '')} {self.problem}"


def run_lines(home: Path, limit: int = 200) -> list[RunLine]:
    """The newest runs; an unreadable run is listed with that status."""
    return [_line(home, run) for run in Runs(home).all()[:limit]]


def _line(home: Path, run: Run) -> RunLine:
    try:
        state, spec, progress = run.state, read_json(run.folder / "spec.json"), run.progress
        status = control.status_of(home, run)
        total = progress.get("total") or 0
        share = None if not total or status in ENDED else min(1.0, progress.get("done", 0) / total)
        fields = {"name": spec.get("name"), "verdict": state.get("verdict"), "created": state.get("created"),
                  "claim": state.get("claim") or spec.get("claim")}  # fmt: skip
        return RunLine(run.id, status=str(status), share=share, **{key: str(value or "") for key, value in fields.items()})
    except (PasskbError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return RunLine(run.id, "", "unreadable")


def run_view(home: Path, run_id: str) -> RunView:
    """Raises PasskbError for an unknown run, or one whose spec or status is unreadable."""
    from service.experiments.report.result import result

    run = Runs(home).find(run_id)
    spec, state, progress, status = run.spec, run.state, run.progress, control.status_of(home, run)
    current, problem = None, ""
    try:
        current = result(run, status)
    except PasskbError as error:
        problem = str(error)
    toy_models = tuple(map(str, state.get("toys", toys(spec))))
    return RunView(run.id, status, spec, state, progress, current, toy_models, problem)


def newest_runs(home: Path, claims: Sequence[str]) -> dict[str, RunLine]:
    """The newest run of each of these claims (NOTE#ID) that has one."""
    newest: dict[str, RunLine] = {}
    for line in run_lines(home) if claims else ():
        if line.claim in claims:
            newest.setdefault(line.claim, line)
    return newest


def load_curve(home: Path, run_id: str) -> Markup:
    """The curve of a finished run as SVG, drawn from its stored result; empty if there is none.

    Ignores the stored SVG file, which could contain scripts."""
    from service.experiments.report.curve import curve_svg

    if not run_id:
        return Markup()
    try:
        return Markup(curve_svg(Result.load(Runs(home).find(run_id).folder / "result.json"), *CURVE_SIZE))
    except PasskbError:
        return Markup()
