"""An HTML tree as plain lines, as if copied from a browser, with marks for headings and list items."""

from __future__ import annotations

from collections.abc import Iterator

from ingest.readers.extracted_document import one_line
from ingest.readers.html.markdown import BLOCK_TAGS, NON_TEXT_TAGS, Element

_SKIPPED_TAGS = frozenset(("nav", "footer", "aside"))
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_MAX_DEPTH = 100
_BREAK = "\ue001"


def page_lines(body: Element) -> str:
    """The text from the first top-level heading on; a blank line separates blocks, the items of a list are adjacent lines."""
    blocks = list(_blocks(body, 0))
    first = next((at for at, block in enumerate(blocks) if block[0].startswith("# ")), 0)
    return "\n\n".join("\n".join(block) for block in blocks[first:]) + "\n"


def _blocks(element: Element, depth: int) -> Iterator[list[str]]:
    """The blocks inside an element, each with at least one line."""
    if depth > _MAX_DEPTH:
        yield from _to_lines(list(_words(element)))
        return
    words = [element.text or ""]
    for child in element:
        if not _is_skipped(child):
            if child.tag in BLOCK_TAGS or any(inner.tag in BLOCK_TAGS for inner in child.iter() if isinstance(inner.tag, str)):
                yield from _to_lines(words)
                yield from _block(child, depth + 1)
                words = []
            else:
                words += [_BREAK] if child.tag == "br" else _words(child)
        words.append(child.tail or "")
    yield from _to_lines(words)


def _block(element: Element, depth: int) -> Iterator[list[str]]:
    if element.tag in ("ul", "ol"):
        if listed := [line for item in element if not _is_skipped(item) for line in _item(item, depth)]:
            yield listed
    elif mark := _HEADINGS.get(element.tag):
        if words_of_heading := one_line("".join(_words(element))):
            yield [f"{mark} {words_of_heading}"]
    else:
        yield from _blocks(element, depth)


def _item(element: Element, depth: int) -> list[str]:
    lines = [line.lstrip("# ") for block in _blocks(element, depth + 1) for line in block]
    return [f"- {lines[0]}", *lines[1:]] if lines else []


def _to_lines(words: list[str]) -> Iterator[list[str]]:
    if lines := list(filter(None, map(one_line, "".join(words).split(_BREAK)))):
        yield lines


def _words(element: Element) -> Iterator[str]:
    """The texts below an element, without recursion, so that any depth is allowed."""
    stack: list[Element | str] = [element]
    while stack:
        at = stack.pop()
        if isinstance(at, str):
            yield at
        elif at is element or not _is_skipped(at):
            stack += [part for child in reversed(at) for part in (child.tail or "", child)]
            yield at.text or ""


def _is_skipped(element: Element) -> bool:
    tag = element.tag
    return not isinstance(tag, str) or tag in NON_TEXT_TAGS or tag in _SKIPPED_TAGS or element.get("hidden") is not None
