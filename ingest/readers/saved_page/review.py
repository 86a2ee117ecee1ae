"""Reads a saved review of a paper, given as plain text: its claims, objections with answers, and citing papers.

Recognizes it by its sections (core claim, premise, what would settle it, referee report, citations). The paper's claim, its
implications and the reviewer's extrapolations become separate claims (`core`, `implication-1`, `extrapolation-1`).
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

_MAX_TITLE = 300  # characters
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
_DISTINCTIVE = frozenset("core implications extrapolations premise settles report citations".split())
_REVIEW_ONLY = frozenset("extrapolations report citations".split())
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
    """The review in these lines of `text`; None when they lack three typical sections and a sign of a review."""
    head, page_sections = split_sections(lines, _HEADINGS)
    names = {section.name for section in page_sections if section.lines}
    review_stamp = next((m for line in head[:8] if (m := _REVIEWED.fullmatch(line.text))), None)
    if len(names & _DISTINCTIVE) < 3 or not (names & _REVIEW_ONLY or review_stamp) or not head:
        return None
    title = _PREFIX.sub("", join_lines(split_title(head)[0]), count=1)
    if not title or len(title) > _MAX_TITLE:
        return None
    by_name: dict[str, list[Section]] = {}
    for section in page_sections:
        by_name.setdefault(section.name, []).append(section)
    warnings: list[str] = []
    claims = _claims(by_name)
    note = Note(
        id=note_id,
        title=title,
        kind=NoteKind.REVIEW,
        text=text,
        path=path,
        source=source,
        gist=_gist(head, by_name, claims),
        claims=claims,
        properties=_properties(by_name, review_stamp, warnings),
    )
    return ParsedNote(note, extract_links(text), tuple(warnings), _read_citations(by_name, warnings))


Sections = Mapping[str, list[Section]]


def _section_text(by_name: Sections, name: str) -> str:
    """The text of the sections called `name` without list markers."""
    return join_lines([strip_marker(line) or line for section in by_name.get(name, ()) for line in section.lines])


def _section_items(by_name: Sections, name: str, warnings: list[str] | None = None) -> list[str]:
    """The list items of the sections called `name`, without repetitions."""
    texts: list[str] = []
    for section in by_name.get(name, ()):
        entries = list_items(section)
        texts += map(join_lines, entries)
        if warnings is not None:
            check_count(section, entries, warnings)
    return list(dict.fromkeys(filter(None, texts)))


def _gist(head: Sequence[Line], by_name: Sections, claims: Sequence[Claim]) -> str:
    """The sentence under a heading such as The pith, otherwise the first complete sentence below the title, or the core
    claim."""
    for section in by_name.get("gist", ()):
        for part in unwrap_paragraphs(section.lines)[:1]:
            return shorten(join_lines(part))
    for part in unwrap_paragraphs(head)[1:]:
        sentence = join_lines(part)
        if sentence.endswith((".", "!", "?")) and sentence.count(" ") > 4 and not _REVIEWED.fullmatch(sentence):
            return shorten(sentence)
    return shorten(claims[0].text) if claims else ""


def _claims(by_name: Sections) -> tuple[Claim, ...]:
    claims = []
    if core := _section_text(by_name, "core"):
        claims.append(Claim("core", core, premise=_section_text(by_name, "premise"), settles=_section_text(by_name, "settles")))
    for name, id_ in (("implications", "implication"), ("extrapolations", "extrapolation")):
        claims += [Claim(f"{id_}-{number}", sentence) for number, sentence in enumerate(_section_items(by_name, name), 1)]
    return tuple(claims)


def _properties(by_name: Sections, review_stamp: re.Match[str] | None, warnings: list[str]) -> dict[str, Any]:
    """Further statements of the review as properties, without empty ones."""
    properties: dict[str, Any] = {}
    if review_stamp:
        model = _MODEL.search(review_stamp["more"])
        properties = {
            "reviewed": review_stamp["date"],
            "reviewer": review_stamp["by"].strip(),
            "model": model[1] if model else "",
        }
    properties["argument"] = _section_text(by_name, "argument")
    if "core" not in by_name:
        properties |= {"premise": _section_text(by_name, "premise"), "settles": _section_text(by_name, "settles")}
    properties["abstract"] = _section_text(by_name, "abstract")
    for section in by_name.get("report", ()):
        for part in map(join_lines, unwrap_paragraphs(section.lines)):
            if m := _PART.match(part):
                properties[m[1].casefold()] = part[m.end() :]
    properties["objections"] = _objections(by_name, warnings)
    properties["circularity"] = _section_text(by_name, "circularity")
    for name in ("axioms", "parameters", "entities"):
        properties[name] = _section_items(by_name, name, warnings)
    return {name: value for name, value in properties.items() if value}


def _objections(by_name: Sections, warnings: list[str]) -> list[dict[str, str]]:
    """The referee's comments in order, each with its weight, subject and the authors' answer, if any. An answer belongs to
    the comment that it quotes."""
    answers = _answers(by_name)
    objections: list[dict[str, str]] = []
    for weight in ("major", "minor"):
        for comment in _section_items(by_name, weight, warnings):
            objections.append(_to_objection(weight, comment, answers.pop(_answer_key(comment), ())))
    for comment, answer in answers.values():
        objections.append(_to_objection("", comment, (comment, answer)))
    return objections


def _to_objection(weight: str, comment: str, exchange: tuple[str, ...]) -> dict[str, str]:
    about = _ABOUT.match(comment)
    fields = {"weight": weight, "about": about[1] if about else "", "objection": comment[about.end() if about else 0 :]}
    if exchange and exchange[1]:
        revision = _REVISION.search(exchange[1])
        fields["answer"] = exchange[1][: revision.start()] if revision else exchange[1]
        fields["revision"] = revision[1] if revision else ""
    return {name: value for name, value in fields.items() if value}


def _answers(by_name: Sections) -> dict[str, tuple[str, str]]:
    """(comment, answer) by the beginning of the comment, from lines that begin with `Referee:` and `Authors:`."""
    turns: list[tuple[bool, list[Line]]] = []
    for section in (*by_name.get("rebuttal", ()), *by_name.get("responses", ())):
        for line in section.lines:
            line = strip_marker(line) or line
            if m := _SPEAKER.match(line.text):
                turns.append((bool(m["objects"]), [Line(line.text[m.end() :], line.start + m.end(), line.end)]))
            elif turns:
                turns[-1][1].append(line)
    answers: dict[str, tuple[str, str]] = {}
    comment = ""
    for objects, lines in turns:
        if objects:
            comment = join_lines(lines)
            answers.setdefault(_answer_key(comment), (comment, ""))
        elif comment:
            sentence = answers[_answer_key(comment)][1]
            answers[_answer_key(comment)] = (comment, f"{sentence} {join_lines(lines)}".strip())
    return answers


def _answer_key(comment: str) -> str:
    return re.sub(r"\W+", " ", comment).casefold().strip()[:120]


def _read_citations(by_name: Sections, warnings: list[str]) -> tuple[Referrer, ...]:
    """The papers that cite this one, with their gists. Each entry is a title and a sentence."""
    referrers: list[Referrer] = []
    for section in by_name.get("citations", ()):
        entries = list_items(section)
        for item in entries:
            name, rest = split_title(item)
            referrers.append(
                Referrer(
                    join_lines(name), LinkType.CITES, NoteKind.PAPER, join_lines(rest), start=name[0].start, end=name[-1].end
                )
            )
        check_count(section, entries, warnings)
    return deduplicate(referrers)
