"""The `passkb` command line: its parser and the commands for notes, search and answers."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.notes import ClaimStatus, NoteKind, PasskbError
from kb.offline import go_offline
from service import log, output
from service.auth.accounts import Accounts, parse_account, read_accounts
from service.cli import inquiries
from service.cli import mcp as programs
from service.cli.experiments import add_commands
from service.cli.invocation import DONE, NOTHING, PART, invoke
from service.cli.judge_check import add_command
from service.config import Config, home_folder, read_config
from service.version import version

if TYPE_CHECKING:
    from ingest.fetched_pages import Fetch
    from ingest.report import IngestReport
    from kb.knowledge_base import KnowledgeBase
    from service.llm.client import Model

_MAP_FORMATS = (".json", ".graphml", ".html")


def main(arguments: Sequence[str] | None = None) -> int:
    go_offline()
    return invoke(build_parser, arguments)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="passkb", description="Ask your research notes. Every answer shows its sources.")
    parser.add_argument("--version", action="version", version=f"passkb {version()}")
    parser.add_argument("--home", metavar="DIR", help="folder for passkb's files (default: $PASSKB_HOME or ~/.passkb)")
    parser.add_argument(
        "--log-level", choices=log.LEVELS, metavar="LEVEL",
        help=f"{', '.join(log.LEVELS)} (default: $PASSKB_LOG_LEVEL, else info for serve and worker, else warning)",
    )  # fmt: skip
    parser.add_argument(
        "--verbose", "-v", action="store_const", const="debug", dest="log_level", help="same as --log-level debug"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        if name not in ("serve",):
            added.add_argument("--json", action="store_true", help="print one JSON object")
        return added

    ingest = command("ingest", _ingest, "add folders, files or web pages as sources and index them")
    ingest.add_argument("paths", nargs="+", metavar="PATH")
    ingest.add_argument(
        "--reader", default="", metavar="PACKAGE:CLASS", help="read these files with a llama-index reader, for other formats"
    )
    again = command("sync", _sync, "update the index from the sources: read what changed")
    again.add_argument("--dry-run", action="store_true", help="show what would change, without changing anything")
    again.add_argument(
        "--forget", nargs="?", const="*", metavar="NAME",
        help="confirm bulk deletions, for all sources or for source NAME",
    )  # fmt: skip
    forget = command("forget", _forget, "remove a source and its notes from the index; files are not touched")
    forget.add_argument("source", metavar="SOURCE", help="name of the source, as shown by `passkb status`")
    forget.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    command("status", _status, "what is indexed; failed, ignored and pending files, with reasons").add_argument(
        "--files", action="store_true", help="list every file with its status"
    )
    search = command("search", _search, "find passages by meaning and keywords, best first")
    search.add_argument("query", nargs="?", metavar="QUERY")
    search.add_argument("-k", type=_positive, default=10, help="number of passages (default: 10)")
    search.add_argument(
        "--queries", metavar="FILE.jsonl", help='batch search: one {"id", "text"} per line in, one JSON object per line out'
    )
    search.set_defaults(usage_error=search.error)
    search.add_argument("--no-links", action="store_true", help="do not follow typed links")
    ask = command("ask", _ask, "answer a question from the notes, with citations")
    ask.add_argument("question", metavar="QUESTION")
    _add_model(ask)
    ask.add_argument(
        "--judge", action=argparse.BooleanOptionalAction, help="also let the model check each sentence against its citations"
    )
    ask.add_argument(
        "--rescore", action=argparse.BooleanOptionalAction, help="let the model rank the passages before it writes"
    )
    ask.add_argument("--with-inquiries", action="store_true", help="also quote saved inquiries")
    command("note", _note, "show a note with its links, claims and similar notes").add_argument(
        "id", metavar="ID", help="id, title or alias of a note"
    )
    path = command("path", _path, "show the path of links between two notes")
    path.add_argument("start", metavar="A")
    path.add_argument("end", metavar="B")
    map_ = command("map", _map, "export the graph of notes to a file")
    map_.add_argument("--around", metavar="ID", help="only the notes around this one")
    map_.add_argument("--depth", type=_positive, default=2, help="maximum distance in links with --around (default: 2)")
    map_.add_argument("--out", required=True, metavar="FILE", type=Path, help="output file: .json, .graphml or .html")
    command("claims", _claims, "list the claims with their status").add_argument(
        "--status", choices=[str(s) for s in ClaimStatus], help="only claims with this status"
    )
    command("rebuild", _rebuild, "rebuild the index from the notes and sources")
    command("doctor", _doctor, "check the installation and show how to fix problems")
    serve = command("serve", _serve, "start the web app")
    serve.set_defaults(log_default="info")
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    account = serve.add_mutually_exclusive_group()
    account.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="require this account; visible in the process list, so prefer $PASSKB_AUTH",
    )
    account.add_argument(
        "--auth-file", metavar="PATH", help="require one of the accounts in this file, one USER:PASSWORD per line"
    )
    _add_model(serve)
    serve.add_argument("--no-worker", action="store_true", help="do not start a worker; run experiments with `passkb worker`")
    add_commands(commands)
    add_command(commands, _model)
    programs.add_commands(commands)
    inquiries.add_commands(commands, _model)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--llm",
        metavar="URL",
        help="OpenAI-compatible server, or PROVIDER/MODEL such as ollama/llama3.2, to write answers with",
    )
    command.add_argument("--model", metavar="NAME", help="name of the model; optional if the server has only one")
    command.add_argument("--quoted", action="store_true", help="answer in quotes, without a language model")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _open(options: argparse.Namespace) -> KnowledgeBase:
    from kb.knowledge_base import KnowledgeBase

    return KnowledgeBase(home_folder(options.home))


def _open_recovered(options: argparse.Namespace) -> KnowledgeBase:
    """Opens the home and rebuilds lost parts of the index first."""
    from service.cli.open_home import open_home

    return open_home(home_folder(options.home))


def _print_result(options: argparse.Namespace, result: object, text: Callable[[], str]) -> None:
    print(json.dumps(result, ensure_ascii=False) if options.json else text())


def _ingest(options: argparse.Namespace) -> int:
    from ingest.fetched_pages import is_address
    from ingest.pipeline import ingest

    fetch = _fetch(options) if any(map(is_address, options.paths)) else None
    with _open(options) as kb:
        report = ingest(kb, options.paths, output.progress, fetch=fetch, reader=options.reader)
    done = report.added + report.updated + report.moved + report.unchanged + report.deleted
    status = _print_report(options, report)
    if not done and status == DONE:
        print(
            f"passkb: no notes found in {', '.join(options.paths)}: passkb reads Markdown, text, HTML and PDF files",
            file=sys.stderr,
        )
        return NOTHING
    return status if done or report.pending_deletions else min(status, NOTHING)


def _fetch(options: argparse.Namespace) -> Fetch:
    from ingest.fetch import fetch

    return functools.partial(fetch, allow_private=read_config(home_folder(options.home)).allow_private_addresses)


def _sync(options: argparse.Namespace) -> int:
    from ingest.pipeline import sync
    from ingest.sources import Registry

    if not Registry(home_folder(options.home)).all():
        raise PasskbError("there are no sources yet: add one with `passkb ingest PATH`")
    forget = [options.forget] if options.forget else []
    with _open(options) as kb:
        report = sync(kb, dry_run=options.dry_run, forget=forget, progress=output.progress)
        if report.pending_deletions and not options.dry_run and _is_interactive(options):
            agreed = [
                entry.source
                for entry in report.pending_deletions
                if _confirm(f"{entry.path}: {entry.reason}.\nDelete them now?")
            ]
            report = sync(kb, forget=agreed, progress=output.progress) if agreed else report
    return _print_report(options, report)


def _forget(options: argparse.Namespace) -> int:
    from ingest.pipeline import forget

    with _open(options) as kb:
        notes = sum(bool(record.note_id) for record in kb.store.files(options.source))
        if not options.yes:
            question = f"Forget {options.source!r} and its {notes} notes? The files are not touched."
            if not _is_interactive(options):
                raise PasskbError(f"{question} To confirm, add --yes")
            if not _confirm(question):
                raise PasskbError("nothing was forgotten")
        report = forget(kb, options.source, output.progress)
    return _print_report(options, report)


def _is_interactive(options: argparse.Namespace) -> bool:
    return not options.json and sys.stdin.isatty() and sys.stderr.isatty()


def _confirm(question: str) -> bool:
    print(f"passkb: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_report(options: argparse.Namespace, report: IngestReport) -> int:
    """Prints the report, and failed files and pending deletions on stderr."""
    _print_result(options, report.to_json(), lambda: output.report(report))
    for path, reason in [*report.failed, *((entry.path, entry.reason) for entry in report.pending_deletions)]:
        print(f"passkb: {path}: {reason}", file=sys.stderr)
    return PART if report.failed or report.pending_deletions else DONE


def _status(options: argparse.Namespace) -> int:
    from service.status import status

    with _open(options) as kb:
        result = status(kb, files=options.files) | {"inquiries": inquiries.count_inquiries(kb)}
    _print_result(options, result, lambda: output.status(result))
    return DONE


def _search(options: argparse.Namespace) -> int:
    if (options.query is None) == (options.queries is None):
        options.usage_error("give either a QUERY or --queries FILE.jsonl")
    with _open_recovered(options) as kb:
        for extra, text in _queries(options):
            _, hits = kb.search(text, options.k, widen=not options.no_links)
            result = {**extra, "query": text, "hits": [output.hit(hit) for hit in hits]}
            as_json = options.json or options.queries is not None
            print(json.dumps(result, ensure_ascii=False) if as_json else output.hits(hits))
    return DONE


def _queries(options: argparse.Namespace) -> list[tuple[dict[str, Any], str]]:
    if options.query is not None:
        return [({}, options.query)]
    try:
        lines = Path(options.queries).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PasskbError(f"{options.queries} cannot be read: {error}") from error
    batch = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entry = json.loads(line)
                batch.append(({"id": entry["id"]}, str(entry["text"])))
            except (ValueError, TypeError, KeyError) as error:
                raise PasskbError(f'{options.queries}, line {number}: not a {{"id", "text"}} object') from error
    return batch


def _ask(options: argparse.Namespace) -> int:
    from service.answering.extractive import ask

    exclude = () if options.with_inquiries else (NoteKind.INQUIRY,)
    model = None if options.quoted else _model(options)
    with _open_recovered(options) as kb:
        if model is None:
            answer = ask(kb, options.question, exclude=exclude)
        else:
            from service.answering.generate.writer import write

            config = read_config(home_folder(options.home))
            judge = config.llm_judge if options.judge is None else options.judge
            rescore = config.llm_rescore if options.rescore is None else options.rescore
            answer = write(kb, options.question, model, exclude=exclude, judge=judge, rescore=rescore)
    _print_result(options, answer.to_json(), lambda: output.answer(answer))
    if answer.fault:
        print(f"passkb: {answer.fault}", file=sys.stderr)
    return PART if answer.fault else DONE


def _model(options: argparse.Namespace) -> Model | None:
    """The language model that writes answers, or None if none is configured."""
    from service.llm.factory import open_model

    return open_model(read_config(home_folder(options.home)), options.llm or "", options.model or "")


def _note(options: argparse.Namespace) -> int:
    with _open_recovered(options) as kb:
        view = kb.view(kb.find(options.id))
        reasons = inquiries.stale_reasons(kb, view)
    result = output.note(view) | ({} if reasons is None else {"stale": [reason.to_json() for reason in reasons]})
    _print_result(options, result, lambda: "\n".join([output.note_text(view), *(f"Stale: {r.text}" for r in reasons or ())]))
    return DONE


def _path(options: argparse.Namespace) -> int:
    with _open_recovered(options) as kb:
        start, end = kb.find(options.start), kb.find(options.end)
        steps = kb.path(start, end)
        titles = {note_id: note.title for note_id, note in kb.store.notes([start, end, *output.ends(steps or [])]).items()}
    if steps is None:
        raise PasskbError(f"no path of links connects {start} and {end}")
    result = {"from": start, "to": end, "steps": [output.step(entry) for entry in steps]}
    _print_result(options, result, lambda: output.path(start, steps, titles))
    return DONE


def _map(options: argparse.Namespace) -> int:
    from service.cli.map_export import export_map

    if options.out.suffix not in _MAP_FORMATS:
        raise PasskbError(f"{options.out}: use one of the formats {', '.join(_MAP_FORMATS)}")
    with _open_recovered(options) as kb:
        around = kb.find(options.around) if options.around else None
        text, notes, links = export_map(kb, options.out.suffix, around, options.depth)
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PasskbError(f"{options.out} cannot be written: {error.strerror}") from error
    result = {"out": str(options.out), "notes": notes, "links": links}
    _print_result(options, result, lambda: f"wrote {notes} notes and {links} links to {options.out}")
    return DONE


def _claims(options: argparse.Namespace) -> int:
    with _open_recovered(options) as kb:
        entries = [(note_id, claim) for note_id, claim in kb.store.ledger() if options.status in (None, claim.status)]
    result = {"claims": [{"note_id": note_id, **output.claim(claim)} for note_id, claim in entries]}
    _print_result(options, result, lambda: output.ledger(entries))
    return DONE


def _rebuild(options: argparse.Namespace) -> int:
    from ingest.pipeline import rebuild

    return _print_report(options, rebuild(home_folder(options.home), progress=output.progress))


def _doctor(options: argparse.Namespace) -> int:
    from service.doctor import run_checks

    findings = run_checks(home_folder(options.home))
    result = {"checks": [{"name": f.name, "ok": f.ok, "found": f.detail, "remedy": f.remedy} for f in findings]}
    _print_result(options, result, lambda: output.findings(findings))
    return DONE if all(finding.ok for finding in findings if finding.needed) else PART


def _accounts(options: argparse.Namespace, config: Config) -> Accounts | None:
    """Flags override settings. Child processes do not inherit the password."""
    os.environ.pop("PASSKB_AUTH", None)
    if options.auth_file or (config.auth_file and not (options.auth or config.auth)):
        return read_accounts(Path(options.auth_file or config.auth_file).expanduser())
    account = options.auth or config.auth
    return Accounts([parse_account(account, "--auth")]) if account else None


def _serve(options: argparse.Namespace) -> int:
    config = read_config(home_folder(options.home))
    host, port, accounts = options.host or config.host, options.port or config.port, _accounts(options, config)
    if host not in ("127.0.0.1", "localhost", "::1") and accounts is None:
        raise PasskbError(
            f"other machines can reach {host}, and anyone there could read your notes: "
            "set $PASSKB_AUTH or --auth to USER:PASSWORD, pass an --auth-file, or use --host 127.0.0.1"
        )
    if not 0 < port < 2**16:
        raise PasskbError(f"invalid port {port}: choose one from 1024 to 65535")
    from service.web.app import serve

    model = None if options.quoted else _model(options)
    with _open(options) as kb:
        serve(kb, host, port, accounts, worker=not options.no_worker, model=model)
    return DONE
