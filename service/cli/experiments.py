"""The commands `experiment`, `organism` and `worker`."""

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
from service.cli.invocation import DONE, NOTHING
from service.config import home_folder, read_config

_POLL = 0.25


def add_commands(commands: Any) -> None:
    """Adds the commands to the subparsers of the main parser."""
    experiment = commands.add_parser(
        "experiment", help="test claims with pass@k experiments", description="test claims with pass@k experiments"
    )
    inner = experiment.add_subparsers(metavar="COMMAND", required=True)

    def leaf(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(name, help=help, description=help)
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        return parser

    run = leaf("run", _run, "queue an experiment run")
    run.add_argument("spec", metavar="SPEC", help="a YAML or JSON file, or NOTE#ID for the test of a claim")
    run.add_argument("--wait", action="store_true", help="wait for the result; starts a worker if none is running")
    run.add_argument("--again", action="store_true", help="repeat an existing run with a new seed")
    plan = leaf("plan", _plan, "estimate interval widths, power and cost before a run")
    plan.add_argument("spec", metavar="SPEC", help="a YAML or JSON file, or NOTE#ID for the test of a claim")
    import_ = leaf("import", _import, "import counts (CSV) or graded completions (JSONL) as a run")
    import_.add_argument("files", nargs="+", metavar="FILE", type=Path)
    import_.add_argument("--claim", default="", metavar="NOTE#ID", help="the claim that the results test")
    import_.add_argument("--base", default="", metavar="NAME", help="the name of the base model in the files")
    import_.add_argument("--tuned", default="", metavar="NAME", help="the name of the tuned model in the files")
    import_.add_argument("--prediction", default="", metavar="YAML", help="for example '{kind: higher, model: tuned, k: 1}'")
    leaf("list", _list, "list the runs, newest first")
    for name, call, help in (("show", _show, "show a run: verdict, intervals, settings"), ("cancel", _cancel, "cancel a run"),
                             ("resume", _resume, "resume a failed, cancelled or interrupted run")):  # fmt: skip
        leaf(name, call, help).add_argument("run_id", metavar="RUN")
    worker = commands.add_parser("worker", help="run queued experiments", description="Run queued experiments.")
    worker.set_defaults(run=_worker, log_default="info")
    worker.add_argument("--until-idle", action="store_true", help="exit when the queue is empty")
    worker.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    organism = commands.add_parser("organism", help="small models trained from scratch, for use without a model hub")
    train = organism.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "train", help="train a family of Countdown models"
    )
    train.set_defaults(run=_train)
    train.add_argument("--json", action="store_true", help="print one JSON object")
    train.add_argument(
        "--out", type=Path, default=Path("organisms/countdown"), metavar="FOLDER", help="where to write the models"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--size", default="small", help="tiny, small (minutes on a CPU), medium or large (for a GPU)")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")


def _run(options: argparse.Namespace) -> int:
    from service.experiments.execution import control
    from service.experiments.execution.queue import has_worker

    home = home_folder(options.home)
    submitted = control.submit(home, _spec(options), again=options.again)
    run = submitted.run
    if not submitted.fresh:
        print(f"passkb: this experiment already exists as {run.id}: --again repeats it with a new seed", file=sys.stderr)
    if options.wait:
        return _wait(home, run.id, options)
    _print(options, {"run_id": run.id, "status": str(control.status_of(home, run)), "fresh": submitted.fresh}, run.id)
    if submitted.fresh and not has_worker(home):
        print("passkb: queued. It starts when `passkb worker` or the app runs.", file=sys.stderr)
    return DONE


def _wait(home: Path, run_id: str, options: argparse.Namespace) -> int:
    from service.experiments.execution import control
    from service.experiments.execution.queue import has_worker
    from service.experiments.execution.run_store import ENDED, Runs, RunStatus

    run, last_line = Runs(home).find(run_id), ""
    try:
        while (status := control.status_of(home, run)) not in ENDED or _unpublished(run.state):
            if not has_worker(home):
                control.wait_for_worker(home, control.start_worker(home, until_idle=True))
            line = _progress_line(status, run.progress)
            if line != last_line:
                print(f"passkb: {line}", file=sys.stderr)
                last_line = line
            time.sleep(_POLL)
    except KeyboardInterrupt:
        print(f"passkb: {run_id} keeps running: `passkb experiment cancel {run_id}` cancels it", file=sys.stderr)
        raise
    _print_run(home, run_id, options)
    return DONE if status is RunStatus.SUCCEEDED else NOTHING


def _unpublished(state: dict[str, Any]) -> bool:
    return state["status"] == "succeeded" and not state.get("evidence_note_id")


def _progress_line(status: Any, progress: dict[str, Any]) -> str:
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
    estimate = plan(spec, home)
    _print(options, estimate, plan_text(estimate))
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
    _print(options, {"runs": rows}, text or "no runs yet: start one with `passkb experiment run SPEC`")
    return DONE


def _show(options: argparse.Namespace) -> int:
    _print_run(home_folder(options.home), options.run_id, options)
    return DONE


def _cancel(options: argparse.Namespace) -> int:
    from service.experiments.execution.control import cancel

    run = cancel(home_folder(options.home), options.run_id)
    _print(
        options,
        {"run_id": run.id, "status": "cancelled"},
        f"{run.id} is cancelled; `experiment resume` continues from its counts",
    )
    return DONE


def _resume(options: argparse.Namespace) -> int:
    from service.experiments.execution.control import resume

    run = resume(home_folder(options.home), options.run_id)
    _print(options, {"run_id": run.id, "status": "queued"}, f"{run.id} is queued again and continues from its counts")
    return DONE


def _worker(options: argparse.Namespace) -> int:
    from service.experiments.execution.worker import work
    from service.experiments.report.evidence import publish

    home = home_folder(options.home)
    work(home, publish, parent=options.parent, until_idle=options.until_idle, vllm=read_config(home).vllm_python)
    return DONE


def _train(options: argparse.Namespace) -> int:
    from service.experiments.organisms.family import train_family

    family = train_family(
        options.out,
        seed=options.seed,
        size=options.size,
        device=options.device,
        progress=lambda line: print(line, file=sys.stderr),
    )
    _print(options, family, yaml.safe_dump(family, sort_keys=False, allow_unicode=True).rstrip())
    return DONE


def _spec(options: argparse.Namespace) -> Any:
    """The spec in a file, or the test of the claim NOTE#ID."""
    from service.experiments.spec import from_mapping, read_spec

    path = Path(options.spec).expanduser()
    if path.is_file():
        return read_spec(path.read_text(encoding="utf-8"), options.spec)
    note, mark, claim = options.spec.rpartition("#")
    if not mark:
        raise PasskbError(f"{options.spec}: no such file. For the test of a claim use NOTE#ID (`passkb claims` lists them).")
    from service.cli.open_home import open_home
    from service.experiments.claims import claim_spec

    with open_home(home_folder(options.home)) as kb:
        return from_mapping(claim_spec(kb, f"{kb.find(note)}#{claim}"), f"the test of {options.spec}")


def _mapping(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PasskbError(f"{where} is not YAML: {error}") from error


def _print_run(home: Path, run_id: str, options: argparse.Namespace) -> None:
    from service.experiments.execution import control
    from service.experiments.execution.run_store import Runs
    from service.experiments.report.result import result, result_text

    run = Runs(home).find(run_id)
    current = result(run, control.status_of(home, run))
    _print(options, current.to_json(), result_text(current))


def _print(options: argparse.Namespace, result: Any, text: str) -> None:
    print(json.dumps(result, ensure_ascii=False, allow_nan=False) if options.json else text)
