"""Finds titles that running text mentions without link syntax: questions, and names of works. They may not be notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from kb.markdown.blocks import blocks
from kb.markdown.opaque_spans import opaque_spans
from kb.notes import WrittenLink

_QUESTION = re.compile(
    r"\b(?:Do|Does|Did|Can|Could|Should|Would|Is|Are|Was|Were|Has|Have|Why|How|What|When|Where|Which|Who|Whose|Whom)\b"
)
_MAX_TITLE = 300  # characters of a title
_MAX_NAMES = 500  # each is searched in all of the prose
_BOUNDARY = re.compile(r"[.!…][\"'”’)\]]*\s+|\?[\"'”’)\]]*(?=\s)|\n\s*\n|\r\n?\s*\r")
_REFERENCE_MARK = re.compile(r"[\"'”’]?[.,;:)\]—–]|\s+[—–]\s")
_SEE = re.compile(r"\b(?:see|see also|cf\.?)\s+[\"'“‘]?$", re.I)


def find_titles(text: str, start: int, end: int) -> list[tuple[int, int, bool]]:
    """The questions in `text[start:end]` that are titles within a sentence, in order: (start, end, is_reference).

    `is_reference`: punctuation follows that an ordinary question would not have (`…a note asks Does it last?.`). A question
    counts when it begins with a capital within a sentence, or at the beginning of one when it is a reference.
    """
    spans: list[tuple[int, int, bool]] = []
    after = start
    for mark in re.compile(r"\?").finditer(text, start, end):
        low = max(after, mark.end() - _MAX_TITLE)
        sentence_start = low if low == after else -1  # -1: too far away to know
        for boundary in _BOUNDARY.finditer(text, low, mark.start()):
            sentence_start = boundary.end()
        low = max(low, sentence_start)
        is_reference = bool(_REFERENCE_MARK.match(text, mark.end(), end))
        for m in _QUESTION.finditer(text, low, mark.start()):
            before = text[max(start, m.start() - 40) : m.start()]
            leading = not text[low : m.start()].strip("\"'“‘(*_ \t\r\n") and low == sentence_start
            quoted = before.endswith(('"', "'", "“", "‘")) or before.rstrip().endswith(":")
            if _SEE.search(before) or is_reference or not (leading or quoted):
                spans.append((m.start(), mark.end(), is_reference))
                break
        after = mark.end()
    return spans


def find_names(text: str, start: int, end: int, names: Iterable[str]) -> list[tuple[int, int]]:
    """The first occurrence in `text[start:end]` of each title with at least three words."""
    spans = []
    for name in islice(names, _MAX_NAMES):
        if name.count(" ") > 1:
            m = re.compile(r"\s+".join(map(re.escape, name.split()))).search(text, start, end)
            spans += [m.span()] if m else []
    return spans


_KIND_OF_WORK = re.compile(
    r"\b(?:works?|papers?|stud(?:y|ies)|methods?|approach(?:es)?|algorithms?|techniques?|frameworks?|models?|benchmarks?|books?"
    r"|articles?|reports?|essays?|tools?|data ?sets?|corpora|mechanisms?|surveys?|programs?|packages?|librar(?:y|ies)"
    r"|catalog(?:ue)?s?|proposals?|novels?|objectives?|tests?|architectures?)\b",
    re.I,
)
_INTRODUCTION = re.compile(
    r"\b(?P<in>(?:proposed|introduced|described|presented|published|developed) in)\s"
    r"|\b(?:such as|like|called|named|titled|entitled|known as)\s"
)
_TOKEN = r"[A-Z][\w@+*'’-]*(?:\.\d[\w.]*\w)?|(?<=\s)\d+(?:\.\d+)?\b"
_NAME = re.compile(
    rf"(?:{_TOKEN})(?:[ \t]+(?:(?:of|for|in|on|to|with|from|the|and the|a|an|via)[ \t]+){{0,2}}(?:{_TOKEN})){{0,11}}"
)
_QUOTED = re.compile(r"[\"“‘*_]{1,2}(?P<name>[^\"“”‘’*_\n\[\]]{2,200}?),?[\"”’*_]{1,2}")
_NEXT = re.compile(r"\s*(?:,\s*(?:and\s+|or\s+)?|\s(?:and|or)\s+)")
_INNER = re.compile(r"[a-z0-9@+].*[A-Z0-9@]|[A-Z]{2,}.*[a-z@0-9]|@")
_DATES = frozenset(
    "January February March April May June July August September October November December Section Chapter Figure Table".split()
)
_PEOPLE = re.compile(r"\s+(?:et al\b|and colleagues\b|and co-?workers\b)")


def named_works(text: str) -> tuple[WrittenLink, ...]:
    """Mentions of works that a text names explicitly (`methods such as A Long Name or ShortOne`, `proposed in "A Title"`), in
    text order. A name is quoted, has two capitalized words, or is spelled unlike ordinary words, and the sentence states the
    kind of work. `text[start:end]` is the name."""
    spans: list[WrittenLink] = []
    for block in blocks(text):
        if block.kind not in ("paragraph", "list", "quote") or not _INTRODUCTION.search(text, block.body, block.end):
            continue
        opaque = opaque_spans(text, block.body, block.end)
        for start, end in _names(text, block.body, block.end):
            if not any(s < end and start < e for s, e in opaque) and (not spans or start >= spans[-1].end):
                spans.append(WrittenLink(text[start:end], start=start, end=end))
    return tuple(spans)


def _names(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for introduction in _INTRODUCTION.finditer(text, start, end):
        sentence = re.split(r"[.!?]\s", text[max(start, introduction.start() - 120) : introduction.start()])[-1]
        if not introduction["in"] and not _KIND_OF_WORK.search(sentence):
            continue
        position = introduction.end()
        while name := _name(text, position, end):
            if not _PEOPLE.match(text, name[1], end):
                yield name[:2]
            separator = _NEXT.match(text, name[2], end)
            if not separator:
                break
            position = separator.end()


def _name(text: str, position: int, end: int) -> tuple[int, int, int] | None:
    """The span of the name of a work at `position`, and the end including its quotation marks."""
    if m := _QUOTED.match(text, position, end):
        words = [word for word in m["name"].split() if len(word) > 3]
        if words and 2 * sum(not word[0].islower() for word in words) > len(words) and m["name"][0].isupper():
            return (*m.span("name"), m.end())
        return None
    if m := _NAME.match(text, position, end):
        words = m[0].split()
        proper = [word for word in words if word[0].isupper()]
        if proper and proper[0] not in _DATES and (len(proper) > 1 or _INNER.search(words[0])):
            return m.start(), m.end(), m.end()
    return None
