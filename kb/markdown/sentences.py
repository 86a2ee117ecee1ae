"""Splits the prose of a Markdown body into sentences with exact spans (half-open `str` indices), in linear time."""

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
_SENTENCE_PREFIX = re.compile(r"[\s>\"'“‘«(\[*_]*+")
_ABBREVIATION = re.compile(
    "e\\.g|i\\.e|eg|ie|cf|vs|viz|figs?|eqs?|secs?|tab|refs?|app|approx|resp|dr|mrs?|ms|prof|st|ca|incl|esp|dept|univ|est|avg"
    "|std|w\\.r\\.t|s\\.t|ch|vol|eds?"
)
_NUMBER_ABBREVIATION = re.compile("nos?|pp?|art|nr")
_POSSIBLE_END = re.compile(r"[Aa]l|[Ee]tc|[A-Z]|(?:[A-Za-z]{1,2}\.)+[A-Za-z]")  # ends a sentence before a word that begins one
_STARTER = re.compile(
    "th(?:e|is|at|ese|ose|ey|ere|en|us|eir)|its?|in|on|at|as|an?|and|but|if|when|while|we|he|she|you|i|so|such|however|for"
    "|from|to|with|by|our|one|both|each|here|hence|what|why|how|not?|most|some|many|all"
)
_EXCLUDED_HEADING = re.compile(r"(?i)(?:\d[\d.]*\s+)?(?:sources?|references?|bibliography|see also|related)\s*:?")
_EMOJI = "\u200d\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
TAG = re.compile(rf"(?<![^\s(])#(?:\[\[([^\[\]\n|]+)\]\]|([\w/{_EMOJI}-]+))")
_INLINE_FOOTNOTE = re.compile(r"\^\[[^\[\]\n]*\]")
_METADATA = re.compile(rf"[\[(][\w -]{{1,40}}::[^\[\]()\n]*[\])]|{_INLINE_FOOTNOTE.pattern}|{TAG.pattern}")
_BLOCK_ID = re.compile(r"\^[\w-]+")
_LINE_MARKS = re.compile(r"\n[> \t]*\Z")
_WHITE_SPACE = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
_PROSE_BLOCKS = frozenset(("paragraph", "list", "quote", "table"))


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence: its exact span, the headings above it joined by ` > `, and the kind of its block (`paragraph`, `list`,
    `quote` or `table`; a table row is one sentence)."""

    start: int
    end: int
    heading: str
    block: str


def sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences of a Markdown body's prose, in order, not overlapping, not blank, none across two blocks.

    Excludes headings, code, display formulas, comments, definitions, typed link fields, lines that consist of links, and
    sections under headings such as References or See also.
    """
    result: list[Sentence] = []
    for block in blocks(text):
        if block.kind not in _PROSE_BLOCKS or any(_EXCLUDED_HEADING.fullmatch(title) for title in block.path):
            continue
        heading = " > ".join(block.path)
        for start, end in _split_table(text, block) if block.kind == "table" else _split_prose(text, block.body, block.end):
            result.append(Sentence(start, end, heading, block.kind))
    return tuple(result)


def _split_table(text: str, block: Block) -> Iterator[tuple[int, int]]:
    pos = block.start
    while pos < block.end:
        eol = text.find("\n", pos, block.end)
        eol = block.end if eol < 0 else eol
        row = text[pos:eol]
        words = row.strip("|>" + _WHITE_SPACE)
        if words and not SEPARATOR.match(row) and any(map(str.isalnum, words)):
            start = pos + row.index(words)
            yield start, start + len(words)
        pos = eol + 1


def _split_prose(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans of the sentences of one block of prose."""
    protected: list[tuple[int, int]] | None = None
    for m in _STOP.finditer(text, start, end):
        if m.end() < end:
            if protected is None:
                protected = sorted([*opaque_spans(text, start, end), *_find_links(text, start, end)])
                starts = [s for s, _ in protected]
            i = bisect_right(starts, m.start()) - 1
            if any(m.start() < e for _, e in protected[max(0, i - 2) : i + 1]) or not _is_end(text, start, m, end):
                continue
        if span := _prose_span(text, start, m.end()):
            yield span
        start = m.end()
    if span := _prose_span(text, start, end):
        yield span


def _find_links(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans in which a full stop ends no sentence: links and inline footnotes."""
    for pattern in (LINK, _INLINE_FOOTNOTE):
        yield from (m.span() for m in pattern.finditer(text, start, end))


def _prose_span(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without surrounding white space, comments and block id; None when it has no words outside links, formulas,
    tags and fields."""
    piece = text[start:end]
    words = piece.lstrip(">" + _WHITE_SPACE)
    if "\n" not in piece[: len(piece) - len(words)]:  # a `>` marks a quote only at the beginning of a line
        words = piece.lstrip()
    start = end - len(words)
    visible = content = words = _without_id(words.rstrip())
    if "%%" in words or "<!--" in words:
        first, last, content = _uncommented(words)
        visible, start = words[first:last], start + first
    content = LINK.sub("", content) if "[" in content or "://" in content or "((" in content or "{" in content else content
    if content.startswith("$$") and content.find("$$", 2) >= 0:
        content = content[content.find("$$", 2) + 2 :]
    content = _METADATA.sub("", content) if "#" in content or "::" in content or "^[" in content else content
    has_words = any(map(str.isalnum, content)) and not _EXCLUDED_HEADING.fullmatch(content)
    return (start, start + len(visible)) if has_words else None


def _without_id(words: str) -> str:
    """The words without the block id `^id` at their end."""
    at = words.rfind("^")
    if at < 0 or (at and not words[at - 1].isspace()) or not _BLOCK_ID.fullmatch(words, at):
        return words
    return _LINE_MARKS.sub("", words[:at]).rstrip()


def _uncommented(words: str) -> tuple[int, int, str]:
    """The start and end of the words without comments at their ends, and the words without all comments."""
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
    trimmed = words[first:last]
    gaps = zip([first, *(b for _, b in comments)], [*(a for a, _ in comments), last], strict=True)
    return (
        first + len(trimmed) - len(trimmed.lstrip()),
        first + len(trimmed.rstrip()),
        "".join(words[a:b] for a, b in gaps),
    )


def _is_end(text: str, start: int, m: re.Match[str], end: int) -> bool:
    """Whether the full stop, question mark or the like at `m` ends the sentence that began at `start`."""
    skipped = _SENTENCE_PREFIX.match(text, m.end(), end)
    after = skipped.end() if skipped else m.end()
    if after >= end or m[0][0] in "。！？":
        return True
    following = text[after : after + 40].split(None, 1)[0]
    starts_low = following[0].islower() and not re.search(r"[@\d]", following)
    before = _WORD_BEFORE.search(text[max(start, m.start() - 24) : m.start()])
    if m[0][0] != "." or m[0].startswith("..") or before is None:
        return not starts_low
    token = before[0].lower()
    if _ABBREVIATION.fullmatch(token) or (m.start() - start < 12 and text[start : m.start()].strip("> \t\n").isdigit()):
        return False
    if _NUMBER_ABBREVIATION.fullmatch(token):
        return not following[0].isdigit()
    if _POSSIBLE_END.fullmatch(before[0]):
        return bool(_STARTER.fullmatch(following.strip(",;:").lower())) and not starts_low
    return len(token) >= 5 if starts_low else True
