"""Reads a Markdown file as a `Note` with its unresolved links.

Supports Obsidian's syntax, Dataview's inline fields whose key is a link type, and Logseq's page properties.
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

_MAX_YAML_LENGTH = 256 * 1024  # characters
_MAX_ALIASES = 32
_MAX_ALIASES_WITH_MERGES = 8  # each merge copies everything that its alias names
_MAX_DIGITS = 4000  # digits
_MAX_VALUES = 50_000
_MAX_DEPTH = 40
_MAX_GIST = 240  # characters
_GIST_SEARCH_LENGTH = 100_000  # characters
_KINDS = {kind.value for kind in NoteKind} - {NoteKind.STUB.value}
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
    """A note that links to this one, as listed on this note's page: its title and kind, the type of its link and the reason.
    `text[start:end]` of this note is its title on the page."""

    title: str
    type: LinkType
    kind: NoteKind
    why: str = ""
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True)
class ParsedNote:
    """A note with its unresolved links (front matter first, then in text order) and warnings. `referrers`: the notes that,
    according to its page, link to it."""

    note: Note
    links: tuple[WrittenLink, ...]
    warnings: tuple[str, ...]
    referrers: tuple[Referrer, ...] = ()


def read_markdown(data: bytes, *, path: str, note_id: str, source: str) -> ParsedNote:
    """Reads one file. `path` only serves for names and messages. Raises PasskbError when the file is not text; other problems
    become warnings."""
    warnings: list[str] = []
    text = decode(data, path, warnings)
    properties, body = _front_matter(text, warnings)
    header = FrontMatter({**page_properties(body), **properties}, warnings)
    links = header.links()
    filename_title, filename_names = title_from_filename(path)
    title = header.text("title") or _first_heading(body) or filename_title or note_id
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
        aliases=tuple(dict.fromkeys((*aliases, *(name for name in filename_names if name != title), *block_ids(body)))),
        tags=tuple(tags.values()),
        claims=header.claims(),
        properties=header.rest(),
    )
    return ParsedNote(note, (*links, *header.mentions(), *extract_links(body)), tuple(warnings))


def decode(data: bytes, path: str, warnings: list[str]) -> str:
    """Text with line ends `\\n` and without byte-order mark. Raises PasskbError when the bytes are not text."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
        if "\ufffd" in text:
            warnings.append("not entirely valid UTF-16: invalid characters appear as \ufffd")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = _decode_broken(data, warnings)
        text = text.lstrip("\ufeff")
    if "\0" in text or data.startswith(b"%PDF-") or 10 * len(_CONTROL.findall(text)) > len(text):
        raise PasskbError(f"{path}: not a text file; save it as Markdown in UTF-8, or remove the suffix .md")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decode_broken(data: bytes, warnings: list[str]) -> str:
    """Decodes UTF-8 with a few invalid bytes, or else Windows-1252 or Latin-1."""
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd")
    if sum(map(len, _BEYOND_ASCII.findall(text))) > 2 * broken:
        warnings.append("not entirely valid UTF-8: invalid characters appear as \ufffd")
        return text
    warnings.append("not UTF-8: read as Windows-1252; if characters look wrong, save the file as UTF-8")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _front_matter(text: str, warnings: list[str]) -> tuple[dict[str, Any], str]:
    """The properties as JSON values, and the body."""
    opening = _OPEN.match(text)
    if opening is None:
        return {}, text
    closing = _CLOSE.search(text, opening.end())
    if closing is None:
        warnings.append("the front matter has no closing ---: the whole file is read as the body")
        return {}, text
    front_matter, body = text[opening.end() : closing.start()], text[closing.end() :]
    if len(front_matter) > _MAX_YAML_LENGTH:
        warnings.append("the front matter exceeds 256 kB and was ignored")
        return {}, body
    try:
        loaded = _load_yaml(front_matter)
        if loaded is None:
            return {}, body
        if isinstance(loaded, dict):
            properties: dict[str, Any] = _to_json(loaded, [_MAX_VALUES], 0)
            warnings += [f"the front matter repeats {key!r}: the last value is used" for key in _repeated_keys(front_matter)]
            return properties, body
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        problem = str(getattr(error, "problem", "") or error).split("\n")[0]
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 2})" if mark else ""
        warnings.append(f"the front matter is not valid YAML and was ignored: {problem}{place}")
        return {}, body
    warnings.append("the front matter does not consist of `key: value` lines: the whole file is read as the body")
    return {}, text


def _repeated_keys(front_matter: str) -> list[str]:
    """Top-level keys that occur more than once, at most three."""
    counted = Counter(_KEY.findall(front_matter)) if front_matter.count(":") < _MAX_VALUES else {}
    return [key for key, times in counted.items() if times > 1][:3]


def _load_yaml(front_matter: str) -> Any:
    """Raises ValueError or `yaml.YAMLError`. First checks for hostile input: merged aliases double with each level, and deep
    nesting overflows the C loader's stack, which would end the process."""
    has_merges = "<<" in front_matter
    if has_merges or len(front_matter) > 2000 or front_matter.count("*") > _MAX_ALIASES:
        limit, aliases, depth = _MAX_ALIASES_WITH_MERGES if has_merges else _MAX_ALIASES, 0, 0
        for event in yaml.parse(front_matter, Loader=_Loader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if aliases > limit or depth > _MAX_DEPTH:
                raise ValueError(f"more than {limit} aliases, or nested more than {_MAX_DEPTH} levels")
    try:
        return yaml.load(front_matter, Loader=_Loader)
    except (ValueError, OverflowError):  # an invalid date such as 2024-02-31
        return yaml.load(front_matter, Loader=_Strings)


def _to_json(value: Any, budget: list[int], depth: int) -> Any:
    """The value in JSON types, with dates as ISO strings. `budget`: the remaining number of values."""
    budget[0] -= 1
    if budget[0] < 0 or depth > _MAX_DEPTH:
        raise ValueError("too large or self-referential")
    if isinstance(value, int) and value.bit_length() > 3 * _MAX_DIGITS:  # Python refuses to print longer ones
        raise ValueError("a number is too long")
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_to_text(_to_json(k, budget, depth + 1)): _to_json(v, budget, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_to_json(v, budget, depth + 1) for v in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _to_text(value: Any) -> str:
    """A scalar as one line of text. An unquoted `[[A]]`, which YAML reads as nested lists, becomes its words."""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_to_text, value)))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or isinstance(value, dict) else " ".join(str(value).split())


class FrontMatter:
    """The front matter of one note; `rest` contains the properties that were not used."""

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
        return _to_text(self.take(key))

    def names(self, key: str, separators: str) -> tuple[str, ...]:
        value = self.take(key)
        parts = value if isinstance(value, list) else re.split(f"[{separators}]", _to_text(value))
        return tuple(dict.fromkeys(filter(None, map(_to_text, parts))))

    def kind(self) -> NoteKind:
        name = self.text("kind").lower()
        if not name or name in _KINDS:
            return NoteKind(name or "note")
        self.warnings.append(f"a file cannot have the kind {name!r}: read as note")
        return NoteKind.NOTE

    def type(self, value: str) -> LinkType:
        name = re.sub(r"[\s-]+", "_", value.lower())
        if not name or name in _TYPES:
            return LinkType(name or "related")
        self.warnings.append(f"unknown link type {value!r}: read as related")
        return LinkType.RELATED

    def links(self) -> list[WrittenLink]:
        result: list[WrittenLink] = []
        listed = self.take("links")
        for entry in _to_list(listed):
            fields = entry if isinstance(entry, dict) else {"to": entry}
            targets = parse_property_links(
                _to_text(fields.get("to")), self.type(_to_text(fields.get("type"))), _to_text(fields.get("why"))
            )
            if source_link := parse_property_links(_to_text(fields.get("from")), LinkType.RELATED)[:1]:
                targets = [replace(link, form=f"{FORM_OF}{source_link[0].target}") for link in targets]
            if not targets:
                self.warnings.append("an entry of `links` has no `to` that names a note and was ignored")
            result += targets
        for key, value in self.properties.items():
            name = re.sub(r"[\s-]+", "_", key.lower())
            if name not in _TYPES:
                continue
            targets = []
            for entry in _to_list(value):
                fields = entry if isinstance(entry, dict) else {"to": entry}
                targets += parse_property_links(_to_text(fields.get("to")), LinkType(name), _to_text(fields.get("why")))
            if targets:
                self.taken.add(key)
            result += targets
        return result

    def mentions(self) -> list[WrittenLink]:
        """Links that are the entire value of any other property, as in Obsidian."""
        result: list[WrittenLink] = []
        for value in self.rest().values():
            unquoted = isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)
            for entry in _to_list(value):
                words = f"[[{_to_text(entry)}]]" if unquoted else "" if isinstance(entry, list | dict) else _to_text(entry)
                if _ONE_LINK.fullmatch(words):
                    result += parse_property_links(words, LinkType.MENTIONS)
        return result

    def claims(self) -> tuple[Claim, ...]:
        by_id: dict[str, Claim] = {}
        for entry in _to_list(self.take("claims")):
            fields = entry if isinstance(entry, dict) else {"text": entry}
            text, test = _to_text(fields.get("text")), fields.get("test")
            if not text:
                self.warnings.append("a claim without text was ignored")
                continue
            status = _to_text(fields.get("status")).lower() or "untested"
            if status not in _STATUSES:
                self.warnings.append(f"unknown claim status {status!r}: read as untested")
                status = "untested"
            if test is not None and not isinstance(test, dict):
                self.warnings.append("the test of a claim does not consist of `key: value` and was ignored")
                test = None
            name = base_id = _to_text(fields.get("id")) or slug(text)[:60].strip("-")
            for number in range(2, len(by_id) + 3):
                if name not in by_id:
                    break
                name = f"{base_id}-{number}"
            premise, settles = _to_text(fields.get("premise")), _to_text(fields.get("settles"))
            by_id[name] = Claim(name, text, premise, settles, test, ClaimStatus(status))
        return tuple(by_id.values())


def _to_list(value: Any) -> list[Any]:
    """The values of a property as a list."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _first_heading(body: str) -> str:
    first = next((block for block in blocks(body) if block.kind not in ("property", "field")), None)
    return plain(body[first.body : first.end].rstrip().rstrip("#")) if first and first.level == 1 else ""


def _gist(body: str) -> str:
    """The first sentence of the prose, or the first two if they fit, without markup, at most 240 characters."""
    for text in (body[:4000].rpartition("\n")[0] or body[:4000], body[:_GIST_SEARCH_LENGTH]):
        prose = [s for s in sentences(text) if s.block == "paragraph"] or list(sentences(text))
        sentences_found = [plain(text[s.start : s.end]) for s in prose[:2]]
        if sentences_found and sentences_found[0]:
            gist = " ".join(sentences_found)
            gist = gist if len(gist) <= _MAX_GIST else sentences_found[0]
            return gist if len(gist) <= _MAX_GIST else gist[: _MAX_GIST - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
    return ""
