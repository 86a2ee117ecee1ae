"""Reads a PDF with pdfium: its text as lines with positions, without rendering pages or running scripts.

`ingest.readers.pdf.layout` orders the lines, `ingest.readers.pdf.markdown` finds paragraphs and headings.
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

_MAX_PAGES = 5_000
_MAX_CHARACTERS = 100_000  # per page
_GAP = 1.2  # line heights; a wider gap separates columns or cells
_NO_TITLE = re.compile(
    r"untitled|document\d*$|microsoft (?:word|powerpoint)|\.(?:docx?|tex|dvi|indd|pdf|pptx?|qxd|rtf|odt)$|^.{0,3}$", re.I
)
_ALEFS = "اأإآ"
_LAM = "ل"
_ITALIC = 0x40  # font flag
_EMPHASIZED_FONT = re.compile(rb"Bold|Black|BX\d|Heavy|Semibold|Italic|Oblique")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_pdfium_lock = threading.Lock()  # pdfium is not thread-safe


def read_pdf(data: bytes, *, path: str) -> ExtractedDocument:
    """Reads one PDF, at most its first 5,000 pages. `path` serves for errors and as the default title.

    Raises PasskbError when the file is empty, not a PDF, damaged, encrypted, or without text.
    """
    if not data:
        raise PasskbError(f"{path}: the file is empty: copy or download it again")
    if b"%PDF-" not in data[:1024]:
        raise PasskbError(f"{path}: not a PDF{_describe_type(data)}: correct its suffix, or download it again")
    with _pdfium_lock:
        return _read(data, path)


def _describe_type(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        return " but a zip archive"
    return " but a web page" if re.match(rb"\s*<(?:!doctype|html)", data[:200], re.I) else ""


def _read(data: bytes, path: str) -> ExtractedDocument:
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium.FPDF_ERR_PASSWORD:
            raise PasskbError(f"{path}: encrypted PDF: remove the password and sync again") from error
        raise PasskbError(f"{path}: damaged or incomplete: download or copy it again") from error
    try:
        warnings: list[str] = []
        pages = list(_pages(document, warnings))
        empty = [number for number, page in enumerate(pages, 1) if not any(line.text.strip() for line in page.lines)]
        if len(empty) == len(pages):
            raise PasskbError(f"{path}: it contains no text: run OCR first")
        if empty:
            listed = ", ".join(map(str, empty[:10])) + (" and more" if len(empty) > 10 else "")
            warnings.append(
                f"{len(empty)} of {len(pages)} pages have no text (page {listed}): if they are scans, run OCR first"
            )
        title = one_line(document.get_metadata_dict().get("Title") or "")
        if not title or _NO_TITLE.search(title):
            title = find_title(pages) or PurePosixPath(path).stem or "Untitled"
        text, starts = to_markdown(pages)
        return ExtractedDocument(title, text, tuple(warnings), starts)
    finally:
        document.close()


def _pages(document: Any, warnings: list[str]) -> Iterator[Page]:
    """The pages, each closed before the next one is opened."""
    count = len(document)
    if count > _MAX_PAGES:
        warnings.append(f"it has {count:,} pages: only the first {_MAX_PAGES:,} were read; split it to read the others")
    unreadable = []
    for number in range(min(count, _MAX_PAGES)):
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
        warnings.append(f"{len(unreadable)} pages are damaged and were ignored, the first is page {unreadable[0]}")


def _page(page: Any, number: int, warnings: list[str]) -> Page:
    width, height = page.get_size()
    left, bottom, _, _ = page.get_bbox()
    textpage = page.get_textpage()
    try:
        count = textpage.count_chars()
        if count > _MAX_CHARACTERS:
            warnings.append(f"page {number} has {count:,} characters: only the first {_MAX_CHARACTERS:,} were read")
        lines: list[Line] = []
        rotated: list[Line] = []
        for line, upright in _lines(textpage, min(count, _MAX_CHARACTERS), left, bottom):
            (lines if upright else rotated).append(line)
    finally:
        textpage.close()
    if sum(len(line.text) for line in rotated) > 0.3 * sum(len(line.text) for line in lines):
        lines += rotated  # a rotated page; a smaller share is a stamp in the margin
    return Page(width, height, tuple(lines))


def _lines(textpage: Any, count: int, left: float, bottom: float) -> Iterator[tuple[Line, bool]]:
    """The runs of characters on one base line without a wide gap, in the order of the file, and whether each is upright."""
    box = pdfium.FS_RECTF()
    run: list[tuple[str, float, float, float, float]] = []
    first, last = 0, 0
    is_right_to_left = False  # in such text, left-to-right words cause jumps, so gaps have no meaning
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
        if character and not character.isspace() and (visible := next((c for c in reversed(run) if not c[0].isspace()), None)):
            height_of_last = max(visible[4] - visible[2], 1.0)
            gap = max(x0 - visible[3], visible[1] - x1)
            is_shifted = min(y1, visible[4]) - max(y0, visible[2]) < 0.2 * min(height_of_last, max(y1 - y0, 0.1))
            is_right_to_left = is_right_to_left or bool(_RIGHT_TO_LEFT.match(character))
            if not is_right_to_left and (gap > _GAP * height_of_last or (is_shifted and y1 > y0)):
                yield _line(textpage, first, last, run, left, bottom)
                run = []
        if not run:
            first, last, is_right_to_left = i, i, False
        is_right_to_left = is_right_to_left or bool(_RIGHT_TO_LEFT.match(character))
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
    for i in range(1, len(run)):  # pdfium gives the lam-alef ligature as two characters in one place, in reverse order
        if characters[i] == _LAM and characters[i - 1] in _ALEFS and run[i][1:] == run[i - 1][1:]:
            characters[i - 1], characters[i] = characters[i], characters[i - 1]
    text = "".join(characters)
    if not text.isascii():
        text = "".join(unicodedata.normalize("NFKC", c) if "\ufb00" <= c <= "\ufefc" else c for c in text)
    visible = [c for c in run if not c[0].isspace()] or run
    heights = sorted(c[4] - c[2] for c in visible)
    bold = _is_emphasized(textpage, first) and _is_emphasized(textpage, last)
    upright = abs(math.sin(pdfium.FPDFText_GetCharAngle(textpage, first))) < 0.5
    line = Line(
        text,
        min(c[1] for c in visible) - left,
        min(c[2] for c in visible) - bottom,
        max(c[3] for c in visible) - left,
        max(c[4] for c in visible) - bottom,
        heights[len(heights) // 2],
        bold,
    )
    return line, upright


def _is_emphasized(textpage: Any, index: int) -> bool:
    """Whether a character is bold or italic."""
    name, flags = ctypes.create_string_buffer(128), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(textpage, index, name, 128, ctypes.byref(flags))
    if flags.value & _ITALIC or _EMPHASIZED_FONT.search(name.value):
        return True
    return bool(pdfium.FPDFText_GetFontWeight(textpage, index) >= 600)
