"""The read-only operations of the API as functions that return JSON-compatible dictionaries."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ingest.sources import Registry
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service import output
from service.api.admission import Admission, Busy
from service.config import read_config
from service.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.experiments.spec import ExperimentSpec
    from service.llm.client import Model

MAX_LIST = 100  # entries of each list of a note
_MAX_LINK = 6_000  # characters of an address that servers and browsers take
_MAX_NEAREST = 5
# Limits of a plan: generating 2,000 problems takes seconds, 4,000 a minute.
_MAX_PROBLEMS, _MAX_ATTEMPTS, _MAX_KS = 2_000, 4_096, 200
_MAX_WRITERS = 4
_writer_slots = threading.BoundedSemaphore(_MAX_WRITERS)


class UnknownNote(PasskbError):
    """No note has this name. `nearest`: (id, title) of notes with similar names."""

    def __init__(self, message: str, nearest: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.nearest = nearest


class AmbiguousNote(UnknownNote):
    """Several notes have this name; `nearest` lists them."""


class NoModel(PasskbError):
    """A generated answer was requested, and no model is configured."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the operations work on. `model` returns the language model, or None if none is configured. `address` is the URL of
    the app. `admission` is the queue shared by REST, MCP and the web app."""

    kb: KnowledgeBase
    model: Callable[[], Model | None]
    address: str
    admission: Admission = field(default_factory=Admission)


def search(access: Access, query: str, k: int = 10) -> dict[str, Any]:
    """CONTRACT: `search`."""
    _, hits = access.kb.search(query, k)
    return to_json({"query": query, "hits": [output.hit(entry) for entry in hits]})


def note(access: Access, name: str, start: int = 0, length: int = 20_000) -> dict[str, Any]:
    """CONTRACT: `note`, with part of its text and truncated lists. Raises UnknownNote."""
    whole = output.note(access.kb.view(find_note(access, name)))
    text, left_out = whole["text"], {}
    for key in ("links", "backlinks", "inquiries", "claims", "aliases", "tags"):
        if (over := len(whole[key]) - MAX_LIST) > 0:
            whole[key], left_out[key] = whole[key][:MAX_LIST], over
    part = {"text": text[start : start + length], "text_start": start, "text_length": len(text)}
    return to_json({**whole, **part, "left_out": left_out})


def neighbours(access: Access, name: str, depth: int = 1, limit: int = 40) -> dict[str, Any]:
    """The linked notes, the links among them, and similar notes. Raises UnknownNote."""
    kb, centre = access.kb, find_note(access, name)
    with kb.reading():
        near = kb.neighbourhood(centre, depth, limit)
        similar = kb.similar(centre)
        notes = kb.store.notes([centre, *near.distances, *(note_id for note_id, _ in similar)])
    around = [(notes[note_id], away) for note_id, away in near.distances.items() if note_id in notes]
    links = [
        {"source": link.source, "target": link.target, "type": str(link.type), "why": link.why, "origin": str(link.origin)}
        for link in near.links
    ]
    return to_json(
        {
            "id": centre,
            "title": notes[centre].title,
            "notes": [{"id": n.id, "title": n.title, "kind": str(n.kind), "distance": away} for n, away in around],
            "links": links,
            "similar": [{"id": key, "title": notes[key].title, "score": score} for key, score in similar if key in notes],
        }
    )


def ask(access: Access, question: str, mode: str = "quoted", stop: Callable[[], bool] | None = None) -> dict[str, Any]:
    """CONTRACT: `ask`. `stop` cancels the writing of an answer.

    Raises PasskbError for an invalid question, NoModel and Busy."""
    if mode == "quoted":
        from service.answering.extractive import ask as quoted

        return to_json(quoted(access.kb, question).to_json())
    model = access.model()
    if model is None:
        raise NoModel("no language model is configured: use mode `quoted`, or set llm_url on the server")
    from service.answering.generate.writer import write

    config = read_config(access.kb.home)
    with _writer_slot():
        written = write(access.kb, question, model, stop=stop, judge=config.llm_judge, rescore=config.llm_rescore)
    return to_json(written.to_json())


@contextmanager
def _writer_slot() -> Iterator[None]:
    if not _writer_slots.acquire(blocking=False):
        raise Busy(f"{_MAX_WRITERS} answers are already being written: try again in a moment, or use mode `quoted`")
    try:
        yield
    finally:
        _writer_slots.release()


def claims(access: Access, status: str | None = None) -> dict[str, Any]:
    """CONTRACT: `claims`."""
    entries = [(note_id, claim) for note_id, claim in access.kb.store.ledger() if status in (None, claim.status)]
    return to_json({"claims": [{"note_id": note_id, **output.claim(claim)} for note_id, claim in entries]})


def status(access: Access) -> dict[str, Any]:
    """Counts of notes, links, chunks, sources and failed files, from the index."""
    kb = access.kb
    with kb.store.reading():
        kinds, types, chunks = kb.store.counts()
        failed = sum(bool(file.failure) for file in kb.store.files())
    return {
        "version": version(), "notes": kinds, "links": types, "chunks": chunks, "sources": len(Registry(kb.home).all()),
        "failed": failed, "embedder": kb.embedder.name, "model": _model_name(access),
    }  # fmt: skip


def propose(access: Access, claim: str = "", spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The plan and cost of an experiment, and a link with which a person can start it. Starts and writes nothing.

    `claim`: NOTE#ID of a claim with a test; or `spec`: a spec. Raises PasskbError or SpecError for an invalid experiment."""
    from service.experiments.claims import claim_spec, find_claim
    from service.experiments.spec import from_mapping

    if bool(claim) == (spec is not None):
        raise PasskbError("pass either a `claim` (NOTE#ID) or a `spec`")
    spec_ = _checked_depth(spec) if spec is not None else None
    if claim:
        name, mark, label = claim.rpartition("#")
        if not mark:
            raise PasskbError(f"{claim!r} is not a claim: write NOTE#ID, as listed by `claims`")
        claim = f"{find_note(access, name)}#{label}"
        experiment = from_mapping(claim_spec(access.kb, claim), f"the test of {claim}")
        link = f"/?claim={quote(claim, safe='')}"
    else:
        experiment = from_mapping(spec_, "the spec")
        if experiment.claim:
            find_claim(access.kb, experiment.claim)
        link = f"/?spec={quote(json.dumps(spec_, ensure_ascii=False, separators=(',', ':')), safe='')}"
    if len(link) > _MAX_LINK:
        raise PasskbError(
            "the spec is too long for a link: save it as a file and ask a person to run `passkb experiment plan FILE`"
        )
    plan, cost = _make_plan(access, experiment, from_note=bool(claim))
    link = access.address.rstrip("/") + link
    return to_json(
        {
            "started": False, "link": link, "claim": experiment.claim, "spec": experiment.to_json(), "cost": cost, "plan": plan,
            "approval": f"Nothing was started. Give this link to the person: {link} opens passkb with this experiment in the "
            "form, and the Start button runs it. If the link does not open, start `passkb serve`.",
        }
    )  # fmt: skip


def _checked_depth(spec: Mapping[str, Any]) -> Any:
    try:
        return json_safe(spec)
    except RecursionError:
        raise PasskbError("the spec is nested too deeply") from None


def _make_plan(access: Access, spec: ExperimentSpec, *, from_note: bool) -> tuple[dict[str, Any] | None, str]:
    """The plan, and the cost in words. Files are opened only for specs from notes: a client must not read arbitrary files."""
    from service.experiments.planning import plan

    if spec.problems.file and not from_note:
        return None, "not computed: passkb reads the problem file only after a person opens the link"
    if spec.problems.limit > _MAX_PROBLEMS or spec.sampling.n > _MAX_ATTEMPTS or len(spec.ks) > _MAX_KS:
        most = f"more than {_MAX_PROBLEMS:,} problems, {_MAX_ATTEMPTS:,} attempts or {_MAX_KS} values of k"
        return None, f"not computed: {most}; the app shows the cost when a person opens the link"
    result = plan(spec, access.kb.home)
    number = result["cost"]["attempts"]
    return result, f"{number:,} attempt{'s' * (number != 1)}, {result['cost']['text']}"


def find_note(access: Access, name: str) -> str:
    """The id of the note with this id, title or alias. Raises UnknownNote or AmbiguousNote."""
    kb = access.kb
    try:
        return kb.find(name)
    except PasskbError as error:
        ids = kb.store.ids_by_name(name.strip())
        if len(ids) > 1:
            notes = kb.store.notes(ids)
            raise AmbiguousNote(str(error), [(note_id, notes[note_id].title) for note_id in ids if note_id in notes]) from None
        raise UnknownNote(str(error), kb.suggest_titles(name.replace("/", " ").replace("-", " "), _MAX_NEAREST)) from None


def to_json(value: Mapping[str, Any]) -> dict[str, Any]:
    return {json_safe(key): json_safe(entry) for key, entry in value.items()}


def json_safe(value: Any) -> Any:
    """The value without NaN, infinities and lone surrogates, which JSON in UTF-8 cannot hold."""
    if isinstance(value, Mapping):
        return {json_safe(str(key)): json_safe(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value


def _model_name(access: Access) -> str | None:
    try:
        model = access.model()
        return model.name if model else None
    except PasskbError as error:  # the server does not list its models
        return f"({error})"
