"""The record of an answer in the front matter of its inquiry note, from which staleness and changes are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from kb.notes import Note, NoteKind
from kb.store.queries import text_hash
from service.answering.answer import Citation, Statement, Support

RECORD_KEY = "inquiry"  # front matter key of the record; nested values are never read as links
_CONFIG = ConfigDict(coerce_numbers_to_str=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class SourceSnapshot:
    """A source at the time of the answer. `text` is the hash of its text."""

    note_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ClaimSnapshot:
    """A claim at the time of the answer. `claim` is `NOTE#ID`, `evidence` the ids of its evidence notes."""

    claim: str
    text: str
    status: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class StaleReason:
    """Why an inquiry is stale. `kind`: `changed`, `deleted`, `moved`, `evidence` or `status`. `was` and `now`: the old and new
    sentence or status of the claim (empty if there is none)."""

    kind: str
    note_id: str
    title: str
    text: str
    was: str = ""
    now: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class InquiryRecord:
    """`asked`: ISO 8601 time. `because`: why the previous version was stale. `earlier`: file of the previous version, in the
    folder of inquiries."""

    question: str
    asked: str
    mode: str
    model: str
    statements: tuple[Statement, ...]
    citations: tuple[Citation, ...]
    sources: tuple[SourceSnapshot, ...]
    claims: tuple[ClaimSnapshot, ...]
    because: tuple[StaleReason, ...] = ()
    earlier: str = ""

    def says(self) -> tuple[Any, ...]:
        """The answer itself, without time, reasons and question: for comparing two records."""
        cited = [(c.number, c.note_id, c.quote) for c in self.citations]
        return self.mode, self.statements, cited, self.sources, self.claims

    def to_front_matter(self) -> dict[str, Any]:
        out: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        for entry in out["statements"]:
            entry["cites"] = [citation["number"] for citation in entry.pop("citations")]
            if entry["support"] == Support.QUOTED:
                del entry["text"]
            if not entry["reason"]:
                del entry["reason"]
        for entry in (*out["citations"], *out["sources"]):
            entry["note"] = entry.pop("note_id")
        out["touched"] = out.pop("claims")
        return {key: value for key, value in out.items() if value or key in _REQUIRED}


_ADAPTER = TypeAdapter(InquiryRecord)
_REQUIRED = frozenset(("question", "asked", "mode", "statements", "citations", "sources"))


def record_of_note(note: Note) -> InquiryRecord | None:
    """The record of an inquiry note; None if it has none or is not valid."""
    if note.kind is not NoteKind.INQUIRY:
        return None
    return read_record(note.properties)


def read_record(properties: Mapping[str, Any]) -> InquiryRecord | None:
    """The record in a note's `properties`; None if there is none or it is not valid."""
    try:
        data = properties[RECORD_KEY]
        citations, sources = ([{**entry, "note_id": entry["note"]} for entry in data[key]] for key in ("citations", "sources"))
        by_number = {int(entry["number"]): entry for entry in citations}
        statements = []
        for entry in data["statements"]:
            cited = [by_number[int(number)] for number in entry["cites"]]
            text = " ".join(citation["quote"] for citation in cited) if entry["support"] == Support.QUOTED else entry["text"]
            statements.append({**entry, "text": text, "citations": cited})
        changed = {"statements": statements, "citations": citations, "sources": sources, "claims": data.get("touched") or ()}
        return _ADAPTER.validate_python({**data, "asked": str(data["asked"]), "model": data.get("model") or "", **changed})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def text_digest(text: str) -> str:
    """The hash of a text, as in a record."""
    return text_hash(text).hex()
