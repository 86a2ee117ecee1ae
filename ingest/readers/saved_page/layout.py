"""Splits the plain text of a saved page into lines, sections under known headings, and list items.

Handles text as copied from a browser: list markers on separate lines, wrapped lines, counts after headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ingest.readers.markdown import Referrer
from kb.markdown.sentences import sentences
from kb.notes import WrittenLink

_LINE = re.compile(r"[^\r\n\ufeff]+")
_BULLET = re.compile(r"[-*+•◦‣▪·](?:\s+|$)")
_NUMBER = re.compile(r"\d{1,4}[.)](?:\s+|$)")
_COUNT = re.compile(r"(.*?)[\s:·|,–-]*[(\[]?([0-9]{1,9})[)\]]?")
_NUMERAL = re.compile(r"\b([0-9]{1,9})\b")
_ENDED = re.compile(r".*[.!?…][\"'”’)\]*_]*", re.S)
_ASKS = re.compile(
    r"(?:Do|Does|Did|Can|Could|Should|Would|Will|Is|Are|Was|Were|Has|Have|Why|How|What|When|Where|Which|Who|Whose|Whom)\b"
)
_WORD = re.compile(r"[^\W\d_][\w'’-]{3,}")
_MAX_HEADING = 120  # characters
_MAX_GIST = 400  # characters
_MIN_WRAPPED_LINE = 40  # characters; a shorter line was not wrapped
Entry = TypeVar("Entry", WrittenLink, Referrer)


@dataclass(frozen=True, slots=True)
class Line:
    """A non-blank line without surrounding white space; `start` and `end` are its span in the text."""

    text: str
    start: int
    end: int
    indent: int = 0
    blank_before: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """The lines under one heading. `heading` is in lower case with straight apostrophes; `count`: the number in the heading."""

    name: str
    heading: str
    count: int | None
    lines: tuple[Line, ...]


def split_lines(text: str) -> list[Line]:
    """The non-blank lines of a text with any line ends."""
    result: list[Line] = []
    previous_end = 0
    for m in _LINE.finditer(text):
        words = m[0].strip()
        if words:
            start = m.start() + len(m[0]) - len(m[0].lstrip())
            blank = max(text.count("\n", previous_end, start), text.count("\r", previous_end, start)) > 1
            result.append(Line(words, start, start + len(words), start - m.start(), blank))
            previous_end = start + len(words)
    return result


def split_sections(lines: Iterable[Line], headings: re.Pattern[str]) -> tuple[list[Line], list[Section]]:
    """The lines before the first heading, and the sections. `headings` has one named group per section and matches complete
    headings: in lower case, with straight apostrophes, without Markdown marks and counts."""
    head: list[Line] = []
    opened: list[tuple[str, str, int | None, list[Line]]] = []
    for line in lines:
        if heading := _match_heading(line, headings):
            opened.append((*heading, []))
        else:
            (opened[-1][3] if opened else head).append(line)
    return head, [_section(*entry) for entry in opened]


def _match_heading(line: Line, headings: re.Pattern[str]) -> tuple[str, str, int | None] | None:
    if len(line.text) > _MAX_HEADING:
        return None
    words = " ".join(line.text.strip("#*_: \t").replace("’", "'").casefold().split())
    check_count = _COUNT.fullmatch(words)
    for name, number in ((words, _NUMERAL.search(words)), (check_count[1] if check_count else "", check_count)):
        if m := headings.fullmatch(name):
            return str(m.lastgroup), words, int(number[number.re.groups]) if number else None
    return None


def _section(name: str, heading: str, count: int | None, lines: list[Line]) -> Section:
    """A section whose count may also be on the line below the heading."""
    if count is None and lines and (m := re.fullmatch(r"\(?([0-9]{1,9})\)?", lines[0].text)):
        return Section(name, heading, int(m[1]), tuple(lines[1:]))
    return Section(name, heading, count, tuple(lines))


def join_lines(lines: Sequence[Line]) -> str:
    """Wrapped lines as one line."""
    return " ".join(" ".join(line.text for line in lines).split())


def strip_marker(line: Line, marker: re.Pattern[str] | None = None) -> Line | None:
    """The line without its list marker, possibly empty; None when it has no marker."""
    m = marker.match(line.text) if marker else _BULLET.match(line.text) or _NUMBER.match(line.text)
    return replace(line, text=line.text[m.end() :], start=line.start + m.end()) if m else None


def list_items(section: Section, has_introduction: bool = True) -> list[list[Line]]:
    """The lines of each item of a section's list, without markers and without the lines before the first marker.
    Without markers, blank lines or the count in the heading separate the items."""
    marker = next((kind for line in section.lines for kind in (_BULLET, _NUMBER) if kind.match(line.text)), None)
    entries: list[list[Line]] = []
    marker_only = ended = False
    for line in section.lines if marker else ():
        if (rest := strip_marker(line, marker)) is not None:
            entries.append([rest] if rest.text else [])
            marker_only, ended = not rest.text, False
        elif entries:
            ended = ended or (line.blank_before and not line.indent and not marker_only)
            if not ended:
                entries[-1].append(line)
    return [item for item in entries if item] if marker else _split_unmarked(section, has_introduction)


def _split_unmarked(section: Section, has_introduction: bool) -> list[list[Line]]:
    lines, count = list(section.lines), section.count or 0
    paragraphs: list[list[Line]] = []
    for line in lines:
        if line.blank_before or not paragraphs:
            paragraphs.append([])
        paragraphs[-1].append(line)
    if len(paragraphs) == count:
        return paragraphs
    for intro_lines in range(3 if has_introduction else 1):
        size, remainder = divmod(len(lines) - intro_lines, count or 1)
        if count and not remainder and 1 <= size <= 3:
            return [lines[at : at + size] for at in range(intro_lines, len(lines), size)]
    if len(paragraphs) > 1:
        return paragraphs
    while has_introduction and len(lines) > 1 and lines[0].text.endswith("."):
        del lines[0]
    return [[line] for line in lines]


def unwrap_paragraphs(lines: Iterable[Line]) -> list[list[Line]]:
    """Lines grouped by paragraph: a line continues a long line that does not end a sentence."""
    paragraphs: list[list[Line]] = []
    for line in lines:
        last = paragraphs[-1][-1].text if paragraphs else ""
        if len(last) < _MIN_WRAPPED_LINE or line.blank_before or _ENDED.fullmatch(last):
            paragraphs.append([])
        paragraphs[-1].append(line)
    return paragraphs


def split_title(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """The lines of an item's title, and the others. A title has several lines when it is a question that ends on a later
    line, or when a long line continues in lower case or in title case."""
    max_lines = min(len(lines), 5)
    if lines and _ASKS.match(lines[0].text):
        for end in range(1, max_lines + 1):
            if lines[end - 1].text.endswith("?"):
                return lines[:end], lines[end:]
            if _ENDED.fullmatch(lines[end - 1].text):
                break
    end = 1
    while end < max_lines and _continues(lines[end - 1].text, lines[end]):
        end += 1
    return lines[:end], lines[end:]


def _continues(previous_end: str, line: Line) -> bool:
    if len(previous_end) < _MIN_WRAPPED_LINE or line.blank_before or _ENDED.fullmatch(previous_end):
        return False
    words = _WORD.findall(line.text)
    capitals = sum(word[0].isupper() for word in words)
    return line.text[0].islower() or (not _ENDED.fullmatch(line.text) and 2 * capitals > len(words))


def check_count(section: Section, listed: Sequence[object], warnings: list[str]) -> None:
    """Warns when the count in a heading differs from the number of entries."""
    if section.count is not None and section.count != len(listed):
        warnings.append(f"“{section.heading}” states {section.count} entries but contains {len(listed)}, which were read")


def deduplicate(listed: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries without repetitions of the same name, type and reason."""
    unique: dict[tuple[str, str, str], Entry] = {}
    for entry in listed:
        name = entry.target if isinstance(entry, WrittenLink) else entry.title
        if name:
            unique.setdefault((name.casefold(), entry.type, entry.why), entry)
    return tuple(unique.values())


def shorten(paragraph: str) -> str:
    """A paragraph as a gist: complete if short, otherwise its first sentence."""
    if len(paragraph) <= _MAX_GIST:
        return paragraph
    first = next(iter(sentences(paragraph)), None)
    sentence = paragraph[first.start : first.end] if first else paragraph
    return sentence if len(sentence) <= _MAX_GIST else sentence[: _MAX_GIST - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
