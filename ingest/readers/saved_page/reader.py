"""Saved or pasted pages of knowledge bases and review sites, as plain text, into a `Reading`. Pure: text in, values out.

Recognised by their structure alone: sections under headings that announce a list of notes. Knows nothing about what such
pages are about, nor which notes exist. `page_review` reads reviews; `page_layout` is lines, sections and lists.
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

_LONGEST_TITLE = 300  # characters
_HEADINGS = re.compile(
    r"(?P<sources>sources?\W{1,3}\d{1,6} (?:source )?(?:notes?|pages?|entries)\W?|\d{1,6} source (?:notes?|pages?|entries))"
    r"|(?P<referrers>.{0,60}\b(?:use|uses|using|used|draws?|drawing|builds?|rests?|rely|relies)\b.{0,20}"
    r"\bthis (?:note|page|entry)\b.{0,30})"
    r"|(?P<related>related (?:concepts?|notes?|ideas?|pages?|entries|topics?|questions?)"
    r"(?: (?:in|from) (?:this|the) [\w ]{3,30})?)"
    r"|(?P<papers>related (?:papers?|articles?|works?|publications?|books?)(?: (?:in|from) (?:this|the) [\w ]{3,30})?)"
    r"|(?P<original>original (?:note |page |entry )?(?:title|name))"
)
_TELLS = re.compile(
    r"sources?\W|.* source |.*\bthis (?:note|page|entry)\b|related \w+ (?:in|from) |original (?:note|page|entry) "
)

# What a reason says of the link. The first pattern is for its leading words, the second for the rest of it, where the same
# words may be about something else.
_SAYS: tuple[tuple[LinkType, str, str], ...] = (
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
_LEAD, _REST = (
    re.compile("|".join(rf"(?P<{entry[0].name}>\b(?:{entry[which]})\b)" for entry in _SAYS), re.I) for which in (1, 2)
)
_LEADING_WORDS = re.compile(r"[^:;,.—–]{1,60}(?=[:;,.—–]|$|\s)")
_DENIED = re.compile(r"(?:\b(?:not|no|never|nor|without|neither|cannot|rather than)|n['’]t)(?:\s+\w+){0,2}\s*$", re.I)


def read_page(text: str, *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """The page as a note with its links, claims and referrers, or None when the text is none of the pages known here, as
    is any with front matter. `Note.text` is `text` itself, so that all spans are places in it."""
    if text.startswith("---"):
        return None
    lines = split_lines(text)
    return read_review(text, lines, path=path, note_id=note_id, source=source) or _knowledge_page(
        text, lines, path=path, note_id=note_id, source=source
    )


def link_type(reason: str) -> LinkType:
    """The type of a link whose author gives this reason: by its leading words, else by what it says later; a word that is
    denied does not count. `related` when it does not say."""
    leading = _LEADING_WORDS.match(reason)
    end = leading.end() if leading else 0
    for pattern, start, stop in ((_LEAD, 0, end), (_REST, end, len(reason))):
        for m in pattern.finditer(reason, start, stop):
            if not _DENIED.search(reason[max(0, m.start() - 60) : m.start()]):
                return LinkType[str(m.lastgroup)]
    return LinkType.RELATED


def _knowledge_page(text: str, lines: Sequence[Line], *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """The page of a note or of an inquiry, if its sections say so."""
    head, found = split_sections(lines, _HEADINGS)
    if not head or not _is_page(found):
        return None
    title_lines, prose = split_title(head)
    title = join_lines(title_lines).lstrip("# ")
    if not title or len(title) > _LONGEST_TITLE or not prose:
        return None
    of = {name: [section for section in found if section.name == name] for name in _HEADINGS.groupindex}
    warnings: list[str] = []
    related = _related(of["related"], warnings)
    papers = _papers(of["papers"], warnings)
    start, end = prose[0].start, prose[-1].end
    mentions = find_titles(text, start, end)
    draws_on = _drawn_on(text, of["sources"], mentions, warnings)
    if not draws_on and all(section.name == "sources" for section in found):
        return None
    taken = {link.target for link in draws_on}
    links = list(draws_on)
    spans = [(at, to) for at, to, _ in mentions] + find_names(text, start, end, (link.target for link in (*related, *papers)))
    for at, to in sorted(set(spans)):
        target = " ".join(text[at:to].split())
        if target not in taken and target != title:
            taken.add(target)
            links.append(WrittenLink(target, start=at, end=to))
    is_inquiry = bool(of["sources"]) and not (of["referrers"] or of["original"])
    alias = next((join_lines(section.lines[:1]) for section in of["original"] if section.lines), "")
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
    return ParsedNote(note, tuple(all_links), tuple(warnings), _referrers(of["referrers"], warnings))


def _is_page(found: Iterable[Section]) -> bool:
    """Whether the headings are those of such a page: one that no ordinary note has and that announces a count, or two."""
    telling = [section for section in found if section.lines and _TELLS.match(section.heading)]
    return len({section.name for section in telling}) > 1 or any(section.count is not None for section in telling)


def _related(found: Iterable[Section], warnings: list[str]) -> list[WrittenLink]:
    """The concepts listed as related: title, description, and the reason, which gives the link its type."""
    links = []
    for section in found:
        listed = list_items(section)
        for item in listed:
            name, rest = split_title(item)
            why = _reason(rest)
            links.append(_link(name, link_type(why), why))
        check_count(section, listed, warnings)
    return list(deduplicate(links))


def _reason(rest: list[Line]) -> str:
    """The reason among what follows the title of an item: its last paragraph, unless that is the only one and reads like
    a description. A reason that has several sentences begins at the first paragraph in lower case."""
    paragraphs = [join_lines(part) for part in unwrap_paragraphs(rest)]
    if len(paragraphs) == 1:
        lead = _LEADING_WORDS.match(paragraphs[0])
        says = paragraphs[0][:1].islower() or (lead and _LEAD.search(lead[0]) and paragraphs[0][lead.end() :][:1] == ":")
        return paragraphs[0] if says else ""
    begins = next((i for i, words in enumerate(paragraphs) if i and words[:1].islower()), len(paragraphs) - 1)
    return " ".join(paragraphs[begins:]) if paragraphs else ""


def _papers(found: Iterable[Section], warnings: list[str]) -> list[WrittenLink]:
    links = []
    for section in found:
        listed = list_items(section)
        for item in listed:
            name, rest = split_title(item)
            links.append(_link(name, LinkType.RELATED, join_lines(rest)))
        check_count(section, listed, warnings)
    return list(deduplicate(links))


def _referrers(found: Iterable[Section], warnings: list[str]) -> tuple[Referrer, ...]:
    """The inquiries that say they use the note: links of theirs, not of the note."""
    referrers = []
    for section in found:
        listed = list_items(section)
        for item in listed:
            name, rest = split_title(item)
            place = name[0].start, name[-1].end
            referrers.append(Referrer(join_lines(name), LinkType.DRAWS_ON, NoteKind.INQUIRY, join_lines(rest), *place))
        check_count(section, listed, warnings)
    return deduplicate(referrers)


def _drawn_on(
    text: str, found: Iterable[Section], mentions: Sequence[tuple[int, int, bool]], warnings: list[str]
) -> list[WrittenLink]:
    """The sources of an inquiry, each with its gist. The list gives gists, perhaps under their titles; otherwise the titles
    are those in the prose in order of first mention, and go with the gists only if there are as many."""
    links: list[WrittenLink] = []
    for section in found:
        listed = _gists(section)
        if paired := [split_title(item) for item in listed if join_lines(split_title(item)[0]).endswith("?")]:
            links += [_link(name, LinkType.DRAWS_ON, join_lines(rest)) for name, rest in paired]
            check_count(section, listed, warnings)
            continue
        check_count(section, listed, warnings)
        first: dict[str, tuple[int, int, bool]] = {}
        for start, end, referred in mentions:
            first.setdefault(" ".join(text[start:end].split()), (start, end, referred))
        if len(first) > len(listed):
            sure = {name: place for name, place in first.items() if place[2]}
            first = sure if len(sure) == len(listed) else first
        whys = [join_lines(item) for item in listed]
        if len(first) != len(whys):
            warnings.append(
                f"{len(whys)} sources are listed and {len(first)} titles named in the text: which is which is left open"
            )
            whys = [""] * len(first)
        for (name, (start, end, _)), why in zip(first.items(), whys, strict=True):
            links.append(WrittenLink(name, LinkType.DRAWS_ON, why, start=start, end=end))
    return list(deduplicate(links))


def _gists(section: Section) -> list[list[Line]]:
    """The entries of a list of sources: items, or paragraphs; titles on lines of their own go with what follows them."""
    listed = list_items(section, introduced=False)
    if len(listed) != section.count and all(len(item) == 1 for item in listed):
        listed = unwrap_paragraphs(section.lines)
    if any(join_lines(item).endswith("?") for item in listed):
        together: list[list[Line]] = []
        for item in listed:
            if together and join_lines(together[-1]).endswith("?") and not join_lines(item).endswith("?"):
                together[-1] = [*together[-1], *item]
            else:
                together.append(list(item))
        if len(together) == section.count:
            return together
    return listed


def _link(name: Sequence[Line], kind: LinkType, why: str) -> WrittenLink:
    return WrittenLink(join_lines(name), kind, why, start=name[0].start, end=name[-1].end)
