"""A note's text into chunks to embed and search. Pure.

Knows nothing about models: sizes are in characters. Chunks tile the text: in order, never overlapping, each beginning
and ending at a character that is not white space, and together holding every such character of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from kb.markdown.blocks import Block, blocks
from kb.notes import Chunk, Note

GOAL = 1100  # characters a chunk grows to
MOST = 1600  # characters no chunk exceeds
SMALL = 250  # characters under which a section joins its neighbour

_SENTENCE_END = re.compile(r"(?:[.!?…][\"'”’)\]*_]*(?=\s)|[。！？])")
_LINES = frozenset(("code", "table", "math", "comment"))


@dataclass(slots=True)
class _Piece:
    start: int
    end: int
    path: tuple[str, ...]
    bare: bool = False  # nothing but headings

    def __len__(self) -> int:
        return self.end - self.start


def chunk(note: Note) -> tuple[Chunk, ...]:
    """The chunks of a note, at most `MOST` characters each, with ids `NOTE@ORDINAL` from 0. Empty for an empty text."""
    pieces: list[_Piece] = []
    for section in _sections(note.text):
        packed = _pack(section)
        if pieces and packed and _joins(pieces[-1], packed[0]):
            packed[0] = _joined(pieces.pop(), packed[0])
        pieces += packed
    return tuple(
        Chunk(f"{note.id}@{ordinal}", note.id, piece.start, piece.end, " > ".join(piece.path))
        for ordinal, piece in enumerate(pieces)
    )


def _sections(text: str) -> Iterator[list[_Piece]]:
    """The pieces of each section: one a block, or several where a block is longer than a chunk may be."""
    found = blocks(text) or (Block("rule", 0, len(text), 0, ()),)  # nothing but `>` is no block, yet is text
    section: list[_Piece] = []
    for i, block in enumerate(found):
        if block.level and section:
            yield section
            section = []
        start = block.start if i else 0
        section += _tile(text, start, found[i + 1].start if i + 1 < len(found) else len(text), block)
    if section:
        yield section


def _tile(text: str, start: int, end: int, block: Block) -> Iterator[_Piece]:
    cuts = [start, *_cuts(text, start, end, block.kind in _LINES), end] if end - start > MOST else [start, end]
    for a, b in pairwise(cuts):
        words = text[a:b].lstrip()
        first = b - len(words)
        if words := words.rstrip():
            yield _Piece(first, first + len(words), block.path, bare=block.level > 0)


def _cuts(text: str, start: int, end: int, by_line: bool) -> Iterator[int]:
    """Where to cut what is too long: after a line of code, a row or a sentence, else between words, else anywhere."""
    while end - start > MOST:
        window = text[start : start + GOAL]
        cut = window.rfind("\n") + 1 if by_line else max((m.end() for m in _SENTENCE_END.finditer(window)), default=0)
        if cut < GOAL // 3:
            cut = max(window.rfind(" "), window.rfind("\n")) + 1
        start += cut if cut >= GOAL // 3 else GOAL
        yield start


def _pack(section: list[_Piece]) -> list[_Piece]:
    """Neighbouring pieces of one section together, up to `GOAL`; a heading stays with what follows it."""
    packed: list[_Piece] = []
    for piece in section:
        last = packed[-1] if packed else None
        if last and piece.end - last.start <= (MOST if last.bare else GOAL):
            packed[-1] = _joined(last, piece)
        else:
            packed.append(piece)
    return packed


def _joins(before: _Piece, after: _Piece) -> bool:
    """Whether two sections side by side are one chunk: siblings, or a parent and its first child, one of them small."""
    small = min(len(before), len(after)) < SMALL and after.end - before.start <= GOAL
    kin = before.path == after.path[:-1] or before.path[:-1] == after.path[:-1]
    return kin and (small or (before.bare and after.end - before.start <= MOST))


def _joined(before: _Piece, after: _Piece) -> _Piece:
    same = next((i for i, (a, b) in enumerate(zip(before.path, after.path, strict=False)) if a != b), None)
    path = before.path[:same] if len(before.path) <= len(after.path) else after.path[:same]
    return _Piece(before.start, after.end, path, before.bare and after.bare)
