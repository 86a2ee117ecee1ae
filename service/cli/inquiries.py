"""The commands `keep`, `inquiries`, `refresh` and `suggest`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kb.notes import LinkType, NoteKind, PasskbError
from service.cli.invocation import DONE, PART
from service.config import home_folder

if TYPE_CHECKING:
    from kb.knowledge_base import KnowledgeBase, NoteView
    from kb.notes import Link
    from service.answering.answer import Answer
    from service.inquiries.answer_diff import Changes
    from service.inquiries.front_matter import StaleReason
    from service.inquiries.save import SavedInquiry
    from service.inquiries.staleness import InquiryStatus
    from service.llm.client import Model
    from service.suggestions.ranking import Suggestion

_MODEL = "this model: URL of an OpenAI-compatible server, or PROVIDER/MODEL"
ModelOf = Callable[[argparse.Namespace], "Model | None"]


def add_commands(commands: Any, model_of: ModelOf) -> None:
    """Adds the commands. `model_of` returns the language model for the parsed options, or None."""

    def command(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=_explain_edited(run), model_of=model_of)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        return added

    def with_model(added: argparse.ArgumentParser, what: str) -> None:
        added.add_argument("--llm", metavar="URL", help=f"{what} with {_MODEL}")
        added.add_argument("--model", metavar="NAME", help="name of the model; optional if the server has only one")
        added.add_argument("--quoted", action="store_true", help="do not use a language model")

    keep = command("keep", _keep, "answer a question and save the answer as an inquiry note")
    keep.add_argument("question", metavar="QUESTION")
    with_model(keep, "write the answer")
    listed = command("inquiries", _inquiries, "list the saved inquiries and why some are stale")
    listed.add_argument("--stale", action="store_true", help="only stale inquiries")
    again = command("refresh", _refresh, "ask an inquiry's question again and show what changed in the answer, and why")
    again.add_argument("id", metavar="ID", help="id or title of the inquiry")
    with_model(again, "write the answer")
    for asking in (keep, again):
        asking.add_argument(
            "--replace", action="store_true", help="replace the note even if it was edited; the edited version is archived"
        )
    suggest = command("suggest", _suggest, "suggest missing links for a note; accept or dismiss a suggestion")
    suggest.add_argument("id", metavar="ID", help="id, title or alias of a note")
    act = suggest.add_mutually_exclusive_group()
    act.add_argument("--accept", metavar="TARGET", help="save the link to TARGET in passkb's own notes")
    act.add_argument("--dismiss", metavar="TARGET", help="stop suggesting TARGET")
    act.add_argument("--take-back", metavar="TARGET", help="undo an accepted link or a dismissal")
    suggest.add_argument("--type", choices=[str(type_) for type_ in LinkType], help="type of the accepted link")
    suggest.add_argument("--why", default="", metavar="TEXT", help="reason for the accepted link")
    with_model(suggest, "propose types and reasons")


def _explain_edited(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Adds to EditedByHand errors what to do about them."""

    def wrapped(options: argparse.Namespace) -> int:
        from service.inquiries.save import EditedByHand

        try:
            return run(options)
        except EditedByHand as error:
            raise PasskbError(f"{error}: use --replace to save the new version and archive yours in .earlier") from error

    return wrapped


def stale_reasons(kb: KnowledgeBase, view: NoteView) -> tuple[StaleReason, ...] | None:
    """Why an inquiry is stale; None for a note that is not an inquiry."""
    from service.inquiries.staleness import inquiry_status

    if view.note.kind is not NoteKind.INQUIRY:
        return None
    status = inquiry_status(kb, view.note)
    return status.reasons if status else ()


def count_inquiries(kb: KnowledgeBase) -> dict[str, int]:
    """The number of saved inquiries, and of stale ones."""
    from service.inquiries.staleness import list_inquiry_statuses

    statuses = list_inquiry_statuses(kb)
    return {"kept": len(statuses), "stale": sum(bool(entry.reasons) for entry in statuses)}


def _open(options: argparse.Namespace) -> KnowledgeBase:
    from service.cli.open_home import open_home

    return open_home(home_folder(options.home))


def _model(options: argparse.Namespace) -> Model | None:
    model_of: ModelOf = options.model_of
    return None if options.quoted else model_of(options)


def _keep(options: argparse.Namespace) -> int:
    from service.inquiries.save import save_inquiry

    model = _model(options)
    with _open(options) as kb:
        answer = _answer(kb, options.question, model)
        saved = save_inquiry(kb, answer, replace_edited=options.replace)
    outcome = "saved" if saved.fresh else "no changes" if saved.unchanged else "saved a new version"
    _print_result(
        options, {**saved_json(saved), "answer": answer.to_json()}, f"{outcome}: {saved.title}  [{saved.id}]\n{saved.path}"
    )
    if answer.fault:
        print(f"passkb: {answer.fault}", file=sys.stderr)
    return PART if answer.fault else DONE


def _answer(kb: KnowledgeBase, question: str, model: Model | None) -> Answer:
    from service.answering.extractive import ask

    if model is None:
        return ask(kb, question)
    from service.answering.generate.writer import write

    return write(kb, question, model)


def saved_json(saved: SavedInquiry) -> dict[str, Any]:
    return {"id": saved.id, "title": saved.title, "path": saved.path, "fresh": saved.fresh, "unchanged": saved.unchanged,
            "earlier": saved.earlier}  # fmt: skip


def _inquiries(options: argparse.Namespace) -> int:
    from service.inquiries.staleness import list_inquiry_statuses

    with _open(options) as kb:
        statuses = [entry for entry in list_inquiry_statuses(kb) if entry.reasons or not options.stale]
    lines = [line for entry in statuses for line in _status_lines(entry)]
    nothing = "no inquiry is stale" if options.stale else 'no inquiries yet: save one with `passkb keep "QUESTION"`'
    _print_result(options, {"inquiries": [status_json(entry) for entry in statuses]}, "\n".join(lines) or nothing)
    return DONE


def status_json(entry: InquiryStatus) -> dict[str, Any]:
    note, record = entry.note, entry.record
    return {"id": note.id, "title": note.title, "question": record.question, "asked": record.asked, "mode": record.mode,
            "model": record.model or None, "sources": [source.note_id for source in record.sources], "path": note.path,
            "stale": [reason.to_json() for reason in entry.reasons]}  # fmt: skip


def _status_lines(entry: InquiryStatus) -> list[str]:
    mark = "stale" if entry.reasons else "up to date"
    head = f"{mark:<10} {entry.record.asked[:10]}  {entry.note.title}  [{entry.note.id}]"
    return [head, *(f"           {reason.text}" for reason in entry.reasons)]


def _refresh(options: argparse.Namespace) -> int:
    from service.inquiries.refresh import refresh

    model = _model(options)
    with _open(options) as kb:
        done = refresh(kb, kb.find(options.id), model, replace_edited=options.replace)
    result = {**saved_json(done.saved), "mode": done.record.mode, "model": done.record.model or None, **done.changes.to_json()}
    _print_result(options, result, changes_text(done.saved, done.changes))
    return DONE


def changes_text(saved: SavedInquiry, changes: Changes) -> str:
    if saved.unchanged:
        return f"no changes: {saved.title}  [{saved.id}]"
    lines = [f"{saved.title}  [{saved.id}]", *(f"  because {reason}" for reason in changes.because), ""]
    lines += [f"- {entry.text}\n    ({entry.why})" for entry in changes.removed]
    lines += [f"+ {entry.text}\n    ({entry.why})" for entry in changes.added]
    lines += [f"  {entry.text}" for entry in changes.unchanged]
    return "\n".join([*lines, "", f"previous version: {saved.earlier}"])


def _suggest(options: argparse.Namespace) -> int:
    from service.suggestions.accepted_links import accept_link, remove_link
    from service.suggestions.dismissals import dismiss, list_dismissed, undismiss
    from service.suggestions.link_types import propose_link_types
    from service.suggestions.ranking import suggest_links

    if (options.type or options.why) and not options.accept:
        raise PasskbError("--type and --why need --accept")
    with _open(options) as kb:
        note_id = kb.find(options.id)
        if options.dismiss:
            other = kb.find(options.dismiss)
            dismiss(kb.home, note_id, other)
            _print_result(options, {"dismissed": [note_id, other]}, f"passkb no longer suggests {other} for {note_id}")
            return DONE
        if options.take_back:
            other = kb.find(options.take_back)
            back = [] if other in list_dismissed(kb.home, note_id) else remove_link(kb, note_id, other)
            undismiss(kb.home, note_id, other)
            _print_result(options, {"taken_back": [note_id, other], "links": [link_json(link) for link in back]},
                 f"passkb may suggest {note_id} and {other} to each other again")  # fmt: skip
            return DONE
        if options.accept:
            other = kb.find(options.accept)
            entry = next((e for e in suggest_links(kb, note_id, 100) if e.other == other), None)
            ends = (entry.source, entry.target) if entry else (note_id, other)
            why = options.why or (entry.why if entry else "")
            link = accept_link(kb, *ends, LinkType(options.type or LinkType.RELATED), why)
            _print_result(
                options, {"accepted": link_json(link)}, f"{link.source} {link.type} {link.target}  (in {link.writer})"
            )
            return DONE
        suggestions_, model = suggest_links(kb, note_id), _model(options)
        fault = ""
        if model is not None:
            suggestions_, fault = propose_link_types(kb, suggestions_, model)
    _print_result(
        options, {"id": note_id, "suggestions": [suggestion_json(e) for e in suggestions_]}, _suggestions_text(suggestions_)
    )
    if fault:
        print(f"passkb: {fault}", file=sys.stderr)
    return PART if fault else DONE


def link_json(link: Link) -> dict[str, Any]:
    return {"source": link.source, "target": link.target, "type": str(link.type), "why": link.why,
            "origin": str(link.origin), "writer": link.writer}  # fmt: skip


def suggestion_json(entry: Suggestion) -> dict[str, Any]:
    grounds = [
        {"kind": g.kind, "text": g.text}
        | ({"note_id": g.note_id, "start": g.start, "end": g.end, "quote": g.quote} if g.quote else {})
        for g in entry.signals
    ]
    return {"target": entry.other, "title": entry.title, "score": entry.score, "type": str(entry.type), "why": entry.why,
            "by": entry.by or None, "link": {"from": entry.source, "to": entry.target}, "reasons": grounds}  # fmt: skip


def _suggestions_text(suggestions: list[Suggestion]) -> str:
    lines = []
    for entry in suggestions:
        lines += [f"{entry.score:.2f}  {entry.title}  [{entry.other}]"]
        lines += [f"      {entry.type}: {entry.why}  (proposed by {entry.by})"] if entry.by else []
        lines += [f"      {ground.text}" for ground in entry.signals]
    return "\n".join(lines) or "no suggestions"


def _print_result(options: argparse.Namespace, result: object, text: str) -> None:
    print(json.dumps(result, ensure_ascii=False, allow_nan=False) if options.json else text)
