"""The neighbourhood of a note as an accessible SVG: notes are links, links have line styles and reasons. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from kb.graph import WEIGHTS, Neighbourhood
from kb.notes import Link, LinkType, Note
from service.web.components.html import text, verb

Points = Mapping[str, tuple[float, float]]

WIDTH = 380.0
_MARGIN = 34.0
_LETTER = 6.1  # width of an average letter at the label's size, in the units of the drawing
_LINE = 12.0
_SHORT = 24
_HINT = "Each dot is a note, each line a link: point at one to read it, click a note to go there."


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


_Placed = tuple[str, float, float, _Box]


def map_html(centre: str, near: Neighbourhood, points: Points, notes: Mapping[str, Note]) -> str:
    """The drawing, its legend, and a line that tells what is pointed at. Empty when the note has no neighbours."""
    if len(near.distances) < 2:
        return ""
    height = min(430.0, 210.0 + 9.0 * len(near.distances))
    at = {n: (_MARGIN + x * (WIDTH - 2 * _MARGIN), 20 + y * (height - 40)) for n, (x, y) in points.items()}
    links = _strongest(near.links)
    title = text(notes[centre].title) if centre in notes else text(centre)
    edges = "".join(_edge(link, at, notes, centre in (link.source, link.target)) for link in links)
    nodes = "".join(_nodes(centre, near, at, notes))
    return (
        f'<figure class="map"><svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="group" aria-label="Around {title}">'
        f'<g class="edges">{edges}</g><g class="nodes">{nodes}</g></svg>'
        f'<p class="caption" aria-live="polite">{_HINT}</p><figcaption>{_legend(links)}</figcaption></figure>'
    )


def _strongest(links: Sequence[Link]) -> list[Link]:
    """One line between two notes: the strongest link, dissent before agreement of the same weight."""
    best: dict[frozenset[str], Link] = {}
    for link in links:
        pair = frozenset((link.source, link.target))
        if len(pair) == 2 and (pair not in best or _rank(link) < _rank(best[pair])):
            best[pair] = link
    return sorted(best.values(), key=_rank, reverse=True)


def _rank(link: Link) -> tuple[float, int]:
    dissent = link.type in (LinkType.CONTRADICTS, LinkType.QUALIFIES)
    return (-(WEIGHTS[link.type] + dissent), list(LinkType).index(link.type))


def _edge(link: Link, at: Mapping[str, tuple[float, float]], notes: Mapping[str, Note], near: bool) -> str:
    (x1, y1), (x2, y2) = at[link.source], at[link.target]
    says = f"{_title(link.source, notes)} {verb(link.type)} {_title(link.target, notes)}"
    says += f": {link.why}" if link.why else ""
    reach = "near" if near else "far"
    line = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return (
        f'<g class="edge {link.type} {reach}" data-caption="{text(says)}"><title>{text(says)}</title>'
        f'<line class="reach" {line}/><line {line}/></g>'
    )


def _nodes(centre: str, near: Neighbourhood, at: Mapping[str, tuple[float, float]], notes: Mapping[str, Note]) -> list[str]:
    """Circles with labels; a label that finds no free place is shown when its note is pointed at."""
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in at.values()]
    drawn = []
    for note_id in sorted(near.distances, key=lambda n: (n != centre, near.distances[n])):
        x, y = at[note_id]
        label = shortened(_title(note_id, notes), 30 if note_id == centre else _SHORT)
        place = _place(x, y, len(label) * _LETTER * (1.2 if note_id == centre else 1.0), taken, note_id == centre)
        if place is None:
            side = "start" if x < WIDTH / 2 else "end"
            lx, ly = x + (9 if side == "start" else -9), y + 4
        else:
            side, lx, ly, box = place
            taken.append(box)
        kind = notes[note_id].kind if note_id in notes else "stub"
        classes = f"node {kind}{' centre' * (note_id == centre)}{' crowded' * (place is None)}"
        drawn.append(
            f'<a class="{classes}" href="/?note={quote(note_id, safe="/")}" data-note="{text(note_id)}" '
            f'data-caption="{text(_title(note_id, notes))}" aria-label="{text(_title(note_id, notes))}">'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{8 if note_id == centre else 5.5}"/>'
            f'<text x="{lx:.1f}" y="{ly:.1f}" text-anchor="{side}">{text(label)}</text></a>'
        )
    return drawn


def _place(x: float, y: float, width: float, taken: Sequence[_Box], always: bool) -> _Placed | None:
    """Where a label fits: below, above, to the right or to the left of its circle; None: nowhere."""
    options = []
    for offset in (19.0, -11.0):
        shift = min(max(x, width / 2 + 2), WIDTH - width / 2 - 2)
        options.append(
            ("middle", shift, y + offset, _Box(shift - width / 2, y + offset - 10, shift + width / 2, y + offset + 3))
        )
    options.append(("start", x + 10, y + 4, _Box(x + 8, y - 7, x + 10 + width, y + 6)))
    options.append(("end", x - 10, y + 4, _Box(x - 10 - width, y - 7, x - 8, y + 6)))
    inside = [option for option in options if option[3].left >= 0 and option[3].right <= WIDTH and option[3].top >= 0]
    free = [option for option in inside if not any(option[3].meets(other) for other in taken)]
    return next(iter(free or (inside if always else ())), None)


def shortened(title: str, length: int) -> str:
    """At most so many letters, cut between words."""
    if len(title) <= length:
        return title
    head = title[: length - 1]
    cut = head.rsplit(" ", 1)[0]
    return f"{cut if len(cut) > length // 2 else head}…"


def _legend(links: Sequence[Link]) -> str:
    order = [type_ for type_ in LEGEND_ORDER if type_ in {link.type for link in links}]
    return "".join(
        f'<span class="key"><svg viewBox="0 0 24 8" aria-hidden="true"><g class="edge {type_}">'
        f'<line x1="1" y1="4" x2="23" y2="4"/></g></svg>{verb(type_)}</span>'
        for type_ in order
    )


LEGEND_ORDER = (
    LinkType.CONTRADICTS, LinkType.QUALIFIES, LinkType.SUPPORTS, LinkType.EVIDENCE_FOR, LinkType.EXTENDS,
    LinkType.EXPLAINS, LinkType.DRAWS_ON, LinkType.CITES, LinkType.RELATED, LinkType.MENTIONS,
)  # fmt: skip


def _title(note_id: str, notes: Mapping[str, Note]) -> str:
    return notes[note_id].title if note_id in notes else note_id
