"""What is read from a page or a PDF, and the Markdown note that passkb makes of it. Pure: values in, values out.

Knows nothing about HTML or PDF, nor about where the note is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import yaml

_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff\ufdd0-\ufdef]")
_MARKUP = re.compile(
    r"[`*]|\\(?=[!-/:-@\[-`{-~])|\[(?=\[)|(?<=\])\(|\$(?!\d)|<(?=[A-Za-z/!?])|%(?=%)|~(?=~)|=(?==)"
    r"|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)|&(?=#?\w{1,32};)|\^(?=[\w-]+[ \t]*$)"
)
_START = re.compile(r"[ \t]*(?:#{1,6}(?=[ \t]|$)|[>|]|[-+](?=[ \t]|$)|-{2,}[ \t]*$|(?P<number>\d{1,9})(?=[.)](?:[ \t]|$)))")


@dataclass(frozen=True, slots=True)
class ExtractedDocument:
    """A page or a PDF as read. `text` is Markdown with line ends `\\n`; `pages` holds, for a PDF, the offset in `text` (a
    `str` index) at which each page begins, a page without text where the next one does; ascending. `lines` holds, for a page,
    all of its text as lines, by which saved pages of knowledge bases and reviews are known."""

    title: str
    text: str
    warnings: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    lines: str = ""


def format_note(imported: ExtractedDocument, original: str, when: date) -> str:
    """The file for `notes/imported/`: front matter, then `imported.text` unchanged, so that `pages` stay true of the note's
    text. `original` is the path or the address read, `when` the day on which it was."""
    properties: dict[str, object] = {
        "title": imported.title,
        "kind": "note",
        "original": remove_unwritable(original),
        "imported": when,
    }
    if imported.pages:
        properties["pages"] = list(imported.pages)
    header = yaml.safe_dump(properties, allow_unicode=True, sort_keys=False, default_flow_style=None, width=1_000_000)
    return f"---\n{header}---\n{imported.text}"


def remove_unwritable(text: str) -> str:
    """The text without characters that a UTF-8 text file cannot hold or no one can see; line ends as `\\n`."""
    return _UNWRITABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n"))


def one_line(text: str) -> str:
    return " ".join(remove_unwritable(text).split())


def escape_markdown(text: str) -> str:
    """One line of text with a backslash before whatever Markdown would take for markup, or passkb for a link."""
    return _MARKUP.sub(r"\\\g<0>", text)


def escape_block_starts(text: str) -> str:
    """Escaped text, its lines kept from opening a heading, a list, a quote or a table."""
    return "\n".join(_guarded(line) for line in text.split("\n"))


def _guarded(line: str) -> str:
    m = _START.match(line)
    if m is None:
        return line
    at = m.end("number") if m["number"] else len(line) - len(line.lstrip())
    return f"{line[:at]}\\{line[at:]}"
