"""A PDF into Markdown: its lines by pdfium, their order, paragraphs and headings by `ingest.readers.pdf.layout` and
`ingest.readers.pdf.markdown`.

Pure: bytes in, values out. Nothing is drawn, no script or link of the document is followed. Knows nothing about layout.
"""

from __future__ import annotations

import ctypes
import math
import re
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from ingest.readers.extracted_document import ExtractedDocument, one_line
from ingest.readers.pdf.layout import HYPHEN, Line, Page
from ingest.readers.pdf.markdown import find_title, to_markdown
from kb.notes import PasskbError

_MOST_PAGES = 5_000
_MOST_CHARACTERS = 100_000  # of one page
_GAP = 1.2  # of the height of a line: a wider gap parts two columns or two cells
_NO_TITLE = re.compile(
    r"untitled|document\d*$|microsoft (?:word|powerpoint)|\.(?:docx?|tex|dvi|indd|pdf|pptx?|qxd|rtf|odt)$|^.{0,3}$", re.I
)
_ALEFS = "اأإآ"
_LAM = "ل"
_ITALIC = 0x40  # of the flags of a font
_STRONG = re.compile(rb"Bold|Black|BX\d|Heavy|Semibold|Italic|Oblique")
_LEFTWARDS = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_one_at_a_time = threading.Lock()  # pdfium is not safe in threads


def read_pdf(data: bytes, *, path: str) -> ExtractedDocument:
    """Read one PDF, at most its first 5,000 pages. `path` names it, in errors and for want of a title.

    Raises PasskbError when it is empty, no PDF, damaged, encrypted, or without text.
    """
    if not data:
        raise PasskbError(f"{path}: the file is empty: copy or download it again")
    if b"%PDF-" not in data[:1024]:
        raise PasskbError(f"{path}: not a PDF{_taken_for(data)}: rename it to what it is, or download it again")
    with _one_at_a_time:
        return _read(data, path)


def _taken_for(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        return " but a zip archive"
    return " but a web page" if re.match(rb"\s*<(?:!doctype|html)", data[:200], re.I) else ""


def _read(data: bytes, path: str) -> ExtractedDocument:
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium.FPDF_ERR_PASSWORD:
            raise PasskbError(f"{path}: encrypted PDF: remove the password and sync again") from error
        raise PasskbError(f"{path}: damaged or cut short: download or copy it again") from error
    try:
        warnings: list[str] = []
        pages = list(_pages(document, warnings))
        bare = [number for number, page in enumerate(pages, 1) if not any(line.text.strip() for line in page.lines)]
        if len(bare) == len(pages):
            raise PasskbError(f"{path}: no text in it: run OCR first")
        if bare:
            shown = ", ".join(map(str, bare[:10])) + (" and more" if len(bare) > 10 else "")
            warnings.append(f"{len(bare)} of {len(pages)} pages hold no text (page {shown}): if they are scans, run OCR first")
        title = one_line(document.get_metadata_dict().get("Title") or "")
        if not title or _NO_TITLE.search(title):
            title = find_title(pages) or PurePosixPath(path).stem or "Untitled"
        text, starts = to_markdown(pages)
        return ExtractedDocument(title, text, tuple(warnings), starts)
    finally:
        document.close()


def _pages(document: Any, warnings: list[str]) -> Iterator[Page]:
    """The pages one by one, each closed before the next is opened."""
    count = len(document)
    if count > _MOST_PAGES:
        warnings.append(f"it has {count:,} pages: the first {_MOST_PAGES:,} were read; split it to have the rest")
    unreadable = []
    for number in range(min(count, _MOST_PAGES)):
        try:
            page = document[number]
            try:
                yield _page(page, number + 1, warnings)
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            unreadable.append(number + 1)
            yield Page(0, 0, ())
    if unreadable:
        warnings.append(f"{len(unreadable)} pages are damaged and were left out, the first of them page {unreadable[0]}")


def _page(page: Any, number: int, warnings: list[str]) -> Page:
    width, height = page.get_size()
    left, bottom, _, _ = page.get_bbox()
    textpage = page.get_textpage()
    try:
        count = textpage.count_chars()
        if count > _MOST_CHARACTERS:
            warnings.append(f"page {number} holds {count:,} characters: the first {_MOST_CHARACTERS:,} were read")
        lines: list[Line] = []
        upended: list[Line] = []
        for line, upright in _lines(textpage, min(count, _MOST_CHARACTERS), left, bottom):
            (lines if upright else upended).append(line)
    finally:
        textpage.close()
    if sum(len(line.text) for line in upended) > 0.3 * sum(len(line.text) for line in lines):
        lines += upended  # a page set on its side; otherwise a stamp in the margin
    return Page(width, height, tuple(lines))


def _lines(textpage: Any, count: int, left: float, bottom: float) -> Iterator[tuple[Line, bool]]:
    """The runs of characters on one base line without a wide gap, in the order of the file, and whether they stand upright."""
    box = pdfium.FS_RECTF()
    run: list[tuple[str, float, float, float, float]] = []
    first, last = 0, 0
    backwards = False  # such text jumps at every word that runs the other way: there a gap means nothing
    for i in range(count):
        code = pdfium.FPDFText_GetUnicode(textpage, i)
        if code in (10, 13):
            if run:
                yield _line(textpage, first, last, run, left, bottom)
                run = []
            continue
        pdfium.FPDFText_GetLooseCharBox(textpage, i, box)
        character = HYPHEN if code in (2, 0xFFFE) else chr(code) if 0 < code < 0x110000 else ""
        x0, y0, x1, y1 = box.left, box.bottom, box.right, box.top
        if character and not character.isspace() and (inked := next((c for c in reversed(run) if not c[0].isspace()), None)):
            tall = max(inked[4] - inked[2], 1.0)
            apart = max(x0 - inked[3], inked[1] - x1)
            shifted = min(y1, inked[4]) - max(y0, inked[2]) < 0.2 * min(tall, max(y1 - y0, 0.1))
            backwards = backwards or bool(_LEFTWARDS.match(character))
            if not backwards and (apart > _GAP * tall or (shifted and y1 > y0)):
                yield _line(textpage, first, last, run, left, bottom)
                run = []
        if not run:
            first, last, backwards = i, i, False
        backwards = backwards or bool(_LEFTWARDS.match(character))
        if character and not character.isspace():
            last = i
        if character:
            run.append((character, x0, y0, x1, y1))
    if run:
        yield _line(textpage, first, last, run, left, bottom)


def _line(
    textpage: Any, first: int, last: int, run: list[tuple[str, float, float, float, float]], left: float, bottom: float
) -> tuple[Line, bool]:
    characters = [c[0] for c in run]
    for i in range(1, len(run)):  # the ligature of lam and alef comes as two characters in one place, the second first
        if characters[i] == _LAM and characters[i - 1] in _ALEFS and run[i][1:] == run[i - 1][1:]:
            characters[i - 1], characters[i] = characters[i], characters[i - 1]
    text = "".join(characters)
    if not text.isascii():
        text = "".join(unicodedata.normalize("NFKC", c) if "\ufb00" <= c <= "\ufefc" else c for c in text)
    inked = [c for c in run if not c[0].isspace()] or run
    heights = sorted(c[4] - c[2] for c in inked)
    bold = _stands_out(textpage, first) and _stands_out(textpage, last)
    upright = abs(math.sin(pdfium.FPDFText_GetCharAngle(textpage, first))) < 0.5
    line = Line(
        text,
        min(c[1] for c in inked) - left,
        min(c[2] for c in inked) - bottom,
        max(c[3] for c in inked) - left,
        max(c[4] for c in inked) - bottom,
        heights[len(heights) // 2],
        bold,
    )
    return line, upright


def _stands_out(textpage: Any, index: int) -> bool:
    """Whether a character is bold or italic."""
    name, flags = ctypes.create_string_buffer(128), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(textpage, index, name, 128, ctypes.byref(flags))
    if flags.value & _ITALIC or _STRONG.search(name.value):
        return True
    return bool(pdfium.FPDFText_GetFontWeight(textpage, index) >= 600)
