"""Pages that were fetched from web addresses, kept as they came in the home's folder `pages`, which is a source like any other.

`pages.json` in the home says where each came from. Knows nothing about HTTP: what fetches is handed in.
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
_LONGEST = 60  # characters of a file's name, at most four bytes each: file systems take 255 bytes


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """What stood at an address. `asked` is the address without its fragment, `address` where redirects led, `type` its content
    type, `charset` what the server called its encoding, `suffix` that of a file that holds `data`, the bytes as they came."""

    asked: str
    address: str
    type: str
    charset: str
    suffix: str
    data: bytes


Fetch = Callable[[str], FetchedPage]


def is_address(path: str | Path) -> bool:
    return bool(_ADDRESS.match(str(path)))


def without_password(address: str) -> str:
    """An address as it may be shown: neither user nor password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", printable(address))


def store_pages(
    home: Path, addresses: Sequence[str], fetch: Fetch, progress: Progress | None = None
) -> tuple[Source | None, list[tuple[str, str]]]:
    """Fetches and keeps what stands at the addresses: the source they are in, and (address, reason) of those that failed.

    A page that cannot be fetched or read leaves the one that was kept before as it was. The home is held only while a file
    is written, not while a server is waited for.
    """
    pages, source, failed = PageStore(home), None, []
    for done, address in enumerate(addresses, 1):
        shown = without_password(address)
        try:
            page = fetch(address)
            pages.check(page)
            with lock_home(home):
                source = pages.put(page)
        except Exception as error:  # one bad address never stops the run, whatever its server sends
            reason = str(error).removeprefix(f"{shown}: ")
            if not isinstance(error, PasskbError | OSError):
                reason = f"fetching it failed ({type(error).__name__}: {reason}): a fault of passkb, please report it"
            failed.append((shown, reason))
        if progress:
            progress("fetching", done, len(addresses))
    return source, failed


class PageStore:
    """The folder `pages` of a home, and `pages.json`: file name -> where it came from."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "pages"
        self._home, self._list = home, home / "pages.json"
        self._entries: dict[str, dict[str, str]] | None = None

    def origin(self, path: str) -> PageOrigin | None:
        """Where a kept page came from; None for any other file. Raises PasskbError when `pages.json` is damaged."""
        if Path(path).parent != self.folder:
            return None
        if self._entries is None:
            self._entries = self._read()
        entry = self._entries.get(Path(path).name)
        return _fetched(entry) if entry else None

    def check(self, page: FetchedPage) -> None:
        """Raises PasskbError when no note can be made of a page."""
        path = self.folder / _name(page)
        origin = _fetched(_entry(page))
        try:
            read_file(page.data, path=str(path), note_id="page", source="page", kept_at=path, origin=origin)
        except PasskbError as error:
            raise PasskbError(str(error).removeprefix(f"{path}: ")) from error

    def put(self, page: FetchedPage) -> Source:
        """Writes a page in place of what was kept of its address. A process killed in between leaves a whole page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        source = Registry(self._home).add(self.folder, apart=True)
        entries, name = self._read(), _name(page)
        former = [other for other, entry in entries.items() if entry["asked"] == page.asked and other != name]
        entries = {other: entry for other, entry in entries.items() if other not in former} | {name: _entry(page)}
        write_atomic(self._list, json.dumps(entries, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        self._entries = entries
        path = self.folder / name
        if not path.exists() or path.read_bytes() != page.data:
            write_atomic(path, page.data)
        for other in former:
            (self.folder / other).unlink(missing_ok=True)
        return source

    def _read(self) -> dict[str, dict[str, str]]:
        if not self._list.exists():
            return {}
        try:
            loaded: dict[str, dict[str, Any]] = json.loads(self._list.read_text(encoding="utf-8"))
            entries = {name: {key: str(value) for key, value in entry.items()} for name, entry in loaded.items()}
            for entry in entries.values():
                _fetched(entry), entry["asked"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            otherwise = "mend it, or delete it and ingest its addresses again"
            raise PasskbError(f"{self._list} cannot be read {explanation(error, otherwise)}") from error
        return entries


def _entry(page: FetchedPage) -> dict[str, str]:
    return {
        "asked": page.asked,
        "address": page.address,
        "type": page.type,
        "charset": page.charset,
        "fetched": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sha256": hashlib.sha256(page.data).hexdigest(),
    }


def _fetched(entry: dict[str, str]) -> PageOrigin:
    return PageOrigin(entry["address"], entry["charset"], datetime.datetime.fromisoformat(entry["fetched"]).date())


def _name(page: FetchedPage) -> str:
    """The file of a page: what one recognises of the address, and what tells it from all others."""
    parts = urlsplit(page.asked)
    path = re.sub(r"\.(?:html?|xhtml|pdf|txt|md|markdown)$", "", unquote(parts.path), flags=re.I)
    seen = slug(f"{parts.hostname or ''} {path}")[:_LONGEST].rstrip("-")
    # with the suffix: a page that becomes a PDF becomes another note, else both would be kept at one place
    return f"{seen}-{hashlib.sha256((page.asked + page.suffix).encode()).hexdigest()[:8]}{page.suffix}"
