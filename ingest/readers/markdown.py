"""A Markdown file into a `Note` and the links its author wrote. Pure: bytes in, values out.

Knows nothing about which notes exist (see `ingest.links`), folders, or databases. Reads what Obsidian reads, Dataview's
inline fields where their key is a type of link, and what Logseq writes at the head of a page.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any

import yaml

from ingest.links import FORM_OF, extract_links, parse_property_links
from ingest.readers.properties import block_ids, inline_tags, page_properties, title_from_filename
from kb.markdown.blocks import blocks, plain
from kb.markdown.sentences import sentences
from kb.notes import Claim, ClaimStatus, LinkType, Note, NoteKind, PasskbError, WrittenLink, slug

_MOST_YAML = 256 * 1024  # characters
_MOST_ALIASES = 32
_MOST_MERGED = 8  # aliases where there are merges, each of which copies all that it names
_LONGEST_NUMBER = 4000  # digits
_MOST_VALUES = 50_000
_DEEPEST = 40
_GIST = 240  # characters
_OPENING = 100_000  # characters in which its sentences are looked for
_KINDS = {kind.value for kind in NoteKind} - {NoteKind.STUB.value}  # a note that is written is no stub
_TYPES, _STATUSES = ({member.value for member in kind} for kind in (LinkType, ClaimStatus))
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Strings: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

_OPEN = re.compile(r"---[ \t]*\n")
_KEY = re.compile(r"^([\w-]+):(?:[ \t]|$)", re.M)
_CLOSE = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.M)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f\ufffd]+")
_ONE_LINK = re.compile(r"\[\[[^\[\]\n]+\]\]|\[[^\[\]\n]*\]\([^()\n]+\)")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Referrer:
    """A note that links to this one, as this one's page lists it: its title, what kind of note it is, the type of its link
    and why. `text[start:end]` of this note is where the page names it."""

    title: str
    type: LinkType
    kind: NoteKind
    why: str = ""
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True)
class ParsedNote:
    """A note as read, its links as written (front matter first, then in order of place), and what was odd about it.
    `referrers` are the notes that its page says link to it."""

    note: Note
    links: tuple[WrittenLink, ...]
    warnings: tuple[str, ...]
    referrers: tuple[Referrer, ...] = ()


def read_markdown(data: bytes, *, path: str, note_id: str, source: str) -> ParsedNote:
    """Read one file. `path` is relative to the source's root and only names things. Raises `PasskbError` when the
    file is not text; whatever else is odd becomes a warning."""
    warnings: list[str] = []
    text = decode(data, path, warnings)
    properties, body = _front_matter(text, warnings)
    header = FrontMatter({**page_properties(body), **properties}, warnings)
    links = header.links()
    spelt, names = title_from_filename(path)
    title = header.text("title") or _first_heading(body) or spelt or note_id
    aliases = header.names("aliases", ",") or header.names("alias", ",")
    tags: dict[str, str] = {}
    for tag in (*(header.names("tags", ", ") or header.names("tag", ", ")), *inline_tags(body)):
        if name := tag.lstrip("#").strip():
            tags.setdefault(name.casefold(), name)
    note = Note(
        id=note_id,
        title=title,
        kind=header.kind(),
        text=body,
        path=path,
        source=source,
        gist=header.text("gist") or header.text("description") or header.text("summary") or _gist(body),
        aliases=tuple(dict.fromkeys((*aliases, *(name for name in names if name != title), *block_ids(body)))),
        tags=tuple(tags.values()),
        claims=header.claims(),
        properties=header.rest(),
    )
    return ParsedNote(note, (*links, *header.mentions(), *extract_links(body)), tuple(warnings))


def decode(data: bytes, path: str, warnings: list[str]) -> str:
    """Text with line ends `\\n` and no byte-order mark. Raises `PasskbError` when the bytes are not text."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
        if "\ufffd" in text:
            warnings.append("not all of it is valid UTF-16; the characters that are not show as \ufffd")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = _decode_broken(data, warnings)
        text = text.lstrip("\ufeff")
    if "\0" in text or data.startswith(b"%PDF-") or 10 * len(_CONTROL.findall(text)) > len(text):
        raise PasskbError(f"{path}: not a text file; save it as Markdown in UTF-8, or remove the ending .md")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decode_broken(data: bytes, warnings: list[str]) -> str:
    """UTF-8 with a few bytes that are none, else one of the encodings of old."""
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd")
    if sum(map(len, _BEYOND_ASCII.findall(text))) > 2 * broken:
        warnings.append("not all of it is valid UTF-8; the characters that are not show as \ufffd")
        return text
    warnings.append("not UTF-8: read as Windows-1252; save it as UTF-8 if characters look wrong")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _front_matter(text: str, warnings: list[str]) -> tuple[dict[str, Any], str]:
    """The properties, made JSON-like, and the body."""
    opened = _OPEN.match(text)
    if opened is None:
        return {}, text
    closed = _CLOSE.search(text, opened.end())
    if closed is None:
        warnings.append("the front matter opened by --- is never closed: all of the file is read as its body")
        return {}, text
    front_matter, body = text[opened.end() : closed.start()], text[closed.end() :]
    if len(front_matter) > _MOST_YAML:
        warnings.append("the front matter is over 256 kB and was not read")
        return {}, body
    try:
        loaded = _load(front_matter)
        if loaded is None:
            return {}, body
        if isinstance(loaded, dict):
            properties: dict[str, Any] = _json(loaded, [_MOST_VALUES], 0)
            warnings += [f"the front matter has {key!r} twice: the last counts" for key in _repeated(front_matter)]
            return properties, body
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        problem = str(getattr(error, "problem", "") or error).split("\n")[0]
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 2})" if mark else ""
        warnings.append(f"the front matter is not valid YAML and was not read: {problem}{place}")
        return {}, body
    warnings.append("the front matter is not made of `key: value` lines: all of the file is read as its body")
    return {}, text


def _repeated(front_matter: str) -> list[str]:
    """The keys that stand more than once at the margin."""
    counted = Counter(_KEY.findall(front_matter)) if front_matter.count(":") < _MOST_VALUES else {}
    return [key for key, times in counted.items() if times > 1][:3]


def _load(front_matter: str) -> Any:
    """Raises ValueError or `yaml.YAMLError`. What could blow up is looked at first: merged aliases double with each
    level, and the C loader overruns its stack on deep nesting, which would end the process."""
    merged = "<<" in front_matter
    if merged or len(front_matter) > 2000 or front_matter.count("*") > _MOST_ALIASES:
        most, aliases, depth = _MOST_MERGED if merged else _MOST_ALIASES, 0, 0
        for event in yaml.parse(front_matter, Loader=_Loader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if aliases > most or depth > _DEEPEST:
                raise ValueError(f"more than {most} aliases, or nested more than {_DEEPEST} deep")
    try:
        return yaml.load(front_matter, Loader=_Loader)
    except (ValueError, OverflowError):  # 2024-02-31 looks like a date and is none
        return yaml.load(front_matter, Loader=_Strings)


def _json(value: Any, budget: list[int], depth: int) -> Any:
    """The value with dates as ISO strings, keys as strings, and nothing that JSON cannot say."""
    budget[0] -= 1
    if budget[0] < 0 or depth > _DEEPEST:
        raise ValueError("too large, or refers to itself")
    if isinstance(value, int) and value.bit_length() > 3 * _LONGEST_NUMBER:  # which Python would not write out
        raise ValueError("a number is too long")
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_text(_json(k, budget, depth + 1)): _json(v, budget, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json(v, budget, depth + 1) for v in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _text(value: Any) -> str:
    """A scalar as one line of text; `[[A]]` left unquoted, which YAML takes for a list in a list, as its words."""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or isinstance(value, dict) else " ".join(str(value).split())


class FrontMatter:
    """The front matter of one note; what nobody asked it for is `rest`."""

    def __init__(self, properties: dict[str, Any], warnings: list[str]) -> None:
        self.properties = properties
        self.warnings = warnings
        self.taken: set[str] = set()

    def take(self, key: str) -> Any:
        self.taken.add(key)
        return self.properties.get(key)

    def rest(self) -> dict[str, Any]:
        return {k: v for k, v in self.properties.items() if k not in self.taken}

    def text(self, key: str) -> str:
        return _text(self.take(key))

    def names(self, key: str, separators: str) -> tuple[str, ...]:
        value = self.take(key)
        parts = value if isinstance(value, list) else re.split(f"[{separators}]", _text(value))
        return tuple(dict.fromkeys(filter(None, map(_text, parts))))

    def kind(self) -> NoteKind:
        name = self.text("kind").lower()
        if not name or name in _KINDS:
            return NoteKind(name or "note")
        self.warnings.append(f"a file cannot be of kind {name!r}: taken as note")
        return NoteKind.NOTE

    def type(self, value: str) -> LinkType:
        name = re.sub(r"[\s-]+", "_", value.lower())
        if not name or name in _TYPES:
            return LinkType(name or "related")
        self.warnings.append(f"link type {value!r} is not known: taken as related")
        return LinkType.RELATED

    def links(self) -> list[WrittenLink]:
        found: list[WrittenLink] = []
        listed = self.take("links")
        for entry in _entries(listed):
            fields = entry if isinstance(entry, dict) else {"to": entry}
            made = parse_property_links(_text(fields.get("to")), self.type(_text(fields.get("type"))), _text(fields.get("why")))
            if giver := parse_property_links(_text(fields.get("from")), LinkType.RELATED)[:1]:  # said of another note
                made = [replace(link, form=f"{FORM_OF}{giver[0].target}") for link in made]
            if not made:
                self.warnings.append("an entry of links: has no `to` that names a note, and was skipped")
            found += made
        for key, value in self.properties.items():
            name = re.sub(r"[\s-]+", "_", key.lower())
            if name not in _TYPES:
                continue
            made = []
            for entry in _entries(value):
                fields = entry if isinstance(entry, dict) else {"to": entry}
                made += parse_property_links(_text(fields.get("to")), LinkType(name), _text(fields.get("why")))
            if made:
                self.taken.add(key)
            found += made
        return found

    def mentions(self) -> list[WrittenLink]:
        """The links that are the whole value of a property that nobody asked for, as Obsidian reads them."""
        found: list[WrittenLink] = []
        for value in self.rest().values():
            unquoted = isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)
            for entry in _entries(value):
                words = f"[[{_text(entry)}]]" if unquoted else "" if isinstance(entry, list | dict) else _text(entry)
                if _ONE_LINK.fullmatch(words):
                    found += parse_property_links(words, LinkType.MENTIONS)
        return found

    def claims(self) -> tuple[Claim, ...]:
        found: dict[str, Claim] = {}
        for entry in _entries(self.take("claims")):
            fields = entry if isinstance(entry, dict) else {"text": entry}
            text, test = _text(fields.get("text")), fields.get("test")
            if not text:
                self.warnings.append("a claim without text was skipped")
                continue
            status = _text(fields.get("status")).lower() or "untested"
            if status not in _STATUSES:
                self.warnings.append(f"claim status {status!r} is not known: taken as untested")
                status = "untested"
            if test is not None and not isinstance(test, dict):
                self.warnings.append("the test of a claim is not `key: value` and was left out")
                test = None
            name = wanted = _text(fields.get("id")) or slug(text)[:60].strip("-")
            for number in range(2, len(found) + 3):
                if name not in found:
                    break
                name = f"{wanted}-{number}"
            premise, settles = _text(fields.get("premise")), _text(fields.get("settles"))
            found[name] = Claim(name, text, premise, settles, test, ClaimStatus(status))
        return tuple(found.values())


def _entries(value: Any) -> list[Any]:
    """A property as a list: nothing, one thing, or several. `[[A]]` left unquoted is one thing."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _first_heading(body: str) -> str:
    first = next((block for block in blocks(body) if block.kind not in ("property", "field")), None)
    return plain(body[first.body : first.end].rstrip().rstrip("#")) if first and first.level == 1 else ""


def _gist(body: str) -> str:
    """The first sentence of the prose, or the first two where they fit, without markup, at most 240 characters."""
    for text in (body[:4000].rpartition("\n")[0] or body[:4000], body[:_OPENING]):
        prose = [s for s in sentences(text) if s.block == "paragraph"] or list(sentences(text))
        said = [plain(text[s.start : s.end]) for s in prose[:2]]
        if said and said[0]:
            gist = " ".join(said)
            gist = gist if len(gist) <= _GIST else said[0]
            return gist if len(gist) <= _GIST else gist[: _GIST - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
    return ""
