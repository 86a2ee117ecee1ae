"""The text of an inquiry's note: whatever an answer holds is words in it, and all of the answer can be read back."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.readers.markdown import ParsedNote, read_markdown
from kb.notes import LinkType, NoteKind
from service.answering.answer import Answer, Citation, Disagreement, EvidenceItem, SourceNote, Statement, Support
from service.inquiries.front_matter import ClaimSnapshot, InquiryRecord, SourceSnapshot, StaleReason, read_record
from service.inquiries.markdown_escape import escape
from service.inquiries.note_text import InquiryPage, inquiry_markdown, is_edited, list_citations

SYNTAX = st.sampled_from([
    "[[", "]]", "[[Other]]", "![[x.md]]", "[x](y.md)", "[x]: y.md", "contradicts:: [[A]] because b", "(supports:: [[A]])",
    "title:: no", "alias:: no", "tags:: a, b", "#tag", "#[[A b]]", "^block", "id:: 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    "((0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0))", "{{embed [[A]]}}", "`", "```", "~~~", "$", "$$", "$x_1$", "\\(", "\\)", "\\[",
    "\\]", "\\", "\\begin{equation}", "<!--", "-->", "%%", "---", "...", "# ", "> ", "- ", "1. ", "|", "[^1]", "[^1]: ", "^[x]",
    "<b>", "&amp;", ":LOGBOOK:", "#+BEGIN_QUERY", "written: 0", "\n", "\n\n", "\r", "\t", "\u2028", "\x85", "\0", "\ufeff", '"',
    "'", ": ",
    "* ", "**", "__", "==", "~~", "👩‍🔬", "אב", "SCHEDULED: <2026-11-27>", "null", "{", "}", "?", "!", "@", "*",
])  # fmt: skip
TEXT = st.one_of(
    st.text(max_size=40), st.lists(st.one_of(SYNTAX, st.text("ab [](){}:#^$`\\\n", max_size=6)), max_size=9).map("".join)
)


def page(words: str, *, generated: bool = True, why: str = "", title: str = "Why?") -> InquiryPage:
    """An answer in which every text is `words`."""
    cited = Citation(1, "vault/a", words, 3, 9, words)
    other = Citation(2, "vault/b", words, 0, 4, words)
    grades = (Support.SUPPORTED, Support.PARTIAL, Support.UNSUPPORTED) if generated else (Support.QUOTED,)
    statements = tuple(Statement(words, grade, (cited,), "lede", why, 0) for grade in grades)
    answer = Answer(
        words, True, statements, (Disagreement("vault/a", "vault/b", "contradicts", words, words, words, cited, other),),
        (EvidenceItem("vault/e", words, "run", "vault/a#c", words, words, words),),
        sources=(SourceNote("vault/a", words, NoteKind.NOTE, words), SourceNote("vault/b", words, NoteKind.NOTE, words)),
        mode="generated" if generated else "quoted", model=words if generated else None,
        dropped=(Statement(words, grades[-1], ()),), incomplete=True, fault=words,
    )  # fmt: skip
    record = InquiryRecord(
        words, "2026-11-27T06:00:00+00:00", answer.mode, answer.model or "", statements, list_citations(answer),
        (SourceSnapshot("vault/a", words, "00ff"),), (ClaimSnapshot("vault/a#c", words, "untested", ("vault/e",)),),
        (StaleReason("changed", "vault/a", words, words, words, words),), ".earlier/x/y.md",
    )  # fmt: skip
    return InquiryPage(title, answer, record)


def read(text: str) -> ParsedNote:
    return read_markdown(text.encode("utf-8", "replace"), path="inquiries/x.md", note_id="notes/inquiries/x", source="notes")


@settings(deadline=None)
@given(TEXT)
def test_whatever_an_answer_says_its_note_links_to_its_sources_alone(words: str) -> None:
    reading = read(inquiry_markdown(page(words)))
    assert [(link.target, link.type) for link in reading.links] == [
        ("vault/a", LinkType.DRAWS_ON), ("vault/b", LinkType.DRAWS_ON)
    ]  # fmt: skip
    note = reading.note
    assert (note.kind, note.title, note.tags, note.aliases, note.claims) == (NoteKind.INQUIRY, "Why?", (), (), ())
    assert not reading.warnings


@settings(deadline=None)
@given(TEXT)
def test_a_record_comes_back_as_it_was(words: str) -> None:
    written = page(words)
    assert read_record(read(inquiry_markdown(written)).note.properties) == written.record
    quoted = page(words, generated=False)
    assert read_record(read(inquiry_markdown(quoted)).note.properties) == quoted.record


@settings(deadline=None)
@given(TEXT, st.integers(0, 10_000))
def test_a_note_that_was_changed_by_hand_is_known(words: str, at: int) -> None:
    text = inquiry_markdown(page(words))
    assert not is_edited(text)
    at %= len(text) - 1
    if text[at] != "~":
        assert is_edited(f"{text[:at]}~{text[at + 1 :]}")
    assert is_edited(text + "Mine.\n") and is_edited("Mine.\n")


@settings(deadline=None)
@given(TEXT)
@example("`\\```")
def test_a_line_made_inert_stays_one_line(words: str) -> None:
    assert "\n" not in escape(words)


def test_grades_reasons_and_both_sides_can_be_read() -> None:
    text = inquiry_markdown(page("Stripes keep flies off", why="missing number"))
    assert (
        "*(partial: missing number)*" in text and "*(unsupported: missing number)*" in text and "1 supported, 1 partial" in text
    )
    assert "[^1]: Stripes keep flies off (`vault/a`): “Stripes keep flies off”" in text
    assert "contradicts" in text and "## Evidence" in text and "## Removed" in text


def test_titles_that_break_front_matter_are_titles() -> None:
    for title in ("---", "a: b", "'\"", "{x}", "[[a]]", "- b", "# c", "null", "👩‍🔬", "%a", "@b", "!c", "a\nb: c"):
        assert read(inquiry_markdown(page("x", title=title))).note.title == " ".join(title.split())


def test_front_matter_that_a_person_broke_is_no_record() -> None:
    properties: dict[str, Any] = dict(read(inquiry_markdown(page("x"))).note.properties)
    for key, value in (("citations", "none"), ("statements", [{"cites": [9]}]), ("sources", [1]), ("question", None)):
        record = {k: v for k, v in properties["inquiry"].items() if k != key} | ({key: value} if value is not None else {})
        assert read_record({"inquiry": record}) is None
    assert read_record({}) is None and read_record({"inquiry": "x"}) is None


def test_the_record_of_version_0_2_is_read_and_written_as_it_was() -> None:
    record = yaml.safe_load("""
question: Why do zebras have stripes?
asked: '2026-11-20T06:00:00+00:00'
mode: generated
model: some/model
statements:
- {support: supported, part: lede, paragraph: 0, cites: [1], text: Stripes keep flies off.}
- {support: partial, part: body, paragraph: 1, cites: [2, 1], text: Heat too., reason: only partly covered}
- {support: quoted, part: body, paragraph: 0, cites: [2, 1]}
citations:
- {number: 1, note: vault/flies, title: Flies, start: 3, end: 9, quote: No fly}
- {number: 2, note: vault/heat, title: '2024', start: 0, end: 5, quote: Heat.}
sources:
- {note: vault/flies, title: Flies, text: 0a1b}
touched:
- {claim: vault/flies#c, text: They do., status: untested, evidence: [e/1]}
because:
- {kind: changed, note_id: vault/flies, title: Flies, text: It has changed., was: a, now: b}
earlier: .earlier/why/1.md
""")
    read = read_record({"inquiry": record})
    assert read is not None and read.to_front_matter() == record
    assert [statement.text for statement in read.statements] == ["Stripes keep flies off.", "Heat too.", "Heat. No fly"]
    assert read.statements[1].citations == (read.citations[1], read.citations[0])
    assert read.claims[0].evidence == ("e/1",) and read.because[0].now == "b"
    quoted = {"question": "Q?", "asked": "2026", "mode": "quoted", "statements": [], "citations": [], "sources": []}
    assert (bare := read_record({"inquiry": quoted})) is not None and bare.to_front_matter() == quoted and bare.model == ""
    for broken in ({**record, "citations": []}, {**record, "statements": [{"cites": [1]}]}, {"question": "Q?"}, None, "text"):
        assert read_record({"inquiry": broken}) is None
