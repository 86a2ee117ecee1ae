"""The ordered lines of a PDF's pages into Markdown: paragraphs joined, words mended at line ends, headings, page starts.

Knows nothing about PDF, nor about where columns stand (see `ingest.readers.pdf.layout`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ingest.readers.extracted_document import escape_block_starts, escape_markdown, one_line, remove_unwritable
from ingest.readers.pdf.layout import HYPHEN, Line, Page, body_size, group_blocks, remove_running_heads, sort_by_reading_order

_BULLET = re.compile(r"[•◦▪▫■□●○‣⁃∙–◆►➢✓-][ \t]+(?=\S)")
_NUMBER = re.compile(r"\(?(?:\d{1,3}|[a-z])[.)][ \t]+(?=\S)")
_ENDS = tuple('.!?:;。！？…”’")]')
_KEEPS_HYPHEN = frozenset("self non pre post co anti semi well high low long short multi cross state end real".split())
_SPACELESS = re.compile(r"[\u2e80-\u2fff\u3001-\u30ff\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")


def find_title(pages: Sequence[Page]) -> str:
    """The largest words of the first page, or else its first line, when they stand out from the rest; else empty."""
    lines = [line for line in pages[0].lines if sum(map(str.isalpha, line.text)) > 3] if pages else []
    if not lines:
        return ""
    largest, body = max(line.size for line in lines), body_size(pages)
    chosen = [line for line in lines if line.size > 0.95 * largest] if largest > 1.15 * body else lines[:1]
    words = one_line(" ".join(line.text for line in chosen).replace(HYPHEN, "-"))
    return words if len(words) < 250 and (largest > 1.15 * body or lines[0].bold) else ""


def to_markdown(pages: Sequence[Page]) -> tuple[str, tuple[int, ...]]:
    """Markdown of all pages, and the offset in it at which each page begins."""
    body, kept = body_size(pages), remove_running_heads(pages)
    words = _Words(line.text for page in kept for line in page.lines)
    out: list[str] = []
    at, starts, pending = 0, [], 0
    before: _Paragraph | None = None
    for page in kept:
        pending += 1
        for part in _parts(page, body, words):
            if before is None:
                glue = ""
            elif before.runs_on_into(part):
                whole, glue = words.joined(before.text + " " * before.spaced, part.text)
                spare = len(before.text) - len(whole)
                out[-1], at = out[-1][: len(out[-1]) - spare], at - spare
            else:
                glue = "\n" if before.item and before.item == part.item else "\n\n"
            starts += [at + len(glue)] * pending
            pending = 0
            out.append(glue + part.text)
            at += len(out[-1])
            before = part
    text = "".join(out).rstrip("\n") + "\n"
    return text, tuple(min(start, len(text)) for start in [*starts, *[len(text)] * pending])


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """`text` is Markdown. `full` says that its last line fills its column, `indented` that it begins as a paragraph does,
    `item` is `list` or `row` when it is one line of a list or a table, `apart` says that it is a heading, `spaced` that white
    space followed it."""

    text: str
    full: bool
    indented: bool
    size: float
    item: str = ""
    apart: bool = False
    spaced: bool = False

    def runs_on_into(self, other: _Paragraph) -> bool:
        """Over the end of a column or a page."""
        if self.apart or other.apart or other.item or other.indented or abs(self.size - other.size) > 0.08 * self.size:
            return False
        ended = self.text.rstrip().endswith(_ENDS)
        return (self.full and not ended) or (other.text[:1].islower() and not ended)


class _Words:
    """How the document itself writes a word: with its hyphen or without."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.whole: Counter[str] = Counter()
        self.spaced = False
        for line in lines:
            self.whole.update(re.findall(r"\w+(?:-\w+)*", line.casefold()))
            self.spaced = self.spaced or bool(re.search(r"[\uac00-\ud7a3,.] +$", line))

    def joined(self, before: str, after: str, full: bool = True) -> tuple[str, str]:
        """The text before a line's end, a hyphen that only parted a word gone from it, and what to put between.
        `full` says that the line filled its column, so that a Korean word may go on in the next one."""
        bare = before.rstrip()
        if bare.endswith((HYPHEN, "-", "\u00ad", "‐")) and after[:1].isalnum():
            left, right = re.search(r"[\w-]*$", bare[-100:-1]), re.match(r"\w+", after)
            if not left or not left[0] or not right:
                return bare[:-1] + "-", ""
            first, second = left[0].casefold(), right[0].casefold()
            both, hyphened = self.whole[first + second], self.whole[f"{first}-{second}"]
            keeps = first.rpartition("-")[2] in _KEEPS_HYPHEN or not after[0].islower() or not first[-1].isalpha()
            return bare[:-1] + ("-" if hyphened > both or (keeps and not both) else ""), ""
        if not bare or not after:
            return bare, ""
        if _SPACELESS.match(bare[-1]) and _SPACELESS.match(after[0]):
            return bare, ""
        cut = full and self.spaced and bare == before and _HANGUL.match(bare[-1]) and _HANGUL.match(after[0])
        return bare, "" if cut else " "


def _parts(page: Page, body: float, words: _Words) -> Iterator[_Paragraph]:
    for block in sort_by_reading_order(group_blocks(page)):
        left, right = min(line.left for line in block), max(line.right for line in block)
        leading = median([a.bottom - b.bottom for a, b in pairwise(block)] or [0.0])
        group: list[Line] = []
        for line in block:
            if group and _parted(group, line, left, right, leading):
                yield _paragraph(group, left, right, body, words)
                group = []
            group.append(line)
        yield _paragraph(group, left, right, body, words)


def _parted(group: Sequence[Line], line: Line, left: float, right: float, leading: float) -> bool:
    """Whether a line begins a paragraph of its own."""
    last = group[-1]
    ended = last.text.rstrip().endswith(_ENDS)
    short = last.right < right - 0.12 * (right - left)
    if line.cells > 2 or last.cells > 2:
        return True
    if _BULLET.match(line.text) or (_NUMBER.match(line.text) and (ended or short or last.text.rstrip().endswith(","))):
        return True
    if last.bold != line.bold and (last.bold or line.text[:1].isupper()) and last.right < right - 2 * line.size:
        return True
    if last.bottom - line.bottom > 1.35 * leading > 0:
        return True
    if _BULLET.match(group[0].text) or _NUMBER.match(group[0].text):
        return line.left < group[0].left + 0.3 * line.size and short
    indented = line.left > left + 0.45 * line.size and last.left < left + 0.45 * line.size
    return (short and ended) or (indented and (ended or short))


def _paragraph(group: Sequence[Line], left: float, right: float, body: float, words: _Words) -> _Paragraph:
    pieces: list[str] = []
    full = False
    for line in group:
        piece = line.text.lstrip()
        if pieces:
            pieces[-1], glue = words.joined(pieces[-1], piece, full)
            piece = glue + piece
        pieces.append(piece)
        full = line.right > right - 2 * line.size
    text = "".join(pieces)
    text = re.sub(r"[^\S\n]+", " ", remove_unwritable(text.replace(HYPHEN, "-")))
    text = re.sub(r"(?<=[A-Za-z])(?=[\u0620-\u064a])", " ", text)  # pdfium sets this space before the word
    spaced, text = text.endswith(" "), text.strip()
    first, last = group[0], group[-1]
    size = first.size
    level = _level(group, text, body)
    if level:
        return _Paragraph("#" * level + " " + escape_markdown(text), False, True, size, apart=True)
    bullet, number = _BULLET.match(text), _NUMBER.match(text)
    if bullet:
        text = "- " + escape_markdown(text[bullet.end() :])
    elif number and re.match(r"\d", text):
        text = text[: number.end()] + escape_markdown(text[number.end() :])
    else:
        text = escape_block_starts(escape_markdown(text))
    kind = "list" if bullet or number else "row" if first.cells > 2 else ""
    full = last.right > right - 0.12 * (right - left)
    return _Paragraph(text, full, first.left > left + 0.45 * size, size, kind, spaced=spaced)


def _level(group: Sequence[Line], text: str, body: float) -> int:
    """1 to 3 for a heading, by its size, or its weight when it stands alone; 0 for any other paragraph."""
    size = median(line.size for line in group)
    if not text or len(text) > 200 or sum(map(str.isalpha, text)) < 2 or len(group) > 4 or _BULLET.match(text):
        return 0
    if size > 1.55 * body:
        return 1
    if size > 1.12 * body:
        return 2
    bold = all(line.bold for line in group) and len(group) <= 2 and len(text) < 120
    return 3 if bold and size > 0.9 * body and not text.endswith((".", ",", ";", ":")) else 0
