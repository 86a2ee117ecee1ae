"""The command line's `experiment`, `organism` and `worker`: parse, call one function, print."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kb.notes import PasskbError
from service.config import home_folder, read_config

DONE, NOTHING, PART = 0, 1, 3
_POLL = 0.25


def add_commands(commands: Any) -> None:
    """Adds them to the main parser's subparsers."""
    experiment = commands.add_parser("experiment", help="test a claim by pass@k", description="test a claim by pass@k")
    inner = experiment.add_subparsers(metavar="COMMAND", required=True)

    def leaf(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = inner.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        return added

    run = leaf("run", _run, "queue an experiment")
    run.add_argument("spec", metavar="SPEC", help="a YAML or JSON file, or NOTE#ID: the test of a claim")
    run.add_argument("--wait", action="store_true", help="start a worker if none runs, and wait for the result")
    run.add_argument("--again", action="store_true", help="repeat a spec that was run already, with a new seed")
    plan = leaf("plan", _plan, "what to expect before the run: interval widths, power, cost")
    plan.add_argument("spec", metavar="SPEC")
    bring = leaf("import", _import, "counts (CSV) or completions with verdicts (JSONL) as a run")
    bring.add_argument("files", nargs="+", metavar="FILE", type=Path)
    bring.add_argument("--claim", default="", metavar="NOTE#ID")
    bring.add_argument("--base", default="", metavar="NAME")
    bring.add_argument("--tuned", default="", metavar="NAME")
    bring.add_argument("--prediction", default="", metavar="YAML", help="for example '{kind: higher, model: tuned, k: 1}'")
    leaf("list", _list, "the runs, newest first")
    for name, call, help in (("show", _show, "one run: verdict, intervals, settings"), ("cancel", _cancel, "stop a run"),
                             ("resume", _resume, "go on with a run that failed, was cancelled or interrupted")):  # fmt: skip
        leaf(name, call, help).add_argument("run_id", metavar="RUN")
    worker = commands.add_parser("worker", help="run queued experiments", description="run queued experiments")
    worker.set_defaults(run=_worker, log_default="info")
    worker.add_argument("--until-idle", action="store_true", help="end when nothing is left to do")
    worker.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    organism = commands.add_parser("organism", help="small models made from nothing, for machines without a hub")
    train = organism.add_subparsers(metavar="COMMAND", required=True).add_parser("train", help="train a Countdown family")
    train.set_defaults(run=_train)
    train.add_argument("--json", action="store_true")
    train.add_argument("--out", type=Path, default=Path("organisms/countdown"), metavar="FOLDER")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--size", default="small", help="small (CPU, minutes), or larger ones for a GPU")
    train.add_argument("--device", default="auto")


def _run(options: argparse.Namespace) -> int:
    from service.experiments.execution import control
    from service.experiments.execution.queue import working

    home = home_folder(options.home)
    submitted = control.submit(home, _spec(options), again=options.again)
    run = submitted.run
    if not submitted.fresh:
        print(f"passkb: this experiment is {run.id} already: --again repeats it with a new seed", file=sys.stderr)
    if options.wait:
        return _wait(home, run.id, options)
    _say(options, {"run_id": run.id, "status": str(control.status_of(home, run)), "fresh": submitted.fresh}, run.id)
    if submitted.fresh and not working(home):
        print("passkb: queued; `passkb worker` runs it, and so does a running app", file=sys.stderr)
    return DONE


def _wait(home: Path, run_id: str, options: argparse.Namespace) -> int:
    from service.experiments.execution import control
    from service.experiments.execution.queue import working
    from service.experiments.execution.run_store import ENDED, Runs, RunStatus

    run, told = Runs(home).find(run_id), ""
    try:
        while (status := control.status_of(home, run)) not in ENDED or _unpublished(run.state):
            if not working(home):
                control.wait_for_worker(home, control.start_worker(home, until_idle=True))
            line = _line(status, run.progress)
            if line != told:
                print(f"passkb: {line}", file=sys.stderr)
                told = line
            time.sleep(_POLL)
    except KeyboardInterrupt:
        print(f"passkb: {run_id} goes on without you: `passkb experiment cancel {run_id}` stops it", file=sys.stderr)
        raise
    _print_run(home, run_id, options)
    return DONE if status is RunStatus.SUCCEEDED else NOTHING


def _unpublished(state: dict[str, Any]) -> bool:
    return state["status"] == "succeeded" and not state.get("evidence_note_id")


def _line(status: Any, progress: dict[str, Any]) -> str:
    if not progress:
        return str(status)
    eta = progress.get("eta_s")
    left = f", about {eta:.0f} s left" if eta is not None else ""
    return f"{status}, {progress['model']}: {progress['done']} of {progress['total']} attempts{left}"


def _plan(options: argparse.Namespace) -> int:
    from service.experiments.datasets.loader import load
    from service.experiments.planning import plan, plan_text
    from service.experiments.preflight import preflight

    home, spec = home_folder(options.home), _spec(options)
    preflight(home, spec, load(spec.problems), reach=False)
    found = plan(spec, home)
    _say(options, found, plan_text(found))
    return DONE


def _import(options: argparse.Namespace) -> int:
    from service.experiments.importers.import_run import import_files
    from service.experiments.report.evidence import publish

    home = home_folder(options.home)
    prediction = _mapping(options.prediction, "--prediction") if options.prediction else None
    run = import_files(home, options.files, claim=options.claim, base=options.base, tuned=options.tuned, prediction=prediction)
    publish(home, run)
    _print_run(home, run.id, options)
    return DONE


def _list(options: argparse.Namespace) -> int:
    from service.experiments.execution import control
    from service.experiments.execution.run_store import Runs

    home = home_folder(options.home)
    rows = []
    for run in Runs(home).all():
        spec, state = run.spec, run.state
        rows.append({"run_id": run.id, "status": str(control.status_of(home, run)), "name": spec.name, "claim": spec.claim,
                     "created": state.get("created", ""), "models": list(spec.models), "error": state.get("error", ""),
                     "verdict": state.get("verdict", ""), "evidence_note_id": state.get("evidence_note_id", "")})  # fmt: skip
    text = "\n".join(f"{r['run_id']}  {r['status']:<11}  {r['verdict'] or '-':<12}  {r['claim'] or r['name']}" for r in rows)
    _say(options, {"runs": rows}, text or "no runs yet: `passkb experiment run SPEC` starts one")
    return DONE


def _show(options: argparse.Namespace) -> int:
    _print_run(home_folder(options.home), options.run_id, options)
    return DONE


def _cancel(options: argparse.Namespace) -> int:
    from service.experiments.execution.control import cancel

    run = cancel(home_folder(options.home), options.run_id)
    _say(options, {"run_id": run.id, "status": "cancelled"}, f"{run.id} stops; its counts stay, `resume` goes on with it")
    return DONE


def _resume(options: argparse.Namespace) -> int:
    from service.experiments.execution.control import resume

    run = resume(home_folder(options.home), options.run_id)
    _say(options, {"run_id": run.id, "status": "queued"}, f"{run.id} is queued again, from where it stands")
    return DONE


def _worker(options: argparse.Namespace) -> int:
    from service.experiments.execution.worker import work
    from service.experiments.report.evidence import publish

    home = home_folder(options.home)
    work(home, publish, parent=options.parent, until_idle=options.until_idle, vllm=read_config(home).vllm_python)
    return DONE


def _train(options: argparse.Namespace) -> int:
    from service.experiments.organisms.family import train_family

    found = train_family(
        options.out,
        seed=options.seed,
        size=options.size,
        device=options.device,
        progress=lambda line: print(line, file=sys.stderr),
    )
    _say(options, found, yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())
    return DONE


def _spec(options: argparse.Namespace) -> Any:
    """The spec in a file, or the test of the claim that NOTE#ID names."""
    from service.experiments.spec import from_mapping, read_spec

    path = Path(options.spec).expanduser()
    if path.is_file():
        return read_spec(path.read_text(encoding="utf-8"), options.spec)
    note, mark, claim = options.spec.rpartition("#")
    if not mark:
        raise PasskbError(f"{options.spec}: no such file; a claim is named NOTE#ID, `passkb claims` lists them")
    from service.cli.open_home import open_home
    from service.experiments.claims import spec_of

    with open_home(home_folder(options.home)) as kb:
        return from_mapping(spec_of(kb, f"{kb.find(note)}#{claim}"), f"the test of {options.spec}")


def _mapping(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PasskbError(f"{where} is no YAML: {error}") from error


def _print_run(home: Path, run_id: str, options: argparse.Namespace) -> None:
    from service.experiments.execution import control
    from service.experiments.execution.run_store import Runs
    from service.experiments.report.result import result, result_text

    run = Runs(home).find(run_id)
    found = result(run, control.status_of(home, run))
    _say(options, found, result_text(found))


def _say(options: argparse.Namespace, result: Any, text: str) -> None:
    print(json.dumps(result, ensure_ascii=False, allow_nan=False) if options.json else text)
