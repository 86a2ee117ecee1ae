"""Reads saved or pasted pages of knowledge bases and review sites, given as plain text.

Recognizes them by their structure: sections under headings that announce a list of notes. `review` reads reviews.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ingest.links import extract_links
from ingest.readers.markdown import ParsedNote, Referrer
from ingest.readers.saved_page.layout import (
    Line,
    Section,
    check_count,
    deduplicate,
    join_lines,
    list_items,
    shorten,
    split_lines,
    split_sections,
    split_title,
    unwrap_paragraphs,
)
from ingest.readers.saved_page.mentions import find_names, find_titles, named_works
from ingest.readers.saved_page.review import read_review
from kb.notes import LinkType, Note, NoteKind, WrittenLink

__all__ = ["named_works", "read_page"]

_MAX_TITLE = 300  # characters
_HEADINGS = re.compile(
    r"(?P<sources>sources?\W{1,3}\d{1,6} (?:source )?(?:notes?|pages?|entries)\W?|\d{1,6} source (?:notes?|pages?|entries))"
    r"|(?P<referrers>.{0,60}\b(?:use|uses|using|used|draws?|drawing|builds?|rests?|rely|relies)\b.{0,20}"
    r"\bthis (?:note|page|entry)\b.{0,30})"
    r"|(?P<related>related (?:concepts?|notes?|ideas?|pages?|entries|topics?|questions?)"
    r"(?: (?:in|from) (?:this|the) [\w ]{3,30})?)"
    r"|(?P<papers>related (?:papers?|articles?|works?|publications?|books?)(?: (?:in|from) (?:this|the) [\w ]{3,30})?)"
    r"|(?P<original>original (?:note |page |entry )?(?:title|name))"
)
_DISTINCTIVE = re.compile(
    r"sources?\W|.* source |.*\bthis (?:note|page|entry)\b|related \w+ (?:in|from) |original (?:note|page|entry) "
)

# Words of a reason that determine the link type. The first pattern is for its leading words, the second, stricter one for the
# remainder, where the words may refer to something else.
_TYPE_WORDS: tuple[tuple[LinkType, str, str], ...] = (
    (
        LinkType.CONTRADICTS,
        r"contradict\w*|disagree\w*|refut\w*|disput\w*|conflict\w*|counter-?(?:evidence|examples?)"
        r"|(?:evidence|argument) against|in tension|opposes|challeng(?:es|ed|ing)",
        r"contradict\w*|disagrees?|refutes?|conflicts with|evidence against|in tension with",
    ),
    (LinkType.QUALIFIES, r"qualif(?:y|ies|ied|ying|ication)|caveats?|nuanc\w+", r"qualif(?:y|ies|ied|ying)|with the caveat"),
    (
        LinkType.EXTENDS,
        r"exten(?:d|ds|ded|ding|sion)|generali[sz]\w+|broaden\w*",
        r"extends|extending|an extension of|generali[sz]es",
    ),
    (
        LinkType.SUPPORTS,
        r"evidence|confirm\w*|strengthen\w*|support\w*|corroborat\w*|reinforc(?:e|es|ed|ing)|validat\w+",
        r"evidence (?:for|that)|confirm(?:s|ed|ing)?|strengthen(?:s|ed|ing)?|support(?:s|ed|ing)|corroborat(?:e|es|ed|ing)",
    ),
    (
        LinkType.EXPLAINS,
        r"mechanisms?|expla(?:in\w*|nation)|identif(?:y|ies|ied|ying)|accounts? for|clarif\w+",
        r"explain(?:s|ed|ing)|identif(?:ies|ied|ying)|accounts for",
    ),
)
_LEADING_TYPE, _LATER_TYPE = (
    re.compile("|".join(rf"(?P<{entry[0].name}>\b(?:{entry[which]})\b)" for entry in _TYPE_WORDS), re.I) for which in (1, 2)
)
_LEADING_WORDS = re.compile(r"[^:;,.—–]{1,60}(?=[:;,.—–]|$|\s)")
_NEGATION = re.compile(r"(?:\b(?:not|no|never|nor|without|neither|cannot|rather than)|n['’]t)(?:\s+\w+){0,2}\s*$", re.I)


def read_page(text: str, *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """The page as a note with its links, claims and referrers; None for any other text and for texts with front matter.
    `Note.text` is `text` itself, so all spans refer to it."""
    if text.startswith("---"):
        return None
    lines = split_lines(text)
    return read_review(text, lines, path=path, note_id=note_id, source=source) or _knowledge_page(
        text, lines, path=path, note_id=note_id, source=source
    )


def link_type(reason: str) -> LinkType:
    """The link type that a reason expresses: by its leading words, or else by later ones. Negated words do not count.
    `related` when it expresses none."""
    leading = _LEADING_WORDS.match(reason)
    end = leading.end() if leading else 0
    for pattern, start, stop in ((_LEADING_TYPE, 0, end), (_LATER_TYPE, end, len(reason))):
        for m in pattern.finditer(reason, start, stop):
            if not _NEGATION.search(reason[max(0, m.start() - 60) : m.start()]):
                return LinkType[str(m.lastgroup)]
    return LinkType.RELATED


def _knowledge_page(text: str, lines: Sequence[Line], *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """The page of a note or an inquiry; None when its sections are not those of such a page."""
    head, sections_found = split_sections(lines, _HEADINGS)
    if not head or not _is_page(sections_found):
        return None
    title_lines, prose = split_title(head)
    title = join_lines(title_lines).lstrip("# ")
    if not title or len(title) > _MAX_TITLE or not prose:
        return None
    by_name = {name: [section for section in sections_found if section.name == name] for name in _HEADINGS.groupindex}
    warnings: list[str] = []
    related = _read_related(by_name["related"], warnings)
    papers = _read_papers(by_name["papers"], warnings)
    start, end = prose[0].start, prose[-1].end
    mentions = find_titles(text, start, end)
    draws_on = _read_sources(text, by_name["sources"], mentions, warnings)
    if not draws_on and all(section.name == "sources" for section in sections_found):
        return None
    linked = {link.target for link in draws_on}
    links = list(draws_on)
    spans = [(position, to) for position, to, _ in mentions] + find_names(
        text, start, end, (link.target for link in (*related, *papers))
    )
    for position, to in sorted(set(spans)):
        target = " ".join(text[position:to].split())
        if target not in linked and target != title:
            linked.add(target)
            links.append(WrittenLink(target, start=position, end=to))
    is_inquiry = bool(by_name["sources"]) and not (by_name["referrers"] or by_name["original"])
    alias = next((join_lines(section.lines[:1]) for section in by_name["original"] if section.lines), "")
    note = Note(
        id=note_id,
        title=title,
        kind=NoteKind.INQUIRY if is_inquiry else NoteKind.NOTE,
        text=text,
        path=path,
        source=source,
        gist=shorten(join_lines(unwrap_paragraphs(prose)[0])),
        aliases=(alias,) if alias and alias != title else (),
    )
    all_links = sorted((*links, *related, *papers, *extract_links(text)), key=lambda link: link.start)
    return ParsedNote(note, tuple(all_links), tuple(warnings), _read_referrers(by_name["referrers"], warnings))


def _is_page(sections_found: Iterable[Section]) -> bool:
    """Whether the headings identify such a page: two distinctive sections, or one with a count."""
    distinctive = [section for section in sections_found if section.lines and _DISTINCTIVE.match(section.heading)]
    return len({section.name for section in distinctive}) > 1 or any(section.count is not None for section in distinctive)


def _read_related(sections_found: Iterable[Section], warnings: list[str]) -> list[WrittenLink]:
    """Links to the related concepts. Each entry has a title, a description and a reason, which determines the link type."""
    links = []
    for section in sections_found:
        entries = list_items(section)
        for item in entries:
            name, rest = split_title(item)
            reason = _find_reason(rest)
            links.append(_link(name, link_type(reason), reason))
        check_count(section, entries, warnings)
    return list(deduplicate(links))


def _find_reason(rest: list[Line]) -> str:
    """The reason among the lines after an item's title: its last paragraph, unless that is a single description. A reason of
    several paragraphs begins at the first one in lower case."""
    paragraphs = [join_lines(part) for part in unwrap_paragraphs(rest)]
    if len(paragraphs) == 1:
        lead = _LEADING_WORDS.match(paragraphs[0])
        is_typed = lead and _LEADING_TYPE.search(lead[0]) and paragraphs[0][lead.end() :][:1] == ":"
        return paragraphs[0] if is_typed or paragraphs[0][:1].islower() else ""
    begins = next((i for i, words in enumerate(paragraphs) if i and words[:1].islower()), len(paragraphs) - 1)
    return " ".join(paragraphs[begins:]) if paragraphs else ""


def _read_papers(sections_found: Iterable[Section], warnings: list[str]) -> list[WrittenLink]:
    links = []
    for section in sections_found:
        entries = list_items(section)
        for item in entries:
            name, rest = split_title(item)
            links.append(_link(name, LinkType.RELATED, join_lines(rest)))
        check_count(section, entries, warnings)
    return list(deduplicate(links))


def _read_referrers(sections_found: Iterable[Section], warnings: list[str]) -> tuple[Referrer, ...]:
    """The inquiries that use the note: they own these links, not the note."""
    referrers = []
    for section in sections_found:
        entries = list_items(section)
        for item in entries:
            name, rest = split_title(item)
            place = name[0].start, name[-1].end
            referrers.append(Referrer(join_lines(name), LinkType.DRAWS_ON, NoteKind.INQUIRY, join_lines(rest), *place))
        check_count(section, entries, warnings)
    return deduplicate(referrers)


def _read_sources(
    text: str, sections_found: Iterable[Section], mentions: Sequence[tuple[int, int, bool]], warnings: list[str]
) -> list[WrittenLink]:
    """Links to the sources of an inquiry, with their gists as reasons. The titles precede the gists in the list, or are those
    mentioned in the prose, in order; the latter get the gists only when the numbers agree."""
    links: list[WrittenLink] = []
    for section in sections_found:
        entries = _source_entries(section)
        if paired := [split_title(item) for item in entries if join_lines(split_title(item)[0]).endswith("?")]:
            links += [_link(name, LinkType.DRAWS_ON, join_lines(rest)) for name, rest in paired]
            check_count(section, entries, warnings)
            continue
        check_count(section, entries, warnings)
        first: dict[str, tuple[int, int, bool]] = {}
        for start, end, is_reference in mentions:
            first.setdefault(" ".join(text[start:end].split()), (start, end, is_reference))
        if len(first) > len(entries):
            references = {name: place for name, place in first.items() if place[2]}
            first = references if len(references) == len(entries) else first
        reasons = [join_lines(item) for item in entries]
        if len(first) != len(reasons):
            warnings.append(
                f"{len(reasons)} sources are listed and {len(first)} titles named in the text: which is which is left open"
            )
            reasons = [""] * len(first)
        for (name, (start, end, _)), reason in zip(first.items(), reasons, strict=True):
            links.append(WrittenLink(name, LinkType.DRAWS_ON, reason, start=start, end=end))
    return list(deduplicate(links))


def _source_entries(section: Section) -> list[list[Line]]:
    """The entries of a list of sources: items or paragraphs; a title on a separate line belongs to the entry after it."""
    entries = list_items(section, has_introduction=False)
    if len(entries) != section.count and all(len(item) == 1 for item in entries):
        entries = unwrap_paragraphs(section.lines)
    if any(join_lines(item).endswith("?") for item in entries):
        grouped: list[list[Line]] = []
        for item in entries:
            if grouped and join_lines(grouped[-1]).endswith("?") and not join_lines(item).endswith("?"):
                grouped[-1] = [*grouped[-1], *item]
            else:
                grouped.append(list(item))
        if len(grouped) == section.count:
            return grouped
    return entries


def _link(name: Sequence[Line], kind: LinkType, reason: str) -> WrittenLink:
    return WrittenLink(join_lines(name), kind, reason, start=name[0].start, end=name[-1].end)
