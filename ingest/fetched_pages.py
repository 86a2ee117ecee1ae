"""Fetched web pages, stored unchanged in the home's folder `pages`, which is a source like any other.

`pages.json` in the home records where each page came from.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ingest.lock import lock_home
from ingest.readers.formats import PageOrigin, read_file
from ingest.sources import Registry, Source, printable
from kb.files import write_atomic
from kb.knowledge_base import Progress
from kb.notes import PasskbError, slug
from kb.os_errors import explanation

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
_MAX_NAME_LENGTH = 60  # characters of at most four bytes; file systems allow 255 bytes


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A fetched page. `requested` is the address without its fragment, `address` the final one after redirects, `type`
    the content type, `charset` the encoding that the server declares, `suffix` the file name suffix for `data`, the original
    bytes."""

    requested: str
    address: str
    type: str
    charset: str
    suffix: str
    data: bytes


Fetch = Callable[[str], FetchedPage]


def is_address(path: str | Path) -> bool:
    return bool(_ADDRESS.match(str(path)))


def without_password(address: str) -> str:
    """An address without user name and password, for display."""
    return re.sub(r"(?<=://)[^/?#]*@", "", printable(address))


def store_pages(
    home: Path, addresses: Sequence[str], fetch: Fetch, progress: Progress | None = None
) -> tuple[Source | None, list[tuple[str, str]]]:
    """Fetches and stores the pages at the addresses; returns their source, and (address, reason) of failures.

    A failure leaves an earlier version of the page unchanged. The home is locked only while a file is written, not during a
    fetch.
    """
    store, source, failed = PageStore(home), None, []
    for done, address in enumerate(addresses, 1):
        displayed = without_password(address)
        try:
            page = fetch(address)
            store.check(page)
            with lock_home(home):
                source = store.put(page)
        except Exception as error:  # a bad address must not stop the run, whatever its server sends
            reason = str(error).removeprefix(f"{displayed}: ")
            if not isinstance(error, PasskbError | OSError):
                reason = f"fetching it failed ({type(error).__name__}: {reason}): please report this bug of passkb"
            failed.append((displayed, reason))
        if progress:
            progress("fetching", done, len(addresses))
    return source, failed


class PageStore:
    """The folder `pages` of a home, and `pages.json`: file name -> origin."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "pages"
        self._home, self._index_file = home, home / "pages.json"
        self._entries: dict[str, dict[str, str]] | None = None

    def origin(self, path: str) -> PageOrigin | None:
        """The origin of a stored page; None for any other file. Raises PasskbError when `pages.json` is damaged."""
        if Path(path).parent != self.folder:
            return None
        if self._entries is None:
            self._entries = self._read()
        entry = self._entries.get(Path(path).name)
        return _to_origin(entry) if entry else None

    def check(self, page: FetchedPage) -> None:
        """Raises PasskbError when the page cannot be read as a note."""
        path = self.folder / _file_name(page)
        origin = _to_origin(_to_entry(page))
        try:
            read_file(page.data, path=str(path), note_id="page", source="page", markdown_path=path, origin=origin)
        except PasskbError as error:
            raise PasskbError(str(error).removeprefix(f"{path}: ")) from error

    def put(self, page: FetchedPage) -> Source:
        """Stores a page, replacing any earlier version. A process that is killed meanwhile leaves a complete page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        source = Registry(self._home).add(self.folder, separate=True)
        entries, name = self._read(), _file_name(page)
        previous = [other for other, entry in entries.items() if entry["asked"] == page.requested and other != name]
        entries = {other: entry for other, entry in entries.items() if other not in previous} | {name: _to_entry(page)}
        write_atomic(self._index_file, json.dumps(entries, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        self._entries = entries
        path = self.folder / name
        if not path.exists() or path.read_bytes() != page.data:
            write_atomic(path, page.data)
        for other in previous:
            (self.folder / other).unlink(missing_ok=True)
        return source

    def _read(self) -> dict[str, dict[str, str]]:
        if not self._index_file.exists():
            return {}
        try:
            loaded: dict[str, dict[str, Any]] = json.loads(self._index_file.read_text(encoding="utf-8"))
            entries = {name: {key: str(value) for key, value in entry.items()} for name, entry in loaded.items()}
            for entry in entries.values():
                _to_origin(entry), entry["asked"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            default = "correct it, or delete it and ingest its addresses again"
            raise PasskbError(f"{self._index_file} cannot be read {explanation(error, default)}") from error
        return entries


def _to_entry(page: FetchedPage) -> dict[str, str]:
    return {
        "asked": page.requested,
        "address": page.address,
        "type": page.type,
        "charset": page.charset,
        "fetched": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sha256": hashlib.sha256(page.data).hexdigest(),
    }


def _to_origin(entry: dict[str, str]) -> PageOrigin:
    return PageOrigin(entry["address"], entry["charset"], datetime.datetime.fromisoformat(entry["fetched"]).date())


def _file_name(page: FetchedPage) -> str:
    """The file name of a page: a readable form of the address and a hash that makes it unique."""
    parts = urlsplit(page.requested)
    path = re.sub(r"\.(?:html?|xhtml|pdf|txt|md|markdown)$", "", unquote(parts.path), flags=re.I)
    readable = slug(f"{parts.hostname or ''} {path}")[:_MAX_NAME_LENGTH].rstrip("-")
    # The hash covers the suffix: a page that becomes a PDF becomes another note.
    return f"{readable}-{hashlib.sha256((page.requested + page.suffix).encode()).hexdigest()[:8]}{page.suffix}"
