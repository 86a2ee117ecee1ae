"""One file's bytes as a note, whatever its format. Writes nothing; knows nothing about stores."""

from __future__ import annotations

import codecs
import datetime
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ingest.readers.extracted_document import ExtractedDocument, format_note
from ingest.readers.markdown import ParsedNote, decode, read_markdown
from kb.notes import PasskbError, WrittenLink

TEXT = frozenset({".md", ".markdown", ".txt"})
PAGES = frozenset({".html", ".htm"})
PDF = frozenset({".pdf"})
READABLE = TEXT | PAGES | PDF
_LARGEST = dict.fromkeys(TEXT | PAGES, 64) | dict.fromkeys(PDF, 512)  # MB: what can be held, and made passages of, in memory


@dataclass(frozen=True, slots=True)
class PageOrigin:
    """Where a page that was fetched came from, what its server called its encoding (or nothing), and the day."""

    address: str
    charset: str
    day: datetime.date


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A note as read. `imported` is the Markdown that stands for a page or a PDF, to be kept at `note.path`; else empty."""

    reading: ParsedNote
    imported: str = ""


def read_bytes(path: str, size: int) -> bytes:
    """Raises PasskbError for a file too large to be held, OSError for one that cannot be read."""
    most = _LARGEST[PurePath(path).suffix.lower()]
    if size > most * 2**20:
        raise PasskbError(f"{path}: larger than {most} MB: split it, or leave it out by a line in .passkbignore")
    return Path(path).read_bytes()


def read_file(
    data: bytes, *, path: str, note_id: str, source: str, kept_at: Path, origin: PageOrigin | None = None
) -> ReadResult:
    """`kept_at`: where the Markdown made of a page or a PDF will stand; `origin`: where the file came from, if it was fetched.
    Raises PasskbError that names what is wrong."""
    suffix = PurePath(path).suffix.lower()
    if suffix in TEXT:
        if origin is None:
            return ReadResult(_text(data, path=path, note_id=note_id, source=source))
        return ReadResult(_from(origin, _text(_in_utf8(data, origin.charset), path=path, note_id=note_id, source=source), path))
    from ingest.readers.saved_page.reader import named_works

    imported = _import(data, suffix, path, origin)
    when = origin.day if origin else datetime.datetime.now(datetime.UTC).date()
    page = _page(imported.lines, path=str(kept_at), note_id=note_id, source=source)
    if page:
        imported = replace(imported, title=page.note.title, text=imported.lines, warnings=page.warnings)
    text = format_note(imported, origin.address if origin else path, when)
    reading = read_markdown(text.encode(), path=str(kept_at), note_id=note_id, source=source)
    if page and page.note.text == reading.note.text:
        note = replace(page.note, properties={**reading.note.properties, **page.note.properties})
        return ReadResult(replace(page, note=note), text)
    links = (*reading.links, *named_works(reading.note.text)) if suffix in PAGES else reading.links
    return ReadResult(replace(reading, links=links, warnings=(*imported.warnings, *reading.warnings)), text)


def _from(origin: PageOrigin, reading: ParsedNote, path: str) -> ParsedNote:
    """A text keeps its bytes, so where it came from stands beside what its front matter says, not in it."""
    note = reading.note
    title = _named(origin.address) if note.title == PurePath(path).stem else note.title
    return replace(reading, note=replace(note, title=title, properties={**note.properties, "original": origin.address}))


def _named(address: str) -> str:
    """What a page without a title is called."""
    return re.sub(r"^\w+://|[?#].*|/$", "", address)


def _in_utf8(data: bytes, charset: str) -> bytes:
    """A server's word on the encoding counts where the bytes do not tell. Latin-1 is what servers call Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data
    latin = re.fullmatch(r"iso[-_]?8859[-_]1|latin-?1|(?:us-)?ascii", charset, re.I)
    for name in ("utf-8", "cp1252" if latin else charset):
        try:
            return data.decode(name).encode("utf-8")
        except (LookupError, ValueError):
            continue
    return data


def _import(data: bytes, suffix: str, path: str, origin: PageOrigin | None) -> ExtractedDocument:
    imported = _import_any(data, suffix, path, origin)
    if origin and imported.title == PurePath(path).stem:
        return replace(imported, title=_named(origin.address))
    return imported


def _import_any(data: bytes, suffix: str, path: str, origin: PageOrigin | None) -> ExtractedDocument:
    try:
        if suffix in PDF:
            from ingest.readers.pdf.subprocess import read_pdf_in_subprocess

            return read_pdf_in_subprocess(data, path=path)
        from ingest.readers.html.reader import read_html

        return read_html(data, path=path, charset=origin.charset if origin else "", address=origin.address if origin else "")
    except ImportError as error:
        raise PasskbError(f"{path}: {error.name} is not installed: run `make install`") from error


def _text(data: bytes, *, path: str, note_id: str, source: str) -> ParsedNote:
    """A saved page is read by its structure; else it is Markdown, and a text file's named works are mentions of notes."""
    from ingest.readers.saved_page.reader import named_works

    reading = read_markdown(data, path=path, note_id=note_id, source=source)
    if reading.note.properties or data[:16].lstrip(b"\xef\xbb\xbf").startswith(b"---"):
        return reading
    if page := _page(decode(data, path, []), path=path, note_id=note_id, source=source):
        return replace(page, warnings=(*reading.warnings, *page.warnings))
    if PurePath(path).suffix.lower() == ".txt":
        return replace(reading, links=(*reading.links, *named_works(reading.note.text)))
    return reading


def _page(text: str, *, path: str, note_id: str, source: str) -> ParsedNote | None:
    """A saved page of a knowledge base or a review, with the links it says others have; None for any other text."""
    from ingest.readers.saved_page.reader import read_page

    page = read_page(text, path=path, note_id=note_id, source=source)
    if page is None:
        return None
    referrers = (WrittenLink(r.title, r.type, r.why, start=r.start, end=r.end, form="inward") for r in page.referrers)
    return replace(page, links=(*page.links, *referrers))
