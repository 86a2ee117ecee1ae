"""The input and output of each operation as pydantic models, shared by OpenAPI and MCP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kb.notes import ClaimStatus, NoteKind
from service.answering.answer import Answer as Answer

MAX_QUESTION = 2_000  # characters, as everywhere else
_MAX_NAME = 500

Mode = Literal["quoted", "generated"]


class Input(BaseModel):
    """Input. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Output. Later versions may add keys."""

    model_config = ConfigDict(extra="allow")


# -- in ----------------------------------------------------------------------------------------------------------------

Name = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_NAME, description="A note's id, or a title or alias that only one note has."),
]


class SearchInput(Input):
    query: str = Field(min_length=1, max_length=MAX_QUESTION, description="Search text.")
    k: int = Field(10, ge=1, le=50, description="How many passages at most.")


class SearchQuery(Input):
    q: str = Field(min_length=1, max_length=MAX_QUESTION, description="Search text.", examples=["pass@k"])
    k: int = Field(10, ge=1, le=50, description="How many passages at most.")


class TextRange(Input):
    start: int = Field(0, ge=0, description="Offset of the first character to return.")
    length: int = Field(20_000, ge=1, le=1_000_000, description="Maximum number of characters to return.")


class NoteInput(TextRange):
    id: Name


class NeighbourRange(Input):
    depth: int = Field(1, ge=1, le=3, description="Maximum distance in links, in either direction.")
    limit: int = Field(40, ge=1, le=200, description="Maximum number of notes. The nearest and best linked come first.")


class NeighboursInput(NeighbourRange):
    id: Name


class ClaimFilter(Input):
    status: ClaimStatus | None = Field(None, description="Return only claims with this status.")


class Question(Input):
    question: str = Field(min_length=1, max_length=MAX_QUESTION, description="The question, in one or two sentences.")
    mode: Mode = Field(
        "quoted",
        description="`quoted`: the answer quotes the notes. `generated`: the configured language model writes, and each "
        "sentence is checked against the passages it cites.",
    )


class ProposalInput(Input):
    """Exactly one of the two."""

    claim: str = Field("", max_length=2 * _MAX_NAME, description="NOTE#ID of a claim with a test. `claims` lists them.")
    spec: dict[str, Any] | None = Field(
        None, description="Experiment spec (problems, models, sampling, prediction), in the format of `passkb experiment plan`."
    )


# -- out ---------------------------------------------------------------------------------------------------------------


class Hit(Output):
    note_id: str
    title: str
    chunk_id: str
    start: int = Field(description="Offset of the passage in the note's text, in characters.")
    end: int
    text: str = Field(description="The passage, exactly as in the note.")
    score: float = Field(description="Higher is better. Comparable within one search only.")
    via: Literal["text", "links"]


class Hits(Output):
    query: str
    hits: list[Hit] = Field(description="Best first.")


class Claim(Output):
    id: str
    text: str
    premise: str
    settles: str = Field(description="What would settle the claim, in the author's words.")
    test: dict[str, Any] | None
    status: ClaimStatus
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
    kind: NoteKind
    path: str
    gist: str
    aliases: list[str]
    tags: list[str]
    text: str = Field(description="The requested part of the note's text, from `text_start`.")
    text_start: int
    text_length: int = Field(description="Length of the whole text in characters. Citation offsets refer to the whole text.")
    links: list[LinkOut]
    backlinks: list[LinkIn]
    similar: list[Similar]
    inquiries: list[str]
    claims: list[Claim]
    objections: Any = Field(None, description="Reviews only: the referees' objections, with responses.")
    left_out: dict[str, int] = Field(description="Number of omitted entries for each truncated list, by key.")


class Neighbour(Output):
    id: str
    title: str
    kind: NoteKind
    distance: int = Field(description="Distance in links. 0 is the note itself.")


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
    notes: list[Neighbour] = Field(description="Nearest first, including the note itself.")
    links: list[Link] = Field(description="All typed links among these notes.")
    similar: list[SimilarNote] = Field(description="Notes with similar text, linked or not.")


class Proposal(Output):
    started: Literal[False] = Field(description="Always false. Only a person can start a run, in the app.")
    link: str = Field(description="Opens the app with the spec in the form, ready to review and start.")
    approval: str = Field(description="What the person has to do next.")
    claim: str
    spec: dict[str, Any]
    cost: str = Field(description="Cost of a run, in words.")
    plan: dict[str, Any] | None = Field(
        description="Expected interval widths, power and cost, as in `passkb experiment plan`. Null if not computed."
    )


class Overview(Output):
    version: str
    notes: dict[str, int] = Field(description="Number of notes by kind.")
    links: dict[str, int] = Field(description="Number of links by type.")
    chunks: int
    sources: int
    failed: int = Field(description="Number of files that could not be read. `passkb status` lists them.")
    embedder: str
    model: str | None = Field(description="The configured language model. Null if there is none: answers are quotes.")


class Error(Output):
    error: str = Field(description="What is wrong and what to do about it.")
    nearest: list[NoteName] = Field(default_factory=list, description="If the note does not exist: notes with similar names.")


class NoteName(Output):
    id: str
    title: str


Error.model_rebuild()
