"""A suggestion that a person accepts becomes a link, written into a note of passkb's own; taking it back removes it there.

The note is one for each month, below `links` in the home's notes: a list in its front matter that says which link, of what
type, why, and when it was accepted. The notes it joins are not touched.
"""

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
_MAX_ENTRIES = 400  # links of one note: its front matter stays far below what is read of one
_COMMENT = "# Links that a person accepted from what passkb suggested. Remove an entry to take its link back.\n"


def accept_link(kb: KnowledgeBase, source: str, target: str, type_: LinkType = LinkType.RELATED, why: str = "") -> Link:
    """Writes the link from note to note. Raises PasskbError for notes that are none or are linked already, and when the home
    can not be written."""
    notes = kb.store.notes([source, target])
    for note_id in (source, target):
        if note_id not in notes or notes[note_id].kind is NoteKind.STUB:
            raise PasskbError(f"{note_id!r} is no note that somebody wrote: a link needs two")
    if source == target:
        raise PasskbError("a note can not be linked with itself")
    if existing := links_between(kb, source, target):
        raise PasskbError(f"{existing[0].source} {existing[0].type} {existing[0].target} already")
    today = datetime.datetime.now(datetime.UTC).date()
    entry = {"from": f"[[{source}]]", "to": f"[[{target}]]", "type": str(type_), "why": clean_reason(why), "accepted": today}
    with lock_home(kb.home):
        path = _file_with_room(_folder(kb), today)
        write_atomic(path, _render(path, [*_read_entries(path), entry]))
    index_app_note(kb, path)
    undismiss(kb.home, source, target)
    links = [link for link in links_between(kb, source, target) if link.writer]
    if not links:
        raise PasskbError(f"{path} holds the link, but it could not be read back: `passkb status` says why")
    return links[0]


def remove_link(kb: KnowledgeBase, one: str, other: str) -> list[Link]:
    """Removes the accepted links between two notes, and gives them. Raises PasskbError when there is none."""
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
        raise PasskbError(f"no accepted link joins {one} and {other}: a link that a note holds is removed there")
    index_app_note(kb, changed[0])
    return before


def accepted_link_notes(kb: KnowledgeBase) -> set[str]:
    """The ids of the notes that hold accepted links."""
    return {record.note_id for record in kb.store.files() if Path(record.path).parent == _folder(kb)} - {""}


def clean_reason(why: str) -> str:
    """A reason as one line of words, whoever worded it."""
    line = one_line(why).replace("[[", "[").replace("]]", "]")
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 1].rsplit(' ', 1)[0]}…"


def _folder(kb: KnowledgeBase) -> Path:
    return app_notes_folder(kb.home) / "links"


def _file_with_room(folder: Path, day: datetime.date) -> Path:
    """The month's note; its next one when it is full."""
    names = [f"{day:%Y-%m}", *(f"{day:%Y-%m}-{number}" for number in range(2, 1000))]
    return next(path for name in names if len(_read_entries(path := folder / f"{name}.md")) < _MAX_ENTRIES)


def _read_entries(path: Path) -> list[dict[str, Any]]:
    """Raises PasskbError for a file that is there and can not be read as what it is: nothing in it may be lost."""
    if not path.exists():
        return []
    try:
        _, header, _ = path.read_text(encoding="utf-8").split("---\n", 2)
        entries = yaml.safe_load(header)["links"]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("its links are no list of `from`, `to`, `type` and `why`")
        return list(entries)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        cause = explanation(error, "mend it, or move it away")
        raise PasskbError(f"{path} can not be read as a list of links {cause}") from error


def _render(path: Path, entries: list[dict[str, Any]]) -> str:
    front = {"title": f"Links accepted in {path.stem}", "kind": "note", "links": entries}
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000_000)
    return f"---\n{_COMMENT}{header}---\n"
