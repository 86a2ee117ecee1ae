"""The sentences of a Markdown body's prose, with their exact spans.

Knows nothing about notes or files. Every offset is a `str` index into the text given, half-open; linear in its length.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from kb.markdown.blocks import LINK, SEPARATOR, Block, blocks
from kb.markdown.opaque_spans import opaque_spans

_STOP = re.compile(
    r"(?<![.!?…؟۔।])[.!?…؟۔।]++(?:[\"'”’»)\]*_]|\[\^?[\w,-]{1,20}\]|[ ]\[\^[\w,-]{1,20}\](?!:))*+(?=\s|\Z)"
    r"|[。！？]++[」』”’）)]*+"
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
_EMOJI = "\u200d\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
TAG = re.compile(rf"(?<![^\s(])#(?:\[\[([^\[\]\n|]+)\]\]|([\w/{_EMOJI}-]+))")
_ASIDE = re.compile(r"\^\[[^\[\]\n]*\]")  # a footnote where it is referred to
_UNSAID = re.compile(rf"[\[(][\w -]{{1,40}}::[^\[\]()\n]*[\])]|{_ASIDE.pattern}|{TAG.pattern}")
_BLOCK_ID = re.compile(r"\^[\w-]+")
_LINE_MARKS = re.compile(r"\n[> \t]*\Z")
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
        if words and not SEPARATOR.match(row) and any(map(str.isalnum, words)):
            start = pos + row.index(words)
            yield start, start + len(words)
        pos = eol + 1


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans of the sentences of one block of prose."""
    masked: list[tuple[int, int]] | None = None
    for m in _STOP.finditer(text, start, end):
        if m.end() < end:
            if masked is None:
                masked = sorted([*opaque_spans(text, start, end), *_held(text, start, end)])
                starts = [s for s, _ in masked]
            i = bisect_right(starts, m.start()) - 1
            if any(m.start() < e for _, e in masked[max(0, i - 2) : i + 1]) or not _ends(text, start, m, end):
                continue
        if span := _prose_span(text, start, m.end()):
            yield span
        start = m.end()
    if span := _prose_span(text, start, end):
        yield span


def _held(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans in which a full stop ends nothing: links, and footnotes written where they are referred to."""
    for held in (LINK, _ASIDE):
        yield from (m.span() for m in held.finditer(text, start, end))


def _prose_span(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without the white space, comments and block id around it; None when it holds no words but those of links,
    formulas, tags and fields alone."""
    piece = text[start:end]
    words = piece.lstrip(">" + _SPACE)
    if "\n" not in piece[: len(piece) - len(words)]:  # a `>` is a mark of quotation only where a line begins
        words = piece.lstrip()
    start = end - len(words)
    shown = bare = words = _without_id(words.rstrip())
    if "%%" in words or "<!--" in words:
        first, last, bare = _uncommented(words)
        shown, start = words[first:last], start + first
    bare = LINK.sub("", bare) if "[" in bare or "://" in bare or "((" in bare or "{" in bare else bare
    if bare.startswith("$$") and bare.find("$$", 2) >= 0:
        bare = bare[bare.find("$$", 2) + 2 :]
    bare = _UNSAID.sub("", bare) if "#" in bare or "::" in bare or "^[" in bare else bare
    says = any(map(str.isalnum, bare)) and not _LEFT_OUT.fullmatch(bare)
    return (start, start + len(shown)) if says else None


def _without_id(words: str) -> str:
    """The words without the `^id` at their end by which a block is linked to."""
    at = words.rfind("^")
    if at < 0 or (at and not words[at - 1].isspace()) or not _BLOCK_ID.fullmatch(words, at):
        return words
    return _LINE_MARKS.sub("", words[:at]).rstrip()


def _uncommented(words: str) -> tuple[int, int, str]:
    """From where to where the words go without the comments at their ends, and they without any comment."""
    comments = [(a, b) for a, b in opaque_spans(words) if words[a] in "<%"]
    first, last = 0, len(words)
    for a, b in comments:
        if words[first:a].strip():
            break
        first = b
    for a, b in reversed(comments):
        if a < first or words[b:last].strip():
            break
        last = a
    kept = words[first:last]
    gaps = zip([first, *(b for _, b in comments)], [*(a for a, _ in comments), last], strict=True)
    return first + len(kept) - len(kept.lstrip()), first + len(kept.rstrip()), "".join(words[a:b] for a, b in gaps)


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
