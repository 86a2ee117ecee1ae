"""What an inquiry's note remembers of the answer it was made of, in its front matter, and how that is read back.

Whether an inquiry is stale, and what changed in its answer, is worked out from this alone. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kb.notes import Note, NoteKind
from kb.store.queries import text_hash
from service.answering.answer import Citation, Statement, Support

RECORD_KEY = "inquiry"  # the key of the front matter that holds all of it: what is nested there is never taken for a link


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A source as it was: `text` is the hash of its text."""

    note_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ClaimSnapshot:
    """A claim that the answer touched, as it stood: `claim` is `NOTE#ID`, `evidence` the ids of its evidence notes."""

    claim: str
    text: str
    status: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StaleReason:
    """Why an inquiry is stale. `kind`: `changed`, `deleted`, `moved`, `evidence` or `status`; `was` and `now` the sentence, or
    the claim's status, as it was and is (empty: there is none)."""

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
    """`asked` is when, in ISO 8601. `because`: why it was stale before it was asked again, if it was; `earlier`: the file that
    holds the version before, below the folder of inquiries."""

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
        """All but when, why and in which letters it was asked: two records that say the same are of the same answer."""
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
    """What the note of an inquiry remembers; None for one that a person wrote, or whose front matter no longer tells."""
    if note.kind is not NoteKind.INQUIRY:
        return None
    return read_record(note.properties)


def read_record(properties: Mapping[str, Any]) -> InquiryRecord | None:
    """`properties`: a note's."""
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
    """What tells one text from another in a record."""
    return text_hash(text).hex()


def _citation(entry: Mapping[str, Any]) -> Citation:
    number, start, end = (int(entry[key]) for key in ("number", "start", "end"))
    return Citation(number, str(entry["note"]), str(entry["title"]), start, end, str(entry["quote"]))


def _statement(entry: Mapping[str, Any], by_number: Mapping[int, Citation]) -> Statement:
    cited = tuple(by_number[int(number)] for number in entry["cites"])
    support = Support(entry["support"])
    text = str(entry["text"]) if support is not Support.QUOTED else " ".join(citation.quote for citation in cited)
    return Statement(text, support, cited, str(entry["part"]), str(entry.get("reason") or ""), int(entry["paragraph"]))
