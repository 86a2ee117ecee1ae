"""Highlighting spans of a Markdown source in the HTML that is made of it.

A rare sign is set into the source at both ends of every span, carried through the renderer, and then every stretch of
text between two signs is wrapped in `<mark>`, so that nesting stays valid whatever the span crosses. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

# Punctuation to a Markdown parser (so that emphasis beside it still works), and of a script that died out around 300.
OPEN, CLOSE = "\U00010a50", "\U00010a51"
_SIGN = re.compile(f"[{OPEN}{CLOSE}]")
_LEADING = re.compile(r"(?:[ \t]*+(?:>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t])|#{1,6}(?=[ \t])|\||\[[ xX]\](?=[ \t])))*[ \t]*")
_FRAME = re.compile(r"[ \t>]*+(?:`{3,}|~{3,}|\$\$|(?:-[ \t]*){3,}$|=+[ \t]*$|\|?[ \t]*:?-+:?[ \t]*\|[-:| \t]*$)")
_PIECE = re.compile(r"<math\b.*?</math>|<[^>]*>|[^<]+|<", re.S)
_ENCODED = re.compile("|".join(quote(sign) for sign in (OPEN, CLOSE)), re.I)


def set_signs(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with a sign at both ends of each span, moved inwards where a sign would undo the Markdown there."""
    text = _SIGN.sub("\ufffd", text)
    signs: list[tuple[int, int, str]] = []
    for start, end in spans:
        start, end = _start(text, max(0, start)), _end(text, min(len(text), end))
        if start < end:
            signs += [(start, 1, OPEN), (end, 0, CLOSE)]
    out: list[str] = []
    pos = 0
    for at, _, sign in sorted(signs):
        out += (text[pos:at], sign)
        pos = at
    return "".join((*out, text[pos:]))


def _start(text: str, at: int) -> int:
    """Past the marks that open a line: lists, quotes, headings, cells; past a fence to the line below it."""
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
    """Back over white space and over a line that only frames a block."""
    while at > 0:
        while at > 0 and text[at - 1].isspace():
            at -= 1
        line = text.rfind("\n", 0, at) + 1
        eol = text.find("\n", at)
        if not _FRAME.match(text[line : len(text) if eol < 0 else eol]):
            return at
        at = line
    return at


def without_signs(text: str) -> str:
    return _ENCODED.sub("", _SIGN.sub("", text))


def wrap(html: str) -> str:
    """The HTML without signs, with what stood between them in `<mark>`."""
    if not _SIGN.search(html) and not _ENCODED.search(html):
        return html
    return "".join(_wrapped(html))


def _wrapped(html: str) -> Iterator[str]:
    depth = 0
    for match in _PIECE.finditer(html):
        piece = match[0]
        if piece.startswith("<math"):
            marked = depth > 0 or OPEN in piece
            depth = _after(depth, piece)
            yield f"<mark>{without_signs(piece)}</mark>" if marked else without_signs(piece)
        elif piece.startswith("<"):
            depth = _after(depth, piece)
            yield without_signs(piece)
        else:
            for part in re.split(f"({_SIGN.pattern})", piece):
                if _SIGN.fullmatch(part):
                    depth = _after(depth, part)
                elif depth > 0 and part.strip():
                    yield f"<mark>{part}</mark>"
                else:
                    yield part


def _after(depth: int, piece: str) -> int:
    return max(0, depth + piece.count(OPEN) - piece.count(CLOSE))
