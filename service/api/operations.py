"""What other programs may ask of a knowledge base: plain functions that read, and give what JSON can say.

Nothing here writes a note or starts a run; a proposal is a link for a person. Knows nothing of HTTP, MCP or who asks.
"""

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
# What a plan may be asked for from outside: drawing 2,000 problems takes seconds, 4,000 a minute.
_MAX_PROBLEMS, _MAX_ATTEMPTS, _MAX_KS = 2_000, 4_096, 200
_MAX_WRITERS = 4
_writer_slots = threading.BoundedSemaphore(_MAX_WRITERS)


class UnknownNote(PasskbError):
    """`nearest`: (id, title) of notes of a like name."""

    def __init__(self, message: str, nearest: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.nearest = nearest


class AmbiguousNote(UnknownNote):
    """The name fits several; `nearest` are these."""


class NoModel(PasskbError):
    """A written answer was asked for where no model is configured."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the operations work on. `model`: makes or gives the language model, None where none is configured; `address`: where
    a person opens the app; `admission`: the queue that operations wait in, one for all of an app's doors."""

    kb: KnowledgeBase
    model: Callable[[], Model | None]
    address: str
    admission: Admission = field(default_factory=Admission)


def search(access: Access, query: str, k: int = 10) -> dict[str, Any]:
    """CONTRACT: `search`."""
    _, hits = access.kb.search(query, k)
    return to_json({"query": query, "hits": [output.hit(entry) for entry in hits]})


def note(access: Access, name: str, start: int = 0, length: int = 20_000) -> dict[str, Any]:
    """CONTRACT: `note`, with a part of its text, and long lists cut. Raises UnknownNote."""
    whole = output.note(access.kb.view(find_note(access, name)))
    text, left_out = whole["text"], {}
    for key in ("links", "backlinks", "inquiries", "claims", "aliases", "tags"):
        if (over := len(whole[key]) - MAX_LIST) > 0:
            whole[key], left_out[key] = whole[key][:MAX_LIST], over
    part = {"text": text[start : start + length], "text_start": start, "text_length": len(text)}
    return to_json({**whole, **part, "left_out": left_out})


def neighbours(access: Access, name: str, depth: int = 1, limit: int = 40) -> dict[str, Any]:
    """The notes around one, the links among them, and the notes alike. Raises UnknownNote."""
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
    """CONTRACT: `ask`. `stop` ends the writing of an answer that nobody waits for any more.

    Raises PasskbError for a question that can't be asked, NoModel, Busy."""
    if mode == "quoted":
        from service.answering.extractive import ask as quoted

        return to_json(quoted(access.kb, question).to_json())
    model = access.model()
    if model is None:
        raise NoModel("no language model is configured here: ask with mode `quoted`, or have whoever runs passkb set llm_url")
    from service.answering.generate.writer import write

    config = read_config(access.kb.home)
    with _writer_slot():
        written = write(access.kb, question, model, stop=stop, judge=config.llm_judge, rescore=config.llm_rescore)
    return to_json(written.to_json())


@contextmanager
def _writer_slot() -> Iterator[None]:
    if not _writer_slots.acquire(blocking=False):
        raise Busy(f"{_MAX_WRITERS} answers are being written already: ask again in a moment, or with mode `quoted`")
    try:
        yield
    finally:
        _writer_slots.release()


def claims(access: Access, status: str | None = None) -> dict[str, Any]:
    """CONTRACT: `claims`."""
    entries = [(note_id, claim) for note_id, claim in access.kb.store.ledger() if status in (None, claim.status)]
    return to_json({"claims": [{"note_id": note_id, **output.claim(claim)} for note_id, claim in entries]})


def status(access: Access) -> dict[str, Any]:
    """How much is known. Looks at no file of a source: `passkb status` does."""
    kb = access.kb
    with kb.store.reading():
        kinds, types, chunks = kb.store.counts()
        failed = sum(bool(file.failure) for file in kb.store.files())
    return {
        "version": version(), "notes": kinds, "links": types, "chunks": chunks, "sources": len(Registry(kb.home).all()),
        "failed": failed, "embedder": kb.embedder.name, "model": _model_name(access),
    }  # fmt: skip


def propose(access: Access, claim: str = "", spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an experiment would be and cost, and the link by which a person can start it. Starts and writes nothing.

    `claim` is NOTE#ID of a claim with a test; or `spec` is a spec. Raises PasskbError or SpecError for what can't be run."""
    from service.experiments.claims import claim_named, spec_of
    from service.experiments.spec import from_mapping

    if bool(claim) == (spec is not None):
        raise PasskbError("give a `claim` (NOTE#ID) or a `spec`, one of the two")
    spec_ = _checked_depth(spec) if spec is not None else None
    if claim:
        name, mark, label = claim.rpartition("#")
        if not mark:
            raise PasskbError(f"{claim!r} names no claim: write NOTE#ID, as `claims` lists them")
        claim = f"{find_note(access, name)}#{label}"
        experiment = from_mapping(spec_of(access.kb, claim), f"the test of {claim}")
        link = f"/?claim={quote(claim, safe='')}"
    else:
        experiment = from_mapping(spec_, "the spec")
        if experiment.claim:
            claim_named(access.kb, experiment.claim)
        link = f"/?spec={quote(json.dumps(spec_, ensure_ascii=False, separators=(',', ':')), safe='')}"
    if len(link) > _MAX_LINK:
        raise PasskbError(
            "the spec is too long for a link: keep it as a file, and have a person run `passkb experiment plan FILE`"
        )
    plan, cost = _make_plan(access, experiment, from_note=bool(claim))
    link = access.address.rstrip("/") + link
    return to_json(
        {
            "started": False, "link": link, "claim": experiment.claim, "spec": experiment.to_json(), "cost": cost, "plan": plan,
            "approval": f"Nothing has been started. Give this link to the person: {link} opens passkb with this experiment in "
            "its form; only their click on Start runs it. If it does not open, `passkb serve` is not running.",
        }
    )  # fmt: skip


def _checked_depth(spec: Mapping[str, Any]) -> Any:
    try:
        return json_safe(spec)
    except RecursionError:
        raise PasskbError("the spec is nested too deeply: a spec is a mapping of a few levels") from None


def _make_plan(access: Access, spec: ExperimentSpec, *, from_note: bool) -> tuple[dict[str, Any] | None, str]:
    """The plan, and the cost in words. A file that a note doesn't name is not opened for a program: its problems could be
    anybody's."""
    from service.experiments.planning import plan

    if spec.problems.file and not from_note:
        return None, "not worked out: passkb opens a file that a program names only when a person has opened the link"
    if spec.problems.limit > _MAX_PROBLEMS or spec.sampling.n > _MAX_ATTEMPTS or len(spec.ks) > _MAX_KS:
        most = f"more than {_MAX_PROBLEMS:,} problems, {_MAX_ATTEMPTS:,} attempts or {_MAX_KS} values of k"
        return None, f"not worked out: {most}; the app says it when the link is opened"
    result = plan(spec, access.kb.home)
    number = result["cost"]["attempts"]
    return result, f"{number:,} attempt{'s' * (number != 1)}, {result['cost']['text']}"


def find_note(access: Access, name: str) -> str:
    """The id of the note that `name` means. Raises UnknownNote, or SeveralNotes, that names those it could be."""
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
    """A value with nothing in it that JSON in UTF-8 can't hold: no NaN, no half characters."""
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
    except PasskbError as error:  # a server that does not say what it serves
        return f"({error})"
