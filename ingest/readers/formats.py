"""Reads the bytes of one file, of any supported format, as a note."""

from __future__ import annotations

import codecs
import datetime
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ingest.readers.extracted_document import ExtractedDocument, format_note
from ingest.readers.llama_index import OFFICE, read_with_reader
from ingest.readers.markdown import ParsedNote, decode, read_markdown
from kb.notes import PasskbError, WrittenLink

TEXT = frozenset({".md", ".markdown", ".txt"})
PAGES = frozenset({".html", ".htm"})
PDF = frozenset({".pdf"})
NATIVE = TEXT | PAGES | PDF
READABLE = NATIVE | OFFICE.keys()
_MAX_MEGABYTES = dict.fromkeys(TEXT | PAGES, 64) | dict.fromkeys(PDF, 512)  # that fit into memory with their passages


@dataclass(frozen=True, slots=True)
class PageOrigin:
    """The address of a fetched page, the encoding that its server declared (or empty), and the day of the fetch."""

    address: str
    charset: str
    day: datetime.date


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A note as read. `markdown`: the Markdown made from a page or a PDF, to be stored at `note.path`; otherwise empty."""

    parsed: ParsedNote
    markdown: str = ""


def read_bytes(path: str, size: int) -> bytes:
    """The content of a file of `size` bytes. Raises PasskbError when it is too large, OSError when it cannot be read."""
    limit = _MAX_MEGABYTES.get(PurePath(path).suffix.lower(), 512)
    if size > limit * 2**20:
        raise PasskbError(f"{path}: larger than {limit} MB: split it or add it to .passkbignore")
    return Path(path).read_bytes()


def read_file(
    data: bytes,
    *,
    path: str,
    note_id: str,
    source: str,
    markdown_path: Path,
    origin: PageOrigin | None = None,
    reader: str = "",
) -> ReadResult:
    """`markdown_path`: the path for the Markdown made from a page or a PDF. `origin`: of a fetched file. `reader`:
    PACKAGE:CLASS of a llama-index reader. Raises PasskbError with the cause when the file cannot be read as a note."""
    suffix = PurePath(path).suffix.lower()
    if suffix in TEXT:
        if origin is None:
            return ReadResult(_read_text(data, path=path, note_id=note_id, source=source))
        parsed = _read_text(_to_utf8(data, origin.charset), path=path, note_id=note_id, source=source)
        return ReadResult(_add_origin(origin, parsed, path))
    from ingest.readers.saved_page.reader import named_works

    document = _extract(data, suffix, path, origin) if suffix in NATIVE else read_with_reader(path, reader)
    day = origin.day if origin else datetime.datetime.now(datetime.UTC).date()
    page = _read_saved_page(document.lines, path=str(markdown_path), note_id=note_id, source=source)
    if page:
        document = replace(document, title=page.note.title, text=document.lines, warnings=page.warnings)
    text = format_note(document, origin.address if origin else path, day)
    parsed = read_markdown(text.encode(), path=str(markdown_path), note_id=note_id, source=source)
    if page and page.note.text == parsed.note.text:
        note = replace(page.note, properties={**parsed.note.properties, **page.note.properties})
        return ReadResult(replace(page, note=note), text)
    links = (*parsed.links, *named_works(parsed.note.text)) if suffix in PAGES else parsed.links
    return ReadResult(replace(parsed, links=links, warnings=(*document.warnings, *parsed.warnings)), text)


def _add_origin(origin: PageOrigin, parsed: ParsedNote, path: str) -> ParsedNote:
    """Adds the origin as a property: the text itself stays unchanged."""
    note = parsed.note
    title = _title_from_address(origin.address) if note.title == PurePath(path).stem else note.title
    return replace(parsed, note=replace(note, title=title, properties={**note.properties, "original": origin.address}))


def _title_from_address(address: str) -> str:
    """The title of a page that has none."""
    return re.sub(r"^\w+://|[?#].*|/$", "", address)


def _to_utf8(data: bytes, charset: str) -> bytes:
    """Decodes by the declared encoding unless the bytes are UTF-8 or UTF-16. Servers declare Windows-1252 as Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data
    is_latin1 = re.fullmatch(r"iso[-_]?8859[-_]1|latin-?1|(?:us-)?ascii", charset, re.I)
    for name in ("utf-8", "cp1252" if is_latin1 else charset):
        try:
            return data.decode(name).encode("utf-8")
        except (LookupError, ValueError):
            continue
    return data


def _extract(data: bytes, suffix: str, path: str, origin: PageOrigin | None) -> ExtractedDocument:
    document = _run_extractor(data, suffix, path, origin)
    if origin and document.title == PurePath(path).stem:
        return replace(document, title=_title_from_address(origin.address))
    return document


def _run_extractor(data: bytes, suffix: str, path: str, origin: PageOrigin | None) -> ExtractedDocument:
    try:
        if suffix in PDF:
            from ingest.readers.pdf.subprocess import read_pdf_in_subprocess

            return read_pdf_in_subprocess(data, path=path)
        from ingest.readers.html.reader import read_html

        return read_html(data, path=path, charset=origin.charset if origin else "", address=origin.address if origin else "")
    except ImportError as error:
        raise PasskbError(f"{path}: {error.name} is not installed: run `make install`") from error


def _read_text(data: bytes, *, path: str, note_id: str, source: str) -> ParsedNote:
    """Reads a saved page by its structure, any other text as Markdown. Works named in a .txt file become mentions."""
    from ingest.readers.saved_page.reader import named_works

    parsed = read_markdown(data, path=path, note_id=note_id, source=source)
    if parsed.note.properties or data[:16].lstrip(b"\xef\xbb\xbf").startswith(b"---"):
        return parsed
    if page := _read_saved_page(decode(data, path, []), path=path, note_id=note_id, source=source):
        return replace(page, warnings=(*parsed.warnings, *page.warnings))
    if PurePath(path).suffix.lower() == ".txt":
        return replace(parsed, links=(*parsed.links, *named_works(parsed.note.text)))
    return parsed


def _read_saved_page(text: str, *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """A saved page of a knowledge base or a review, including the links that it states for other notes; None for any other
    text."""
    from ingest.readers.saved_page.reader import read_page

    page = read_page(text, path=path, note_id=note_id, source=source)
    if page is None:
        return None
    referrers = (WrittenLink(r.title, r.type, r.why, start=r.start, end=r.end, form="inward") for r in page.referrers)
    return replace(page, links=(*page.links, *referrers))
