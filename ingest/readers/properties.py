"""Metadata of a note outside its front matter, as in Logseq and Obsidian: page properties, block ids, tags, file names."""

from __future__ import annotations

import datetime
import re
from bisect import bisect_right
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import unquote

from kb.markdown.blocks import FIELD, LINK, PROPERTY, UUID, Block, blocks, plain
from kb.markdown.opaque_spans import opaque_spans
from kb.markdown.sentences import TAG
from kb.notes import NoteKind

_MAX_HEAD_LINES = 200
_MAX_TAGS = 1000
_KINDS = {kind.value for kind in NoteKind}
_BLOCK_PROPERTIES = frozenset(("id", "collapsed", "links", "claims"))  # of blocks, or with another syntax in front matter
_LIST_PROPERTIES = frozenset(("alias", "aliases", "tag", "tags"))
_TITLE_LINE = re.compile(r"#[ \t]")
_LIST_ENTRY = re.compile(r"#?\[\[([^\[\]]+)\]\]|#([^\s,]+)|([^,\s][^,]*)")
_BLOCK_ID = re.compile(rf"^[ \t]*(?:[-*+][ \t]+)?id::[ \t]+({UUID})[ \t]*$", re.M)
_NO_TAGS = frozenset(("code", "math", "comment", "rule", "definition", "heading"))
_COLOR = re.compile(r"(?i)(?=\D*\d|([a-f])\1+$)(?:[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8})")
_JOURNAL = re.compile(r"(\d{4})([-_])(\d\d)\2(\d\d)")
_NAMESPACE = re.compile(r"(?<=[^_])___(?=[^_])")
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")


def page_properties(body: str) -> dict[str, str | list[str]]:
    """The `key:: value` lines at the beginning of a body, plain or in its first bullet, below an optional title. Keys are in
    lower case; aliases and tags are lists, other values text without markup. Typed links are omitted."""
    properties: dict[str, str | list[str]] = {}
    if "::" not in body[:4000]:
        return properties
    for line in islice(body[:40_000].split("\n"), _MAX_HEAD_LINES):
        stripped = line.strip()
        if not stripped or stripped == "-" or (not properties and _TITLE_LINE.match(stripped)):
            continue
        stripped = stripped.removeprefix("- ").lstrip()
        m = PROPERTY.match(stripped)
        if FIELD.match(stripped) or (m and m[1].lower() in _BLOCK_PROPERTIES):
            continue
        if m is None:
            break
        key, value = m[1].lower(), stripped[m.end() :].strip()
        names = [next(filter(None, part.groups())).strip() for part in _LIST_ENTRY.finditer(value)]
        properties[key] = list(filter(None, names)) if key in _LIST_PROPERTIES else plain(value)
    kind = str(properties.get("type", "")).lower()
    return {"kind": kind, **properties} if kind in _KINDS - {NoteKind.STUB} else properties


def block_ids(body: str) -> tuple[str, ...]:
    """The references `((…))` to the blocks that have an `id::`."""
    if "id::" not in body:
        return ()
    return tuple(dict.fromkeys(f"(({m[1].lower()}))" for m in _BLOCK_ID.finditer(body)))


def title_from_filename(path: str) -> tuple[str, tuple[str, ...]]:
    """The title encoded in a file's name, and further names: `A___B` and `A%2FB` are `A/B`; `journals/2024_05_01` is
    2024-05-01, which Logseq also calls May 1st, 2024."""
    file = PurePosixPath(path)
    stem = title = file.stem
    if file.parent.name == "journals" and (m := _JOURNAL.fullmatch(stem)):
        try:
            day = datetime.date(int(m[1]), int(m[3]), int(m[4]))
        except ValueError:
            return title, ()
        suffix = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        names = (f"{_MONTHS[day.month - 1][:n]} {day.day}{suffix}, {day.year:04}" for n in (3, 9))
        return day.isoformat(), tuple(dict.fromkeys(names))
    if _ESCAPED.search(stem):
        title = unquote(stem)
    title = _NAMESPACE.sub("/", title)
    if not title.strip() or "\ufffd" in title or not title.isprintable():
        title = stem
    return title, (title,) if title != stem else ()


def inline_tags(body: str) -> list[str]:
    """The `#tags` in the text, in order, without repetition (ignoring case). Code, formulas, comments, links, addresses and
    headings contain no tags; numbers and colors are none."""
    tags: dict[str, str] = {}
    for block in blocks(body) if "#" in body else ():
        if block.kind in _NO_TAGS or body.find("#", block.body, block.end) < 0:
            continue
        for name in _tags_of(body, block):
            tags.setdefault(name.casefold(), name)
        if len(tags) > _MAX_TAGS:
            break
    return list(islice(tags.values(), _MAX_TAGS))


def _tags_of(body: str, block: Block) -> list[str]:
    excluded: list[tuple[int, int]] | None = None
    tags: list[str] = []
    for m in TAG.finditer(body, block.body, block.end):
        name = (m[1] or m[2]).strip().rstrip("/")
        if name.replace("/", "").isdigit() or not name.strip("/_-") or _COLOR.fullmatch(name):
            continue
        if excluded is None:
            links = (link.span() for link in LINK.finditer(body, block.body, block.end))
            excluded = sorted([*opaque_spans(body, block.body, block.end), *links])
            starts = [start for start, _ in excluded]
        i = bisect_right(starts, m.start())
        if not any(m.start() < end for _, end in excluded[max(0, i - 2) : i]):
            tags.append(name)
    return tags


_MONTHS = "January February March April May June July August September October November December".split()
