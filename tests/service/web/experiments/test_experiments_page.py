"""A run's page from real counts: verdict, figures with intervals, stable elements, escaping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.experiments.execution.run_store import Runs, RunStatus, write_json
from service.experiments.importers.import_run import import_files
from service.experiments.spec import from_mapping
from service.web.ask.runs_panel import not_started_html, runs_html
from service.web.experiments.page import list_html, split_summary, status_html, title_html
from service.web.experiments.results import DOWNLOADS, results_html
from service.web.experiments.run_view import RunView, load_curve, newest_runs, run_lines, run_view

Counts = Callable[..., Path]
SPEC = {
    "name": "pair", "question": "Does it cross?", "claim": "vault/a#c",
    "problems": {"set": "countdown", "limit": 3},
    "models": {"base": {"model": "rate:0.5", "engine": "scripted"}, "tuned": {"model": "rate:0.6", "engine": "scripted"}},
    "sampling": {"n": 4},
}  # fmt: skip


@pytest.fixture
def view(home: Path, tmp_path: Path, counts: Counts) -> RunView:
    return run_view(home, import_files(home, [counts(tmp_path)], claim="").id)


def live(status: RunStatus, **state: Any) -> RunView:
    progress = {"done": 6, "total": 24, "rate": 2.0, "eta_s": 9.0, "tokens": 1200, "model": "base", "doing": "sampling"}
    return RunView("r1", status, from_mapping(SPEC), {"status": status, **state}, progress)


def test_the_verdict_comes_first_then_figures_with_intervals(view: RunView) -> None:
    status, page = status_html(view), results_html(view)
    assert view.status is RunStatus.SUCCEEDED and view.prediction and view.prediction.verdict == "supported"
    assert status.index(view.prediction.sentence[:40]) < status.index("attempts")
    assert "25.0 %" in page and "50.0 %" in page and "+25.0" in page and "16*" in page
    assert "only base</dt><dd>30" in page and "only tuned</dt><dd>0" in page
    assert "all k pass (pass^k)" in page and "G-Pass@k" in page and "Cover@τ" in page and "by majority" not in page
    assert "counts.csv" in page and "sha256" in page and "passkb experiment run" not in page  # an import is not repeated so
    assert all(f'/runs/{view.id}/{name}"' in page for name in DOWNLOADS)


def test_names_from_files_and_specs_are_escaped(
    home: Path, tmp_path: Path, counts: Counts, evil: str, harmless: Callable[[str], None]
) -> None:
    quoted = evil.replace('"', '""')
    run = import_files(home, [counts(tmp_path, f"base {quoted}", f"tuned {quoted}")])
    view = run_view(home, run.id)
    wild = replace(view, spec=replace(view.spec, name=evil, question=evil, claim=f"{evil}#{evil}"), toys=(evil,))
    wild.state.update(error=evil, environment={evil: {"engine": evil, "differs": {evil: [evil, evil]}}})
    for status in RunStatus:
        one = replace(wild, status=status)
        for html in (title_html(one), status_html(one, evil), results_html(one), runs_html([one], evil)):
            harmless(html)
    harmless(list_html(run_lines(home), run.id) + not_started_html(evil, evil, "succeeded"))


def test_every_status_has_the_same_elements(audit: Any) -> None:
    """Focus and a screen reader's place survive, because only words and attributes change."""
    skeletons = {
        status: [tag for tag, _ in audit(runs_html([live(status)])).tags]
        for status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.INTERRUPTED, RunStatus.CANCELLED)
    }
    assert len({tuple(tags) for tags in skeletons.values()}) == 1
    assert skeletons[RunStatus.RUNNING].count("button") == 1


@pytest.mark.parametrize(
    ("view", "trouble", "expected", "missing"),
    [
        (live(RunStatus.RUNNING), "no worker", "Running, base: 6 of 24 attempts, 2 attempts/s, about 9", "no worker"),
        (live(RunStatus.QUEUED), "the worker ended (no room)", "The worker ended (no room)", "attempts/s"),
        (live(RunStatus.FAILED, error="rates.csv has no rate for p1"), "", ">rates.csv has no rate for p1", "left"),
        (live(RunStatus.INTERRUPTED), "", "It resumes when a worker starts", "alert"),
        (live(RunStatus.SUCCEEDED), "", "The evidence note is being written", "Waiting"),
        (live(RunStatus.CANCELLED, seconds=61), "", "1,200 tokens, 61", "left"),
    ],
)  # fmt: skip
def test_every_status_shows_its_progress(view: RunView, trouble: str, expected: str, missing: str) -> None:
    html = status_html(view, trouble)
    assert expected in html and missing not in html


def test_a_run_is_live_until_its_evidence_is_written() -> None:
    assert live(RunStatus.SUCCEEDED).live and live(RunStatus.QUEUED).live
    assert not live(RunStatus.SUCCEEDED, evidence_note_id="evidence/r1").live and not live(RunStatus.FAILED).live


def test_toy_models_and_dry_runs_have_a_disclaimer(view: RunView, tmp_path: Path, home: Path) -> None:
    assert "says nothing about any model" in status_html(live(RunStatus.RUNNING))
    assert "nothing about" not in status_html(view)
    (tmp_path / "toy").mkdir()
    write_json(tmp_path / "toy" / "organism.json", {})
    models = {"base": {"model": str(tmp_path / "toy")}, "tuned": {"model": "somewhere"}}
    run = Runs(home).create(from_mapping({**SPEC, "models": models}))
    shown = run_view(home, run.id)
    assert shown.toys == ("base",) and "Toy models: base was trained from scratch" in status_html(shown)


def test_a_damaged_run_is_listed_as_unreadable(home: Path, view: RunView) -> None:
    run = Runs(home).create(from_mapping(SPEC))
    (home / "runs" / "broken").mkdir()
    (home / "runs" / "broken" / "run.json").write_text("{")
    html = list_html(run_lines(home), view.id)
    assert html.count("data-run=") == 3 and "unreadable" in html and 'aria-current="page"' in html
    assert newest_runs(home, ["vault/a#c", "vault/a#other"]).keys() == {"vault/a#c"}
    assert newest_runs(home, ["vault/a#c"])["vault/a#c"].id == run.id
    assert "No runs yet" in list_html([])


def test_a_curve_is_drawn_from_the_stored_result(home: Path, view: RunView) -> None:
    folder = home / "runs" / view.id
    assert view.result
    write_json(folder / "result.json", view.result.to_json())
    (folder / "curve.svg").write_text("<svg onload='window.hacked=1'></svg>")
    assert "<svg" in load_curve(home, view.id) and "hacked" not in load_curve(home, view.id)
    assert load_curve(home, "../../etc") == load_curve(home, "") == ""
    write_json(folder / "result.json", {"models": 3})
    assert load_curve(home, view.id) == ""


def test_long_verdicts_are_split_after_the_first_sentences() -> None:
    assert split_summary("One. Two. Three.") == ("One. Two.", "Three.")
    assert split_summary("At k = 1.5 it holds.") == ("At k = 1.5 it holds.", "")
    assert split_summary(f"{'a' * 300}. Two.")[1] == "Two." and split_summary("") == ("", "")
