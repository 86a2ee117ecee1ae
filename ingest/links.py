"""Extracts links from text and resolves them to notes, as Obsidian does, except that ambiguous names are never guessed."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote

from kb.markdown.blocks import FIELD, UUID, Block, blocks, plain
from kb.markdown.opaque_spans import opaque_spans
from kb.notes import Link, LinkType, WrittenLink, slug

FORM_OF = "of "  # prefix of the form `of NAME`: a link from the note NAME that another note writes
_NO_LINKS = frozenset(("code", "math", "comment", "rule"))
_EXTERNAL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|//|#|$")
_WEB_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|mailto:|www\.|10\.\d{4,}/", re.I)
_WIKI = re.compile(r"!?\[\[([^\[\]\n]+)\]\]")
_BRACKET = re.compile(r"[\[\]]")
_PAIRED_BRACKET = re.compile(r"[\[\]()]")
_PARENS = r"\((?:[^\s()\\]|\\.)*+\)"
_DESTINATION = re.compile(
    rf"\([ \t]{{0,9}}(?:<([^<>\n]*)>|((?:[^\s()\\<]|\\.|{_PARENS})(?:[^\s()\\]|\\.|{_PARENS})*+))"
    r"(?:\s{1,9}(?:\"[^\"]{0,500}\"|'[^']{0,500}'|\([^()\n]{0,500}\)))?\s{0,9}\)"
)
_DEFINITION = re.compile(r"\[([^\[\]\n]+)\]:[ \t]*(?:<([^<>\n]+)>|([^\s<]\S*))")
_BRACKETED = re.compile(rf"(?<!\[)[\[(][ \t]*{FIELD.pattern}")
_SEPARATOR = re.compile(r"[\s,;&*_]*(?:\band\b[\s*_]*)?")
_NEXT_RUN = re.compile(r";\s*(?=!?\[\[)")
_REASON_START = re.compile(r"[\s,;:.*_(–—-]*(?:because\b[\s:,]*)?", re.I)
_ATTACHMENT = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|bmp|avif|hei[cf]|tiff?|ico|pdf|mp[34]|m4[av]|wav|og[gv]|opus|flac|webm|mov|mkv|avi|3gp|csv|tsv|"
    r"xlsx?|docx?|pptx?|json|jsonl|ya?ml|zip|gz|tar|7z|rar|canvas|base|excalidraw|drawio|ipynb|epub|bib|html?)$",
    re.I,
)
_REFERENCE = re.compile(rf"\(\({UUID}\)\)")
_NOT_IN_FILES = re.compile(r"[<>~:\"|?*\\]")
_FILE = re.compile(r"\.(?!md$|markdown$)[a-z][a-z0-9]{0,9}$|/$", re.I)
_NOTE_ENDING = re.compile(r"\.(?:md|markdown|txt|html?|pdf)$", re.I)
_MARKDOWN = re.compile(r"\.(?:md|markdown)$", re.I)


def extract_links(text: str) -> tuple[WrittenLink, ...]:
    """The links in a Markdown body, in text order; `text[start:end]` is the complete syntax of each. Links within the note
    (`[[#Heading]]`, `[[^block]]`), to the web, and in code, formulas and comments are omitted. Logseq's block reference
    `((…))` is a link to the note that contains the block."""
    links: list[WrittenLink] = []
    definitions: list[Block] = []
    for block in blocks(text):
        if block.kind == "definition":
            definitions.append(block)
        elif block.kind not in _NO_LINKS and any(text.find(mark, block.start, block.end) >= 0 for mark in ("[", "((")):
            spans = _find_links(text, block.body, block.end)
            m = FIELD.match(text, block.body, block.end) if block.kind == "field" else None
            links += _with_type(text, _type(m[1]), spans, block.end) if m else _apply_bracketed_fields(text, block, spans)
    return tuple(_apply_definitions(text, links, definitions) if definitions else links)


def _apply_definitions(text: str, links: list[WrittenLink], definitions: Iterable[Block]) -> list[WrittenLink]:
    """Adds the links of reference definitions. Foam uses definitions for wikilinks: such a definition is no further link, but
    determines the wikilink's target when it gives another file."""
    wikilinks = {text[link.start : link.end].strip("![]").casefold() for link in links if link.form == "wiki"}
    targets: dict[str, WrittenLink] = {}
    for block in definitions:
        m = _DEFINITION.match(text, block.body, block.end)
        if m and (link := _path_link(m[2] or m[3], block.body, m.end())):
            if m[1].casefold() in wikilinks:
                targets.setdefault(m[1].casefold(), link)
            else:
                links.append(link)
    for i, link in enumerate(links):
        definition = targets.get(text[link.start : link.end].strip("![]").casefold()) if link.form == "wiki" else None
        if definition and _stem(_key(definition.target)) != _stem(_key(link.target)):
            links[i] = replace(link, target=definition.target, anchor=definition.anchor or link.anchor, form="path")
    return sorted(links, key=lambda link: link.start)


def parse_property_links(text: str, kind: LinkType, why: str = "") -> list[WrittenLink]:
    """The links in a front-matter property: link syntax as in a body, optionally followed by ` because …`, or one plain title.
    Empty for web addresses."""
    if "[[" in text or "](" in text:
        spans = _find_links(text, 0, len(text))
        return [
            replace(link, why=why or link.why, start=-1, end=-1)
            for link in _with_type(text, kind, spans, len(text))
            if link.type is kind
        ]
    return [WrittenLink(text, kind, why)] if text and not _WEB_ADDRESS.match(text) else []


def _apply_bracketed_fields(text: str, block: Block, spans: list[WrittenLink]) -> Iterator[WrittenLink]:
    """The links of a block; links in `[contradicts:: …]` or `(contradicts:: …)` get that type."""
    closers: dict[int, int] = {}
    after = block.start
    for m in _BRACKETED.finditer(text, block.body, block.end) if spans else ():
        if not closers:
            open_brackets: dict[str, list[int]] = {"[": [], "(": []}
            for b in _PAIRED_BRACKET.finditer(text, block.body, block.end):
                if b[0] in open_brackets:
                    open_brackets[b[0]].append(b.start())
                elif pending := open_brackets["[" if b[0] == "]" else "("]:
                    closers[pending.pop()] = b.start()
        end = closers.get(m.start(), -1)
        if m.start() < after or end < 0:
            continue
        first, last = (bisect_right(spans, position, key=lambda link: link.start) for position in (m.start(), end))
        yield from spans[bisect_right(spans, after - 1, key=lambda link: link.start) : first]
        yield from _with_type(text, _type(m[1]), spans[first:last], end)
        after = end
    yield from spans[bisect_right(spans, after - 1, key=lambda link: link.start) :]


def _type(key: str) -> LinkType:
    return LinkType(re.sub(r"[ -]", "_", key.lower()))


def _with_type(text: str, kind: LinkType, spans: list[WrittenLink], end: int) -> Iterator[WrittenLink]:
    """The links of one typed field: runs of links, each followed by their common reason up to `; [[` or `end`. Links in a
    reason are mentions."""
    i = 0
    while i < len(spans):
        run = i + 1
        while run < len(spans) and _SEPARATOR.fullmatch(text, spans[run - 1].end, spans[run].start):
            run += 1
        next_run = _NEXT_RUN.search(text, spans[run - 1].end, end)
        stop = next_run.start() if next_run else end
        reason = text[spans[run - 1].end : stop]
        reason_start = _REASON_START.match(reason)
        why = plain(reason[reason_start.end() :] if reason_start else reason)
        if why.endswith(")") and why.count(")") > why.count("("):
            why = why[:-1].rstrip()
        for link in spans[i:run]:
            yield replace(link, type=kind, why=why)
        i = run
        while i < len(spans) and spans[i].start < stop:
            yield spans[i]
            i += 1


def _find_links(text: str, start: int, end: int) -> list[WrittenLink]:
    """All links between `start` and `end` as mentions, in text order."""
    opaque = opaque_spans(text, start, end)
    starts = [s for s, _ in opaque]

    def is_hidden(position: int) -> bool:
        i = bisect_right(starts, position) - 1
        return i >= 0 and position < opaque[i][1]

    links: list[WrittenLink] = []
    wiki: set[int] = set()  # offsets of the brackets of wikilinks
    for m in _WIKI.finditer(text, start, end):
        if is_hidden(m.start(1) - 1) or is_hidden(m.start(1) - 2):
            continue
        wiki |= {m.start(1) - 2, m.start(1) - 1}
        target, _, anchor = m[1].split("|", 1)[0].rstrip("\\").partition("#")
        target, anchor = target.strip(), anchor.strip().lstrip("#")
        if target and target[0] != "^" and not _WEB_ADDRESS.match(target):
            links.append(WrittenLink(target, anchor=anchor, start=m.start(), end=m.end()))
    if text.find("](", start, end) >= 0:
        pending: list[int] = []
        for m in _BRACKET.finditer(text, start, end):
            if is_hidden(m.start()):
                continue
            if m[0] == "[":
                pending.append(m.start())
            elif pending and (opening := pending.pop()) not in wiki:
                d = _DESTINATION.match(text, m.end(), end)
                is_image = opening > start and text[opening - 1] == "!" and not is_hidden(opening - 1)
                if d and (link := _path_link(d[1] if d[1] is not None else d[2], opening - is_image, d.end())):
                    links.append(link)
    if text.find("((", start, end) >= 0:
        refs = (m for m in _REFERENCE.finditer(text, start, end) if not is_hidden(m.start()))
        links += (WrittenLink(m[0].lower(), start=m.start(), end=m.end()) for m in refs)
    links.sort(key=lambda link: link.start)
    return links


def _path_link(destination: str, start: int, end: int) -> WrittenLink | None:
    if _EXTERNAL.match(destination):
        return None
    path, _, anchor = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", destination).partition("#")
    link = WrittenLink(unquote(path), anchor=unquote(anchor), start=start, end=end, form="path")
    return link if link.target.strip().isprintable() and link.target.strip() else None


@dataclass(frozen=True, slots=True)
class Name:
    """The names of a note. `path`: POSIX, relative to the root of its source, with its suffix."""

    note_id: str
    source: str
    path: str
    title: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolution:
    """The resolved links of one note. `dangling`: (from, target as written), `ambiguous`: (from, target, candidates), one
    entry per link; `stubs`: id -> title of unwritten notes; `files`: number of attachments."""

    links: tuple[Link, ...]
    dangling: tuple[tuple[str, str], ...]
    ambiguous: tuple[tuple[str, str, tuple[str, ...]], ...]
    stubs: dict[str, str]
    files: int


class Names:
    """An index of the names of all notes that ignores case and Unicode normalization."""

    def __init__(self, names: Iterable[Name]) -> None:
        self.ids: dict[str, Name] = {}
        self.paths: dict[tuple[str, str], list[Name]] = defaultdict(list)
        self.stems: dict[tuple[str, str], list[Name]] = defaultdict(list)
        self.aliases, self.titles, self.anywhere = (defaultdict[str, list[Name]](list) for _ in range(3))
        for name in names:
            self.ids[name.note_id] = name
            path = _key(name.path)
            for key in {path, _NOTE_ENDING.sub("", path)}:
                if key == path or _MARKDOWN.search(path):
                    self.paths[name.source, key].append(name)
                self.stems[name.source, posixpath.basename(key)].append(name)
                self.anywhere[posixpath.basename(key)].append(name)
            for alias in {_key(alias) for alias in name.aliases}:
                self.aliases[alias].append(name)
            self.titles[_key(name.title)].append(name)

    def candidates(self, link: WrittenLink, source: str, folder: str) -> list[Name]:
        """The notes that match the link: none, one, or several when it is ambiguous."""
        target = _key(link.target)
        relative = posixpath.normpath(posixpath.join(folder, target))
        absolute = posixpath.normpath(target.lstrip("/"))
        if link.form == "path" or target.startswith(("./", "../")):
            for path in (absolute,) if target.startswith("/") else (relative, absolute):
                if matches := self.paths.get((source, path)):
                    return _prefer_exact(matches, link.target)
            if target.startswith("."):
                return []
        elif matches := self.paths.get((source, absolute)):
            return _prefer_exact(matches, link.target)
        stems = self.stems.get((source, posixpath.basename(target)), [])
        inside = [n for n in stems if absolute in _path_tails(n.path, absolute.count("/"))] if "/" in target else stems
        if inside or link.form == "path":
            return _prefer_near(_prefer_exact(inside, link.target), folder)
        for index in (self.aliases, self.titles):
            if matches := [n for n in index.get(target, []) if n.source == source]:
                return matches
        if matches := self.stems.get((source, _file_spelling(target)), []):
            return _prefer_near(matches, folder)
        if exact := self.ids.get(link.target):
            return [exact]
        for index in (self.titles, self.aliases, self.anywhere):
            if matches := [n for n in index.get(target, []) if n.source != source]:
                return matches
        return []


def resolve(names: Names, from_id: str, links: Iterable[WrittenLink]) -> Resolution:
    """Resolves the links of the note `from_id`. Drops links of a note to itself."""
    writer = names.ids.get(from_id) or Name(from_id, "", "", "")
    out: list[Link] = []
    dangling: list[tuple[str, str]] = []
    ambiguous: list[tuple[str, str, tuple[str, ...]]] = []
    stubs: dict[str, str] = {}
    files = 0
    for link in links:
        if link.form.startswith(FORM_OF):
            resolved = _resolve_for(names, writer, link)
            out += resolved
            dangling += [(from_id, link.target)] * (not resolved)
            continue
        candidates = names.candidates(link, writer.source, posixpath.dirname(_key(writer.path)))
        if len(candidates) > 1:
            ambiguous.append((from_id, link.target, tuple(sorted(n.note_id for n in candidates))))
            continue
        if candidates:
            target = candidates[0].note_id
        elif _REFERENCE.fullmatch(link.target):  # a missing block is no unwritten note
            dangling.append((from_id, link.target))
            continue
        elif link.form != "inward" and (_ATTACHMENT.search(link.target) or (link.form == "path" and _FILE.search(link.target))):
            files += 1
            continue
        else:
            title = re.sub(r"\.(?:md|markdown)$", "", link.target, flags=re.I)
            title = posixpath.basename(title) if link.form == "path" else title
            target = _stub_id(title)
            stubs.setdefault(target, title)
            if link.form != "inward":
                dangling.append((from_id, link.target))
        if target != from_id and link.form == "inward":
            out.append(Link(target, from_id, link.type, link.why, writer=from_id))
        elif target != from_id:
            out.append(Link(from_id, target, link.type, link.why, anchor=link.anchor, start=link.start, end=link.end))
    return Resolution(tuple(out), tuple(dangling), tuple(ambiguous), stubs, files)


def _resolve_for(names: Names, writer: Name, link: WrittenLink) -> list[Link]:
    """The link that `writer` states for another note; empty unless both ends match exactly one note. Creates no stubs."""
    ends = [replace(link, target=name, form="wiki") for name in (link.form.removeprefix(FORM_OF), link.target)]
    matches = [names.candidates(end, writer.source, posixpath.dirname(_key(writer.path))) for end in ends]
    if [len(candidates) for candidates in matches] != [1, 1]:
        return []
    source, target = (candidates[0].note_id for candidates in matches)
    return [Link(source, target, link.type, link.why, writer=writer.note_id)] if source != target else []


def _stub_id(title: str) -> str:
    """The id of a stub. Symbols and marks, which ids omit, are distinguished by a hash: C++ is not C. Punctuation is not."""
    name = slug(title)
    lost = name == "untitled" or any(unicodedata.category(c)[0] in "SM" for c in unicodedata.normalize("NFC", title))
    return f"stub/{name}" + (f"-{hashlib.sha256(_key(title).encode()).hexdigest()[:8]}" if lost else "")


def _key(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _file_spelling(name: str) -> str:
    """The name as TiddlyWiki and other programs spell it in file names: `$:/a` is `$__a`."""
    return _NOT_IN_FILES.sub("_", name.replace("/", "_") if name.startswith("$:/") else name)


def _path_tails(path: str, slashes: int) -> tuple[str, str]:
    tail = "/".join(_key(path).split("/")[-slashes - 1 :])
    return tail, _NOTE_ENDING.sub("", tail)


def _prefer_exact(names: list[Name], target: str) -> list[Name]:
    """Of names that differ only in suffix or case, the Markdown files if the target has no suffix, and of these the ones
    spelled exactly like the target, if any."""
    if not _NOTE_ENDING.search(target):
        names = [n for n in names if _MARKDOWN.search(n.path)] or names
    stem = _stem(target)
    return [n for n in names if _stem(n.path) == stem] or names


def _stem(path: str) -> str:
    return unicodedata.normalize("NFC", _NOTE_ENDING.sub("", posixpath.basename(path)))


def _prefer_near(names: list[Name], folder: str) -> list[Name]:
    """The name in the note's folder, otherwise those with the longest common parent path and the fewest folders below it."""
    if len(names) < 2:
        return names
    folders = folder.split("/") if folder else []

    def closeness(name: Name) -> tuple[int, int]:
        other_folders = _key(name.path).split("/")[:-1]
        return len(posixpath.commonprefix([folders, other_folders])), -len(other_folders)

    same_folder = [n for n in names if posixpath.dirname(_key(n.path)) == folder]
    best = max(map(closeness, names))
    return same_folder or [n for n in names if closeness(n) == best]
