"""The lines of PDF pages in reading order, without running heads and feet.

Lengths are in points (1/72 inch); the origin is the lower left of a page and y grows upwards.
Reading order after T. Breuel, "High performance document layout analysis" (2003): of two blocks in one column the upper
precedes, otherwise the left one, unless a block between them spans both columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.readers.extracted_document import one_line

HYPHEN = "\x02"  # pdfium's mark for a hyphen at the end of a line
_MARGIN = 0.14  # of a page's height, for running heads and page numbers
_MAX_RUNNING_ROWS = 3  # on each edge of a page
_MAX_BLOCKS = 120  # per page; with more, the order of the file is kept
_PAGE_NUMBER = re.compile(
    r"(?:page\s*)?[-–—\[( ]*(?:\d{1,4}|\d{1,3}-\d{1,4}|[ivxlc]{1,7})[-–—\]). ]*(?:(?:of|/)\s*\d{1,4})?", re.I
)
_NUMBERED = re.compile(r"\d{1,4}\s|.*\s\d{1,4}$")


@dataclass(frozen=True, slots=True)
class Line:
    """A run of text on one base line. `size`: height of its characters; `cells`: number of runs joined into it."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float
    bold: bool = False
    cells: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """A page with its lines in the order of the file."""

    width: float
    height: float
    lines: tuple[Line, ...]


def body_size(pages: Sequence[Page]) -> float:
    """The most frequent character size."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[round(line.size * 2) / 2] += len(line.text)
    return max(sizes.most_common(1)[0][0], 1.0) if sizes else 1.0


def remove_running_heads(pages: Sequence[Page]) -> list[Page]:
    """The pages without running heads, running feet and page numbers."""
    body, repeated = body_size(pages), _find_repeated(pages)
    return [_remove_running_heads_of_page(page, repeated, body) for page in pages]


def _normalized_text(line: Line) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", one_line(line.text).casefold())


def _in_margin(line: Line, page: Page) -> bool:
    return line.bottom > (1 - _MARGIN) * page.height or line.top < _MARGIN * page.height


def _find_repeated(pages: Sequence[Page]) -> set[str]:
    """The texts, with numbers replaced, that occur in the margins of several pages."""
    counts = Counter(key for page in pages for key in {_normalized_text(line) for line in page.lines if _in_margin(line, page)})
    frequent = (key for key, count in counts.items() if count >= 3 or (count == 2 and len(pages) <= 5))
    return {key for key in frequent if sum(map(str.isalpha, key)) >= 4}  # rows of numbers look alike and are no heads


def _remove_running_heads_of_page(page: Page, repeated: set[str], body: float) -> Page:
    """Removes rows from each edge inwards while they repeat on other pages, are page numbers, or are isolated small lines
    that begin or end with a number. A page without any other text stays unchanged."""
    rows = _rows([line for line in page.lines if line.text.strip()])
    removed: set[Line] = set()
    for rows_from_edge in (rows, rows[::-1]):
        for row, following in zip(rows_from_edge[:_MAX_RUNNING_ROWS], [*rows_from_edge[1:], []], strict=False):
            text = one_line(" ".join(line.text for line in row))
            clear = all(max(b.bottom - a.top, a.bottom - b.top) > 0.4 * body for a in row for b in following)
            small = max(line.size for line in row) < 0.97 * body and len(text) < 120 and _NUMBERED.match(text)
            number = _PAGE_NUMBER.fullmatch(text)
            low = rows_from_edge is not rows and number and row[0].bottom < 0.2 * page.height
            if not low and not all(_in_margin(line, page) for line in row):
                break
            if not all(_normalized_text(line) in repeated for line in row) and not (clear and (number or small)):
                break
            removed.update(row)
    remaining = tuple(line for line in page.lines if line not in removed)
    return Page(page.width, page.height, remaining) if any(line.text.strip() for line in remaining) else page


def _rows(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines grouped by base line, from top to bottom."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (-line.bottom, line.left)):
        if rows and abs(rows[-1][0].bottom - line.bottom) < 0.5 * line.size:
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _gutters(page: Page) -> list[float]:
    """The x positions between columns: few lines cross them, and at least five wide lines are on each side."""
    wide = [line for line in page.lines if line.right - line.left > 0.15 * page.width]
    gutters: list[float] = []
    for step in range(20, 81):
        x = page.width * step / 100
        left = sum(1 for line in wide if line.right < x + 2 and line.right > x - 0.45 * page.width)
        right = sum(1 for line in wide if line.left > x - 2 and line.left < x + 0.1 * page.width)
        crossing = sum(1 for line in page.lines if line.left < x - 2 and line.right > x + 2)
        if min(left, right) >= 5 and crossing < 0.25 * (left + right) and (not gutters or x - gutters[-1] > 0.1 * page.width):
            gutters.append(x)
    return gutters


def group_blocks(page: Page) -> list[list[Line]]:
    """Groups consecutive lines of the file that are close to each other, and joins the cells of a row."""
    gutters = _gutters(page)
    groups: list[list[Line]] = []
    for line in page.lines:
        if not line.text.strip(f" \t\xa0{HYPHEN}"):
            continue
        last = groups[-1][-1] if groups else None
        if last is not None:
            size = max(min(last.size, line.size), 1.0)
            is_separated = any(min(last.right, line.right) < x + 4 and max(last.left, line.left) > x - 4 for x in gutters)
            if abs(last.bottom - line.bottom) < 0.5 * max(last.size, line.size) and not is_separated and line.left > last.left:
                groups[-1][-1] = _join_cells(last, line)
                continue
            gap = last.bottom - line.top
            shared = min(last.right, line.right) - max(last.left, line.left)
            if -0.8 * size < gap < 0.8 * size and shared > 0 and not is_separated and abs(last.size - line.size) < 0.15 * size:
                groups[-1].append(line)
                continue
        groups.append([line])
    return groups


def _join_cells(last: Line, line: Line) -> Line:
    separator = "" if last.text.endswith(" ") or line.left - last.right < 0.1 * line.size else " "
    larger = last if len(last.text) >= len(line.text) else line
    return Line(
        last.text + separator + line.text,
        min(last.left, line.left),
        min(last.bottom, line.bottom),
        max(last.right, line.right),
        max(last.top, line.top),
        larger.size,
        last.bold and line.bold,
        last.cells + line.cells,
    )


def sort_by_reading_order(groups: list[list[Line]]) -> list[list[Line]]:
    """The blocks in reading order; ties keep the order of the file."""
    if not 1 < len(groups) <= _MAX_BLOCKS:
        return groups
    boxes = [
        (min(b.left for b in block), min(b.bottom for b in block), max(b.right for b in block), max(b.top for b in block))
        for block in groups
    ]

    def share(a: int, b: int) -> bool:
        narrower = min(boxes[a][2] - boxes[a][0], boxes[b][2] - boxes[b][0])
        return min(boxes[a][2], boxes[b][2]) - max(boxes[a][0], boxes[b][0]) > 0.1 * narrower

    def precedes(a: int, b: int) -> bool:
        middle_a, middle_b = (boxes[a][1] + boxes[a][3]) / 2, (boxes[b][1] + boxes[b][3]) / 2
        if share(a, b):
            return middle_a > middle_b
        if boxes[a][0] >= boxes[b][0]:
            return False
        low, high = min(middle_a, middle_b), max(middle_a, middle_b)
        between = (c for c in range(len(boxes)) if low < (boxes[c][1] + boxes[c][3]) / 2 < high)
        return not any(c not in (a, b) and share(a, c) and share(c, b) for c in between)

    predecessors = [{a for a in range(len(groups)) if a != b and precedes(a, b)} for b in range(len(groups))]
    left, order = list(range(len(groups))), []
    while left:
        free = next((b for b in left if not predecessors[b] & set(left)), left[0])
        left.remove(free)
        order.append(groups[free])
    return order
