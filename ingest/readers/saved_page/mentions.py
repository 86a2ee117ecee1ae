"""Notes and works that running text names without link syntax: questions that are titles, proper names of works. Pure.

Knows nothing about which notes exist: what is found here may or may not be the title of one.
"""

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
_LONGEST = 300  # characters of a title
_MOST_NAMES = 500  # each is looked for in all of the prose
_BOUNDARY = re.compile(r"[.!…][\"'”’)\]]*\s+|\?[\"'”’)\]]*(?=\s)|\n\s*\n|\r\n?\s*\r")
_REFERRED = re.compile(r"[\"'”’]?[.,;:)\]—–]|\s+[—–]\s")
_SEE = re.compile(r"\b(?:see|see also|cf\.?)\s+[\"'“‘]?$", re.I)


def find_titles(text: str, start: int, end: int) -> list[tuple[int, int, bool]]:
    """The questions within `text[start:end]` that are titles set into a sentence, in order: their spans, and whether
    punctuation follows that a question of the sentence's own would not have (`…a note asks Does it last?.`).

    A question counts when it opens with a capital in mid-sentence, or at the head of one when such punctuation follows."""
    found: list[tuple[int, int, bool]] = []
    after = start
    for mark in re.compile(r"\?").finditer(text, start, end):
        low = max(after, mark.end() - _LONGEST)
        head = low if low == after else -1  # where the sentence begins, if that is near enough to know
        for boundary in _BOUNDARY.finditer(text, low, mark.start()):
            head = boundary.end()
        low = max(low, head)
        referred = bool(_REFERRED.match(text, mark.end(), end))
        for m in _QUESTION.finditer(text, low, mark.start()):
            before = text[max(start, m.start() - 40) : m.start()]
            leading = not text[low : m.start()].strip("\"'“‘(*_ \t\r\n") and low == head
            quoted = before.endswith(('"', "'", "“", "‘")) or before.rstrip().endswith(":")
            if _SEE.search(before) or referred or not (leading or quoted):
                found.append((m.start(), mark.end(), referred))
                break
        after = mark.end()
    return found


def find_names(text: str, start: int, end: int, names: Iterable[str]) -> list[tuple[int, int]]:
    """Where each of these titles, of at least three words, first stands within `text[start:end]`."""
    found = []
    for name in islice(names, _MOST_NAMES):
        if name.count(" ") > 1:
            m = re.compile(r"\s+".join(map(re.escape, name.split()))).search(text, start, end)
            found += [m.span()] if m else []
    return found


_KIND_OF_WORK = re.compile(
    r"\b(?:works?|papers?|stud(?:y|ies)|methods?|approach(?:es)?|algorithms?|techniques?|frameworks?|models?|benchmarks?|books?"
    r"|articles?|reports?|essays?|tools?|data ?sets?|corpora|mechanisms?|surveys?|programs?|packages?|librar(?:y|ies)"
    r"|catalog(?:ue)?s?|proposals?|novels?|objectives?|tests?|architectures?)\b",
    re.I,
)
_TRIGGER = re.compile(
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
    """The works that a text names in so many words (`methods such as A Long Name or ShortOne`, `proposed in "A Title"`), as
    mentions, in order of place. Conservative: a name is quoted, or has two capitalised words, or is spelt as no ordinary word
    is, and the sentence says what kind of work it is. `text[start:end]` is the name. Only useful where a note bears it."""
    found: list[WrittenLink] = []
    for block in blocks(text):
        if block.kind not in ("paragraph", "list", "quote") or not _TRIGGER.search(text, block.body, block.end):
            continue
        hidden = opaque_spans(text, block.body, block.end)
        for start, end in _names(text, block.body, block.end):
            if not any(s < end and start < e for s, e in hidden) and (not found or start >= found[-1].end):
                found.append(WrittenLink(text[start:end], start=start, end=end))
    return tuple(found)


def _names(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for trigger in _TRIGGER.finditer(text, start, end):
        sentence = re.split(r"[.!?]\s", text[max(start, trigger.start() - 120) : trigger.start()])[-1]
        if not trigger["in"] and not _KIND_OF_WORK.search(sentence):
            continue
        at = trigger.end()
        while name := _name(text, at, end):
            if not _PEOPLE.match(text, name[1], end):
                yield name[:2]
            further = _NEXT.match(text, name[2], end)
            if not further:
                break
            at = further.end()


def _name(text: str, at: int, end: int) -> tuple[int, int, int] | None:
    """The span of the name of a work at `at`, and where what it is set in ends."""
    if m := _QUOTED.match(text, at, end):
        words = [word for word in m["name"].split() if len(word) > 3]
        if words and 2 * sum(not word[0].islower() for word in words) > len(words) and m["name"][0].isupper():
            return (*m.span("name"), m.end())
        return None
    if m := _NAME.match(text, at, end):
        words = m[0].split()
        proper = [word for word in words if word[0].isupper()]
        if proper and proper[0] not in _DATES and (len(proper) > 1 or _INNER.search(words[0])):
            return m.start(), m.end(), m.end()
    return None
