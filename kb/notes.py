"""The words of the house as data: notes, links, claims, chunks, hits.

Standard library only. Knows nothing about files, databases, models or the web; every other module speaks in these.
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
        """The claim as a question; a word that begins in capitals keeps them."""
        first, rest = self.text[:1], self.text[1:].rstrip(".")
        return f"Does it hold that {first if rest[:1].isupper() else first.lower()}{rest}?"


@dataclass(frozen=True, slots=True)
class Note:
    """One Markdown document. `text` is its body as indexed: front matter removed, line ends `\\n`, else untouched."""

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
    """A link as its author wrote it, before it is known which note it means.

    `target` is the name or the path as written (percent-decoded for Markdown paths), `anchor` a heading, a `^block` or the
    id of a claim, `start` and `end` its place in the note's text, -1 when it stands in the front matter.
    `form` is `wiki` (resolved by name, as in Obsidian), `path` (resolved relative to the note's folder), `inward`: the note
    named is said to link to this one, or `of NAME`: the note called NAME is said to link to the one named.
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

    `writer` is the note whose text says so, when that is not the source; `start` and `end` are places in the source's text.
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
    """A heading-bounded stretch of a note's text. `heading` is the path of headings above it, joined by ` > `."""

    id: str
    note_id: str
    start: int
    end: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found by a search. `via` is `text`, or `links` when typed links led to it."""

    note_id: str
    title: str
    chunk_id: str
    start: int
    end: int
    text: str
    score: float
    via: str = "text"


class PasskbError(Exception):
    """Something a person can act on: the message names the thing and says what to do. Shown without a traceback."""


def page_number(note: Note, offset: int) -> int | None:
    """The page, from 1, of the PDF that a note was made of on which `offset` of its text stands; None for other notes."""
    pages = note.properties.get("pages")
    if not isinstance(pages, list) or not all(isinstance(page, int) for page in pages) or not pages:
        return None
    return max(1, bisect_right(pages, offset))


_NOT_WORD = re.compile(r"[^\w]+")


def slug(name: str) -> str:
    """A name as it appears in ids: NFC, case-folded, runs of anything but letters, digits and `_` become one `-`."""
    return _NOT_WORD.sub("-", unicodedata.normalize("NFC", name).casefold()).strip("-") or "untitled"
