"""Saves accepted link suggestions in passkb's own notes, one note per month; linked notes are not changed."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import yaml

from ingest.app_notes import app_notes_folder, index_app_note
from ingest.lock import lock_home
from ingest.readers.extracted_document import one_line
from kb.files import write_atomic
from kb.knowledge_base import KnowledgeBase
from kb.notes import Link, LinkType, NoteKind, PasskbError
from kb.os_errors import explanation
from service.suggestions.dismissals import undismiss
from service.suggestions.ranking import links_between

_MAX_REASON = 300  # characters of a reason
_MAX_ENTRIES = 400  # links per note, to keep the front matter below the reader's limit
_COMMENT = "# Links that you accepted from passkb's suggestions. Delete an entry to remove its link.\n"


def accept_link(kb: KnowledgeBase, source: str, target: str, type_: LinkType = LinkType.RELATED, why: str = "") -> Link:
    """Writes a link between two notes. Raises PasskbError for unknown or already linked notes, and for write errors."""
    notes = kb.store.notes([source, target])
    for note_id in (source, target):
        if note_id not in notes or notes[note_id].kind is NoteKind.STUB:
            raise PasskbError(f"{note_id!r} is not an existing note")
    if source == target:
        raise PasskbError("a note cannot be linked to itself")
    if existing := links_between(kb, source, target):
        raise PasskbError(f"already linked: {existing[0].source} {existing[0].type} {existing[0].target}")
    today = datetime.datetime.now(datetime.UTC).date()
    entry = {"from": f"[[{source}]]", "to": f"[[{target}]]", "type": str(type_), "why": clean_reason(why), "accepted": today}
    with lock_home(kb.home):
        path = _file_with_room(_folder(kb), today)
        write_atomic(path, _render(path, [*_read_entries(path), entry]))
    index_app_note(kb, path)
    undismiss(kb.home, source, target)
    links = [link for link in links_between(kb, source, target) if link.writer]
    if not links:
        raise PasskbError(f"the link was written to {path} but cannot be read: see `passkb status`")
    return links[0]


def remove_link(kb: KnowledgeBase, one: str, other: str) -> list[Link]:
    """Removes and returns the accepted links between two notes. Raises PasskbError if there is none."""
    before = [link for link in links_between(kb, one, other) if link.writer in accepted_link_notes(kb)]
    ends = {f"[[{one}]]", f"[[{other}]]"}
    changed = []
    with lock_home(kb.home):
        for path in sorted(_folder(kb).glob("*.md")):
            entries = _read_entries(path)
            remaining = [entry for entry in entries if {entry.get("from"), entry.get("to")} != ends]
            if len(remaining) < len(entries):
                changed.append(path)
                if remaining:
                    write_atomic(path, _render(path, remaining))
                else:
                    path.unlink()
    if not changed:
        raise PasskbError(f"there is no accepted link between {one} and {other}: remove links in the note that contains them")
    index_app_note(kb, changed[0])
    return before


def accepted_link_notes(kb: KnowledgeBase) -> set[str]:
    """The ids of the notes that contain accepted links."""
    return {record.note_id for record in kb.store.files() if Path(record.path).parent == _folder(kb)} - {""}


def clean_reason(why: str) -> str:
    """A reason as one line of plain text."""
    line = one_line(why).replace("[[", "[").replace("]]", "]")
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 1].rsplit(' ', 1)[0]}…"


def _folder(kb: KnowledgeBase) -> Path:
    return app_notes_folder(kb.home) / "links"


def _file_with_room(folder: Path, day: datetime.date) -> Path:
    """The file for the month that still has room."""
    names = [f"{day:%Y-%m}", *(f"{day:%Y-%m}-{number}" for number in range(2, 1000))]
    return next(path for name in names if len(_read_entries(path := folder / f"{name}.md")) < _MAX_ENTRIES)


def _read_entries(path: Path) -> list[dict[str, Any]]:
    """Raises PasskbError for an existing file that is not valid, to avoid overwriting it."""
    if not path.exists():
        return []
    try:
        _, header, _ = path.read_text(encoding="utf-8").split("---\n", 2)
        entries = yaml.safe_load(header)["links"]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("`links` is not a list of `from`, `to`, `type` and `why`")
        return list(entries)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        cause = explanation(error, "correct it, or move it away")
        raise PasskbError(f"{path} cannot be read as a list of links {cause}") from error


def _render(path: Path, entries: list[dict[str, Any]]) -> str:
    front = {"title": f"Links accepted in {path.stem}", "kind": "note", "links": entries}
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000_000)
    return f"---\n{_COMMENT}{header}---\n"
