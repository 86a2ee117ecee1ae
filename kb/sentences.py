"""The prose of a Markdown body: its blocks, what in them is not prose, its sentences, and its words without markup.

Knows nothing about notes, files or links between notes. Every offset is a `str` index into the text given, half-open.
Every function is linear in the length of its text, whatever the text.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from kb.notes import LinkType

_TYPES = "|".join(t.value.replace("_", "[ _-]") for t in LinkType)
FIELD = re.compile(rf"(?i:[*_]*({_TYPES})[*_]*[ \t]*::[*_]*[ \t]*)")

_LINE = re.compile(r"((?: {0,3}>[ \t]?)*)([ \t]*)")
_FENCE = re.compile(r"(`{3,})[^`\n]*$|(~{3,})")
_UNQUOTED = re.compile(r"\n(?! {0,3}>)")
_HEADING = re.compile(r"(#{1,6})(?:[ \t]+|$)")
_RULE = re.compile(r"([-*_])[ \t]*(?:\1[ \t]*){2,}+$")
_UNDERLINE = re.compile(r"(?:=+|-{2,})[ \t]*$")
_ITEM = re.compile(r"([-*+]|(\d{1,9})[.)])(?:[ \t]+(?:\[[ xX]\][ \t]+)?|$)")
_DEFINITION = re.compile(r"\[(?!\^)[^\[\]\n]+\]:[ \t]*\S")
_LEAD = re.compile(r"\[\^[^\[\]\s]+\]:[ \t]*|\[![\w-]+\][+-]?[ \t]*")
_SEPARATOR = re.compile(r"[> \t]*\|?[ \t]*:?-++:?[ \t]*(?:\|[ \t]*:?-++:?[ \t]*)*+\|?[ \t]*$", re.M)
_ROWS = re.compile(r"(?:\n[^\n|]*\|[^\n]*)*+")
_HTML = re.compile(r"<(pre|script|style)\b", re.I)

_LINK = re.compile(
    r"!?\[\[[^\[\]\n]*\]\]|!?\[[^\[\]\n]*\]\((?:[^()\n]|\([^()\n]*\))*+\)|<?https?://[^\s<>]*[^\s<>.,;:!?)\]*_]>?"
)
_LINKS_ONLY = re.compile(rf"(?:{_LINK.pattern}|[\s,;|·•.–—-])++$")
_MARK = re.compile(r"\\[!-/:-@\[-`{-~]|`+|\$\$?|<!--|%%|\ue000")
_DOLLAR = re.compile(r"(?<![\s\\$])\$(?![\d$])")


@dataclass(frozen=True, slots=True)
class Block:
    """A run of lines. `kind` is heading, paragraph, list (one item), quote, table, code, math, comment, definition,
    field (a typed link on a line of its own), links (a line of nothing but links) or rule; `body` is where its words
    begin, after markers; `path` the headings above it, itself included; `level` 1 to 6 for a heading, else 0."""

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

    def run(self) -> tuple[Block, ...]:
        pos, length = 0, len(self.text)
        while pos < length:
            eol = self.text.find("\n", pos)
            pos = self.line(pos, length if eol < 0 else eol)
        self.close()
        return tuple(self.out)

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
        inside = next((c for c in reversed(self.columns) if c <= column), 0)
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
            if FIELD.match(text, m.end(), eol):
                self.emit("field", first, eol, m.end())
            else:
                self.open("list", first, eol, m.end())
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
        elif m := _HTML.match(text, at, eol):
            end = self.find(f"</{m[1]}>", m.end())
        if end < 0:
            return -1
        if not text[end : max(eol, end)].strip(" \t.,;"):
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
        if text.find("|", at, eol) >= 0 and (m := _SEPARATOR.match(text, eol + 1)) and "|" in m[0]:
            rows = _ROWS.match(text, m.end())
            end = rows.end() if rows else m.end()
            self.emit("table", first, end, at)
            return end + 1
        if FIELD.match(text, at, eol):
            self.emit("field", first, eol, at)
            return eol + 1
        links = text[at] in "![<h" and _LINKS_ONLY.match(text, at, eol)
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


def opaque(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The spans between `start` and `end` that are not prose though they stand in it, in order: inline code, formulas,
    comments and backslash escapes (two characters). Spans do not overlap."""
    stop, pos = len(text) if end is None else end, start
    spans: list[tuple[int, int]] = []
    absent: set[str] = set()
    ticks: dict[int, list[int]] = {}
    while m := _MARK.search(text, pos, stop):
        mark, pos, close = m[0], m.end(), -1
        if mark[0] in "\\\ue000":
            close = pos
        elif mark[0] == "`":
            if not ticks:
                for run in re.compile("`+").finditer(text, m.start(), stop):
                    ticks.setdefault(len(run[0]), []).append(run.start())
            same = ticks[len(mark)]
            i = bisect_right(same, m.start())
            close = same[i] + len(mark) if i < len(same) else -1
        elif mark not in absent:
            if mark == "$":
                if pos >= stop or text[pos].isspace():
                    continue
                done = _DOLLAR.search(text, pos + 1, stop)
                close = done.end() if done else -1
            else:
                closer = "-->" if mark == "<!--" else mark
                close = text.find(closer, pos, stop)
                close = close + len(closer) if close >= 0 else -1
            if close < 0:
                absent.add(mark)
        if close >= 0:
            spans.append((m.start(), close))
            pos = close
    return spans


_WIKI = re.compile(r"!?\[\[([^\[\]\n|]*?)\\?(?:\|([^\[\]\n]*))?\]\]")
_INLINE = re.compile(r"!?\[([^\[\]]*)\](?:\((?:[^()\n]|\([^()\n]*\))*+\)|\[[^\[\]\n]*\])")
_DROPPED = re.compile(
    r"</?[a-zA-Z][^<>\n]*>|\[\^[^\[\]\s]+\]:?|(?<=\s)\^[\w-]+[ \t]*$|^[ \t]*(?:>[ \t]?)+(?:\[![\w-]+\][+-]?)?", re.M
)
_STARTS = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|(?:[-*+]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?)", re.M)
_STRONG = re.compile(r"\*\*|~~|==(?=\S)|(?<=\S)==|(?<!\w)__(?=\S)|(?<=\S)__(?!\w)")
_STRESS = re.compile(r"(?<![\w*])\*(?=[^\s*])|(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)")
_EMBEDDED_FILE = re.compile(r"\.[a-z]\w{1,4}\s*$", re.I)
_ADDRESS = re.compile(r"<(https?://[^<>\s]+)>")


def plain(text: str) -> str:
    """The same words for reading: links as what they show, marks of emphasis, code, quotes and lists dropped, escapes
    and entities resolved, comments gone, white space collapsed. Formulas stay as written."""
    kept: list[str] = []
    parts: list[str] = []
    pos = 0
    for start, end in opaque(text):
        piece, mark = text[start:end], text[start]
        if mark == "`":
            piece = piece.strip("`").strip()
        elif mark == "\\":
            if piece == "\\|" and "[[" in text[max(0, start - 200) : start]:
                continue
            piece = piece[1:]
        elif mark in "<%":
            piece = ""
        kept.append(piece)
        parts += (text[pos:start], "\ue000")
        pos = end
    words = "".join((*parts, text[pos:]))
    words = _INLINE.sub(r"\1", _WIKI.sub(_shown, words)) if "[" in words else words
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


_STOP = re.compile(
    r"(?<![.!?…])[.!?…]++(?:[\"'”’»)\]*_]|\[\^?[\w,-]{1,20}\])*+(?=\s|\Z)|[。！？]++[」』”’）)]*+"
)
_WORD_BEFORE = re.compile(r"[\w.]+\Z")
_NOT_YET = re.compile(r"[\s>\"'“‘«(\[*_]*+")
_NEVER = re.compile(
    "e\\.g|i\\.e|eg|ie|cf|vs|viz|figs?|eqs?|secs?|tab|refs?|app|approx|resp|dr|mrs?|ms|prof|st|ca|incl|esp|dept|univ|est|avg"
    "|std|w\\.r\\.t|s\\.t|ch|vol|eds?"
)
_NUMBERED = re.compile("nos?|pp?|art|nr")
_MAYBE = re.compile(r"[Aa]l|[Ee]tc|[A-Z]|(?:[A-Za-z]{1,2}\.)+[A-Za-z]")  # ends it before a word that begins one
_STARTER = re.compile(
    "th(?:e|is|at|ese|ose|ey|ere|en|us|eir)|its?|in|on|at|as|an?|and|but|if|when|while|we|he|she|you|i|so|such|however|for"
    "|from|to|with|by|our|one|both|each|here|hence|what|why|how|not?|most|some|many|all"
)
_LEFT_OUT = re.compile(r"(?i)(?:\d[\d.]*\s+)?(?:sources?|references?|bibliography|see also|related)\s*:?")
_SPACE = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
_PROSE = frozenset(("paragraph", "list", "quote", "table"))


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text: its exact span, the headings above it joined by ` > `, and the kind of block it stands in
    (`paragraph`, `list`, `quote` or `table`; a row of a table is one sentence)."""

    start: int
    end: int
    heading: str
    block: str


def sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences of a Markdown body's prose, in order, never overlapping, never blank, none across two blocks.

    Left out: headings, code, display formulas, comments, definitions, typed link fields, lines of nothing but links,
    and what stands under a heading such as References or See also."""
    found: list[Sentence] = []
    for block in blocks(text):
        if block.kind not in _PROSE or any(_LEFT_OUT.fullmatch(title) for title in block.path):
            continue
        heading = " > ".join(block.path)
        for start, end in _rows(text, block) if block.kind == "table" else _split(text, block.body, block.end):
            found.append(Sentence(start, end, heading, block.kind))
    return tuple(found)


def _rows(text: str, block: Block) -> Iterator[tuple[int, int]]:
    pos = block.start
    while pos < block.end:
        eol = text.find("\n", pos, block.end)
        eol = block.end if eol < 0 else eol
        row = text[pos:eol]
        words = row.strip("|>" + _SPACE)
        if words and not _SEPARATOR.match(row) and any(map(str.isalnum, words)):
            start = pos + row.index(words)
            yield start, start + len(words)
        pos = eol + 1


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans of the sentences of one block of prose."""
    masked: list[tuple[int, int]] | None = None
    for m in _STOP.finditer(text, start, end):
        if m.end() < end:
            if masked is None:
                masked = sorted(opaque(text, start, end) + [link.span() for link in _LINK.finditer(text, start, end)])
                starts = [s for s, _ in masked]
            i = bisect_right(starts, m.start()) - 1
            if any(m.start() < e for _, e in masked[max(0, i - 2) : i + 1]) or not _ends(text, start, m, end):
                continue
        if span := _prose_span(text, start, m.end()):
            yield span
        start = m.end()
    if span := _prose_span(text, start, end):
        yield span


def _prose_span(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without the white space around it; None when it holds no words but those of links and formulas alone."""
    piece = text[start:end]
    words = piece.lstrip(">" + _SPACE)
    if "\n" not in piece[: len(piece) - len(words)]:  # a `>` is a mark of quotation only where a line begins
        words = piece.lstrip()
    start, words = end - len(words), words.rstrip()
    bare = _LINK.sub("", words) if "[" in words or "://" in words else words
    if bare.startswith("$$") and bare.find("$$", 2) >= 0:
        bare = bare[bare.find("$$", 2) + 2 :]
    says = any(map(str.isalnum, bare)) and not _LEFT_OUT.fullmatch(bare)
    return (start, start + len(words)) if says else None


def _ends(text: str, start: int, m: re.Match[str], end: int) -> bool:
    """Whether the full stop, question mark or the like at `m` ends the sentence that began at `start`."""
    skipped = _NOT_YET.match(text, m.end(), end)
    after = skipped.end() if skipped else m.end()
    if after >= end or m[0][0] in "。！？":
        return True
    following = text[after : after + 40].split(None, 1)[0]
    starts_low = following[0].islower() and not re.search(r"[@\d]", following)
    before = _WORD_BEFORE.search(text[max(start, m.start() - 24) : m.start()])
    if m[0][0] != "." or m[0].startswith("..") or before is None:
        return not starts_low
    token = before[0].lower()
    if _NEVER.fullmatch(token) or (m.start() - start < 12 and text[start : m.start()].strip("> \t\n").isdigit()):
        return False
    if _NUMBERED.fullmatch(token):
        return not following[0].isdigit()
    if _MAYBE.fullmatch(before[0]):
        return bool(_STARTER.fullmatch(following.strip(",;:").lower())) and not starts_low
    return len(token) >= 5 if starts_low else True
