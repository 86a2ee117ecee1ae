"""A PDF becomes Markdown: its words in reading order, pages kept, running heads gone; what cannot be read is refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.readers import similarities
from ingest.readers.extracted_document import format_note
from ingest.readers.markdown import read_markdown
from ingest.readers.pdf import reader
from ingest.readers.pdf.reader import read_pdf
from ingest.readers.pdf.subprocess import read_pdf_in_subprocess
from kb.notes import PasskbError

Text = tuple[float, float, float, str] | tuple[float, float, float, str, str]  # x, y, size, words, font F1 or bold F2


def made(pages: Sequence[Sequence[Text]], *, title: str = "", trailer: str = "") -> bytes:
    """A PDF of US letter pages (612 by 792 points) with these texts, drawn in this order."""
    kids = " ".join(f"{5 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R/F2 4 0 R>>>>>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold/Encoding/WinAnsiEncoding>>",
    ]
    for i, texts in enumerate(pages):
        drawn = ""
        for x, y, size, words, *font in texts:
            escaped = words.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            drawn += f"BT /{font[0] if font else 'F1'} {size} Tf {x} {y} Td ({escaped}) Tj ET\n"
        objects += [
            f"<</Type/Page/Parent 2 0 R/Contents {6 + 2 * i} 0 R>>",
            f"<</Length {len(drawn)}>>stream\n{drawn}endstream",
        ]
    objects.append(f"<</Title({title})>>")
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<</Size {size}/Root 1 0 R/Info {size - 1} 0 R{trailer}>>\n"
    return out + f"{end}startxref\n{len(out)}\n%%EOF\n".encode()


def lines(*words: str, x: float = 72, y: float = 700, size: float = 11) -> list[Text]:
    return [(x, y - 1.25 * size * i, size, line) for i, line in enumerate(words)]


PARAGRAPH = (
    "The tuned model wins when one attempt is allowed and the base",
    "model overtakes it when many are, which says that training has",
    "made likely what was possible before it, and not more than that.",
)
WHOLE = " ".join(PARAGRAPH)


def test_lines_are_joined_into_paragraphs_and_headings_stand_out() -> None:
    texts = [
        (72.0, 740.0, 20.0, "Coverage and reasoning"),
        (72.0, 722.0, 11.0, "1 Setup", "F2"),
        *lines(*PARAGRAPH),
        *lines(*PARAGRAPH, y=640),
    ]
    read = read_pdf(made([texts]), path="a.pdf")
    assert read.text == f"# Coverage and reasoning\n\n### 1 Setup\n\n{WHOLE}\n\n{WHOLE}\n"
    assert read.title == "Coverage and reasoning" and read.pages == (0,) and not read.warnings


@pytest.mark.parametrize("by_row", [False, True], ids=["column by column", "row by row"])
def test_columns_are_read_one_after_the_other(by_row: bool) -> None:
    left = lines(*(f"left column line number {i} is written here" for i in range(12)), size=10)
    right = lines(*(f"right column line number {i} is written here" for i in range(12)), x=330, size=10)
    texts = [text for row in zip(left, right, strict=True) for text in row] if by_row else [*right, *left]
    read = read_pdf(made([[(72, 740, 18, "A title over both of the columns"), *texts]]), path="a.pdf").text
    places = [read.index(f"{side} column line number {i} ") for side in ("left", "right") for i in range(12)]
    assert read.startswith("# A title") and places == sorted(places)


def test_words_broken_at_a_line_end_are_mended_and_compounds_keep_their_hyphen() -> None:
    written = lines(
        "It has the well-known effect that a distribu-",
        "tion is sharpened, and that a long-",
        "horizon task is solved, and of a well-",
        "known one the distribution is kept.",
    )
    text = read_pdf(made([written]), path="a.pdf").text
    assert text == (
        "It has the well-known effect that a distribution is sharpened, and that a long-horizon task is solved, and of a "
        "well-known one the distribution is kept.\n"
    )


def test_running_heads_and_page_numbers_go_and_pages_begin_where_they_say() -> None:
    pages = [
        [
            (72.0, 760.0, 9.0, "Journal of Coverage"),
            *lines(f"Page {word} begins with this sentence, which is as wide as the column", "and ends in this one."),
            (300.0, 30.0, 9.0, str(number)),
        ]
        for number, word in enumerate(("one", "two", "three", "four"), 11)
    ]
    read = read_pdf(made(pages), path="a.pdf")
    assert "Journal" not in read.text and not any(str(number) in read.text for number in range(11, 15))
    assert [read.text[start:].split(" begins")[0] for start in read.pages] == [
        "Page one",
        "Page two",
        "Page three",
        "Page four",
    ]
    note = read_markdown(format_note(read, "a.pdf", date(2026, 11, 20)).encode(), path="a.md", note_id="a", source="s").note
    assert note.text == read.text and note.properties["pages"] == list(read.pages)


def test_rows_of_numbers_at_the_edge_of_pages_are_no_running_heads() -> None:
    rows = [[(x, 760.0 - 13 * y, 10.0, f"0.{page}{y}{x}") for y in range(9) for x in (72, 172, 272)] for page in range(1, 5)]
    text = read_pdf(made([[*page, (72.0, 400.0, 10.0, "Then some text.")] for page in rows]), path="a.pdf").text
    assert all(words in text for page in rows for _, _, _, words in page)


def test_a_sentence_goes_on_over_the_end_of_a_page() -> None:
    first, second = lines(*PARAGRAPH[:2]), lines(PARAGRAPH[2])
    read = read_pdf(made([first, second]), path="a.pdf")
    assert read.text == f"{WHOLE}\n" and read.text[read.pages[1] :].startswith("made likely")


def test_lists_and_rows_keep_their_lines_and_markup_in_the_text_is_none() -> None:
    texts: list[Text] = lines("• first thing to do", "• second *thing* [[to]] do")
    texts += [(x, y, 11, f"cell {x:.0f} {y:.0f}") for y in (640, 626) for x in (72, 200, 330)]
    text = read_pdf(made([texts]), path="a.pdf").text
    assert text.startswith("- first thing to do\n- second \\*thing\\* \\[[to]] do\n\n")
    assert "cell 72 640 cell 200 640 cell 330 640\ncell 72 626" in text


def test_the_title_is_the_document_s_own_when_that_is_one() -> None:
    assert read_pdf(made([lines("text")], title="On coverage"), path="a.pdf").title == "On coverage"
    assert read_pdf(made([lines("text")], title="Microsoft Word - a.docx"), path="folder/a b.pdf").title == "a b"


def test_pages_without_text_are_named_and_still_counted() -> None:
    read = read_pdf(made([[], lines("some text."), []]), path="a.pdf")
    assert read.pages == (0, 0, len(read.text)) and "2 of 3 pages have no text (page 1, 3)" in read.warnings[0]


GOOD = made([lines(*PARAGRAPH)])
LOCKED = made(
    [lines("secret")], trailer=f"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<{'5A' * 32}>/U<{'A5' * 32}>>>/ID[<00><00>]"
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"words", "not a PDF: correct its suffix"),
        (b"PK\x03\x04" + GOOD[5:], "not a PDF but a zip archive"),
        (b"<!doctype html><p>", "not a PDF but a web page"),
        (GOOD[:300], "damaged or incomplete"),
        (LOCKED, "encrypted PDF: remove the password and sync again"),
        (made([[], []]), "contains no text: run OCR first"),
    ],
    ids=["nothing", "text", "zip", "page", "truncated", "encrypted", "scanned"],
)
def test_what_can_not_be_read_is_refused_and_named(data: bytes, says: str) -> None:
    with pytest.raises(PasskbError, match=r"^dir/a\.pdf: ") as refused:
        read_pdf(data, path="dir/a.pdf")
    assert says in str(refused.value)


def test_of_thousands_of_pages_the_first_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made([lines(f"This is page number {i}.") for i in range(2000)])
    read = read_pdf(data, path="a.pdf")
    assert len(read.pages) == 2000 and read.text[read.pages[1999] :] == "This is page number 1999.\n" and not read.warnings
    monkeypatch.setattr(reader, "_MAX_PAGES", 10)
    read = read_pdf(data, path="a.pdf")
    assert len(read.pages) == 10 and "it has 2,000 pages" in read.warnings[0]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(0, len(GOOD)), st.integers(0, 40))
def test_whatever_the_bytes_only_a_refusal_is_raised(noise: bytes, at: int, gone: int) -> None:
    for data in (noise, b"%PDF-1.4\n" + noise, GOOD[:at] + noise + GOOD[at + gone :], GOOD[:at]):
        try:
            read = read_pdf(data, path="a.pdf")
        except PasskbError as error:
            assert str(error).startswith("a.pdf: ")
        else:
            assert read.text.strip() and list(read.pages) == sorted(read.pages) and read.pages[-1] <= len(read.text)


PLACED = st.tuples(
    st.floats(-50, 650), st.floats(-50, 850), st.sampled_from([0.1, 6, 11, 30]), st.text("ab-1.() \\•", max_size=12)
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(PLACED, max_size=12), min_size=1, max_size=3))
def test_every_word_is_kept_wherever_it_stands_but_in_the_margins(pages: list[list[Text]]) -> None:
    marked: list[list[Text]] = [[*texts, (72, 400, 11, f"Marker{number}")] for number, texts in enumerate(pages)]
    read = read_pdf(made(marked), path="a.pdf")
    assert all(f"Marker{number}" in read.text for number in range(len(pages))) and len(read.pages) == len(pages)
    assert list(read.pages) == sorted(read.pages) and read.text[read.pages[-1] :].count("Marker") >= 1


@pytest.mark.parametrize(("origin", "number"), [("data", 4), pytest.param("shared_data", 6, marks=pytest.mark.shared)])
def test_the_documents_with_known_text_are_read_as_they_are(request: pytest.FixtureRequest, origin: str, number: int) -> None:
    measured = similarities("pdf", request.getfixturevalue(origin) / "docs-pdf-html")
    for name, value in measured.items():
        print(f"{value:.3f} {name}")
    assert len(measured) == number and median(measured.values()) >= 0.85
    assert min(measured.values()) >= 0.85  # none is below; the least has a table whose head the truth repeats


def test_a_pdf_is_read_apart_as_it_is_read_here(data: Path) -> None:
    for file in sorted((data / "docs-pdf-html").rglob("*.pdf")):
        content = file.read_bytes()
        assert read_pdf_in_subprocess(content, path=file.name) == read_pdf(content, path=file.name)


def test_what_is_wrong_with_a_pdf_is_told_from_apart() -> None:
    with pytest.raises(PasskbError, match=r"näme\.pdf: not a PDF but a zip archive"):
        read_pdf_in_subprocess(b"PK\x03\x04", path="näme.pdf")


@pytest.mark.parametrize(
    ("program", "reply"),
    [
        ("import os; os.abort()", r"the PDF reader crashed \(exit status -6\)"),
        ("import time; time.sleep(60)", "not read in 1 s"),
        ("print('half of a')", "the PDF reader crashed"),
    ],
)
def test_a_reader_that_dies_or_never_ends_costs_one_file(program: str, reply: str) -> None:
    with pytest.raises(PasskbError, match=reply):
        read_pdf_in_subprocess(b"%PDF-", path="a.pdf", seconds=1, program=(sys.executable, "-c", program))
