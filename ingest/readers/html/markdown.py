"""Renders an HTML tree as Markdown: headings, lists, tables, links, emphasis, code, formulas.

Takes linear time in the size of the tree. Structure is kept down to `_MAX_DEPTH` levels, below that only text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

from ingest.readers.extracted_document import escape_block_starts, escape_markdown, one_line, remove_unwritable

Element = Any  # lxml.html.HtmlElement, which has no types
Skip = Callable[[Element], bool]

NON_TEXT_TAGS = frozenset(
    "script style noscript template head iframe object embed svg canvas video audio map button select input textarea "
    "datalist meta link title param source track frame frameset applet dialog".split()
)
BLOCK_TAGS = frozenset(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 "
    "h6 header hgroup hr html legend li main menu nav ol p pre section summary table tbody td tfoot th thead tr ul "
    "caption".split()
)
_MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*", "cite": "*", "var": "*", "dfn": "*"} | dict.fromkeys(
    ("s", "del", "strike"), "~~"
)
_SUPERSCRIPTS = dict(zip("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ", strict=True))
_SUBSCRIPTS = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))
_LANGUAGE = re.compile(r"(?:^|\s)(?:language-|lang-|highlight-source-|brush:\s*)([\w+#-]{1,20})")
_BREAK = "\ue001"
_HASHES = re.compile(r"#{1,6} ")
_FENCED = re.compile(r"(`{3,})[^`\n]*\n([^`]*)\n\1")
_MAX_DEPTH, _MAX_LIST_DEPTH = 100, 20
_MAX_COLUMNS = 200  # columns


class Renderer:
    """Renders one tree. `skip`: whether to omit an element. `address`: of the page, to resolve its links; empty when
    unknown."""

    def __init__(self, root: Element, skip: Skip, address: str = "") -> None:
        self.skip, self.address = skip, address
        self.holds_blocks: set[Element] = set()
        for element in reversed(list(root.iter())):
            if element.tag in BLOCK_TAGS or element in self.holds_blocks:
                parent = element.getparent()
                if parent is not None:
                    self.holds_blocks.add(parent)

    def markdown(self, root: Element) -> str:
        return "\n\n".join(self.blocks(root, 0)).replace(_BREAK, "\n").strip("\n") + "\n"

    def is_skipped(self, element: Element) -> bool:
        """Whether an element is a comment, a processing instruction, not text, hidden, or omitted by `skip`."""
        if not isinstance(element.tag, str) or element.tag in NON_TEXT_TAGS or element.get("hidden") is not None:
            return True
        if "katex-html" in element.get("class", "") or re.search(r"display:\s*none", element.get("style", "")):
            return True
        return self.skip(element)

    def blocks(self, element: Element, depth: int) -> list[str]:
        """The blocks inside an element, each without surrounding blank lines."""
        if depth > _MAX_DEPTH:
            words = escape_markdown(one_line(" ".join(self.words(element))))
            return [escape_block_starts(words)] if words else []
        result: list[str] = []
        line = escape_markdown(remove_unwritable(element.text or ""))
        for child in element:
            if not self.is_skipped(child):
                if child.tag in BLOCK_TAGS or child in self.holds_blocks:
                    result += [*self._to_block(line), *self.block(child, depth + 1)]
                    line = ""
                else:
                    line += self.inline(child, depth + 1)
            line += escape_markdown(remove_unwritable(child.tail or ""))
        return [*result, *self._to_block(line)]

    def words(self, element: Element) -> Iterator[str]:
        """The texts below an element, without recursion, so that any depth is allowed."""
        stack: list[Any] = [element]
        while stack:
            at = stack.pop()
            if isinstance(at, str):
                yield at
            elif at is element or not self.is_skipped(at):
                stack += [part for child in reversed(at) for part in (child.tail or "", child)]
                yield at.text or ""

    def _to_block(self, line: str) -> list[str]:
        lines = [" ".join(part.split()) for part in line.split(_BREAK)]
        text = "\n".join(part for part in lines if part)
        return [escape_block_starts(text)] if text else []

    def block(self, element: Element, depth: int) -> list[str]:
        tag = element.tag
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            words = self.line(element, depth)
            return [f"{'#' * int(tag[1])} {words}"] if words else []
        if tag in ("ul", "ol", "menu", "dl"):
            return self.items(element, depth)
        if tag == "pre":
            return self.code(element)
        if tag == "table":
            return self.table(element, depth)
        if tag == "blockquote":
            quoted = "\n\n".join(self.blocks(element, depth)).replace(_BREAK, "\n")
            return ["\n".join(f"> {part}".rstrip() for part in quoted.split("\n"))] if quoted else []
        return self.blocks(element, depth)

    def line(self, element: Element, depth: int) -> str:
        """The content of an element on one line."""
        flat = (
            _FENCED.sub(r"`\2`", _HASHES.sub("", block) if _HASHES.match(block) else block)
            for block in self.blocks(element, depth)
        )
        return " ".join(" ".join(flat).replace(_BREAK, " ").split())

    def items(self, element: Element, depth: int) -> list[str]:
        number = int(element.get("start", "1")) if re.fullmatch(r"\d{1,9}", element.get("start", "1")) else 1
        ordered, level = element.tag == "ol", sum(1 for _ in element.iterancestors("ul", "ol", "dl", "menu"))
        lines: list[str] = []
        for item in element:
            if self.is_skipped(item):
                continue
            inner = self.block(item, depth + 1)
            if not inner:
                continue
            is_continuation = item.tag == "dd" or (item.tag in ("ul", "ol") and bool(lines))
            marker = f"{number}. " if ordered else "- "
            if item.tag == "dt":
                inner[0] = f"**{inner[0]}**" if "\n" not in inner[0] and "**" not in inner[0] else inner[0]
            elif is_continuation:
                inner[0] = inner[0] if item.tag != "dd" or _is_item(inner[0]) else f"- {inner[0]}"
            text = "\n".join(inner) if all(_is_item(part) for part in inner[1:]) else "\n\n".join(inner)
            pad = " " * len(marker) if level < _MAX_LIST_DEPTH else ""
            if not is_continuation and not _is_item(inner[0]):
                text = marker + text.replace("\n", f"\n{pad}")
                number += 1
            else:
                text = pad + text.replace("\n", f"\n{pad}")
            lines.append(re.sub(r"(?m)^[ \t]+$", "", text))
        return ["\n".join(lines)] if lines else []

    def code(self, element: Element) -> list[str]:
        for line_end in element.iter("br"):
            line_end.tail = "\n" + (line_end.tail or "")
        text = textwrap.dedent(remove_unwritable("".join(self.words(element))).expandtabs(4)).strip("\n").rstrip()
        if not text.strip():
            return []
        named = [_LANGUAGE.search(e.get("class", "")) for e in (element, *element.iter("code"), element.getparent())]
        language = next((m[1] for m in named if m), "")
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        return [f"{fence}{language}\n{text}\n{fence}"]

    def table(self, element: Element, depth: int) -> list[str]:
        """A Markdown table, or the blocks of a table that has one column or only serves layout."""
        caption = [block for e in element.iterchildren("caption") for block in self.blocks(e, depth + 1)]
        rows = [row for part in (element, *element.iterchildren("thead", "tbody", "tfoot")) for row in part.iterchildren("tr")]
        nested = next(element.iterdescendants("table"), None) is not None
        if nested or element.get("role") == "presentation" or max((len(row) for row in rows), default=0) < 2:
            return self.blocks(element, depth)
        grid = _grid([[(cell, self.line(cell, depth + 1)) for cell in row.iterchildren("td", "th")] for row in rows])
        grid = [row for row in grid if any(row)]
        if not grid:
            return caption
        width = max(map(len, grid))
        lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in grid]
        return [*caption, "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])]

    def inline(self, element: Element, depth: int) -> str:
        tag = element.tag
        if tag == "br":
            return _BREAK
        if tag == "img":
            return self.picture(element)
        if tag == "math":
            return _formula(element)
        if tag in ("code", "kbd", "samp", "tt"):
            text = one_line("".join(self.words(element)))
            fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
            edge = " " if text.startswith("`") or text.endswith("`") else ""
            complete = "".join(self.words(element))
            before, after = (" " if part.isspace() else "" for part in (complete[:1], complete[-1:]))
            return f"{before}{fence}{edge}{text}{edge}{fence}{after}" if text else " "
        if depth > _MAX_DEPTH:
            return escape_markdown(one_line(" ".join(self.words(element))))
        inner = escape_markdown(remove_unwritable(element.text or ""))
        for child in element:
            if not self.is_skipped(child):
                inner += self.inline(child, depth + 1)
            inner += escape_markdown(remove_unwritable(child.tail or ""))
        if tag == "a" and element.get("href", "").startswith("#") and inner.strip() in ("#", "¶", "§", "🔗", "↩", "↑"):
            return ""
        if tag in _MARKS:
            return _wrap(inner, _MARKS[tag], _MARKS[tag]) if _MARKS[tag] not in inner else inner
        if tag in ("sup", "sub"):
            small = _SUPERSCRIPTS if tag == "sup" else _SUBSCRIPTS
            bare = inner.strip()
            return "".join(small[c] for c in bare) if bare and all(c in small for c in bare) else inner
        if tag == "a" and (target := self.target(element.get("href", ""))) and "](" not in inner:
            return _wrap(inner.replace(_BREAK, " "), "[", f"]({target})")
        return f"“{inner}”" if tag == "q" and inner.strip() else inner

    def picture(self, element: Element) -> str:
        """The alternative text of a picture without caption; otherwise empty."""
        figure = next(element.iterancestors("figure"), None)
        captioned = figure is not None and next(figure.iter("figcaption"), None) is not None
        return "" if captioned else escape_markdown(one_line(element.get("alt", "")))

    def target(self, href: str) -> str:
        """The address of a link; empty when it stays inside the page or uses an unsupported scheme."""
        href = "".join(remove_unwritable(href).split("\n")).strip()
        if not href or href.startswith("#") or re.match(r"(?!https?:|mailto:|ftp:|doi:)[a-z][a-z0-9+.-]*:", href, re.I):
            return ""
        try:
            href = urljoin(self.address, href)
        except ValueError:  # "http://[" and the like
            return ""
        return re.sub(r"[\s()<>\[\]`*\\|]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), href)


def _is_item(text: str) -> bool:
    return re.match(r" *(?:- |\d+\. )", text) is not None


def _wrap(inner: str, before: str, after: str) -> str:
    """The words between the marks, with surrounding white space outside of them."""
    bare = inner.strip(f" \t\n\xa0{_BREAK}")
    if not bare:
        return inner
    at = inner.index(bare)
    return f"{inner[:at]}{before}{bare}{after}{inner[at + len(bare) :]}"


def _formula(element: Element) -> str:
    """The TeX source in a formula's annotation, otherwise its symbols as text."""
    notes = [e.text or "" for e in element.iter("annotation") if "tex" in e.get("encoding", "")]
    tex = one_line(element.get("alttext", "") or next(iter(notes), ""))
    if not tex or "$" in tex:
        return escape_markdown(one_line("".join(element.itertext())))
    mark = "$$" if element.get("display") == "block" else "$"
    return f"{mark}{tex}{mark}"


def _grid(rows: list[list[tuple[Element, str]]]) -> list[list[str]]:
    """The texts of a table in rows. A spanning cell is repeated in each place that it covers, within a limit."""
    budget = 200 + 3 * sum(map(len, rows))
    cells: dict[tuple[int, int], str] = {}
    for y, row in enumerate(rows):
        x = 0
        for cell, words in row:
            while (y, x) in cells:
                x += 1
            if x >= _MAX_COLUMNS:
                break
            wide, high = (int(n) if re.fullmatch(r"[1-9]\d{0,2}", n := cell.get(k, "1")) else 1 for k in ("colspan", "rowspan"))
            wide, high = min(wide, _MAX_COLUMNS - x), min(high, len(rows) - y)
            if len(words) * wide * high > 20_000 or wide * high > budget:
                wide = high = 1
            budget -= wide * high
            for down in range(high):
                for right in range(wide):
                    cells.setdefault((y + down, x + right), re.sub(r"(?<!\\)\|", r"\\|", words))
            x += wide
    widths = [0] * len(rows)
    for y, x in cells:
        widths[y] = max(widths[y], x + 1)
    only_spans = [bool(row) and all(cell.get("rowspan", "1") != "1" for cell, _ in row) for row in rows]
    return [
        [cells.get((y, x), "") for x in range(width)]
        for y, width in enumerate(widths)
        if not (only_spans[y] and y + 1 < len(rows) and width < widths[y + 1])  # its words stand in the next rows
    ]
