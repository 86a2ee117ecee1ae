"""A result's curve as SVG: pass@k over log2 k with intervals and the crossover; k above n/2 is pale.

The SVG has no script, link or external font, so a page can embed it and a file can hold it. Dashes, marks and labels identify
the models without colour. A page can set the colours `--curve-base` and `--curve-tuned`; text has the page's colour.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from service.experiments.report.schema import Crossover, CurvePoint, Result

_TOP, _BOTTOM, _LEFT = 28, 44, 52
_STYLES = (("var(--curve-base, #2b7bbb)", "7 4", "circle"), ("var(--curve-tuned, #c2571a)", "none", "square"))
_PALE = 0.35
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 24
_LINE, _LETTER = 15, 6.0  # pixels, of the cautions below the axes


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps k and a share to pixels."""

    width: int
    height: int
    right: int
    k_max: int
    top: float

    def x(self, k: float) -> float:
        span = math.log2(self.k_max) or 1.0
        return round(_LEFT + (self.width - _LEFT - self.right) * math.log2(max(k, 1)) / span, 1)

    def y(self, share: float) -> float:
        return round(self.height - _BOTTOM - (self.height - _BOTTOM - _TOP) * share / self.top, 1)


def curve_svg(result: Result, width: int = 640, height: int = 400) -> str:
    """The SVG with a title and a description for screen readers. `result` is the object of `report.result.result`.

    Without counts it has axes and a message. The result's cautions are below the axes and add to the height.
    """
    cautions = [line for text in result.cautions for line in textwrap.wrap(str(text), int((width - 12) / _LETTER))]
    models = [(model.name, _points(model.pass_at_k)) for model in result.models]
    drawn = [(name, points) for name, points in models if points]
    all_points = [point for _, points in drawn for point in points]
    edge = max((k for k in _ks(all_points) if k not in result.noisy_edge), default=0)
    labels = [_shortened(name) for name, _ in drawn]
    total_height = height + _LINE * len(cautions)
    right = 18 + max((7 * len(name) + 8 for name in labels), default=0)
    frame = _Frame(width, height, right, max([2, *_ks(all_points)]), _top(all_points))
    name = "curve-" + re.sub(r"[^\w-]", "-", str(result.run_id or "run"))
    parts = [
        f'<svg class="passkb-curve" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total_height}" width="{width}" '
        f'height="{total_height}" role="img" aria-labelledby="{name}-title {name}-desc" font-family="system-ui, sans-serif" '
        'font-size="12" fill="currentColor" style="max-width: 100%; height: auto">',
        f'<title id="{name}-title">{_text(_title(models))}</title>',
        f'<desc id="{name}-desc">{_text(_description(result, models))}</desc>',
        # For the SVG as a file: `:root` matches nothing when a page embeds it.
        "<style>svg.passkb-curve:root { color: #222 } @media (prefers-color-scheme: dark) "
        "{ svg.passkb-curve:root { color: #ddd; background: #1b1b1b } }</style>",
        *_axes(frame, _ks(all_points), edge),
        *(f'<text class="caution" x="6" y="{height + _LINE * i + 6}">{_text(line)}</text>' for i, line in enumerate(cautions)),
        *_crossover(frame, result.comparison.crossover if result.comparison else None, edge),
    ]
    if not drawn:
        middle = f'x="{width // 2}" y="{height // 2}" text-anchor="middle"'
        return "\n".join([*parts, f"<text {middle}>No attempts yet</text>", "</svg>"])
    styles = [_STYLES[_style_index(models, name)] for name, _ in drawn]
    for i, (_, points) in enumerate(drawn):
        parts += _line(frame, points, edge, styles[i])
    parts += _labels(frame, [(labels[i], points[-1], styles[i]) for i, (_, points) in enumerate(drawn)])
    return "\n".join([*parts, "</svg>"])


def _style_index(models: Sequence[tuple[str, Any]], name: str) -> int:
    """The index of the model's style; a tuned model keeps its style while the base model has no points."""
    return [other for other, _ in models].index(name) % len(_STYLES)


def _points(rows: Sequence[CurvePoint]) -> list[tuple[int, float, float | None, float | None]]:
    return [(row.k, row.estimate, row.low, row.high) for row in rows if row.estimate is not None]


def _ks(points: Sequence[tuple[int, float, Any, Any]]) -> list[int]:
    return sorted({point[0] for point in points})


def _top(points: Sequence[tuple[int, float, float | None, float | None]]) -> float:
    highest = max((point[3] if point[3] is not None else point[1] for point in points), default=1.0)
    return next((top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if highest <= top), 1.0)


def _axes(frame: _Frame, ks: Sequence[int], edge: int) -> list[str]:
    bottom, end = frame.y(0), frame.width - frame.right
    out = [f'<g stroke="currentColor" stroke-opacity=".25"><path d="M{_LEFT} {bottom}H{end}"/>']
    ticks = [frame.top * i / 4 for i in range(5)] if frame.top != 1.0 else [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    out += [f'<path d="M{_LEFT} {frame.y(share)}H{end}" stroke-opacity=".1"/>' for share in ticks[1:]]
    out.append("</g>")
    out += [f'<text x="{_LEFT - 6}" y="{frame.y(t) + 4}" text-anchor="end">{100 * t:.3g} %</text>' for t in ticks]
    last = -100.0
    for k in ks:
        if frame.x(k) - last >= 12 + 7 * len(str(k)):
            out.append(f'<text x="{frame.x(k)}" y="{bottom + 16}" text-anchor="middle">{k}</text>')
            last = frame.x(k)
    middle = (_LEFT + end) / 2
    out.append(f'<text x="{middle:.0f}" y="{bottom + 34}" text-anchor="middle">k (attempts, logarithmic)</text>')
    out.append(f'<text x="6" y="{_TOP - 12}">pass@k</text>')
    if edge and ks and ks[-1] > edge:
        at = frame.x(edge)
        out.append(f'<path d="M{at} {_TOP}V{bottom}" stroke="currentColor" stroke-opacity=".3" stroke-dasharray="2 3"/>')
        out.append(f'<text x="{end}" y="{bottom - 6}" text-anchor="end" fill-opacity=".6">k &gt; n/2: noisy edge</text>')
    return out


def _crossover(frame: _Frame, crossover: Crossover | None, edge: int) -> list[str]:
    if not crossover or crossover.k is None:
        return []
    k, low, high = crossover.k, crossover.low, crossover.high
    out = []
    if low is not None:
        start, end = frame.x(low), frame.x(high if high is not None else max(edge, low))
        box = f'x="{start}" y="{_TOP}" width="{max(1.0, end - start):.1f}" height="{frame.y(0) - _TOP:.1f}"'
        out.append(f'<rect {box} fill="currentColor" fill-opacity=".07"/>')
    out.append(f'<path d="M{frame.x(k)} {_TOP}V{frame.y(0)}" stroke="currentColor" stroke-opacity=".7"/>')
    label = (
        f"k* = {k:.0f} ({low:.0f} to {f'{high:.0f}' if high is not None else 'beyond'})" if low is not None else f"k* = {k:.0f}"
    )
    anchor = "start" if frame.x(k) < frame.width / 2 else "end"
    out.append(f'<text x="{frame.x(k)}" y="{_TOP - 8}" text-anchor="{anchor}">{label}</text>')
    return out


def _line(frame: _Frame, points: Sequence[tuple[int, float, Any, Any]], edge: int, style: tuple[str, str, str]) -> list[str]:
    """Band, line and marks, pale from the edge on."""
    reliable = [point for point in points if point[0] <= edge]
    noisy = [point for point in points if point[0] >= edge] if len(reliable) < len(points) else []
    out = []
    for part, opacity, dash in ((noisy, _PALE, "2 4"), (reliable, 1.0, style[1])):
        banded = [point for point in part if point[2] is not None and point[3] is not None]
        if len(banded) > 1:
            upper = [f"{frame.x(k)},{frame.y(min(high, frame.top))}" for k, _, _, high in banded]
            lower = [f"{frame.x(k)},{frame.y(low)}" for k, _, low, _ in reversed(banded)]
            out.append(f'<polygon points="{" ".join(upper + lower)}" fill="{style[0]}" fill-opacity="{0.18 * opacity:.2g}"/>')
        if len(part) > 1:
            line = " ".join(f"{frame.x(k)},{frame.y(share)}" for k, share, _, _ in part)
            how = f'stroke="{style[0]}" stroke-width="2" stroke-opacity="{opacity}" stroke-dasharray="{dash}"'
            out.append(f'<polyline points="{line}" fill="none" {how}/>')
    out += [_mark(frame.x(k), frame.y(share), style, 1.0 if k <= edge else _PALE) for k, share, _, _ in points]
    return out


def _mark(x: float, y: float, style: tuple[str, str, str], opacity: float) -> str:
    paint = f'fill="{style[0]}" fill-opacity="{opacity}"'
    if style[2] == "circle":
        return f'<circle cx="{x}" cy="{y}" r="3.2" {paint}/>'
    return f'<rect x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6" {paint}/>'


def _labels(frame: _Frame, ends: Sequence[tuple[str, tuple[int, float, Any, Any], tuple[str, str, str]]]) -> list[str]:
    """Names at the ends of the lines, moved apart where they would overlap."""
    placed = sorted((frame.y(point[1]), name, frame.x(point[0]), style) for name, point, style in ends)
    out, last = [], -math.inf
    for y, name, x, style in placed:
        last = max(y, last + 15)
        out.append(f'<text x="{x + 8}" y="{last + 4:.1f}" fill="{style[0]}" font-weight="600">{_text(name)}</text>')
    return out


def _title(models: Sequence[tuple[str, Any]]) -> str:
    return "pass@k of " + " and ".join(name for name, _ in models)


def _description(result: Result, models: Sequence[tuple[str, Sequence[tuple[int, float, Any, Any]]]]) -> str:
    sentences = []
    for name, points in models:
        values = ", ".join(f"{100 * share:.1f} % at k = {k}" for k, share, _, _ in points)
        sentences.append(f"{name}: {values or 'no values'}.")
    if noisy := [k for k in result.noisy_edge if any(k == p[0] for _, points in models for p in points)]:
        sentences.append(f"No claim is made at k = {', '.join(map(str, noisy))}, above half of the attempts.")
    if result.prediction:
        sentences.append(result.prediction.sentence)
    return " ".join(sentences)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text), quote=True)
