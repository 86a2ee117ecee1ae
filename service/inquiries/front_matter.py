"""The record of an answer in the front matter of its inquiry note, from which staleness and changes are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kb.notes import Note, NoteKind
from kb.store.queries import text_hash
from service.answering.answer import Citation, Statement, Support

RECORD_KEY = "inquiry"  # front matter key of the record; nested values are never read as links


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A source at the time of the answer. `text` is the hash of its text."""

    note_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ClaimSnapshot:
    """A claim at the time of the answer. `claim` is `NOTE#ID`, `evidence` the ids of its evidence notes."""

    claim: str
    text: str
    status: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
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
        keys = ("kind", "note_id", "title", "text", "was", "now")
        return {key: str(getattr(self, key)) for key in keys}


@dataclass(frozen=True, slots=True)
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
        out: dict[str, Any] = {"question": self.question, "asked": self.asked, "mode": self.mode}
        out |= {"model": self.model} if self.model else {}
        out["statements"] = [
            {"support": str(entry.support), "part": entry.part, "paragraph": entry.paragraph}
            | {"cites": [citation.number for citation in entry.citations]}
            | ({"text": entry.text} if entry.support is not Support.QUOTED else {})
            | ({"reason": entry.reason} if entry.reason else {})
            for entry in self.statements
        ]
        out["citations"] = [
            {"number": c.number, "note": c.note_id, "title": c.title, "start": c.start, "end": c.end, "quote": c.quote}
            for c in self.citations
        ]
        out["sources"] = [{"note": s.note_id, "title": s.title, "text": s.text} for s in self.sources]
        if self.claims:
            out["touched"] = [
                {"claim": t.claim, "text": t.text, "status": t.status, "evidence": list(t.evidence)} for t in self.claims
            ]
        out |= {"because": [reason.to_json() for reason in self.because]} if self.because else {}
        return out | ({"earlier": self.earlier} if self.earlier else {})


def record_of_note(note: Note) -> InquiryRecord | None:
    """The record of an inquiry note; None if it has none or is not valid."""
    if note.kind is not NoteKind.INQUIRY:
        return None
    return read_record(note.properties)


def read_record(properties: Mapping[str, Any]) -> InquiryRecord | None:
    """The record in a note's `properties`; None if there is none or it is not valid."""
    try:
        properties = properties[RECORD_KEY]
        citations = tuple(_citation(entry) for entry in properties["citations"])
        by_number = {citation.number: citation for citation in citations}
        return InquiryRecord(
            str(properties["question"]),
            str(properties["asked"]),
            str(properties["mode"]),
            str(properties.get("model") or ""),
            tuple(_statement(entry, by_number) for entry in properties["statements"]),
            citations,
            tuple(SourceSnapshot(str(e["note"]), str(e["title"]), str(e["text"])) for e in properties["sources"]),
            tuple(
                ClaimSnapshot(str(e["claim"]), str(e["text"]), str(e["status"]), tuple(map(str, e["evidence"])))
                for e in properties.get("touched") or ()
            ),
            tuple(
                StaleReason(**{key: str(value) for key, value in entry.items()}) for entry in properties.get("because") or ()
            ),
            str(properties.get("earlier") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def text_digest(text: str) -> str:
    """The hash of a text, as in a record."""
    return text_hash(text).hex()


def _citation(entry: Mapping[str, Any]) -> Citation:
    number, start, end = (int(entry[key]) for key in ("number", "start", "end"))
    return Citation(number, str(entry["note"]), str(entry["title"]), start, end, str(entry["quote"]))


def _statement(entry: Mapping[str, Any], by_number: Mapping[int, Citation]) -> Statement:
    cited = tuple(by_number[int(number)] for number in entry["cites"])
    support = Support(entry["support"])
    text = str(entry["text"]) if support is not Support.QUOTED else " ".join(citation.quote for citation in cited)
    return Statement(text, support, cited, str(entry["part"]), str(entry.get("reason") or ""), int(entry["paragraph"]))
