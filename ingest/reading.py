"""One file's bytes as a note, whatever its format. Writes nothing; knows nothing about stores."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ingest.readers.imported import Imported, as_note
from ingest.readers.markdown import Reading, decode, read_markdown
from kb.notes import PasskbError, WrittenLink

TEXT = frozenset({".md", ".markdown", ".txt"})
PAGES = frozenset({".html", ".htm"})
PDF = frozenset({".pdf"})
READABLE = TEXT | PAGES | PDF


@dataclass(frozen=True, slots=True)
class Read:
    """A note as read. `imported` is the Markdown that stands for a page or a PDF, to be kept at `note.path`; else empty."""

    reading: Reading
    imported: str = ""


def read_file(data: bytes, *, path: str, note_id: str, source: str, kept_at: Path) -> Read:
    """`kept_at`: where the Markdown made of a page or a PDF will stand. Raises PasskbError that names what is wrong."""
    suffix = PurePath(path).suffix.lower()
    if suffix in TEXT:
        return Read(_text(data, path=path, note_id=note_id, source=source))
    imported = _import(data, suffix, path)
    text = as_note(imported, path, datetime.datetime.now(datetime.UTC).date())
    reading = read_markdown(text.encode(), path=str(kept_at), note_id=note_id, source=source)
    return Read(replace(reading, warnings=(*imported.warnings, *reading.warnings)), text)


def _import(data: bytes, suffix: str, path: str) -> Imported:
    try:
        if suffix in PDF:
            from ingest.readers.pdf import read_pdf

            return read_pdf(data, path=path)
        from ingest.readers.html import read_html

        return read_html(data, path=path)
    except ImportError as error:
        raise PasskbError(f"{path}: {error.name} is not installed: run `make install`") from error


def _text(data: bytes, *, path: str, note_id: str, source: str) -> Reading:
    """A saved page is read by its structure; else it is Markdown, and a text file's named works are mentions of notes."""
    from ingest.readers.page import named_works, read_page

    reading = read_markdown(data, path=path, note_id=note_id, source=source)
    if reading.note.properties or data[:16].lstrip(b"\xef\xbb\xbf").startswith(b"---"):
        return reading
    page = read_page(decode(data, path, []), path=path, note_id=note_id, source=source)
    if page is not None:
        referrers = tuple(WrittenLink(r.title, r.type, r.why, start=r.start, end=r.end, form="inward") for r in page.referrers)
        return replace(page, links=(*page.links, *referrers), warnings=(*reading.warnings, *page.warnings))
    if PurePath(path).suffix.lower() == ".txt":
        return replace(reading, links=(*reading.links, *named_works(reading.note.text)))
    return reading
