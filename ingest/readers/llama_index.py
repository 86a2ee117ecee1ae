"""Reads files with llama-index readers (LlamaHub): office formats, and any format with a reader that the user names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Protocol

from ingest.readers.extracted_document import ExtractedDocument, remove_unwritable
from kb.notes import PasskbError
from kb.offline import go_offline

_FILE_READERS = "llama_index.readers.file"
OFFICE = {
    ".docx": f"{_FILE_READERS}:DocxReader",
    ".epub": f"{_FILE_READERS}:EpubReader",
    ".ipynb": f"{_FILE_READERS}:IPYNBReader",
    ".pptx": f"{_FILE_READERS}:PptxReader",
}


class ReaderError(PasskbError):
    """A reader is missing or failed. The file is read again at the next sync."""


class _Document(Protocol):
    @property
    def text(self) -> str: ...


class _Reader(Protocol):
    def load_data(self, file: Path, /) -> Iterable[_Document]: ...


def load_reader(name: str) -> Callable[[], _Reader]:
    """The reader class `PACKAGE:CLASS`. Raises ReaderError if it cannot be imported."""
    package, _, class_name = name.partition(":")
    go_offline()
    try:
        reader: Callable[[], _Reader] = getattr(importlib.import_module(package), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ReaderError(
            f"the reader {name!r} cannot be imported ({error}): use PACKAGE:CLASS, and install the package"
        ) from error
    return reader


def read_with_reader(path: str, reader: str = "") -> ExtractedDocument:
    """The texts of all documents of a file, separated by blank lines. `reader`: PACKAGE:CLASS, by default for the suffix.

    Raises ReaderError.
    """
    suffix = PurePath(path).suffix.lower()
    name = reader or OFFICE[suffix]
    try:
        documents = list(load_reader(name)().load_data(Path(path)))
    except Exception as error:
        missing = isinstance(error, ImportError) or isinstance(error.__cause__, ImportError)
        if missing and not reader:
            raise ReaderError(
                f"{suffix} files need the extra `readers`: install it with `pip install 'passkb[readers]'`"
            ) from error
        if isinstance(error, ReaderError):
            raise
        raise ReaderError(f"the reader {name} failed ({type(error).__name__}: {error})") from error
    text = "\n\n".join(filter(None, (remove_unwritable(document.text).strip("\n") for document in documents)))
    if not text.strip():
        raise ReaderError(f"the reader {name} found no text")
    return ExtractedDocument(PurePath(path).stem, f"{text}\n")
