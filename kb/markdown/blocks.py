"""The blocks of a Markdown body, what in them is no prose, and its words without markup.

Knows nothing about notes, files or links between notes. Every offset is a `str` index into the text given, half-open.
Every function is linear in the length of its text, whatever the text.
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
_NAMING = frozenset(("title", "alias", "aliases", "tag", "tags", "type", "id"))  # their values are no sentences
_SAYS = re.compile(r"(?:\S++[ \t]++){3}.*[.!?…][\"'”’)*_\]]{0,3}(?:[ \t]+\^[\w-]+)?[ \t]*$")
_PLANNED = re.compile(r"(?:SCHEDULED|DEADLINE|CLOSED): ?[<\[]")

_LINE = re.compile(r"((?: {0,3}>[ \t]?)*)([ \t]*)")
_FENCE = re.compile(r"(`{3,})[^`\n]*$|(~{3,})")
_UNQUOTED = re.compile(r"\n(?! {0,3}>)")
_HEADING = re.compile(r"(#{1,6})(?:[ \t]+|$)")
_RULE = re.compile(r"([-*_])[ \t]*(?:\1[ \t]*){2,}+$")
_UNDERLINE = re.compile(r"(?:=+|-{2,})[ \t]*$")
_ITEM = re.compile(r"([-*+]|(\d{1,9})[.)])(?:[ \t]+(?:\[[ xX/<>!?*-]\][ \t]+)?|$)")
_QUOTED = re.compile(r"(?:>[ \t]?)+(?:\[![^\[\]\n]+\][+-]?[ \t]*)?")
_DEFINITION = re.compile(r"\[(?!\^)[^\[\]\n]+\]:[ \t]*\S")
_LEAD = re.compile(r"\[\^[^\[\]\s]+\]:[ \t]*|\[![^\[\]\n]+\][+-]?[ \t]*")
SEPARATOR = re.compile(r"[> \t]*\|?[ \t]*:?-++:?[ \t]*(?:\|[ \t]*:?-++:?[ \t]*)*+\|?[ \t]*$", re.M)
_ROWS = re.compile(r"(?:\n[^\n|]*\|[^\n]*)*+")
_HTML = re.compile(r"<(pre|script|style)\b", re.I)
_MATHS = re.compile(r"\\begin\{((?:equation|align|aligned|gather|multline|eqnarray|cases)\*?)\}")
_DRAWER = re.compile(r":(?:LOGBOOK|PROPERTIES):[ \t]*$")
_ORG = re.compile(r"#\+(?:(BEGIN|begin)_(QUERY|SRC|EXAMPLE|query|src|example)\b|\w+)")
_OPENER = re.compile(r"%%|<!--|\$\$[ \t]*$", re.M)
_TRAIL = re.compile(r"[ \t.,;]*")
_BLANK = re.compile(r"\n[ \t>]*(?=\n)")

# What stands for something else, or shows what stands elsewhere: links, Logseq's `((…))` and `{{…}}`, the size of an image.
_MACRO = rf"\(\({UUID}\)\)|\{{\{{[a-z][\w-]*[ \t][^{{}}\n]*\}}\}}|\{{:[^{{}}\n]*\}}"
LINK = re.compile(
    r"!?\[\[[^\[\]\n]*\]\]|!?\[[^\[\]\n]*\]\((?:\(\([\w-]+\)\)|(?:[^()\n]|\([^()\n]*\))*+)\)"
    rf"|<?https?://[^\s<>]*[^\s<>.,;:!?)\]*_]>?|{_MACRO}"
)
_LINKS_ONLY = re.compile(rf"(?:{LINK.pattern}|[\s,;|·•.–—-])++$")


@dataclass(frozen=True, slots=True)
class Block:
    """A run of lines. `kind` is heading, paragraph, list (one item), quote, table, code, math, comment, definition,
    field (a typed link on a line of its own), property (another `key:: value`, or what Logseq plans with), links (a line of
    nothing but links) or rule; `body` is where its words begin, after markers; `path` the headings above it, itself
    included; `level` 1 to 6 for a heading, 0 for one within a list and for all else."""

    kind: str
    start: int
    end: int
    body: int
    path: tuple[str, ...]
    level: int = 0


@lru_cache(maxsize=4)
def blocks(text: str) -> tuple[Block, ...]:
    """The blocks of a Markdown body in order. They do not overlap; only white space and bare `>` lie between them."""
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.out: list[Block] = []
        self.headings: list[tuple[int, str]] = []
        self.path: tuple[str, ...] = ()
        self.kind, self.start, self.end, self.body = "", 0, 0, 0
        self.quoted, self.blank = False, True
        self.columns: list[int] = []  # where the words of the open list items begin, outermost first
        self.absent: set[str] = set()  # closers known not to come any more
        self.mark = -1  # where the next of what may open such stands
        self.inside = 0  # up to where a comment or formula that opened in mid-line is known to reach
        self.checked = -1  # the end of a line in which nothing opens any more but what `self.spans` hold
        self.spans: list[tuple[int, int]] = []

    def run(self) -> tuple[Block, ...]:
        pos, length = 0, len(self.text)
        while pos < length:
            eol = self.text.find("\n", pos)
            eol = length if eol < 0 else eol
            cut = self.opened(pos, eol)
            after = self.line(pos, eol if cut < 0 else cut)
            if 0 <= cut < after <= cut + 1:  # the line was taken up to there
                after = self.region(cut, eol, cut)
            pos = after
        self.close()
        return tuple(self.out)

    def opened(self, pos: int, eol: int) -> int:
        """Where in mid-line a comment or display formula opens that ends only beyond a blank line, or -1: one that ends
        within its paragraph is a part of it."""
        text, pos = self.text, max(pos, self.inside)
        if self.mark < pos:
            self.mark = m.start() if (m := _OPENER.search(text, pos)) else len(text)
        if self.mark >= eol or (self.checked == eol and not is_within(self.spans, pos)):
            return -1
        hidden, lead = opaque_spans(text, pos, eol), _LINE.match(text, pos, eol)
        for m in _OPENER.finditer(text, pos, eol):
            i = bisect_right(hidden, m.start(), key=lambda span: span[0]) - 1
            if (i >= 0 and m.start() < hidden[i][1]) or (lead and m.start() == lead.end()):
                continue
            end = self.find({"<": "-->", "%": "%%", "$": "$$"}[m[0][0]], m.end())
            if end < 0 or (m[0][0] == "$" and not FORMULA.search(text, m.end(), end - 2)):
                continue
            if _BLANK.search(text, m.end(), end):
                return m.start()
            self.inside = end
            return -1
        self.checked, self.spans = eol, hidden
        return -1

    def emit(self, kind: str, start: int, end: int, body: int = -1, level: int = 0) -> None:
        self.close()
        self.out.append(Block(kind, start, end, start if body < 0 else body, self.path, level))
        self.blank = True

    def close(self) -> None:
        if self.kind:
            self.out.append(Block(self.kind, self.start, self.end, self.body, self.path))
            self.kind = ""

    def open(self, kind: str, start: int, end: int, body: int) -> None:
        self.close()
        self.kind, self.start, self.end, self.body = kind, start, end, body
        self.blank = False

    def line(self, pos: int, eol: int) -> int:
        """Take the line at `pos`; where the next one begins."""
        m = _LINE.match(self.text, pos, eol)
        assert m is not None
        at, quoted = m.end(), m.end(1) > pos
        if quoted != self.quoted:
            self.close()
            self.columns.clear()
            self.quoted, self.blank = quoted, True
        if at >= eol:
            self.close()
            self.blank = True
            return eol + 1
        column = len(m[2].expandtabs(4))
        first = self.text.index(">", pos) if quoted else at
        inside = self.columns[at_most - 1] if (at_most := bisect_right(self.columns, column)) else 0
        if column >= inside + 4 and (self.kind == "code" or (not self.kind and self.blank)):
            if not (self.columns and _ITEM.match(self.text, at, eol)):
                if self.kind == "code":
                    self.end = eol
                else:
                    self.open("code", first, eol, at)
                return eol + 1
        elif self.kind == "code":
            self.close()
        if not self.text[at].isalpha():
            after = self.marked(at, eol, first, column)
            if after >= 0:
                return after
        return self.prose(at, eol, first, column)

    def marked(self, at: int, eol: int, first: int, column: int) -> int:
        """A line that opens with punctuation or a digit: where the next begins, or -1 when it is prose after all."""
        text = self.text
        if (after := self.region(at, eol, first)) >= 0:
            return after
        if m := _HEADING.match(text, at, eol):
            self.heading(len(m[1]), first, eol, m.end())
        elif self.kind == "paragraph" and _UNDERLINE.match(text, at, eol) and self.end - self.start <= 200:
            start, self.kind = self.start, ""
            self.heading(1 if text[at] == "=" else 2, start, eol, self.body)
        elif _RULE.match(text, at, eol):
            self.emit("rule", first, eol)
            self.columns.clear()
        elif (m := _ITEM.match(text, at, eol)) and (not self.kind or self.columns or m[2] in (None, "1")):
            while self.columns and self.columns[-1] > column:
                self.columns.pop()
            self.columns.append(column + len(m[1]) + 1)
            if m.end() < eol and (after := self.region(m.end(), eol, first)) >= 0:
                return after
            if title := _HEADING.match(text, m.end(), eol):
                self.emit("heading", first, eol, title.end())
            elif not self.field(m.end(), eol, first, "list"):
                words = _QUOTED.match(text, m.end(), eol)
                self.open("list", first, eol, words.end() if words else m.end())
        elif not self.kind and _DEFINITION.match(text, at, eol):
            self.emit("definition", first, eol, at)
        elif m := _LEAD.match(text, at, eol):
            self.open("quote" if self.quoted else "paragraph", first, eol, m.end())
            if text[at + 1] == "!":
                self.close()
        else:
            return -1
        return eol + 1

    def heading(self, level: int, start: int, end: int, body: int) -> None:
        self.close()
        words = self.text[body:end].split("\n")[0].strip().rstrip("#")
        self.headings = [h for h in self.headings if h[0] < level] + [(level, plain(words))]
        self.path = tuple(title for _, title in self.headings)
        self.emit("heading", start, end, body, level)
        self.columns.clear()

    def region(self, at: int, eol: int, first: int) -> int:
        """A fence, a comment, raw HTML or a display formula that opens at `at` is emitted; where it ends, or -1."""
        text, kind, end = self.text, "code", -1
        if m := _FENCE.match(text, at, eol):
            fence = m[1] or m[2]
            out = _UNQUOTED.search(text, eol) if self.quoted else None
            limit = out.start() if out else len(text)
            done = re.compile(rf"\n[> \t]*{fence[0]}{{{len(fence)},}}[ \t]*(?=\n|\Z)").search(text, eol, limit)
            end = done.end() if done else limit
        elif text.startswith("<!--", at):
            kind, end = "comment", self.find("-->", at + 4)
            end = len(text) if end < 0 else end
        elif text.startswith("%%", at):
            kind, end = "comment", self.find("%%", at + 2)
        elif text.startswith("$$", at):
            kind, end = "math", self.find("$$", at + 2)
            if end <= eol and text[end:eol].strip(" \t.,;"):
                return -1
        elif text.startswith("\\[", at):
            kind, end = "math", self.find("\\]", at + 2)
            alone = not text[at + 2 : eol].strip()
            if not alone and (text[end:eol].strip(" \t.,;") or not FORMULA.search(text, at + 2, min(eol, max(end - 2, at)))):
                return -1
        elif m := _MATHS.match(text, at, eol):
            kind, end = "math", self.find(f"\\end{{{m[1]}}}", m.end())
        elif _DRAWER.match(text, at, eol):
            kind, end = "comment", self.find(":END:", eol)
        elif m := _ORG.match(text, at, eol):
            kind, end = "comment", eol
            if m[1]:
                kind, end = "code", self.find(f"#+{'END' if m[1] == 'BEGIN' else 'end'}_{m[2]}", eol)
        elif m := _HTML.match(text, at, eol):
            end = self.find(f"</{m[1]}>", m.end())
        if end < 0:
            return -1
        if (m := _TRAIL.match(text, end, max(eol, end))) and m.end() >= eol:
            end = max(eol, end)
        self.emit(kind, first, end)
        return end

    def find(self, closer: str, start: int) -> int:
        at = -1 if closer in self.absent else self.text.find(closer, start)
        if at < 0:
            self.absent.add(closer)
            return -1
        return at + len(closer)

    def prose(self, at: int, eol: int, first: int, column: int) -> int:
        text = self.text
        if text.find("|", at, eol) >= 0 and (m := SEPARATOR.match(text, eol + 1)) and "|" in m[0]:
            rows = _ROWS.match(text, m.end())
            end = rows.end() if rows else m.end()
            self.emit("table", first, end, at)
            return end + 1
        if self.field(at, eol, first, "quote" if self.quoted else "paragraph"):
            return eol + 1
        links = text[at] in "![<h{(" and _LINKS_ONLY.match(text, at, eol)
        if self.kind == "links" and not links and text[at].islower():
            self.kind = "quote" if self.quoted else "paragraph"  # a sentence that begins with a link, wrapped
        if self.kind and self.kind != "links" and not (links and text[self.end - 1] in ".!?:"):
            self.end = eol
        elif links:
            self.open("links", first, eol, at)
        elif self.blank and self.columns and column >= self.columns[0]:
            self.open("list", first, eol, at)
        else:
            self.columns.clear()
            self.open("quote" if self.quoted else "paragraph", first, eol, at)
        return eol + 1

    def field(self, at: int, eol: int, first: int, kind: str) -> bool:
        """Whether the words at `at` are `key:: value`, which is then emitted; as `kind` where the value is a sentence."""
        text = self.text
        if text.find(":", at, eol) < 0:
            return False
        if FIELD.match(text, at, eol):
            self.emit("field", first, eol, at)
        elif m := PROPERTY.match(text, at, eol):
            says = m[1].lower() not in _NAMING and _SAYS.match(text, m.end(), eol)
            self.emit(kind if says else "property", first, eol, m.end() if says else at)
        elif _PLANNED.match(text, at, eol):
            self.emit("property", first, eol, at)
        else:
            return False
        return True


_WIKI = re.compile(r"!?\[\[([^\[\]\n|]*?)\\?(?:\|([^\[\]\n]*))?\]\]")
_INLINE = re.compile(r"!?\[([^\[\]]*)\](?:\((?:[^()\n]|\([^()\n]*\))*+\)|\[[^\[\]\n]*\])")
_DROPPED = re.compile(
    r"</?[a-zA-Z][^<>\n]*>|\[\^[^\[\]\s]+\]:?|\^\[[^\[\]\n]*\]|(?<=\s)\^[\w-]+[ \t]*$"
    r"|^[ \t]*(?:>[ \t]?)+(?:\[![^\[\]\n]+\][+-]?)?",
    re.M,
)
_MACROS = re.compile(_MACRO)
_STARTS = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|(?:[-*+]|\d{1,9}[.)])[ \t]+(?:\[[ xX/<>!?*-]\][ \t]+)?)", re.M)
_STRONG = re.compile(r"\*\*|~~|==(?=\S)|(?<=\S)==|(?<!\w)__(?=\S)|(?<=\S)__(?!\w)")
_STRESS = re.compile(r"(?<![\w*])\*(?=[^\s*])|(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)")
_EMBEDDED_FILE = re.compile(r"\.[a-z]\w{1,4}\s*$", re.I)
_ADDRESS = re.compile(r"<(https?://[^<>\s]+)>")


def plain(text: str) -> str:
    """The same words for reading: links as what they show, marks of emphasis, code, quotes and lists dropped, escapes
    and entities resolved, comments gone, white space collapsed. Formulas stay as written."""
    if text.replace(" ", "").isalnum():
        return " ".join(text.split())
    kept: list[str] = []
    parts: list[str] = []
    pos = 0
    for start, end in opaque_spans(text):
        piece, mark = text[start:end], text[start]
        if mark == "`":
            piece = piece.strip("`").strip()
        elif mark == "\\" and len(piece) == 2:
            if piece == "\\|" and "[[" in text[max(0, start - 200) : start]:
                continue
            piece = piece[1:]
        elif mark in "<%":
            piece = ""
        kept.append(piece)
        parts += (text[pos:start], "\ue000")
        pos = end
    words = "".join((*parts, text[pos:]))
    words = _WIKI.sub(_shown, words) if "[[" in words else words
    words = _MACROS.sub("", words) if "((" in words or "{" in words else words
    words = _INLINE.sub(r"\1", words) if "[" in words else words
    words = _DROPPED.sub("", _ADDRESS.sub(r"\1", words))
    words = _STRESS.sub("", _STRONG.sub("", _STARTS.sub("", words)))
    words = html.unescape(words) if "&" in words else words
    if kept:
        rest = iter(kept)
        words = re.sub("\ue000", lambda _: next(rest, ""), words)
    return " ".join(words.split())


def _shown(m: re.Match[str]) -> str:
    target, _, anchor = m[1].partition("#")
    if m[0][0] == "!" and _EMBEDDED_FILE.search(target):
        return ""
    if m[2]:
        return m[2].strip()
    return " > ".join(p for p in (target.strip(), "" if anchor.startswith("^") else anchor.strip()) if p)
