"""A saved review of a paper, as plain text, into a `Reading`: its claims, the objections with their answers, who cites it.

Recognised by the sections such reviews have (core claim, premise, what would settle it, referee report, citations), whatever
they are about. What the paper claims, what would follow, and what the reviewer makes of it are kept apart: they are claims
under ids of their own (`core`, `implication-1`, `extrapolation-1`), because each can be tested and none is the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

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
    split_sections,
    split_title,
    strip_marker,
    unwrap_paragraphs,
)
from kb.notes import Claim, LinkType, Note, NoteKind

_LONGEST_TITLE = 300  # characters
_HEADINGS = re.compile(
    r"(?P<gist>the (?:pith|gist|upshot|bottom line|short version)|tl;?dr|in (?:one|a) sentence|in brief|at a glance)"
    r"|(?P<core>(?:the )?(?:core|central|main|key) claims?)"
    r"|(?P<argument>what carries (?:the argument|the claim|it|this))"
    r"|(?P<implications>if (?:this|it|that|the claim) (?:is (?:right|true|correct)|holds(?: up)?))"
    r"|(?P<extrapolations>.{0,60}\breading between the lines)"
    r"|(?P<premise>(?:the )?load-bearing (?:premise|assumption)s?)"
    r"|(?P<settles>what would (?:settle|decide|resolve|falsify|refute) (?:it|this|the (?:question|claim)))"
    r"|(?P<abstract>(?:(?:read|show|view) )?(?:the )?(?:original |paper'?s? )?abstract)"
    r"|(?P<editorial>editorial analysis)"
    r"|(?P<report>(?:the )?(?:simulated |ai )?(?:referee|reviewer)(?:'s)? report)"
    r"|(?P<major>major (?:comments?|concerns?|issues?|objections?))"
    r"|(?P<minor>minor (?:comments?|concerns?|issues?|objections?))"
    r"|(?P<rebuttal>(?:simulated |the )?(?:authors?'?s? )?(?:rebuttal|response to (?:the )?(?:referee|reviewer)s?))"
    r"|(?P<responses>(?:(?:read|show) )?(?:the )?point-by-point (?:responses?|replies|answers))"
    r"|(?P<circularity>circularity check)"
    r"|(?P<rationale>(?:(?:read|show) )?(?:the )?full rationale)"
    r"|(?P<ledger>axioms?\b.{0,40}\bledger)"
    r"|(?P<axioms>axioms?|assumptions)"
    r"|(?P<parameters>free parameters?)"
    r"|(?P<entities>invented entities)"
    r"|(?P<citations>forward citations|citing papers|cited by(?: [0-9]{1,9})?(?: [\w-]+){0,4})"
    r"|(?P<rest>discussions?|reference graph|lean theorems?|recognition|figures|references)"
)
_TELLING = frozenset("core implications extrapolations premise settles report citations".split())
_OF_REVIEWS = frozenset("extrapolations report citations".split())
_REVIEWED = re.compile(
    r"(?P<by>.{0,60}?)\breviewed(?: on)?:?\s+"
    r"(?P<date>\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?(?: ?UTC|Z)?|\d{1,2}\.? \w+ \d{4}|\w+ \d{1,2}, \d{4})"
    r"(?P<more>.{0,120})",
    re.I,
)
_MODEL = re.compile(r"\bmodel:?\s+(\S+)", re.I)
_PREFIX = re.compile(r"(?:#{1,6}\s+)?(?:(?:paper )?review(?: of)?\s*[:–—-]\s*)?", re.I)
_PART = re.compile(r"(Summary|Significance)\.\s+")
_ABOUT = re.compile(r"\[([^\[\]]{1,120})\]\s*")
_SPEAKER = re.compile(r"(?:(?P<objects>referee|reviewer)|(?P<answers>authors?|response|reply|answer))(?: #?\d{1,2})?:\s*", re.I)
_REVISION = re.compile(r"\s*\brevision:\s*(\w+)\W*$", re.I)


def read_review(text: str, lines: Sequence[Line], *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """The review that these lines of `text` are, or None when they are none: it takes three of the sections that reviews
    have, and one sign that somebody reviewed."""
    head, found = split_sections(lines, _HEADINGS)
    names = {section.name for section in found if section.lines}
    stamp = next((m for line in head[:8] if (m := _REVIEWED.fullmatch(line.text))), None)
    if len(names & _TELLING) < 3 or not (names & _OF_REVIEWS or stamp) or not head:
        return None
    title = _PREFIX.sub("", join_lines(split_title(head)[0]), count=1)
    if not title or len(title) > _LONGEST_TITLE:
        return None
    of: dict[str, list[Section]] = {}
    for section in found:
        of.setdefault(section.name, []).append(section)
    warnings: list[str] = []
    claims = _claims(of)
    note = Note(
        id=note_id,
        title=title,
        kind=NoteKind.REVIEW,
        text=text,
        path=path,
        source=source,
        gist=_gist(head, of, claims),
        claims=claims,
        properties=_properties(of, stamp, warnings),
    )
    return ParsedNote(note, extract_links(text), tuple(warnings), _citing(of, warnings))


Sections = Mapping[str, list[Section]]


def _words(of: Sections, name: str) -> str:
    """What stands in the sections of a name, as running text, without list markers."""
    return join_lines([strip_marker(line) or line for section in of.get(name, ()) for line in section.lines])


def _listed(of: Sections, name: str, warnings: list[str] | None = None) -> list[str]:
    """The items of the lists in the sections of a name, each once."""
    found: list[str] = []
    for section in of.get(name, ()):
        listed = list_items(section)
        found += map(join_lines, listed)
        if warnings is not None:
            check_count(section, listed, warnings)
    return list(dict.fromkeys(filter(None, found)))


def _gist(head: Sequence[Line], of: Sections, claims: Sequence[Claim]) -> str:
    """The sentence under a heading such as The pith, else the first whole sentence below the title, else of the claim."""
    for section in of.get("gist", ()):
        for part in unwrap_paragraphs(section.lines)[:1]:
            return shorten(join_lines(part))
    for part in unwrap_paragraphs(head)[1:]:
        said = join_lines(part)
        if said.endswith((".", "!", "?")) and said.count(" ") > 4 and not _REVIEWED.fullmatch(said):
            return shorten(said)
    return shorten(claims[0].text) if claims else ""


def _claims(of: Sections) -> tuple[Claim, ...]:
    claims = []
    if core := _words(of, "core"):
        claims.append(Claim("core", core, premise=_words(of, "premise"), settles=_words(of, "settles")))
    for name, id_ in (("implications", "implication"), ("extrapolations", "extrapolation")):
        claims += [Claim(f"{id_}-{number}", said) for number, said in enumerate(_listed(of, name), 1)]
    return tuple(claims)


def _properties(of: Sections, stamp: re.Match[str] | None, warnings: list[str]) -> dict[str, Any]:
    """What else the review says, under names of our own; what it does not say is not there."""
    found: dict[str, Any] = {}
    if stamp:
        model = _MODEL.search(stamp["more"])
        found = {"reviewed": stamp["date"], "reviewer": stamp["by"].strip(), "model": model[1] if model else ""}
    found["argument"] = _words(of, "argument")
    if "core" not in of:
        found |= {"premise": _words(of, "premise"), "settles": _words(of, "settles")}
    found["abstract"] = _words(of, "abstract")
    for section in of.get("report", ()):
        for part in map(join_lines, unwrap_paragraphs(section.lines)):
            if m := _PART.match(part):
                found[m[1].casefold()] = part[m.end() :]
    found["objections"] = _objections(of, warnings)
    found["circularity"] = _words(of, "circularity")
    for name in ("axioms", "parameters", "entities"):
        found[name] = _listed(of, name, warnings)
    return {name: value for name, value in found.items() if value}


def _objections(of: Sections, warnings: list[str]) -> list[dict[str, str]]:
    """The referee's comments in order, each with its weight, what it is about, and the authors' answer if they gave one.
    An answer belongs to the comment that it quotes."""
    answers = _answers(of)
    found: list[dict[str, str]] = []
    for weight in ("major", "minor"):
        for comment in _listed(of, weight, warnings):
            found.append(_objection(weight, comment, answers.pop(_opening(comment), ())))
    for comment, answer in answers.values():
        found.append(_objection("", comment, (comment, answer)))
    return found


def _objection(weight: str, comment: str, answered: tuple[str, ...]) -> dict[str, str]:
    about = _ABOUT.match(comment)
    fields = {"weight": weight, "about": about[1] if about else "", "objection": comment[about.end() if about else 0 :]}
    if answered and answered[1]:
        revision = _REVISION.search(answered[1])
        fields["answer"] = answered[1][: revision.start()] if revision else answered[1]
        fields["revision"] = revision[1] if revision else ""
    return {name: value for name, value in fields.items() if value}


def _answers(of: Sections) -> dict[str, tuple[str, str]]:
    """Comment and answer by the opening of the comment, from lines that begin `Referee:` and `Authors:`."""
    turns: list[tuple[bool, list[Line]]] = []
    for section in (*of.get("rebuttal", ()), *of.get("responses", ())):
        for line in section.lines:
            line = strip_marker(line) or line
            if m := _SPEAKER.match(line.text):
                turns.append((bool(m["objects"]), [Line(line.text[m.end() :], line.start + m.end(), line.end)]))
            elif turns:
                turns[-1][1].append(line)
    found: dict[str, tuple[str, str]] = {}
    comment = ""
    for objects, lines in turns:
        if objects:
            comment = join_lines(lines)
            found.setdefault(_opening(comment), (comment, ""))
        elif comment:
            said = found[_opening(comment)][1]
            found[_opening(comment)] = (comment, f"{said} {join_lines(lines)}".strip())
    return found


def _opening(comment: str) -> str:
    return re.sub(r"\W+", " ", comment).casefold().strip()[:120]


def _citing(of: Sections, warnings: list[str]) -> tuple[Referrer, ...]:
    """The papers that cite this one, with their gists: title first, then a sentence."""
    found: list[Referrer] = []
    for section in of.get("citations", ()):
        listed = list_items(section)
        for item in listed:
            name, rest = split_title(item)
            found.append(
                Referrer(
                    join_lines(name), LinkType.CITES, NoteKind.PAPER, join_lines(rest), start=name[0].start, end=name[-1].end
                )
            )
        check_count(section, listed, warnings)
    return deduplicate(found)
