"""Links between notes: those written in a text, and which notes they mean. Pure: values in, values out.

Knows nothing about files, folders on a disk, or databases: names of notes come in as `Name`s. Rules as in Obsidian,
save that a name that could mean several notes is reported and never guessed.
"""

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

FORM_OF = "of "  # opens the form of a link that a third note writes: `of NAME`, the note it goes out from
_NO_LINKS = frozenset(("code", "math", "comment", "rule"))
_EXTERNAL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|//|#|$")
_WEB = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|mailto:|www\.|10\.\d{4,}/", re.I)
_WIKI = re.compile(r"!?\[\[([^\[\]\n]+)\]\]")
_BRACKET = re.compile(r"[\[\]]")
_PAIRED = re.compile(r"[\[\]()]")
_PARENS = r"\((?:[^\s()\\]|\\.)*+\)"
_DESTINATION = re.compile(
    rf"\([ \t]{{0,9}}(?:<([^<>\n]*)>|((?:[^\s()\\<]|\\.|{_PARENS})(?:[^\s()\\]|\\.|{_PARENS})*+))"
    r"(?:\s{1,9}(?:\"[^\"]{0,500}\"|'[^']{0,500}'|\([^()\n]{0,500}\)))?\s{0,9}\)"
)
_DEFINITION = re.compile(r"\[([^\[\]\n]+)\]:[ \t]*(?:<([^<>\n]+)>|([^\s<]\S*))")
_BRACKETED = re.compile(rf"(?<!\[)[\[(][ \t]*{FIELD.pattern}")
_BETWEEN = re.compile(r"[\s,;&*_]*(?:\band\b[\s*_]*)?")
_NEXT = re.compile(r";\s*(?=!?\[\[)")
_BECAUSE = re.compile(r"[\s,;:.*_(–—-]*(?:because\b[\s:,]*)?", re.I)
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
    """The links written in a Markdown body, in order of place; `text[start:end]` is the whole syntax of each. Links to
    the note itself (`[[#Heading]]`, `[[^block]]`) and to the web are left out, as is what stands in code, formulas and
    comments. Logseq's `((…))` names a block, and is a link to the note that holds it."""
    found: list[WrittenLink] = []
    definitions: list[Block] = []
    for block in blocks(text):
        if block.kind == "definition":
            definitions.append(block)
        elif block.kind not in _NO_LINKS and any(text.find(mark, block.start, block.end) >= 0 for mark in ("[", "((")):
            spans = _spans(text, block.body, block.end)
            m = FIELD.match(text, block.body, block.end) if block.kind == "field" else None
            found += _typed(text, _type(m[1]), spans, block.end) if m else _with_bracketed(text, block, spans)
    return tuple(_defined(text, found, definitions) if definitions else found)


def _defined(text: str, found: list[WrittenLink], definitions: Iterable[Block]) -> list[WrittenLink]:
    """The links with those of reference definitions. Foam defines wikilinks so: a definition that gives another file than the
    wikilink names says what is meant by it, and no definition of a wikilink is another link."""
    shown = {text[link.start : link.end].strip("![]").casefold() for link in found if link.form == "wiki"}
    meant: dict[str, WrittenLink] = {}
    for block in definitions:
        m = _DEFINITION.match(text, block.body, block.end)
        if m and (link := _path_link(m[2] or m[3], block.body, m.end())):
            if m[1].casefold() in shown:
                meant.setdefault(m[1].casefold(), link)
            else:
                found.append(link)
    for i, link in enumerate(found):
        said = meant.get(text[link.start : link.end].strip("![]").casefold()) if link.form == "wiki" else None
        if said and _stem(_key(said.target)) != _stem(_key(link.target)):
            found[i] = replace(link, target=said.target, anchor=said.anchor or link.anchor, form="path")
    return sorted(found, key=lambda link: link.start)


def parse_property_links(text: str, kind: LinkType, why: str = "") -> list[WrittenLink]:
    """The links that a property of the front matter names: links as in a body, each perhaps with ` because …` after it,
    or else one bare title. Empty when it names none, or only the web."""
    if "[[" in text or "](" in text:
        spans = _spans(text, 0, len(text))
        return [
            replace(link, why=why or link.why, start=-1, end=-1)
            for link in _typed(text, kind, spans, len(text))
            if link.type is kind
        ]
    return [WrittenLink(text, kind, why)] if text and not _WEB.match(text) else []


def _with_bracketed(text: str, block: Block, spans: list[WrittenLink]) -> Iterator[WrittenLink]:
    """The links of a block, those in `[contradicts:: …]` or `(contradicts:: …)` with their type."""
    closers: dict[int, int] = {}
    after = block.start
    for m in _BRACKETED.finditer(text, block.body, block.end) if spans else ():
        if not closers:
            open_brackets: dict[str, list[int]] = {"[": [], "(": []}
            for b in _PAIRED.finditer(text, block.body, block.end):
                if b[0] in open_brackets:
                    open_brackets[b[0]].append(b.start())
                elif pending := open_brackets["[" if b[0] == "]" else "("]:
                    closers[pending.pop()] = b.start()
        end = closers.get(m.start(), -1)
        if m.start() < after or end < 0:
            continue
        first, last = (bisect_right(spans, at, key=lambda link: link.start) for at in (m.start(), end))
        yield from spans[bisect_right(spans, after - 1, key=lambda link: link.start) : first]
        yield from _typed(text, _type(m[1]), spans[first:last], end)
        after = end
    yield from spans[bisect_right(spans, after - 1, key=lambda link: link.start) :]


def _type(key: str) -> LinkType:
    return LinkType(re.sub(r"[ -]", "_", key.lower()))


def _typed(text: str, kind: LinkType, spans: list[WrittenLink], end: int) -> Iterator[WrittenLink]:
    """The links of one typed field: a run of links, then the reason of them all up to `end` or to `; [[`; links within
    a reason are mentions."""
    i = 0
    while i < len(spans):
        run = i + 1
        while run < len(spans) and _BETWEEN.fullmatch(text, spans[run - 1].end, spans[run].start):
            run += 1
        stopped = _NEXT.search(text, spans[run - 1].end, end)
        stop = stopped.start() if stopped else end
        reason = text[spans[run - 1].end : stop]
        begins = _BECAUSE.match(reason)
        why = plain(reason[begins.end() :] if begins else reason)
        if why.endswith(")") and why.count(")") > why.count("("):
            why = why[:-1].rstrip()
        for link in spans[i:run]:
            yield replace(link, type=kind, why=why)
        i = run
        while i < len(spans) and spans[i].start < stop:
            yield spans[i]
            i += 1


def _spans(text: str, start: int, end: int) -> list[WrittenLink]:
    """All links between `start` and `end`, as plain mentions, in order of place."""
    hidden = opaque_spans(text, start, end)
    starts = [s for s, _ in hidden]

    def is_hidden(at: int) -> bool:
        i = bisect_right(starts, at) - 1
        return i >= 0 and at < hidden[i][1]

    found: list[WrittenLink] = []
    wiki: set[int] = set()  # places of brackets that belong to wikilinks
    for m in _WIKI.finditer(text, start, end):
        if is_hidden(m.start(1) - 1) or is_hidden(m.start(1) - 2):
            continue
        wiki |= {m.start(1) - 2, m.start(1) - 1}
        target, _, anchor = m[1].split("|", 1)[0].rstrip("\\").partition("#")
        target, anchor = target.strip(), anchor.strip().lstrip("#")
        if target and target[0] != "^" and not _WEB.match(target):
            found.append(WrittenLink(target, anchor=anchor, start=m.start(), end=m.end()))
    if text.find("](", start, end) >= 0:
        pending: list[int] = []
        for m in _BRACKET.finditer(text, start, end):
            if is_hidden(m.start()):
                continue
            if m[0] == "[":
                pending.append(m.start())
            elif pending and (opened := pending.pop()) not in wiki:
                d = _DESTINATION.match(text, m.end(), end)
                image = opened > start and text[opened - 1] == "!" and not is_hidden(opened - 1)
                if d and (link := _path_link(d[1] if d[1] is not None else d[2], opened - image, d.end())):
                    found.append(link)
    if text.find("((", start, end) >= 0:
        refs = (m for m in _REFERENCE.finditer(text, start, end) if not is_hidden(m.start()))
        found += (WrittenLink(m[0].lower(), start=m.start(), end=m.end()) for m in refs)
    found.sort(key=lambda link: link.start)
    return found


def _path_link(destination: str, start: int, end: int) -> WrittenLink | None:
    if _EXTERNAL.match(destination):
        return None
    path, _, anchor = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", destination).partition("#")
    link = WrittenLink(unquote(path), anchor=unquote(anchor), start=start, end=end, form="path")
    return link if link.target.strip().isprintable() and link.target.strip() else None


@dataclass(frozen=True, slots=True)
class Name:
    """What a note can be called. `path` is relative to the root of its source, POSIX, with its ending."""

    note_id: str
    source: str
    path: str
    title: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of the links of one note. `dangling` is (from, target as written), `ambiguous` (from, target,
    candidates), one entry a link; `stubs` maps ids of unwritten notes to their titles; `files` counts attachments."""

    links: tuple[Link, ...]
    dangling: tuple[tuple[str, str], ...]
    ambiguous: tuple[tuple[str, str, tuple[str, ...]], ...]
    stubs: dict[str, str]
    files: int


class Names:
    """All names by which notes can be linked, looked up without regard to case or Unicode form."""

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
        """The notes that the link can mean: none, one, or the several it does not tell apart."""
        target = _key(link.target)
        relative = posixpath.normpath(posixpath.join(folder, target))
        absolute = posixpath.normpath(target.lstrip("/"))
        if link.form == "path" or target.startswith(("./", "../")):
            for path in (absolute,) if target.startswith("/") else (relative, absolute):
                if found := self.paths.get((source, path)):
                    return _written_so(found, link.target)
            if target.startswith("."):
                return []
        elif found := self.paths.get((source, absolute)):
            return _written_so(found, link.target)
        stems = self.stems.get((source, posixpath.basename(target)), [])
        inside = [n for n in stems if absolute in _tails(n.path, absolute.count("/"))] if "/" in target else stems
        if inside or link.form == "path":
            return _nearest(_written_so(inside, link.target), folder)
        for known in (self.aliases, self.titles):
            if found := [n for n in known.get(target, []) if n.source == source]:
                return found
        if found := self.stems.get((source, _as_file(target)), []):
            return _nearest(found, folder)
        if exact := self.ids.get(link.target):
            return [exact]
        for known in (self.titles, self.aliases, self.anywhere):
            if found := [n for n in known.get(target, []) if n.source != source]:
                return found
        return []


def resolve(names: Names, from_id: str, links: Iterable[WrittenLink]) -> Resolution:
    """Say which notes the links of the note `from_id` mean. Links of a note to itself are dropped."""
    home = names.ids.get(from_id) or Name(from_id, "", "", "")
    out: list[Link] = []
    dangling: list[tuple[str, str]] = []
    ambiguous: list[tuple[str, str, tuple[str, ...]]] = []
    stubs: dict[str, str] = {}
    files = 0
    for link in links:
        if link.form.startswith(FORM_OF):
            made = _between(names, home, link)
            out += made
            dangling += [(from_id, link.target)] * (not made)
            continue
        found = names.candidates(link, home.source, posixpath.dirname(_key(home.path)))
        if len(found) > 1:
            ambiguous.append((from_id, link.target, tuple(sorted(n.note_id for n in found))))
            continue
        if found:
            target = found[0].note_id
        elif _REFERENCE.fullmatch(link.target):  # a block that is not there is no note to be written
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


def _between(names: Names, writer: Name, link: WrittenLink) -> list[Link]:
    """The link that `writer` says another note has, when it is known which notes it means; nobody is to write them for it."""
    ends = [replace(link, target=name, form="wiki") for name in (link.form.removeprefix(FORM_OF), link.target)]
    found = [names.candidates(end, writer.source, posixpath.dirname(_key(writer.path))) for end in ends]
    if [len(candidates) for candidates in found] != [1, 1]:
        return []
    source, target = (candidates[0].note_id for candidates in found)
    return [Link(source, target, link.type, link.why, writer=writer.note_id)] if source != target else []


def _stub_id(title: str) -> str:
    """Punctuation makes no other note; signs and marks that no id can hold do: C++ is not C, and one emoji is not another."""
    name = slug(title)
    lost = name == "untitled" or any(unicodedata.category(c)[0] in "SM" for c in unicodedata.normalize("NFC", title))
    return f"stub/{name}" + (f"-{hashlib.sha256(_key(title).encode()).hexdigest()[:8]}" if lost else "")


def _key(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _as_file(name: str) -> str:
    """The name as TiddlyWiki and others write it for files, where some characters cannot be: `$:/a` is `$__a`."""
    return _NOT_IN_FILES.sub("_", name.replace("/", "_") if name.startswith("$:/") else name)


def _tails(path: str, slashes: int) -> tuple[str, str]:
    tail = "/".join(_key(path).split("/")[-slashes - 1 :])
    return tail, _NOTE_ENDING.sub("", tail)


def _written_so(found: list[Name], target: str) -> list[Name]:
    """Of names that differ in ending or case alone, those that the link means: without an ending it means Markdown where there
    is some, and the one that is written as the link writes it."""
    if not _NOTE_ENDING.search(target):
        found = [n for n in found if _MARKDOWN.search(n.path)] or found
    wanted = _stem(target)
    return [n for n in found if _stem(n.path) == wanted] or found


def _stem(path: str) -> str:
    return unicodedata.normalize("NFC", _NOTE_ENDING.sub("", posixpath.basename(path)))


def _nearest(found: list[Name], folder: str) -> list[Name]:
    """The one in the note's own folder, else the one that shares most of the folders above and lies the fewest below
    those, else all that do."""
    if len(found) < 2:
        return found
    own = folder.split("/") if folder else []

    def shared(name: Name) -> tuple[int, int]:
        theirs = _key(name.path).split("/")[:-1]
        return len(posixpath.commonprefix([own, theirs])), -len(theirs)

    here = [n for n in found if posixpath.dirname(_key(n.path)) == folder]
    most = max(map(shared, found))
    return here or [n for n in found if shared(n) == most]
