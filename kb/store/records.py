"""Records that the store keeps beside notes: files, unresolved links, hashes of embedded texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kb.notes import Chunk, Note


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The indexing result of one file. `failure` is empty when the file was read, otherwise `note_id` is empty."""

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
    """A link that matches no note (`candidates` empty) or several."""

    source: str
    target: str
    candidates: tuple[str, ...] = ()


def passage(note: Note, chunk: Chunk) -> str:
    """The text that is embedded for a chunk: the note's title and nearest heading, which give context, then the chunk."""
    nearest = chunk.heading.rsplit(" > ", 1)[-1]
    above = f"{note.title} > {nearest}" if nearest not in ("", note.title) else note.title
    return f"{above}\n{note.text[chunk.start : chunk.end]}"


def text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
