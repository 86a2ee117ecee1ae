"""Splits a note's text into chunks for embedding and search. Sizes are in characters.

Chunks are in order and do not overlap. Each begins and ends with a character that is not white space, and together they contain
all such characters of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from kb.markdown.blocks import Block, blocks
from kb.notes import Chunk, Note

TARGET_SIZE = 1100  # to which chunks are filled
MAX_SIZE = 1600  # which no chunk exceeds
SMALL_SECTION = 250  # below which a section joins its neighbour

_SENTENCE_END = re.compile(r"(?:[.!?…][\"'”’)\]*_]*(?=\s)|[。！？])")
_LINES = frozenset(("code", "table", "math", "comment"))


@dataclass(slots=True)
class _Piece:
    start: int
    end: int
    path: tuple[str, ...]
    only_headings: bool = False

    def __len__(self) -> int:
        return self.end - self.start


def chunk(note: Note) -> tuple[Chunk, ...]:
    """The chunks of a note, at most `MAX_SIZE` characters each, with ids `NOTE@ORDINAL` from 0. Empty for an empty text."""
    pieces: list[_Piece] = []
    for section in _sections(note.text):
        packed = _pack_section(section)
        if pieces and packed and _should_join(pieces[-1], packed[0]):
            packed[0] = _join(pieces.pop(), packed[0])
        pieces += packed
    return tuple(
        Chunk(f"{note.id}@{ordinal}", note.id, piece.start, piece.end, " > ".join(piece.path))
        for ordinal, piece in enumerate(pieces)
    )


def _sections(text: str) -> Iterator[list[_Piece]]:
    """The pieces of each section: one per block, or several for a block that exceeds the maximal size."""
    found = blocks(text) or (Block("rule", 0, len(text), 0, ()),)  # a text of nothing but `>` has no block
    section: list[_Piece] = []
    for i, block in enumerate(found):
        if block.level and section:
            yield section
            section = []
        start = block.start if i else 0
        section += _split_block(text, start, found[i + 1].start if i + 1 < len(found) else len(text), block)
    if section:
        yield section


def _split_block(text: str, start: int, end: int, block: Block) -> Iterator[_Piece]:
    cuts = [start, *_find_cuts(text, start, end, block.kind in _LINES), end] if end - start > MAX_SIZE else [start, end]
    for a, b in pairwise(cuts):
        words = text[a:b].lstrip()
        first = b - len(words)
        if words := words.rstrip():
            yield _Piece(first, first + len(words), block.path, only_headings=block.level > 0)


def _find_cuts(text: str, start: int, end: int, by_line: bool) -> Iterator[int]:
    """Offsets at which to cut a long block: after a line of code, a table row or a sentence, else between words, else
    anywhere."""
    while end - start > MAX_SIZE:
        window = text[start : start + TARGET_SIZE]
        cut = window.rfind("\n") + 1 if by_line else max((m.end() for m in _SENTENCE_END.finditer(window)), default=0)
        if cut < TARGET_SIZE // 3:
            cut = max(window.rfind(" "), window.rfind("\n")) + 1
        start += cut if cut >= TARGET_SIZE // 3 else TARGET_SIZE
        yield start


def _pack_section(section: list[_Piece]) -> list[_Piece]:
    """Joins neighbouring pieces of one section up to `TARGET_SIZE`; a heading stays with the text after it."""
    packed: list[_Piece] = []
    for piece in section:
        last = packed[-1] if packed else None
        if last and piece.end - last.start <= (MAX_SIZE if last.only_headings else TARGET_SIZE):
            packed[-1] = _join(last, piece)
        else:
            packed.append(piece)
    return packed


def _should_join(before: _Piece, after: _Piece) -> bool:
    """Whether two adjacent sections become one chunk: siblings, or a parent and its first child, one of them small."""
    small = min(len(before), len(after)) < SMALL_SECTION and after.end - before.start <= TARGET_SIZE
    related = before.path == after.path[:-1] or before.path[:-1] == after.path[:-1]
    return related and (small or (before.only_headings and after.end - before.start <= MAX_SIZE))


def _join(before: _Piece, after: _Piece) -> _Piece:
    common = next((i for i, (a, b) in enumerate(zip(before.path, after.path, strict=False)) if a != b), None)
    path = before.path[:common] if len(before.path) <= len(after.path) else after.path[:common]
    return _Piece(before.start, after.end, path, before.only_headings and after.only_headings)
