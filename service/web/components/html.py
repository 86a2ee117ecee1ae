"""The few pieces of HTML that every page of the app needs: escaping, links to notes and questions, words for types.

Pure; knows nothing about Markdown, answers or Gradio. Whatever comes from a note, a file or a person passes `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from kb.notes import LinkType, PasskbError
from service.log import logger

_log = logger("web")

# How a link reads from its source ("A … B"), and from its target ("… this note").
VERBS: Mapping[LinkType, str] = {
    LinkType.CONTRADICTS: "contradicts",
    LinkType.QUALIFIES: "qualifies",
    LinkType.SUPPORTS: "supports",
    LinkType.EVIDENCE_FOR: "is evidence for",
    LinkType.EXTENDS: "extends",
    LinkType.EXPLAINS: "explains",
    LinkType.DRAWS_ON: "draws on",
    LinkType.CITES: "cites",
    LinkType.RELATED: "is related to",
    LinkType.MENTIONS: "mentions",
}


def text(value: object) -> str:
    """Safe as text and inside a double-quoted attribute; control characters that HTML can not hold are dropped."""
    return escape("".join(c for c in str(value) if c >= " " or c in "\n\t"), quote=True)


def verb(type_: str) -> str:
    """The words for a type of link, also for one that is not known."""
    return VERBS[LinkType(type_)] if type_ in set(LinkType) else text(type_)


def note_link(note_id: str, label: str, cls: str = "") -> str:
    """A link that walks to a note; it works as an ordinary address too."""
    named = f' class="{cls}"' if cls else ""
    return f'<a{named} href="/?note={quote(note_id, safe="/")}" data-note="{text(note_id)}">{text(label)}</a>'


def run_link(run_id: str, label: str, cls: str = "") -> str:
    """A link that opens a run."""
    named = f' class="{cls}"' if cls else ""
    return f'<a{named} href="/?run={quote(run_id, safe="")}" data-run="{text(run_id)}">{text(label)}</a>'


def ask_link(question: str, label: str = "", cls: str = "") -> str:
    """A link that asks a question."""
    named = f' class="{cls}"' if cls else ""
    address = quote(question, safe="")
    return f'<a{named} href="/?q={address}" data-ask="{text(question)}">{text(label or question)}</a>'


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 note`, `2 notes`, `1,200 notes`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def sentence(message: object) -> str:
    """An error or a hint as a sentence of the page."""
    words = str(message).strip()
    return f'<p class="message" role="alert">{text(words[:1].upper() + words[1:])}</p>'


def explained(error: Exception) -> str:
    """An error as a sentence; an unexpected one is logged."""
    if isinstance(error, PasskbError):
        return str(error)
    _log.error("%s", type(error).__name__, exc_info=error)
    what = f"{type(error).__name__}: {error}".rstrip(".")
    return f"This did not work ({what}). See the log of passkb for details; trying again may help."
