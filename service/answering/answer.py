"""The models of an answer, shared by JSON (CONTRACT: `ask`), REST, MCP, inquiry notes and the browser storage."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainSerializer, TypeAdapter
from pydantic.dataclasses import dataclass

from kb.notes import NoteKind

_CONFIG = ConfigDict(coerce_numbers_to_str=True, json_schema_serialization_defaults_required=True)

Seconds = Annotated[float, PlainSerializer(lambda value: round(value, 3), return_type=float, when_used="json")]


class Support(StrEnum):
    QUOTED = "quoted"
    SUPPORTED = "supported"
    PARTIAL = "partial"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Citation:
    """A span of a note: `quote == text[start:end]`."""

    number: Annotated[int, Field(description="The number of the citation in the answer, from 1.")]
    note_id: str
    title: str
    start: Annotated[int, Field(description="quote == text[start:end] of the note.")]
    end: int
    quote: str


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Statement:
    """A sentence or two of the answer. In quoted mode, `text` consists of its quotes, joined by a space."""

    text: str
    support: Support
    citations: tuple[Citation, ...]
    part: Annotated[str, Field(description="`lede` or `body`.")] = "body"
    reason: Annotated[str, Field(description="Why a generated sentence is not supported.")] = ""
    paragraph: Annotated[int, Field(description="The paragraph of a generated sentence, from 0.")] = 0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Disagreement:
    """A link by which two notes disagree, with a verbatim sentence of each (null if a note has no prose)."""

    source: str
    target: str
    type: str
    why: str
    source_title: str
    target_title: str
    source_says: Citation | None
    target_says: Citation | None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class EvidenceItem:
    """An evidence note on a claim of the sources. `run_id` is empty for imported evidence."""

    note_id: str
    title: str
    run_id: str
    claim: str
    claim_text: str
    status: str
    date: str


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Experiment:
    """The test of an open claim. `claim` is NOTE#ID; `settles` is in the author's words."""

    claim: str
    claim_text: str
    question: str
    settles: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class SourceNote:
    note_id: str
    title: str
    kind: NoteKind
    gist: str


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Answer:
    """The answer to a question, or a refusal (`answered` false) with the reason and the nearest notes."""

    question: str
    answered: Annotated[bool, Field(description="False: the notes do not contain the answer. See `reason` and `nearest`.")]
    statements: tuple[Statement, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    evidence: tuple[EvidenceItem, ...] = ()
    experiments: Annotated[tuple[Experiment, ...], Field(description="Tests of the open claims of the sources.")] = ()
    sources: tuple[SourceNote, ...] = ()
    nearest: tuple[SourceNote, ...] = ()
    follow_ups: Annotated[tuple[str, ...], Field(description="Related questions that the notes can answer.")] = ()
    inquiries: Annotated[tuple[SourceNote, ...], Field(description="Saved inquiries with similar questions.")] = ()
    missing: Annotated[tuple[str, ...], Field(description="Words of the question that no note contains.")] = ()
    reason: Annotated[str, Field(description="Why there is no answer.")] = ""
    mode: Literal["quoted", "generated"] = "quoted"
    model: str | None = None
    seconds: Seconds = 0.0
    understood: Annotated[str, Field(description="A follow-up as the standalone question that was searched for.")] = ""
    dropped: Annotated[
        tuple[Statement, ...], Field(description="Generated sentences that were removed because their sources contradict them.")
    ] = ()
    incomplete: Annotated[bool, Field(description="Whether the model stopped early.")] = False
    fault: Annotated[str, Field(description="What went wrong with the model. The answer may be in quotes for this reason.")] = (
        ""
    )
    reasoning: Annotated[str, Field(description="The reasoning of the model, unchecked.")] = ""
    remarks: Annotated[tuple[str, ...], Field(description="Remarks on how the answer was checked and ranked.")] = ()

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return result

    @staticmethod
    def from_json(value: object) -> Answer:
        """The reverse of `to_json`. Raises ValueError for anything else."""
        return _ADAPTER.validate_python(value)


_ADAPTER = TypeAdapter(Answer)
