"""Transitional helpers for modules that do not use templates yet."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from service.web.components.formatting import count as counted
from service.web.components.formatting import link_verb
from service.web.components.messages import error_text as explained
from service.web.components.messages import message_html as sentence

__all__ = ["ask_link", "counted", "explained", "note_link", "run_link", "sentence", "text", "verb"]


def text(value: object) -> str:
    """Safe as text and inside a double-quoted attribute; control characters that HTML can not hold are dropped."""
    return escape("".join(c for c in str(value) if c >= " " or c in "\n\t"), quote=True)


def verb(type_: str) -> str:
    return text(link_verb(type_))


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
