"""The map around a note as an accessible SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from kb.graph import WEIGHTS, Neighbourhood
from kb.notes import Link, LinkType, Note
from service.web.components.formatting import link_verb
from service.web.components.templates import render

Points = Mapping[str, tuple[float, float]]

WIDTH = 380.0
LEGEND_ORDER = (
    LinkType.CONTRADICTS, LinkType.QUALIFIES, LinkType.SUPPORTS, LinkType.EVIDENCE_FOR, LinkType.EXTENDS,
    LinkType.EXPLAINS, LinkType.DRAWS_ON, LinkType.CITES, LinkType.RELATED, LinkType.MENTIONS,
)  # fmt: skip
_MARGIN = 34.0
_LETTER_WIDTH = 6.1  # average, in units of the drawing
_LABEL_LENGTH, _CENTRE_LABEL_LENGTH = 24, 30  # characters


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


_Label = tuple[str, float, float, _Box]  # text anchor, x, y, extent


def map_html(centre: str, near: Neighbourhood, points: Points, notes: Mapping[str, Note]) -> Markup:
    """The drawing, a caption for what the user points at, and a legend. Empty if the note has no neighbours."""
    if len(near.distances) < 2:
        return Markup()
    height = min(430.0, 210.0 + 9.0 * len(near.distances))
    at = {n: (_MARGIN + x * (WIDTH - 2 * _MARGIN), 20 + y * (height - 40)) for n, (x, y) in points.items()}
    links = _strongest(near.links)
    types = {link.type for link in links}
    return render(
        "notes/map.html",
        width=f"{WIDTH:.0f}",
        height=f"{height:.0f}",
        title=_title(centre, notes),
        edges=[_edge(link, at, notes, centre) for link in links],
        nodes=_nodes(centre, near, at, notes),
        legend=[link_type for link_type in LEGEND_ORDER if link_type in types],
    )


def _strongest(links: Sequence[Link]) -> list[Link]:
    """The strongest link between each two notes; at equal weight, disagreement before agreement."""
    best: dict[frozenset[str], Link] = {}
    for link in links:
        pair = frozenset((link.source, link.target))
        if len(pair) == 2 and (pair not in best or _rank(link) < _rank(best[pair])):
            best[pair] = link
    return sorted(best.values(), key=_rank, reverse=True)


def _rank(link: Link) -> tuple[float, int]:
    disagrees = link.type in (LinkType.CONTRADICTS, LinkType.QUALIFIES)
    return (-(WEIGHTS[link.type] + disagrees), list(LinkType).index(link.type))


def _edge(link: Link, at: Points, notes: Mapping[str, Note], centre: str) -> dict[str, str]:
    (x1, y1), (x2, y2) = at[link.source], at[link.target]
    caption = f"{_title(link.source, notes)} {link_verb(link.type)} {_title(link.target, notes)}"
    return {
        "type": link.type,
        "distance": "near" if centre in (link.source, link.target) else "far",
        "caption": f"{caption}: {link.why}" if link.why else caption,
        "x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}",
    }  # fmt: skip


def _nodes(centre: str, near: Neighbourhood, at: Points, notes: Mapping[str, Note]) -> list[dict[str, Any]]:
    """Circles with labels. A label without free space appears only when the user points at its note."""
    occupied = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in at.values()]
    nodes = []
    for note_id in sorted(near.distances, key=lambda n: (n != centre, near.distances[n])):
        is_centre = note_id == centre
        x, y = at[note_id]
        label = shorten(_title(note_id, notes), _CENTRE_LABEL_LENGTH if is_centre else _LABEL_LENGTH)
        place = _place_label(x, y, len(label) * _LETTER_WIDTH * (1.2 if is_centre else 1.0), occupied, is_centre)
        if place is None:
            anchor = "start" if x < WIDTH / 2 else "end"
            label_x, label_y = x + (9 if anchor == "start" else -9), y + 4
        else:
            anchor, label_x, label_y, box = place
            occupied.append(box)
        kind = notes[note_id].kind if note_id in notes else "stub"
        nodes.append({
            "id": note_id, "title": _title(note_id, notes), "label": label, "anchor": anchor,
            "class": f"{kind}{' centre' * is_centre}{' crowded' * (place is None)}", "radius": 8 if is_centre else 5.5,
            "x": f"{x:.1f}", "y": f"{y:.1f}", "label_x": f"{label_x:.1f}", "label_y": f"{label_y:.1f}",
        })  # fmt: skip
    return nodes


def _place_label(x: float, y: float, width: float, occupied: Sequence[_Box], always: bool) -> _Label | None:
    """A free place below, above, right or left of a circle; None if there is none, unless `always`."""
    options: list[_Label] = []
    for offset in (19.0, -11.0):
        middle = min(max(x, width / 2 + 2), WIDTH - width / 2 - 2)
        box = _Box(middle - width / 2, y + offset - 10, middle + width / 2, y + offset + 3)
        options.append(("middle", middle, y + offset, box))
    options.append(("start", x + 10, y + 4, _Box(x + 8, y - 7, x + 10 + width, y + 6)))
    options.append(("end", x - 10, y + 4, _Box(x - 10 - width, y - 7, x - 8, y + 6)))
    inside = [option for option in options if option[3].left >= 0 and option[3].right <= WIDTH and option[3].top >= 0]
    free = [option for option in inside if not any(option[3].overlaps(other) for other in occupied)]
    return next(iter(free or (inside if always else ())), None)


def shorten(title: str, length: int) -> str:
    """At most `length` characters, cut between words."""
    if len(title) <= length:
        return title
    head = title[: length - 1]
    cut = head.rsplit(" ", 1)[0]
    return f"{cut if len(cut) > length // 2 else head}…"


def _title(note_id: str, notes: Mapping[str, Note]) -> str:
    return notes[note_id].title if note_id in notes else note_id
