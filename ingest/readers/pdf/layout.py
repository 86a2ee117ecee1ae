"""The lines of a PDF page in the order in which they are read, running heads and feet gone. Arithmetic over rectangles.

Knows nothing about PDF or Markdown. Lengths are points (1/72 inch), y grows upwards, the origin is a page's lower left.
Reading order after T. Breuel, "High performance document layout analysis" (2003): of two blocks the upper goes first when they
share a column, else the left one, unless a block between them spans both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.readers.extracted_document import one_line

HYPHEN = "\x02"  # a hyphen that pdfium takes for one at the end of a line
_MARGIN = 0.14  # of a page's height: where running heads and page numbers stand
_MOST_RUNNING = 3  # rows of running heads on a page, and of feet
_MOST_BLOCKS = 120  # of one page, for finding their order; with more, the order of the file is kept
_PAGE_NUMBER = re.compile(
    r"(?:page\s*)?[-–—\[( ]*(?:\d{1,4}|\d{1,3}-\d{1,4}|[ivxlc]{1,7})[-–—\]). ]*(?:(?:of|/)\s*\d{1,4})?", re.I
)
_NUMBERED = re.compile(r"\d{1,4}\s|.*\s\d{1,4}$")


@dataclass(frozen=True, slots=True)
class Line:
    """A run of text on one base line; `size` is the height of its characters, `cells` how many runs were joined into it."""

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
    """Its lines stand in the order of the file."""

    width: float
    height: float
    lines: tuple[Line, ...]


def body_size(pages: Sequence[Page]) -> float:
    """The size that most characters have."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[round(line.size * 2) / 2] += len(line.text)
    return max(sizes.most_common(1)[0][0], 1.0) if sizes else 1.0


def remove_running_heads(pages: Sequence[Page]) -> list[Page]:
    """The pages without running heads and feet and page numbers."""
    body, repeated = body_size(pages), _repeated(pages)
    return [_without_running(page, repeated, body) for page in pages]


def _alike(line: Line) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", one_line(line.text).casefold())


def _in_margin(line: Line, page: Page) -> bool:
    return line.bottom > (1 - _MARGIN) * page.height or line.top < _MARGIN * page.height


def _repeated(pages: Sequence[Page]) -> set[str]:
    """What stands in the margins of several pages, but for its numbers."""
    counts = Counter(key for page in pages for key in {_alike(line) for line in page.lines if _in_margin(line, page)})
    often = (key for key, count in counts.items() if count >= 3 or (count == 2 and len(pages) <= 5))
    return {key for key in often if sum(map(str.isalpha, key)) >= 4}  # rows of numbers look alike and are no heads


def _without_running(page: Page, repeated: set[str], body: float) -> Page:
    """Row by row from each edge inwards, for as long as it is one that repeats, a page number, or a line by itself, smaller
    than the text, that begins or ends with a number. A page that holds nothing else is left as it is."""
    rows = _rows([line for line in page.lines if line.text.strip()])
    gone: set[Line] = set()
    for inwards in (rows, rows[::-1]):
        for row, following in zip(inwards[:_MOST_RUNNING], [*inwards[1:], []], strict=False):
            text = one_line(" ".join(line.text for line in row))
            clear = all(max(b.bottom - a.top, a.bottom - b.top) > 0.4 * body for a in row for b in following)
            small = max(line.size for line in row) < 0.97 * body and len(text) < 120 and _NUMBERED.match(text)
            number = _PAGE_NUMBER.fullmatch(text)
            low = inwards is not rows and number and row[0].bottom < 0.2 * page.height
            if not low and not all(_in_margin(line, page) for line in row):
                break
            if not all(_alike(line) in repeated for line in row) and not (clear and (number or small)):
                break
            gone.update(row)
    kept = tuple(line for line in page.lines if line not in gone)
    return Page(page.width, page.height, kept) if any(line.text.strip() for line in kept) else page


def _rows(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines on one base line together, the upper ones first."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (-line.bottom, line.left)):
        if rows and abs(rows[-1][0].bottom - line.bottom) < 0.5 * line.size:
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _gutters(page: Page) -> list[float]:
    """Where columns part: places that hardly any line crosses, with at least five wide lines on each side."""
    wide = [line for line in page.lines if line.right - line.left > 0.15 * page.width]
    found: list[float] = []
    for step in range(20, 81):
        x = page.width * step / 100
        left = sum(1 for line in wide if line.right < x + 2 and line.right > x - 0.45 * page.width)
        right = sum(1 for line in wide if line.left > x - 2 and line.left < x + 0.1 * page.width)
        crossing = sum(1 for line in page.lines if line.left < x - 2 and line.right > x + 2)
        if min(left, right) >= 5 and crossing < 0.25 * (left + right) and (not found or x - found[-1] > 0.1 * page.width):
            found.append(x)
    return found


def group_blocks(page: Page) -> list[list[Line]]:
    """Lines that follow each other in the file and stand close below or beside each other, cells of one row joined."""
    gutters = _gutters(page)
    made: list[list[Line]] = []
    for line in page.lines:
        if not line.text.strip(f" \t\xa0{HYPHEN}"):
            continue
        last = made[-1][-1] if made else None
        if last is not None:
            size = max(min(last.size, line.size), 1.0)
            parted = any(min(last.right, line.right) < x + 4 and max(last.left, line.left) > x - 4 for x in gutters)
            if abs(last.bottom - line.bottom) < 0.5 * max(last.size, line.size) and not parted and line.left > last.left:
                made[-1][-1] = _beside(last, line)
                continue
            gap = last.bottom - line.top
            shared = min(last.right, line.right) - max(last.left, line.left)
            if -0.8 * size < gap < 0.8 * size and shared > 0 and not parted and abs(last.size - line.size) < 0.15 * size:
                made[-1].append(line)
                continue
        made.append([line])
    return made


def _beside(last: Line, line: Line) -> Line:
    apart = "" if last.text.endswith(" ") or line.left - last.right < 0.1 * line.size else " "
    larger = last if len(last.text) >= len(line.text) else line
    return Line(
        last.text + apart + line.text,
        min(last.left, line.left),
        min(last.bottom, line.bottom),
        max(last.right, line.right),
        max(last.top, line.top),
        larger.size,
        last.bold and line.bold,
        last.cells + line.cells,
    )


def sort_by_reading_order(groups: list[list[Line]]) -> list[list[Line]]:
    """In reading order. Where the order of the file already is one it stays, so that ties go to the author."""
    if not 1 < len(groups) <= _MOST_BLOCKS:
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

    after = [{a for a in range(len(groups)) if a != b and precedes(a, b)} for b in range(len(groups))]
    left, order = list(range(len(groups))), []
    while left:
        free = next((b for b in left if not after[b] & set(left)), left[0])
        left.remove(free)
        order.append(groups[free])
    return order
