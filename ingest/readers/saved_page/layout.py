"""The plain text of a saved page as lines, sections under known headings, and the items of lists. Pure.

Knows how text looks once a page is copied out of a browser (markers on lines of their own, wrapped lines, counts behind
headings), and nothing about what any section means.
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
_LONGEST_HEADING = 120  # characters
_LONGEST_GIST = 400  # characters
_WRAPPED = 40  # characters: a shorter line was not broken for want of space
Listed = TypeVar("Listed", WrittenLink, Referrer)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank, without the white space around it; `start` and `end` are its place in the text."""

    text: str
    start: int
    end: int
    indent: int = 0
    blank_before: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, up to the next. `heading` is in lower case and straight apostrophes; `count` is the
    number that it announces."""

    name: str
    heading: str
    count: int | None
    lines: tuple[Line, ...]


def split_lines(text: str) -> list[Line]:
    """The lines of a text that are not blank, whatever its line ends."""
    found: list[Line] = []
    before = 0
    for m in _LINE.finditer(text):
        words = m[0].strip()
        if words:
            start = m.start() + len(m[0]) - len(m[0].lstrip())
            blank = max(text.count("\n", before, start), text.count("\r", before, start)) > 1
            found.append(Line(words, start, start + len(words), start - m.start(), blank))
            before = start + len(words)
    return found


def split_sections(lines: Iterable[Line], headings: re.Pattern[str]) -> tuple[list[Line], list[Section]]:
    """The lines before the first heading, and the sections. `headings` has one named group for each section, and matches
    whole headings: lower case, straight apostrophes, no Markdown marks, and no count behind them."""
    head: list[Line] = []
    opened: list[tuple[str, str, int | None, list[Line]]] = []
    for line in lines:
        if heading := _heading(line, headings):
            opened.append((*heading, []))
        else:
            (opened[-1][3] if opened else head).append(line)
    return head, [_section(*entry) for entry in opened]


def _heading(line: Line, headings: re.Pattern[str]) -> tuple[str, str, int | None] | None:
    if len(line.text) > _LONGEST_HEADING:
        return None
    words = " ".join(line.text.strip("#*_: \t").replace("’", "'").casefold().split())
    check_count = _COUNT.fullmatch(words)
    for name, number in ((words, _NUMERAL.search(words)), (check_count[1] if check_count else "", check_count)):
        if m := headings.fullmatch(name):
            return str(m.lastgroup), words, int(number[number.re.groups]) if number else None
    return None


def _section(name: str, heading: str, count: int | None, lines: list[Line]) -> Section:
    """A count may also stand alone, on the line below the heading."""
    if count is None and lines and (m := re.fullmatch(r"\(?([0-9]{1,9})\)?", lines[0].text)):
        return Section(name, heading, int(m[1]), tuple(lines[1:]))
    return Section(name, heading, count, tuple(lines))


def join_lines(lines: Sequence[Line]) -> str:
    """The words of wrapped lines as one line."""
    return " ".join(" ".join(line.text for line in lines).split())


def strip_marker(line: Line, marker: re.Pattern[str] | None = None) -> Line | None:
    """The line without its list marker (its text may then be empty), or None when it has none."""
    m = marker.match(line.text) if marker else _BULLET.match(line.text) or _NUMBER.match(line.text)
    return replace(line, text=line.text[m.end() :], start=line.start + m.end()) if m else None


def list_items(section: Section, introduced: bool = True) -> list[list[Line]]:
    """The lines of each item of the list in a section, without markers. Lines before the first marker introduce the list.
    Where no markers are left, items are told apart by blank lines, or by the count that the heading announces."""
    marker = next((kind for line in section.lines for kind in (_BULLET, _NUMBER) if kind.match(line.text)), None)
    found: list[list[Line]] = []
    alone = ended = False
    for line in section.lines if marker else ():
        if (rest := strip_marker(line, marker)) is not None:
            found.append([rest] if rest.text else [])
            alone, ended = not rest.text, False
        elif found:
            ended = ended or (line.blank_before and not line.indent and not alone)
            if not ended:
                found[-1].append(line)
    return [item for item in found if item] if marker else _unmarked(section, introduced)


def _unmarked(section: Section, introduced: bool) -> list[list[Line]]:
    lines, count = list(section.lines), section.count or 0
    apart: list[list[Line]] = []
    for line in lines:
        if line.blank_before or not apart:
            apart.append([])
        apart[-1].append(line)
    if len(apart) == count:
        return apart
    for lead in range(3 if introduced else 1):
        size, left = divmod(len(lines) - lead, count or 1)
        if count and not left and 1 <= size <= 3:
            return [lines[at : at + size] for at in range(lead, len(lines), size)]
    if len(apart) > 1:
        return apart
    while introduced and len(lines) > 1 and lines[0].text.endswith("."):
        del lines[0]
    return [[line] for line in lines]


def unwrap_paragraphs(lines: Iterable[Line]) -> list[list[Line]]:
    """Lines by paragraph: a line goes on with the one before it if that was long and did not end a sentence."""
    found: list[list[Line]] = []
    for line in lines:
        last = found[-1][-1].text if found else ""
        if len(last) < _WRAPPED or line.blank_before or _ENDED.fullmatch(last):
            found.append([])
        found[-1].append(line)
    return found


def split_title(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """The lines of an item's title, and the others. A title takes more than one line when it is a question that ends on a
    later one, or when a long line goes on in lower case or in title case."""
    most = min(len(lines), 5)
    if lines and _ASKS.match(lines[0].text):
        for end in range(1, most + 1):
            if lines[end - 1].text.endswith("?"):
                return lines[:end], lines[end:]
            if _ENDED.fullmatch(lines[end - 1].text):
                break
    end = 1
    while end < most and _goes_on(lines[end - 1].text, lines[end]):
        end += 1
    return lines[:end], lines[end:]


def _goes_on(before: str, line: Line) -> bool:
    if len(before) < _WRAPPED or line.blank_before or _ENDED.fullmatch(before):
        return False
    words = _WORD.findall(line.text)
    capitals = sum(word[0].isupper() for word in words)
    return line.text[0].islower() or (not _ENDED.fullmatch(line.text) and 2 * capitals > len(words))


def check_count(section: Section, listed: Sequence[object], warnings: list[str]) -> None:
    """Warns when a heading announces another number than the list under it has."""
    if section.count is not None and section.count != len(listed):
        warnings.append(f"“{section.heading}” announces {section.count} entries and {len(listed)} are there: these were read")


def deduplicate(listed: Iterable[Listed]) -> tuple[Listed, ...]:
    """Each entry once, where a page lists the same name with the same reason again."""
    found: dict[tuple[str, str, str], Listed] = {}
    for entry in listed:
        name = entry.target if isinstance(entry, WrittenLink) else entry.title
        if name:
            found.setdefault((name.casefold(), entry.type, entry.why), entry)
    return tuple(found.values())


def shorten(paragraph: str) -> str:
    """A paragraph as a gist: whole if it is short, else its first sentence."""
    if len(paragraph) <= _LONGEST_GIST:
        return paragraph
    first = next(iter(sentences(paragraph)), None)
    said = paragraph[first.start : first.end] if first else paragraph
    return said if len(said) <= _LONGEST_GIST else said[: _LONGEST_GIST - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
