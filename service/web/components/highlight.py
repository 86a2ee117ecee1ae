"""Highlights spans of a Markdown source in its rendered HTML.

Inserts a marker character at both ends of every span before rendering, and wraps the text between two markers in `<mark>`
afterwards, so that tags nest whatever the span crosses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

# Kharoshthi punctuation: a Markdown parser sees punctuation (emphasis beside it works), and no living script uses it.
OPEN, CLOSE = "\U00010a50", "\U00010a51"
_MARKER = re.compile(f"[{OPEN}{CLOSE}]")
_LEADING = re.compile(r"(?:[ \t]*+(?:>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t])|#{1,6}(?=[ \t])|\||\[[ xX]\](?=[ \t])))*[ \t]*")
_FRAME = re.compile(r"[ \t>]*+(?:`{3,}|~{3,}|\$\$|(?:-[ \t]*){3,}$|=+[ \t]*$|\|?[ \t]*:?-+:?[ \t]*\|[-:| \t]*$)")
_PIECE = re.compile(r"<math\b.*?</math>|<[^>]*>|[^<]+|<", re.S)
_ENCODED = re.compile("|".join(quote(sign) for sign in (OPEN, CLOSE)), re.I)


def insert_markers(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with markers at both ends of each span, moved inwards where a marker would break the Markdown syntax."""
    text = _MARKER.sub("\ufffd", text)
    markers: list[tuple[int, int, str]] = []
    for start, end in spans:
        start, end = _start(text, max(0, start)), _end(text, min(len(text), end))
        if start < end:
            markers += [(start, 1, OPEN), (end, 0, CLOSE)]
    out: list[str] = []
    pos = 0
    for at, _, marker in sorted(markers):
        out += (text[pos:at], marker)
        pos = at
    return "".join((*out, text[pos:]))


def _start(text: str, at: int) -> int:
    """Moves `at` past list, quote, heading and cell markup, and past a fence to the next line."""
    while at < len(text):
        line = text.rfind("\n", 0, at) + 1
        eol = text.find("\n", at)
        eol = len(text) if eol < 0 else eol
        if _FRAME.match(text[line:eol]) and not text[line:eol].strip().endswith("$$", 3):
            at = eol + 1
            continue
        opened = _LEADING.match(text, line, eol)
        at = max(at, opened.end() if opened else at)
        if at < eol or at >= len(text):
            return at
        at = eol + 1
    return at


def _end(text: str, at: int) -> int:
    """Moves `at` back over white space and over a line that only delimits a block."""
    while at > 0:
        while at > 0 and text[at - 1].isspace():
            at -= 1
        line = text.rfind("\n", 0, at) + 1
        eol = text.find("\n", at)
        if not _FRAME.match(text[line : len(text) if eol < 0 else eol]):
            return at
        at = line
    return at


def remove_markers(text: str) -> str:
    return _ENCODED.sub("", _MARKER.sub("", text))


def highlight(html: str) -> str:
    """The HTML without markers, with the text between them in `<mark>`."""
    if not _MARKER.search(html) and not _ENCODED.search(html):
        return html
    return "".join(_highlighted_pieces(html))


def _highlighted_pieces(html: str) -> Iterator[str]:
    depth = 0
    for match in _PIECE.finditer(html):
        piece = match[0]
        if piece.startswith("<math"):
            marked = depth > 0 or OPEN in piece
            depth = _after(depth, piece)
            yield from ("<mark>", remove_markers(piece), "</mark>") if marked else (remove_markers(piece),)
        elif piece.startswith("<"):
            depth = _after(depth, piece)
            yield remove_markers(piece)
        else:
            for part in re.split(f"({_MARKER.pattern})", piece):
                if _MARKER.fullmatch(part):
                    depth = _after(depth, part)
                elif depth > 0 and part.strip():
                    yield from ("<mark>", part, "</mark>")
                else:
                    yield part


def _after(depth: int, piece: str) -> int:
    return max(0, depth + piece.count(OPEN) - piece.count(CLOSE))
