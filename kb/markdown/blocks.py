"""Splits a Markdown body into blocks with exact offsets, and strips markup, in linear time.

Offsets are half-open `str` indices.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from kb.markdown.opaque_spans import FORMULA, is_within, opaque_spans
from kb.notes import LinkType

_TYPES = "|".join(t.value.replace("_", "[ _-]") for t in LinkType)
FIELD = re.compile(rf"(?i:[*_]*({_TYPES})[*_]*[ \t]*::[*_]*[ \t]*)")
PROPERTY = re.compile(r"[*_]{0,3}([^\W\d_][\w./-]{0,40}(?: [\w./-]{1,40}){0,2})[*_]{0,3}::[*_]{0,3}(?:[ \t]+|$)")
UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_NAME_PROPERTIES = frozenset(("title", "alias", "aliases", "tag", "tags", "type", "id"))  # whose values are no sentences
_SENTENCE = re.compile(r"(?:\S++[ \t]++){3}.*[.!?…][\"'”’)*_\]]{0,3}(?:[ \t]+\^[\w-]+)?[ \t]*$")
_PLANNING = re.compile(r"(?:SCHEDULED|DEADLINE|CLOSED): ?[<\[]")

_LINE = re.compile(r"((?: {0,3}>[ \t]?)*)([ \t]*)")
_FENCE = re.compile(r"(`{3,})[^`\n]*$|(~{3,})")
_UNQUOTED = re.compile(r"\n(?! {0,3}>)")
_HEADING = re.compile(r"(#{1,6})(?:[ \t]+|$)")
_RULE = re.compile(r"([-*_])[ \t]*(?:\1[ \t]*){2,}+$")
_SETEXT_UNDERLINE = re.compile(r"(?:=+|-{2,})[ \t]*$")
_ITEM = re.compile(r"([-*+]|(\d{1,9})[.)])(?:[ \t]+(?:\[[ xX/<>!?*-]\][ \t]+)?|$)")
_QUOTED = re.compile(r"(?:>[ \t]?)+(?:\[![^\[\]\n]+\][+-]?[ \t]*)?")
_DEFINITION = re.compile(r"\[(?!\^)[^\[\]\n]+\]:[ \t]*\S")
_BLOCK_LEAD = re.compile(r"\[\^[^\[\]\s]+\]:[ \t]*|\[![^\[\]\n]+\][+-]?[ \t]*")
SEPARATOR = re.compile(r"[> \t]*\|?[ \t]*:?-++:?[ \t]*(?:\|[ \t]*:?-++:?[ \t]*)*+\|?[ \t]*$", re.M)
_ROWS = re.compile(r"(?:\n[^\n|]*\|[^\n]*)*+")
_HTML = re.compile(r"<(pre|script|style)\b", re.I)
_MATHS = re.compile(r"\\begin\{((?:equation|align|aligned|gather|multline|eqnarray|cases)\*?)\}")
_DRAWER = re.compile(r":(?:LOGBOOK|PROPERTIES):[ \t]*$")
_ORG_KEYWORD = re.compile(r"#\+(?:(BEGIN|begin)_(QUERY|SRC|EXAMPLE|query|src|example)\b|\w+)")
_OPENER = re.compile(r"%%|<!--|\$\$[ \t]*$", re.M)
_TRAILING = re.compile(r"[ \t.,;]*")
_BLANK = re.compile(r"\n[ \t>]*(?=\n)")

# References and embedded content: links, Logseq's `((…))` and `{{…}}`, the size of an image.
_MACRO = rf"\(\({UUID}\)\)|\{{\{{[a-z][\w-]*[ \t][^{{}}\n]*\}}\}}|\{{:[^{{}}\n]*\}}"
LINK = re.compile(
    r"!?\[\[[^\[\]\n]*\]\]|!?\[[^\[\]\n]*\]\((?:\(\([\w-]+\)\)|(?:[^()\n]|\([^()\n]*\))*+)\)"
    rf"|<?https?://[^\s<>]*[^\s<>.,;:!?)\]*_]>?|{_MACRO}"
)
_LINKS_ONLY = re.compile(rf"(?:{LINK.pattern}|[\s,;|·•.–—-])++$")


@dataclass(frozen=True, slots=True)
class Block:
    """A run of lines. `kind` is heading, paragraph, list (one item), quote, table, code, math, comment, definition, field (a
    typed link on its own line), property (another `key:: value`, or Logseq's planning keywords), links (lines that consist of
    links) or rule. `body`: the offset of its text after markers; `path`: the headings above it, including itself; `level`: 1
    to 6 for a heading outside lists, otherwise 0."""

    kind: str
    start: int
    end: int
    body: int
    path: tuple[str, ...]
    level: int = 0


@lru_cache(maxsize=4)
def blocks(text: str) -> tuple[Block, ...]:
    """The blocks of a Markdown body in order, not overlapping; only white space and bare `>` are between them."""
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.out: list[Block] = []
        self.headings: list[tuple[int, str]] = []
        self.path: tuple[str, ...] = ()
        self.kind, self.start, self.end, self.body = "", 0, 0, 0
        self.quoted, self.blank = False, True
        self.columns: list[int] = []  # columns of the text of open list items, outermost first
        self.unclosed: set[str] = set()  # closers that do not occur any more
        self.next_opener = -1  # offset of the next possible opener of a comment or formula
        self.closed_until = 0  # end of the last comment or formula that opened within a line
        self.checked_line = -1  # end of a line in which nothing opens outside `self.spans`
        self.spans: list[tuple[int, int]] = []

    def run(self) -> tuple[Block, ...]:
        pos, length = 0, len(self.text)
        while pos < length:
            eol = self.text.find("\n", pos)
            eol = length if eol < 0 else eol
            region_start = self.find_region(pos, eol)
            next_line = self.read_line(pos, eol if region_start < 0 else region_start)
            if 0 <= region_start < next_line <= region_start + 1:  # the line was read up to the region
                next_line = self.read_region(region_start, eol, region_start)
            pos = next_line
        self.end_block()
        return tuple(self.out)

    def find_region(self, pos: int, eol: int) -> int:
        """The offset within the line of a comment or display formula that extends beyond a blank line, or -1. One that ends
        within its paragraph belongs to it."""
        text, pos = self.text, max(pos, self.closed_until)
        if self.next_opener < pos:
            self.next_opener = m.start() if (m := _OPENER.search(text, pos)) else len(text)
        if self.next_opener >= eol or (self.checked_line == eol and not is_within(self.spans, pos)):
            return -1
        opaque, lead = opaque_spans(text, pos, eol), _LINE.match(text, pos, eol)
        for m in _OPENER.finditer(text, pos, eol):
            i = bisect_right(opaque, m.start(), key=lambda span: span[0]) - 1
            if (i >= 0 and m.start() < opaque[i][1]) or (lead and m.start() == lead.end()):
                continue
            end = self.find_closer({"<": "-->", "%": "%%", "$": "$$"}[m[0][0]], m.end())
            if end < 0 or (m[0][0] == "$" and not FORMULA.search(text, m.end(), end - 2)):
                continue
            if _BLANK.search(text, m.end(), end):
                return m.start()
            self.closed_until = end
            return -1
        self.checked_line, self.spans = eol, opaque
        return -1

    def add_block(self, kind: str, start: int, end: int, body: int = -1, level: int = 0) -> None:
        self.end_block()
        self.out.append(Block(kind, start, end, start if body < 0 else body, self.path, level))
        self.blank = True

    def end_block(self) -> None:
        if self.kind:
            self.out.append(Block(self.kind, self.start, self.end, self.body, self.path))
            self.kind = ""

    def start_block(self, kind: str, start: int, end: int, body: int) -> None:
        self.end_block()
        self.kind, self.start, self.end, self.body = kind, start, end, body
        self.blank = False

    def read_line(self, pos: int, eol: int) -> int:
        """Reads the line at `pos`; returns the offset of the next one."""
        m = _LINE.match(self.text, pos, eol)
        assert m is not None
        at, quoted = m.end(), m.end(1) > pos
        if quoted != self.quoted:
            self.end_block()
            self.columns.clear()
            self.quoted, self.blank = quoted, True
        if at >= eol:
            self.end_block()
            self.blank = True
            return eol + 1
        column = len(m[2].expandtabs(4))
        first = self.text.index(">", pos) if quoted else at
        closed_until = self.columns[at_most - 1] if (at_most := bisect_right(self.columns, column)) else 0
        if column >= closed_until + 4 and (self.kind == "code" or (not self.kind and self.blank)):
            if not (self.columns and _ITEM.match(self.text, at, eol)):
                if self.kind == "code":
                    self.end = eol
                else:
                    self.start_block("code", first, eol, at)
                return eol + 1
        elif self.kind == "code":
            self.end_block()
        if not self.text[at].isalpha():
            next_line = self.read_marked_line(at, eol, first, column)
            if next_line >= 0:
                return next_line
        return self.read_prose(at, eol, first, column)

    def read_marked_line(self, at: int, eol: int, first: int, column: int) -> int:
        """Reads a line that begins with punctuation or a digit; returns the offset of the next one, or -1 when it is prose."""
        text = self.text
        if (next_line := self.read_region(at, eol, first)) >= 0:
            return next_line
        if m := _HEADING.match(text, at, eol):
            self.add_heading(len(m[1]), first, eol, m.end())
        elif self.kind == "paragraph" and _SETEXT_UNDERLINE.match(text, at, eol) and self.end - self.start <= 200:
            start, self.kind = self.start, ""
            self.add_heading(1 if text[at] == "=" else 2, start, eol, self.body)
        elif _RULE.match(text, at, eol):
            self.add_block("rule", first, eol)
            self.columns.clear()
        elif (m := _ITEM.match(text, at, eol)) and (not self.kind or self.columns or m[2] in (None, "1")):
            while self.columns and self.columns[-1] > column:
                self.columns.pop()
            self.columns.append(column + len(m[1]) + 1)
            if m.end() < eol and (next_line := self.read_region(m.end(), eol, first)) >= 0:
                return next_line
            if title := _HEADING.match(text, m.end(), eol):
                self.add_block("heading", first, eol, title.end())
            elif not self.read_field(m.end(), eol, first, "list"):
                words = _QUOTED.match(text, m.end(), eol)
                self.start_block("list", first, eol, words.end() if words else m.end())
        elif not self.kind and _DEFINITION.match(text, at, eol):
            self.add_block("definition", first, eol, at)
        elif m := _BLOCK_LEAD.match(text, at, eol):
            self.start_block("quote" if self.quoted else "paragraph", first, eol, m.end())
            if text[at + 1] == "!":
                self.end_block()
        else:
            return -1
        return eol + 1

    def add_heading(self, level: int, start: int, end: int, body: int) -> None:
        self.end_block()
        words = self.text[body:end].split("\n")[0].strip().rstrip("#")
        self.headings = [h for h in self.headings if h[0] < level] + [(level, plain(words))]
        self.path = tuple(title for _, title in self.headings)
        self.add_block("heading", start, end, body, level)
        self.columns.clear()

    def read_region(self, at: int, eol: int, first: int) -> int:
        """Adds the fence, comment, raw HTML or display formula at `at`; returns its end, or -1 when there is none."""
        text, kind, end = self.text, "code", -1
        if m := _FENCE.match(text, at, eol):
            fence = m[1] or m[2]
            quote_end = _UNQUOTED.search(text, eol) if self.quoted else None
            limit = quote_end.start() if quote_end else len(text)
            closing = re.compile(rf"\n[> \t]*{fence[0]}{{{len(fence)},}}[ \t]*(?=\n|\Z)").search(text, eol, limit)
            end = closing.end() if closing else limit
        elif text.startswith("<!--", at):
            kind, end = "comment", self.find_closer("-->", at + 4)
            end = len(text) if end < 0 else end
        elif text.startswith("%%", at):
            kind, end = "comment", self.find_closer("%%", at + 2)
        elif text.startswith("$$", at):
            kind, end = "math", self.find_closer("$$", at + 2)
            if end <= eol and text[end:eol].strip(" \t.,;"):
                return -1
        elif text.startswith("\\[", at):
            kind, end = "math", self.find_closer("\\]", at + 2)
            alone = not text[at + 2 : eol].strip()
            if not alone and (text[end:eol].strip(" \t.,;") or not FORMULA.search(text, at + 2, min(eol, max(end - 2, at)))):
                return -1
        elif m := _MATHS.match(text, at, eol):
            kind, end = "math", self.find_closer(f"\\end{{{m[1]}}}", m.end())
        elif _DRAWER.match(text, at, eol):
            kind, end = "comment", self.find_closer(":END:", eol)
        elif m := _ORG_KEYWORD.match(text, at, eol):
            kind, end = "comment", eol
            if m[1]:
                kind, end = "code", self.find_closer(f"#+{'END' if m[1] == 'BEGIN' else 'end'}_{m[2]}", eol)
        elif m := _HTML.match(text, at, eol):
            end = self.find_closer(f"</{m[1]}>", m.end())
        if end < 0:
            return -1
        if (m := _TRAILING.match(text, end, max(eol, end))) and m.end() >= eol:
            end = max(eol, end)
        self.add_block(kind, first, end)
        return end

    def find_closer(self, closer: str, start: int) -> int:
        at = -1 if closer in self.unclosed else self.text.find(closer, start)
        if at < 0:
            self.unclosed.add(closer)
            return -1
        return at + len(closer)

    def read_prose(self, at: int, eol: int, first: int, column: int) -> int:
        text = self.text
        if text.find("|", at, eol) >= 0 and (m := SEPARATOR.match(text, eol + 1)) and "|" in m[0]:
            rows = _ROWS.match(text, m.end())
            end = rows.end() if rows else m.end()
            self.add_block("table", first, end, at)
            return end + 1
        if self.read_field(at, eol, first, "quote" if self.quoted else "paragraph"):
            return eol + 1
        links = text[at] in "![<h{(" and _LINKS_ONLY.match(text, at, eol)
        if self.kind == "links" and not links and text[at].islower():
            self.kind = "quote" if self.quoted else "paragraph"  # a wrapped sentence that begins with a link
        if self.kind and self.kind != "links" and not (links and text[self.end - 1] in ".!?:"):
            self.end = eol
        elif links:
            self.start_block("links", first, eol, at)
        elif self.blank and self.columns and column >= self.columns[0]:
            self.start_block("list", first, eol, at)
        else:
            self.columns.clear()
            self.start_block("quote" if self.quoted else "paragraph", first, eol, at)
        return eol + 1

    def read_field(self, at: int, eol: int, first: int, kind: str) -> bool:
        """Adds the `key:: value` at `at`, as `kind` when the value is a sentence; False when there is none."""
        text = self.text
        if text.find(":", at, eol) < 0:
            return False
        if FIELD.match(text, at, eol):
            self.add_block("field", first, eol, at)
        elif m := PROPERTY.match(text, at, eol):
            is_sentence = m[1].lower() not in _NAME_PROPERTIES and _SENTENCE.match(text, m.end(), eol)
            self.add_block(kind if is_sentence else "property", first, eol, m.end() if is_sentence else at)
        elif _PLANNING.match(text, at, eol):
            self.add_block("property", first, eol, at)
        else:
            return False
        return True


_WIKI = re.compile(r"!?\[\[([^\[\]\n|]*?)\\?(?:\|([^\[\]\n]*))?\]\]")
_INLINE = re.compile(r"!?\[([^\[\]]*)\](?:\((?:[^()\n]|\([^()\n]*\))*+\)|\[[^\[\]\n]*\])")
_REMOVED = re.compile(
    r"</?[a-zA-Z][^<>\n]*>|\[\^[^\[\]\s]+\]:?|\^\[[^\[\]\n]*\]|(?<=\s)\^[\w-]+[ \t]*$"
    r"|^[ \t]*(?:>[ \t]?)+(?:\[![^\[\]\n]+\][+-]?)?",
    re.M,
)
_MACROS = re.compile(_MACRO)
_LINE_MARKERS = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|(?:[-*+]|\d{1,9}[.)])[ \t]+(?:\[[ xX/<>!?*-]\][ \t]+)?)", re.M)
_STRONG_MARKS = re.compile(r"\*\*|~~|==(?=\S)|(?<=\S)==|(?<!\w)__(?=\S)|(?<=\S)__(?!\w)")
_EMPHASIS_MARKS = re.compile(r"(?<![\w*])\*(?=[^\s*])|(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)")
_EMBEDDED_FILE = re.compile(r"\.[a-z]\w{1,4}\s*$", re.I)
_ADDRESS = re.compile(r"<(https?://[^<>\s]+)>")


def plain(text: str) -> str:
    """The text without markup: links become their display text, escapes and entities are resolved, comments and the marks of
    emphasis, code, quotes and lists are removed, white space is collapsed. Formulas stay unchanged."""
    if text.replace(" ", "").isalnum():
        return " ".join(text.split())
    protected: list[str] = []
    parts: list[str] = []
    pos = 0
    for start, end in opaque_spans(text):
        piece, next_opener = text[start:end], text[start]
        if next_opener == "`":
            piece = piece.strip("`").strip()
        elif next_opener == "\\" and len(piece) == 2:
            if piece == "\\|" and "[[" in text[max(0, start - 200) : start]:
                continue
            piece = piece[1:]
        elif next_opener in "<%":
            piece = ""
        protected.append(piece)
        parts += (text[pos:start], "\ue000")
        pos = end
    words = "".join((*parts, text[pos:]))
    words = _WIKI.sub(_link_text, words) if "[[" in words else words
    words = _MACROS.sub("", words) if "((" in words or "{" in words else words
    words = _INLINE.sub(r"\1", words) if "[" in words else words
    words = _REMOVED.sub("", _ADDRESS.sub(r"\1", words))
    words = _EMPHASIS_MARKS.sub("", _STRONG_MARKS.sub("", _LINE_MARKERS.sub("", words)))
    words = html.unescape(words) if "&" in words else words
    if protected:
        rest = iter(protected)
        words = re.sub("\ue000", lambda _: next(rest, ""), words)
    return " ".join(words.split())


def _link_text(m: re.Match[str]) -> str:
    target, _, anchor = m[1].partition("#")
    if m[0][0] == "!" and _EMBEDDED_FILE.search(target):
        return ""
    if m[2]:
        return m[2].strip()
    return " > ".join(p for p in (target.strip(), "" if anchor.startswith("^") else anchor.strip()) if p)
