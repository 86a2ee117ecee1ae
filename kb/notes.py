"""The domain types: notes, links, claims, chunks, hits. Standard library only.

Offsets are character offsets (`str` indices) into `Note.text`, half-open: `text[start:end]`.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class NoteKind(StrEnum):
    NOTE = "note"
    PAPER = "paper"
    REVIEW = "review"
    INQUIRY = "inquiry"
    EVIDENCE = "evidence"
    STUB = "stub"


class LinkType(StrEnum):
    SUPPORTS = "supports"
    CONTRADICTS = "contradicts"
    QUALIFIES = "qualifies"
    EXTENDS = "extends"
    EXPLAINS = "explains"
    EVIDENCE_FOR = "evidence_for"
    DRAWS_ON = "draws_on"
    CITES = "cites"
    MENTIONS = "mentions"
    RELATED = "related"


class Origin(StrEnum):
    AUTHORED = "authored"
    INFERRED = "inferred"


class ClaimStatus(StrEnum):
    UNTESTED = "untested"
    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDERPOWERED = "underpowered"


DISSENT = frozenset({LinkType.CONTRADICTS, LinkType.QUALIFIES})


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a note that can be true or false. `evidence` holds the ids of notes, newest last; `status_reason` says how
    they decide the status, empty without evidence."""

    id: str
    text: str
    premise: str = ""
    settles: str = ""
    test: Mapping[str, Any] | None = None
    status: ClaimStatus = ClaimStatus.UNTESTED
    evidence: tuple[str, ...] = ()
    status_reason: str = ""

    @property
    def question(self) -> str:
        """The claim as a question; a first word in capitals, such as an acronym, keeps them."""
        first, rest = self.text[:1], self.text[1:].rstrip(".")
        return f"Does it hold that {first if rest[:1].isupper() else first.lower()}{rest}?"


@dataclass(frozen=True, slots=True)
class Note:
    """One Markdown document. `text` is its body as indexed: without front matter, line ends `\\n`, otherwise unchanged."""

    id: str
    title: str
    kind: NoteKind = NoteKind.NOTE
    text: str = ""
    path: str = ""
    source: str = ""
    gist: str = ""
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WrittenLink:
    """A link as its author wrote it, before it is resolved to a note.

    `target` is the name or path as written (percent-decoded for Markdown paths), `anchor` a heading, a `^block` or the id of a
    claim, `start` and `end` its span in the note's text, -1 for a link in the front matter.
    `form` is `wiki` (resolved by name, as in Obsidian), `path` (resolved relative to the note's folder), `inward` (this note
    states that the named note links to it), or `of NAME` (this note states that the note NAME links to the named one).
    """

    target: str
    type: LinkType = LinkType.MENTIONS
    why: str = ""
    anchor: str = ""
    start: int = -1
    end: int = -1
    form: str = "wiki"


@dataclass(frozen=True, slots=True)
class Link:
    """A typed, directed edge between two notes, with its author's reason.

    `writer` is the note that states the link, empty when that is the source; `start` and `end` are its span in the source's
    text.
    """

    source: str
    target: str
    type: LinkType
    why: str = ""
    origin: Origin = Origin.AUTHORED
    anchor: str = ""
    start: int = -1
    end: int = -1
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A heading-bounded span of a note's text. `heading` is the path of headings above it, joined by ` > `."""

    id: str
    note_id: str
    start: int
    end: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that matches a search. `via` is `text`, or `links` when only typed links lead to it."""

    note_id: str
    title: str
    chunk_id: str
    start: int
    end: int
    text: str
    score: float
    via: str = "text"


class PasskbError(Exception):
    """An error that the user can act on: the message names the cause and the remedy. Shown without a traceback."""


def page_number(note: Note, offset: int) -> int | None:
    """The page (from 1) of the imported PDF that contains `offset` of the note's text; None for other notes."""
    pages = note.properties.get("pages")
    if not isinstance(pages, list) or not all(isinstance(page, int) for page in pages) or not pages:
        return None
    return max(1, bisect_right(pages, offset))


_NOT_WORD = re.compile(r"[^\w]+")


def slug(name: str) -> str:
    """A name as used in ids: NFC, case-folded; runs of anything but letters, digits and `_` become one `-`."""
    return _NOT_WORD.sub("-", unicodedata.normalize("NFC", name).casefold()).strip("-") or "untitled"
