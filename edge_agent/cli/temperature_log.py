"""The temperature log of a reservation, as the local API gives it, made into CSV and into a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from math import ceil, floor
from typing import Any
from xml.sax.saxutils import escape

COLUMNS = ("time", "temperature_c", "setpoint_c", "limit_c", "door", "output")
UNBROKEN_S = 90.0
"""Readings no further apart are joined by a line; a cell that is heated or cooled has one every 30 s or more
often."""
WIDTH, HEIGHT = 860, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 844, 56, 300
"""The edges of the plot's area, in pixels."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
STEPS_S = (MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 10 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 3 * HOUR_S, 6 * HOUR_S)
STEPS_C = (0.5, 1, 2, 5, 10)
STYLE = """
text { font: 12px sans-serif; fill: #333 }
.title { font-size: 14px; font-weight: bold }
.grid { stroke: #ddd }
.frame { stroke: #333; fill: none }
.door { fill: #f5c542; fill-opacity: 0.35 }
.output { fill: #7a9cc6 }
.limit { stroke: #c0392b; stroke-dasharray: 8 3; fill: none }
.setpoint { stroke: #2e7d32; stroke-dasharray: 2 3; fill: none }
.temperature { stroke: #1f4e8c; stroke-width: 1.5; fill: none }
.out { stroke: #e00000; stroke-width: 3; fill: none }
.moment { stroke: #777 }
"""


def as_csv(log: dict[str, Any]) -> str:
    """One line a reading: RFC 3339 time, degrees Celsius, door, output; no temperature where the sensor was
    lost."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for reading in log["readings"]:
        writer.writerow([reading["at"], *(reading[column] for column in COLUMNS[1:])])
    return out.getvalue()


def as_svg(log: dict[str, Any]) -> str:
    """A plot: temperature, setpoint and limit over time, open doors shaded, what was out of range in red.

    A time without readings, or with a lost sensor, is a gap. Readings beyond the limit are marked from the
    drop-off on: before that there was no food in the cell.
    """
    return "\n".join(_Plot(log).lines()) + "\n"


class _Plot:
    """One log on its scales: seconds to pixels, degrees to pixels."""

    def __init__(self, log: dict[str, Any]) -> None:
        self._log = log
        self._readings = log["readings"]
        self._at_s = [_seconds(reading["at"]) for reading in self._readings]
        first_s, last_s = (self._at_s[0], self._at_s[-1]) if self._at_s else (0.0, 0.0)
        if last_s - first_s < MINUTE_S:
            first_s, last_s = first_s - MINUTE_S / 2, last_s + MINUTE_S / 2
        self._first_s, self._last_s = first_s, last_s
        columns = ("temperature_c", "setpoint_c", "limit_c")
        values = [r[name] for r in self._readings for name in columns if r[name] is not None] or [0.0]
        self._low_c: int = floor(min(values) - 0.5)
        self._high_c: int = ceil(max(values) + 0.5)
        dropped_off = log["dropped_off_at"]
        self._food_s = float("inf") if dropped_off is None else _seconds(dropped_off)

    def lines(self) -> Iterator[str]:
        """The markup."""
        box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
        yield f"<style>{STYLE}</style>"
        yield '<rect width="100%" height="100%" fill="white"/>'
        title = f"Reservation {self._log['reservation_id']}, cell {self._log['cell']}"
        yield _text(LEFT, 20, title, "title")
        if not self._readings:
            yield _text((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2, "no reading", anchor="middle")
        else:
            yield from self._axes()
            yield from self._shades()
            yield from self._levels()
            yield from self._moments()
            yield from self._temperatures()
            yield from _legend()
        yield f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/>'
        yield "</svg>"

    def _x(self, at_s: float) -> float:
        share = (at_s - self._first_s) / (self._last_s - self._first_s)
        return round(LEFT + min(1.0, max(0.0, share)) * (RIGHT - LEFT), 1)

    def _y(self, degrees: float) -> float:
        share: float = (degrees - self._low_c) / (self._high_c - self._low_c)
        return round(BOTTOM - share * (BOTTOM - TOP), 1)

    def _axes(self) -> Iterator[str]:
        span_c, span_s = self._high_c - self._low_c, self._last_s - self._first_s
        step_c = next((step for step in STEPS_C if span_c / step <= 8), 20)
        for count in range(ceil(self._low_c / step_c), floor(self._high_c / step_c) + 1):
            y = self._y(count * step_c)
            yield f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{RIGHT}" y2="{y}"/>'
            yield _text(LEFT - 6, y + 4, f"{count * step_c:g}", anchor="end")
        days = DAY_S * ceil(span_s / DAY_S / 8)
        step_s = next((step for step in STEPS_S if span_s / step <= 8), days)
        for count in range(ceil(self._first_s / step_s), floor(self._last_s / step_s) + 1):
            at, x = datetime.fromtimestamp(count * step_s, UTC), self._x(count * step_s)
            yield f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{BOTTOM}"/>'
            label = at.strftime("%d %b" if at.hour == at.minute == 0 else "%H:%M")
            yield _text(x, BOTTOM + 18, label, anchor="middle")
        day = datetime.fromtimestamp(self._first_s, UTC).strftime("%Y-%m-%d")
        yield _text((LEFT + RIGHT) / 2, BOTTOM + 38, f"time (UTC), from {day}", anchor="middle")
        yield _text(LEFT - 6, TOP - 10, "°C", anchor="end")

    def _stretches(self) -> Iterator[tuple[dict[str, Any], float, float]]:
        """Each reading with the time from it to the next that follows it, or to itself."""
        ends = [*self._at_s[1:], self._at_s[-1]]
        for reading, at_s, end_s in zip(self._readings, self._at_s, ends, strict=True):
            yield reading, at_s, end_s if end_s - at_s <= UNBROKEN_S else at_s

    def _shades(self) -> Iterator[str]:
        for reading, at_s, end_s in self._stretches():
            x, width = self._x(at_s), max(1.0, round(self._x(end_s) - self._x(at_s), 1))
            if reading["door"] == "open":
                yield f'<rect class="door" x="{x}" y="{TOP}" width="{width}" height="{BOTTOM - TOP}"/>'
            if reading["output"] != "off":
                yield f'<rect class="output" x="{x}" y="{BOTTOM - 5}" width="{width}" height="5"/>'

    def _levels(self) -> Iterator[str]:
        """Limit and setpoint, which a new configuration may have changed on the way."""
        for name in ("limit_c", "setpoint_c"):
            points = [f"{LEFT},{self._y(self._readings[0][name])}"]
            for reading, at_s in zip(self._readings, self._at_s, strict=True):
                y = self._y(reading[name])
                if not points[-1].endswith(f",{y}"):
                    points += [f"{self._x(at_s)},{points[-1].partition(',')[2]}", f"{self._x(at_s)},{y}"]
            points.append(f"{RIGHT},{points[-1].partition(',')[2]}")
            yield f'<polyline class="{name.removesuffix("_c")}" points="{" ".join(points)}"/>'

    def _moments(self) -> Iterator[str]:
        for name, label in (("dropped_off_at", "dropped off"), ("picked_up_at", "picked up")):
            at = self._log[name]
            if at is not None and self._first_s <= _seconds(at) <= self._last_s:
                x = self._x(_seconds(at))
                anchor = "start" if x < (LEFT + RIGHT) / 2 else "end"
                yield f'<line class="moment" x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{BOTTOM}"/>'
                yield _text(x + (4 if anchor == "start" else -4), TOP - 3, label, anchor=anchor)

    def _temperatures(self) -> Iterator[str]:
        runs: list[list[tuple[float, float, bool]]] = [[]]
        before_s = self._first_s
        for reading, at_s in zip(self._readings, self._at_s, strict=True):
            degrees = reading["temperature_c"]
            if degrees is None or at_s - before_s > UNBROKEN_S:
                runs.append([])
            if degrees is not None:
                runs[-1].append((self._x(at_s), self._y(degrees), self._is_out(reading, at_s)))
            before_s = at_s
        for run in filter(None, runs):
            yield _trace([(x, y) for x, y, _ in run], "temperature")
            for out, some in groupby(run, key=lambda point: point[2]):
                if out:
                    yield _trace([(x, y) for x, y, _ in some], "out")

    def _is_out(self, reading: dict[str, Any], at_s: float) -> bool:
        beyond_c = reading["temperature_c"] - reading["limit_c"]
        return at_s >= self._food_s and (beyond_c > 0 if reading["need"] == "cold" else beyond_c < 0)


def _trace(points: list[tuple[float, float]], kind: str) -> str:
    """A line through points, or a dot where there is only one."""
    if len(points) == 1:
        return f'<circle class="{kind}" cx="{points[0][0]}" cy="{points[0][1]}" r="2"/>'
    return f'<polyline class="{kind}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'


def _legend() -> Iterator[str]:
    x, y = float(LEFT), HEIGHT - 6
    for kind, label in (
        ("temperature", "temperature"),
        ("out", "out of range"),
        ("limit", "limit"),
        ("setpoint", "setpoint"),
        ("door", "door open"),
        ("output", "heating or cooling"),
    ):
        if kind in ("door", "output"):
            yield f'<rect class="{kind}" x="{x}" y="{y - 9}" width="22" height="10"/>'
        else:
            yield f'<line class="{kind}" x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}"/>'
        yield _text(x + 28, y, label)
        x += 48 + 7.0 * len(label)


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
