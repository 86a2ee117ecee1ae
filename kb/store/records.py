"""What the store keeps beside notes, and how a text is named there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kb.notes import Chunk, Note


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one file of a source. `failure` is empty when it was read; `note_id` is empty when it was not."""

    path: str
    source: str
    size: int
    mtime_ns: int
    sha256: str
    note_id: str
    failure: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A written link that names no note (`candidates` empty) or several."""

    source: str
    target: str
    candidates: tuple[str, ...] = ()


def passage(note: Note, chunk: Chunk) -> str:
    """What is embedded for a chunk: its text under the note's title and nearest heading, so that its subject is known."""
    nearest = chunk.heading.rsplit(" > ", 1)[-1]
    above = f"{note.title} > {nearest}" if nearest not in ("", note.title) else note.title
    return f"{above}\n{note.text[chunk.start : chunk.end]}"


def text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
