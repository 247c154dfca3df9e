"""States as boxes, transitions as arrows with text: a small drawing library for one purpose."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import hypot

BOX_W, BOX_H = 190, 44
LINE_H = 15
CHAR_W = 6.7
STYLE = """
  .paper { fill: #ffffff; }
  .box { fill: #eef3f8; stroke: #35546e; stroke-width: 1.5; }
  .end { fill: #f3f0ea; stroke: #7a6a4d; }
  .name { font: 600 14px 'DejaVu Sans', Verdana, sans-serif; fill: #1d2b36; text-anchor: middle; }
  .way { fill: none; stroke: #55707f; stroke-width: 1.4; marker-end: url(#tip); }
  .word { font: 11px 'DejaVu Sans', Verdana, sans-serif; fill: #22323d; text-anchor: middle; }
  .back { fill: #ffffff; fill-opacity: 0.88; }
"""


@dataclass(frozen=True, slots=True)
class Box:
    """A state at a place; `end` is drawn paler, `dot` as a small circle without a name."""

    name: str
    x: float
    y: float
    end: bool = False
    dot: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """A transition from one state to another, bent to its left by `bend`; `at` is the position of the text on
    it."""

    source: str
    target: str
    words: tuple[str, ...]
    bend: float = 0.0
    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Loop:
    """Transitions that keep a state, written below its box (or above it)."""

    state: str
    words: tuple[str, ...]
    above: bool = False


def picture(
    title: str, width: int, height: int, boxes: list[Box], arrows: list[Arrow], loops: list[Loop]
) -> str:
    """One SVG document."""
    places = {box.name: box for box in boxes}
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{escape(title)}">'
        ),
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        (
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="#55707f"/></marker></defs>'
        ),
        f'<rect class="paper" width="{width}" height="{height}"/>',
    ]
    drawn = [_arrow(arrow, places[arrow.source], places[arrow.target]) for arrow in arrows]
    parts += [way for way, _ in drawn]
    parts += [_box(box) for box in boxes]
    parts += [words for _, words in drawn]
    parts += [_loop(loop, places[loop.state]) for loop in loops]
    return "\n".join([*parts, "</svg>", ""])


def _box(box: Box) -> str:
    if box.dot:
        return f'<circle cx="{box.x:g}" cy="{box.y:g}" r="7" fill="#35546e"/>'
    kind = "box end" if box.end else "box"
    return (
        f'<rect class="{kind}" x="{box.x - BOX_W / 2:g}" y="{box.y - BOX_H / 2:g}" width="{BOX_W}" '
        f'height="{BOX_H}" rx="9"/>'
        f'<text class="name" x="{box.x:g}" y="{box.y + 5:g}">{escape(box.name)}</text>'
    )


def _edge(box: Box, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Where a straight line from the centre of a box to a point leaves the box."""
    dx, dy = towards_x - box.x, towards_y - box.y
    half_w, half_h = (9.0, 9.0) if box.dot else (BOX_W / 2 + 2, BOX_H / 2 + 2)
    scale = min(half_w / abs(dx) if dx else 1e9, half_h / abs(dy) if dy else 1e9)
    return box.x + dx * scale, box.y + dy * scale


def _arrow(arrow: Arrow, source: Box, target: Box) -> tuple[str, str]:
    dx, dy = target.x - source.x, target.y - source.y
    length = hypot(dx, dy)
    middle_x = (source.x + target.x) / 2 + arrow.bend * dy / length
    middle_y = (source.y + target.y) / 2 - arrow.bend * dx / length
    x1, y1 = _edge(source, middle_x, middle_y)
    x2, y2 = _edge(target, middle_x, middle_y)
    way = f'<path class="way" d="M{x1:.1f} {y1:.1f} Q{middle_x:.1f} {middle_y:.1f} {x2:.1f} {y2:.1f}"/>'
    t = arrow.at
    x = (1 - t) ** 2 * x1 + 2 * t * (1 - t) * middle_x + t**2 * x2
    y = (1 - t) ** 2 * y1 + 2 * t * (1 - t) * middle_y + t**2 * y2
    return way, _words(arrow.words, x, y)


def _words(lines: tuple[str, ...], x: float, y: float) -> str:
    width = max(len(line) for line in lines) * CHAR_W + 8
    top = y - len(lines) * LINE_H / 2
    back = (
        f'<rect class="back" x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{len(lines) * LINE_H + 3:g}" rx="3"/>'
    )
    texts = [
        f'<text class="word" x="{x:.1f}" y="{top + LINE_H * (n + 0.8):.1f}">{escape(line)}</text>'
        for n, line in enumerate(lines)
    ]
    return back + "".join(texts)


def _loop(loop: Loop, box: Box) -> str:
    height = len(loop.words) * LINE_H
    y = box.y - BOX_H / 2 - height / 2 - 6 if loop.above else box.y + BOX_H / 2 + height / 2 + 4
    return _words(loop.words, box.x, y)
