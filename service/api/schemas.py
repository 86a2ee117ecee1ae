"""What goes in and out of each operation, as pydantic models: one description for REST's OpenAPI, MCP's schemas and the checks.

What goes in is held to these; what comes out is described by them, and tests hold it to them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_QUESTION = 2_000  # characters, as everywhere else
_MAX_NAME = 500

Status = Literal["untested", "supported", "refuted", "underpowered"]
Kind = Literal["note", "paper", "review", "inquiry", "evidence", "stub"]
Mode = Literal["quoted", "generated"]


class Input(BaseModel):
    """Input: a key that nobody knows is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Output: a key of a later version is passed on."""

    model_config = ConfigDict(extra="allow")


# -- in ----------------------------------------------------------------------------------------------------------------

Name = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_NAME, description="A note's id, or a title or alias that one note alone bears."),
]


class SearchInput(Input):
    query: str = Field(min_length=1, max_length=MAX_QUESTION, description="What to look for, in words.")
    k: int = Field(10, ge=1, le=50, description="How many passages at most.")


class SearchQuery(Input):
    q: str = Field(min_length=1, max_length=MAX_QUESTION, description="What to look for, in words.", examples=["pass@k"])
    k: int = Field(10, ge=1, le=50, description="How many passages at most.")


class TextRange(Input):
    start: int = Field(0, ge=0, description="The first character of the text to give.")
    length: int = Field(20_000, ge=1, le=1_000_000, description="How many characters of the text to give at most.")


class NoteInput(TextRange):
    id: Name


class NeighbourRange(Input):
    depth: int = Field(1, ge=1, le=3, description="How many links away, in either direction.")
    limit: int = Field(40, ge=1, le=200, description="How many notes at most; the nearest and the best linked come first.")


class NeighboursInput(NeighbourRange):
    id: Name


class ClaimFilter(Input):
    status: Status | None = Field(None, description="Only claims of this status.")


class Question(Input):
    question: str = Field(min_length=1, max_length=MAX_QUESTION, description="A question, in a sentence or two.")
    mode: Mode = Field(
        "quoted",
        description="`quoted`: in the notes' own sentences. `generated`: written by the language model that is configured, if "
        "one is, each sentence checked against what it cites.",
    )


class ProposalInput(Input):
    """One of the two."""

    claim: str = Field("", max_length=2 * _MAX_NAME, description="NOTE#ID of a claim that has a test; `claims` lists them.")
    spec: dict[str, Any] | None = Field(
        None, description="An experiment's spec: problems, models, sampling, prediction; as `passkb experiment plan` reads it."
    )


# -- out ---------------------------------------------------------------------------------------------------------------


class Hit(Output):
    note_id: str
    title: str
    chunk_id: str
    start: int = Field(description="Where the passage begins in the note's text, in characters.")
    end: int
    text: str = Field(description="The passage, exactly as it stands in the note.")
    score: float = Field(description="Higher is better; comparable within one search only.")
    via: Literal["text", "links"]


class Hits(Output):
    query: str
    hits: list[Hit] = Field(description="Best first.")


class Claim(Output):
    id: str
    text: str
    premise: str
    settles: str = Field(description="What would settle it, in its author's words.")
    test: dict[str, Any] | None
    status: Status
    status_reason: str = Field("", description="How all runs on the claim together decide its status.")
    evidence: list[str] = Field(description="Ids of evidence notes, newest last.")


class ClaimOfNote(Claim):
    note_id: str


class Claims(Output):
    claims: list[ClaimOfNote]


class LinkOut(Output):
    target: str
    type: str
    why: str = Field(description="The author's own reason.")
    origin: Literal["authored", "inferred"]


class LinkIn(Output):
    source: str
    type: str
    why: str
    origin: Literal["authored", "inferred"]


class Similar(Output):
    id: str
    score: float = Field(description="Cosine.")


class Note(Output):
    id: str
    title: str
    kind: Kind
    path: str
    gist: str
    aliases: list[str]
    tags: list[str]
    text: str = Field(description="The part asked for of the note's text: its characters from `text_start` on.")
    text_start: int
    text_length: int = Field(description="Characters of the whole text; citations' offsets refer to it.")
    links: list[LinkOut]
    backlinks: list[LinkIn]
    similar: list[Similar]
    inquiries: list[str]
    claims: list[Claim]
    objections: Any = Field(None, description="Of a review: what referees object, with the answers; absent elsewhere.")
    left_out: dict[str, int] = Field(description="How many entries of a list are not shown, by its key; empty: all are.")


class Neighbour(Output):
    id: str
    title: str
    kind: Kind
    distance: int = Field(description="In links; 0 is the note itself.")


class Link(Output):
    source: str
    target: str
    type: str
    why: str
    origin: Literal["authored", "inferred"]


class SimilarNote(Output):
    id: str
    title: str
    score: float


class Neighbours(Output):
    id: str
    title: str
    notes: list[Neighbour] = Field(description="Nearest first, the note itself included.")
    links: list[Link] = Field(description="All typed links among these notes.")
    similar: list[SimilarNote] = Field(description="Notes alike by their text, linked or not.")


class Citation(Output):
    number: int
    note_id: str
    title: str
    start: int = Field(description="quote == text[start:end] of the note.")
    end: int
    quote: str


class Statement(Output):
    text: str
    support: Literal["quoted", "supported", "partial", "unsupported"]
    part: str
    reason: str = Field(description="Why a written sentence is not supported.")
    paragraph: int
    citations: list[Citation]


class Disagreement(Output):
    source: str
    target: str
    type: str
    why: str
    source_title: str
    target_title: str
    source_says: Citation | None
    target_says: Citation | None


class EvidenceItem(Output):
    note_id: str
    title: str
    run_id: str
    claim: str
    claim_text: str
    status: str
    date: str


class Experiment(Output):
    claim: str
    claim_text: str
    question: str
    settles: str
    spec: dict[str, Any]


class SourceNote(Output):
    note_id: str
    title: str
    kind: Kind
    gist: str


class Answer(Output):
    question: str
    answered: bool = Field(description="False: the notes hold no answer; `reason` says why, `nearest` lists the closest notes.")
    mode: Mode
    model: str | None
    statements: list[Statement]
    disagreements: list[Disagreement]
    evidence: list[EvidenceItem]
    experiments: list[Experiment] = Field(description="What would settle the open claims that the answer touches.")
    sources: list[SourceNote]
    nearest: list[SourceNote]
    follow_ups: list[str]
    inquiries: list[SourceNote]
    missing: list[str] = Field(description="Words of the question that no note knows.")
    reason: str
    understood: str
    dropped: list[Statement] = Field(description="Written sentences that were left out: their sources say otherwise.")
    incomplete: bool
    fault: str = Field(description="What went wrong with the model; the answer may be in quotes for that reason.")
    reasoning: str
    remarks: list[str] = Field(description="What is to be said of how the answer was made.")
    seconds: float


class Proposal(Output):
    started: Literal[False] = Field(description="Nothing was started or queued: only a person's click does that.")
    link: str = Field(description="Opens the app with the spec in its form, for a person to read and to start.")
    approval: str = Field(description="What a person does next.")
    claim: str
    spec: dict[str, Any]
    cost: str = Field(description="What a run costs, in words.")
    plan: dict[str, Any] | None = Field(
        description="Expected interval widths, power and cost, as `passkb experiment plan` says them; null: not worked out."
    )


class Overview(Output):
    version: str
    notes: dict[str, int] = Field(description="How many notes, by kind.")
    links: dict[str, int] = Field(description="How many links, by type.")
    chunks: int
    sources: int
    failed: int = Field(description="Files that could not be read: `passkb status` names them.")
    embedder: str
    model: str | None = Field(description="The configured language model; null: answers are quotes.")


class Error(Output):
    error: str = Field(description="A sentence: what is wrong, and whose move it is.")
    nearest: list[NoteName] = Field(default_factory=list, description="For a note that is not there: notes of a like name.")


class NoteName(Output):
    id: str
    title: str


Error.model_rebuild()
