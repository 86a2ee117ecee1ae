"""The content extracted from a page or a PDF, and the Markdown note made from it."""

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
    """The content of a page or a PDF. `text` is Markdown with line ends `\\n`. `pages`: for a PDF, the ascending offsets in
    `text` (`str` indices) at which its pages begin; an empty page has the offset of the next one. `lines`: for a page, its
    complete text as lines, by which saved pages of knowledge bases and reviews are recognized."""

    title: str
    text: str
    warnings: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    lines: str = ""


def format_note(imported: ExtractedDocument, original: str, day: date) -> str:
    """The content of a file in `notes/imported/`: front matter, then `imported.text` unchanged, so that `pages` are offsets
    in the note's text. `original`: the path or address of the original, `day`: of the import."""
    properties: dict[str, object] = {
        "title": imported.title,
        "kind": "note",
        "original": remove_unwritable(original),
        "imported": day,
    }
    if imported.pages:
        properties["pages"] = list(imported.pages)
    header = yaml.safe_dump(properties, allow_unicode=True, sort_keys=False, default_flow_style=None, width=1_000_000)
    return f"---\n{header}---\n{imported.text}"


def remove_unwritable(text: str) -> str:
    """The text without invisible characters and those that UTF-8 cannot encode; line ends become `\\n`."""
    return _UNWRITABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n"))


def one_line(text: str) -> str:
    return " ".join(remove_unwritable(text).split())


def escape_markdown(text: str) -> str:
    """One line of text with a backslash before each character that Markdown reads as markup, or passkb as a link."""
    return _MARKUP.sub(r"\\\g<0>", text)


def escape_block_starts(text: str) -> str:
    """Escaped text whose lines cannot begin a heading, a list, a quote or a table."""
    return "\n".join(_escape_line(line) for line in text.split("\n"))


def _escape_line(line: str) -> str:
    m = _START.match(line)
    if m is None:
        return line
    position = m.end("number") if m["number"] else len(line) - len(line.lstrip())
    return f"{line[:position]}\\{line[position:]}"
