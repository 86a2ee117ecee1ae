"""Converts the ordered lines of a PDF into Markdown: joins paragraphs and hyphenated words, finds headings and page starts."""

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
_HYPHENATED_PREFIXES = frozenset("self non pre post co anti semi well high low long short multi cross state end real".split())
_SPACELESS = re.compile(r"[\u2e80-\u2fff\u3001-\u30ff\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")


def find_title(pages: Sequence[Page]) -> str:
    """The largest text of the first page, or its first line if bold; empty when neither stands out."""
    lines = [line for line in pages[0].lines if sum(map(str.isalpha, line.text)) > 3] if pages else []
    if not lines:
        return ""
    largest, body = max(line.size for line in lines), body_size(pages)
    chosen = [line for line in lines if line.size > 0.95 * largest] if largest > 1.15 * body else lines[:1]
    vocabulary = one_line(" ".join(line.text for line in chosen).replace(HYPHEN, "-"))
    return vocabulary if len(vocabulary) < 250 and (largest > 1.15 * body or lines[0].bold) else ""


def to_markdown(pages: Sequence[Page]) -> tuple[str, tuple[int, ...]]:
    """The Markdown of all pages, and the offset in it of each page."""
    body, body_pages = body_size(pages), remove_running_heads(pages)
    vocabulary = _Vocabulary(line.text for page in body_pages for line in page.lines)
    out: list[str] = []
    offset, starts, pending = 0, [], 0
    previous: _Paragraph | None = None
    for page in body_pages:
        pending += 1
        for part in _split_paragraphs(page, body, vocabulary):
            if previous is None:
                separator = ""
            elif previous.continues_in(part):
                joined_text, separator = vocabulary.join(previous.text + " " * previous.ends_with_space, part.text)
                removed = len(previous.text) - len(joined_text)
                out[-1], offset = out[-1][: len(out[-1]) - removed], offset - removed
            else:
                separator = "\n" if previous.item and previous.item == part.item else "\n\n"
            starts += [offset + len(separator)] * pending
            pending = 0
            out.append(separator + part.text)
            offset += len(out[-1])
            previous = part
    text = "".join(out).rstrip("\n") + "\n"
    return text, tuple(min(start, len(text)) for start in [*starts, *[len(text)] * pending])


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """A paragraph. `text`: Markdown; `fills_column`: of its last line; `is_indented`: of its first line; `item`: `list` or
    `row` for a line of a list or table; `ends_with_space`: white space follows it."""

    text: str
    fills_column: bool
    is_indented: bool
    size: float
    item: str = ""
    is_heading: bool = False
    ends_with_space: bool = False

    def continues_in(self, other: _Paragraph) -> bool:
        """Whether the paragraph continues in `other` after the end of a column or page."""
        if (
            self.is_heading
            or other.is_heading
            or other.item
            or other.is_indented
            or abs(self.size - other.size) > 0.08 * self.size
        ):
            return False
        ended = self.text.rstrip().endswith(_ENDS)
        return (self.fills_column and not ended) or (other.text[:1].islower() and not ended)


class _Vocabulary:
    """The words of the document, which show whether a word has a hyphen."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.ends_with_space = False
        for line in lines:
            self.counts.update(re.findall(r"\w+(?:-\w+)*", line.casefold()))
            self.ends_with_space = self.ends_with_space or bool(re.search(r"[\uac00-\ud7a3,.] +$", line))

    def join(self, previous: str, after: str, fills_column: bool = True) -> tuple[str, str]:
        """The text before a line end, without a hyphen that only splits a word, and the separator before the next line.
        `fills_column`: of the line, in which case a Korean word may continue in the next one."""
        bare = previous.rstrip()
        if bare.endswith((HYPHEN, "-", "\u00ad", "‐")) and after[:1].isalnum():
            left, right = re.search(r"[\w-]*$", bare[-100:-1]), re.match(r"\w+", after)
            if not left or not left[0] or not right:
                return bare[:-1] + "-", ""
            first, second = left[0].casefold(), right[0].casefold()
            unhyphenated, hyphenated = self.counts[first + second], self.counts[f"{first}-{second}"]
            keeps_hyphen = first.rpartition("-")[2] in _HYPHENATED_PREFIXES or not after[0].islower() or not first[-1].isalpha()
            return bare[:-1] + ("-" if hyphenated > unhyphenated or (keeps_hyphen and not unhyphenated) else ""), ""
        if not bare or not after:
            return bare, ""
        if _SPACELESS.match(bare[-1]) and _SPACELESS.match(after[0]):
            return bare, ""
        splits = (
            fills_column and self.ends_with_space and bare == previous and _HANGUL.match(bare[-1]) and _HANGUL.match(after[0])
        )
        return bare, "" if splits else " "


def _split_paragraphs(page: Page, body: float, vocabulary: _Vocabulary) -> Iterator[_Paragraph]:
    for block in sort_by_reading_order(group_blocks(page)):
        left, right = min(line.left for line in block), max(line.right for line in block)
        leading = median([a.bottom - b.bottom for a, b in pairwise(block)] or [0.0])
        group: list[Line] = []
        for line in block:
            if group and _starts_paragraph(group, line, left, right, leading):
                yield _to_paragraph(group, left, right, body, vocabulary)
                group = []
            group.append(line)
        yield _to_paragraph(group, left, right, body, vocabulary)


def _starts_paragraph(group: Sequence[Line], line: Line, left: float, right: float, leading: float) -> bool:
    """Whether a line begins a new paragraph."""
    last = group[-1]
    ended = last.text.rstrip().endswith(_ENDS)
    is_short = last.right < right - 0.12 * (right - left)
    if line.cells > 2 or last.cells > 2:
        return True
    if _BULLET.match(line.text) or (_NUMBER.match(line.text) and (ended or is_short or last.text.rstrip().endswith(","))):
        return True
    if last.bold != line.bold and (last.bold or line.text[:1].isupper()) and last.right < right - 2 * line.size:
        return True
    if last.bottom - line.bottom > 1.35 * leading > 0:
        return True
    if _BULLET.match(group[0].text) or _NUMBER.match(group[0].text):
        return line.left < group[0].left + 0.3 * line.size and is_short
    is_indented = line.left > left + 0.45 * line.size and last.left < left + 0.45 * line.size
    return (is_short and ended) or (is_indented and (ended or is_short))


def _to_paragraph(group: Sequence[Line], left: float, right: float, body: float, vocabulary: _Vocabulary) -> _Paragraph:
    pieces: list[str] = []
    fills_column = False
    for line in group:
        piece = line.text.lstrip()
        if pieces:
            pieces[-1], separator = vocabulary.join(pieces[-1], piece, fills_column)
            piece = separator + piece
        pieces.append(piece)
        fills_column = line.right > right - 2 * line.size
    text = "".join(pieces)
    text = re.sub(r"[^\S\n]+", " ", remove_unwritable(text.replace(HYPHEN, "-")))
    text = re.sub(r"(?<=[A-Za-z])(?=[\u0620-\u064a])", " ", text)  # pdfium misplaces this space
    ends_with_space, text = text.endswith(" "), text.strip()
    first, last = group[0], group[-1]
    size = first.size
    level = _heading_level(group, text, body)
    if level:
        return _Paragraph("#" * level + " " + escape_markdown(text), False, True, size, is_heading=True)
    bullet, number = _BULLET.match(text), _NUMBER.match(text)
    if bullet:
        text = "- " + escape_markdown(text[bullet.end() :])
    elif number and re.match(r"\d", text):
        text = text[: number.end()] + escape_markdown(text[number.end() :])
    else:
        text = escape_block_starts(escape_markdown(text))
    kind = "list" if bullet or number else "row" if first.cells > 2 else ""
    fills_column = last.right > right - 0.12 * (right - left)
    return _Paragraph(text, fills_column, first.left > left + 0.45 * size, size, kind, ends_with_space=ends_with_space)


def _heading_level(group: Sequence[Line], text: str, body: float) -> int:
    """1 to 3 for a heading, by its size, or by its weight when it is a short paragraph; 0 for any other paragraph."""
    size = median(line.size for line in group)
    if not text or len(text) > 200 or sum(map(str.isalpha, text)) < 2 or len(group) > 4 or _BULLET.match(text):
        return 0
    if size > 1.55 * body:
        return 1
    if size > 1.12 * body:
        return 2
    bold = all(line.bold for line in group) and len(group) <= 2 and len(text) < 120
    return 3 if bold and size > 0.9 * body and not text.endswith((".", ",", ";", ":")) else 0
