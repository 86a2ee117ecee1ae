"""A run as the pages show it, read from its files. Knows nothing of HTML; starts nothing and loads no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kb.notes import PasskbError
from service.experiments.execution import control
from service.experiments.execution.run_store import ENDED, Run, Runs, RunStatus, read_json
from service.experiments.report.disclaimers import toys
from service.experiments.spec import ExperimentSpec

CURVE = (560, 330)  # pixels


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in a list. `share`: how much of it is drawn, from 0 to 1; None when that is not known."""

    id: str
    name: str
    status: str
    verdict: str = ""
    claim: str = ""
    created: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """One run. `result`: the object of `experiment show --json`, empty before the first counts. `toys`: the models that are
    organisms, made to show a mechanism. `problem`: why something of it can not be shown."""

    id: str
    status: RunStatus
    spec: ExperimentSpec
    state: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    toys: tuple[str, ...] = ()
    problem: str = ""

    @property
    def live(self) -> bool:
        """Whether it changes by itself: it waits, runs, or its evidence is being written."""
        return self.status not in ENDED or (self.status is RunStatus.SUCCEEDED and not self.evidence)

    @property
    def evidence(self) -> str:
        """The id of its evidence note, once there is one."""
        return str(self.state.get("evidence_note_id") or "")

    @property
    def claim(self) -> str:
        """NOTE#ID, or nothing."""
        return str(self.state.get("claim") or self.spec.claim)

    @property
    def imported(self) -> dict[str, Any]:
        """What is known of the files that it came from; empty for a run of passkb's own."""
        return dict(self.state.get("imported") or {})

    @property
    def prediction(self) -> dict[str, Any]:
        """Kind, verdict and sentence, as far as there are any."""
        return dict(self.result.get("prediction") or {})

    @property
    def mark(self) -> str:
        """Differs whenever what is shown of the run could."""
        return f"{self.id} {self.status} {self.progress} {self.evidence} {self.state.get('error', '')} {self.problem}"


def run_lines(home: Path, most: int = 200) -> list[RunLine]:
    """The newest runs; one that can't be read is listed as such."""
    return [_line(home, run) for run in Runs(home).all()[:most]]


def _line(home: Path, run: Run) -> RunLine:
    try:
        state, spec, progress = run.state, read_json(run.folder / "spec.json"), run.progress
        status = control.status_of(home, run)
        total = progress.get("total") or 0
        share = None if not total or status in ENDED else min(1.0, progress.get("done", 0) / total)
        said = {"name": spec.get("name"), "verdict": state.get("verdict"), "created": state.get("created"),
                "claim": state.get("claim") or spec.get("claim")}  # fmt: skip
        return RunLine(run.id, status=str(status), share=share, **{key: str(value or "") for key, value in said.items()})
    except (PasskbError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return RunLine(run.id, "", "unreadable")


def run_view(home: Path, run_id: str) -> RunView:
    """Raises PasskbError when there is no such run, or its spec or status can not be read."""
    from service.experiments.report.result import result

    run = Runs(home).find(run_id)
    spec, state, progress, status = run.spec, run.state, run.progress, control.status_of(home, run)
    found, problem = {}, ""
    try:
        found = result(run, status)
    except PasskbError as error:
        problem = str(error)
    known = tuple(map(str, state.get("toys", toys(spec))))
    return RunView(run.id, status, spec, state, progress, found, known, problem)


def newest_of(home: Path, claims: Sequence[str]) -> dict[str, RunLine]:
    """The newest run for each of these claims (NOTE#ID) that has one."""
    found: dict[str, RunLine] = {}
    for line in run_lines(home) if claims else ():
        if line.claim in claims:
            found.setdefault(line.claim, line)
    return found


def stored_curve(home: Path, run_id: str) -> str:
    """The curve of a run that has ended as SVG, drawn anew from its stored result, for what stands in a folder is data and not
    a drawing to be trusted. Empty where there is none."""
    from service.experiments.report.curve import curve_svg

    if not run_id:
        return ""
    try:
        return curve_svg(read_json(Runs(home).find(run_id).folder / "result.json"), *CURVE)
    except (PasskbError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
