"""The result of a benchmark: figures with their limits, the statistics behind them, table and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `peer` is the limit or the other contestant, from the same run, in the same unit;
    `peer_is` describes it; `target` is the project's goal, as words; `note` the start and end of the
    measurement."""

    name: str
    value: float
    unit: str
    samples: int
    peer: float | None = None
    peer_is: str = ""
    target: str = ""
    note: str = ""
    paired_ratio: float | None = None
    """Median of the ratios of interleaved pairs, if there were pairs."""

    @property
    def ratio(self) -> float | None:
        """Value over peer; for pairs the median of their ratios."""
        if self.paired_ratio is not None:
            return self.paired_ratio
        return ratio(self.value, self.peer)


def ratio(value: float, peer: float | None) -> float | None:
    """`value / peer`; None without a peer or with a peer of zero."""
    return None if not peer else value / peer


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank). Needs one value."""
    if not values:
        raise ValueError("no samples")
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def p50_p99(
    name: str,
    samples_s: Sequence[float],
    peer_s: Sequence[float] = (),
    *,
    peer_is: str = "",
    targets: tuple[str, str] = ("", ""),
    note: str = "",
) -> list[Figure]:
    """Two figures in milliseconds from samples and a peer's samples in seconds."""

    def at(share: float, values: Sequence[float]) -> float:
        return 1000 * (median(values) if share == 0.5 else quantile(values, share))

    return [
        Figure(
            name=f"{name}, p{round(share * 100)}",
            value=at(share, samples_s),
            unit="ms",
            samples=len(samples_s),
            peer=at(share, peer_s) if peer_s else None,
            peer_is=peer_is if share == 0.5 else "",
            target=target,
            note=note if share == 0.5 else "",
        )
        for share, target in zip((0.5, 0.99), targets, strict=True)
    ]


def render(figures: Sequence[Figure]) -> str:
    """A plain table, then a description of each figure and its peer."""
    head = ("figure", "value", "unit", "limit/peer", "ratio", "target", "n")
    rows = [head, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in (0, 2, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    remarks = [_remark(figure) for figure in figures if figure.note or figure.peer_is]
    return "\n".join([*lines, "", *remarks]) if remarks else "\n".join(lines)


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name,
        short(figure.value),
        figure.unit,
        "" if figure.peer is None else short(figure.peer),
        "" if figure.ratio is None else f"{figure.ratio:.3f}",
        figure.target,
        str(figure.samples),
    )


def _remark(figure: Figure) -> str:
    words = [figure.note] if figure.note else []
    if figure.peer_is:
        words.append(f"beside it: {figure.peer_is}")
    return f"- {figure.name.removesuffix(', p50')}: {'; '.join(words)}"


def short(value: float) -> str:
    """A number with three significant digits or more, without an exponent."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def as_json(figures: Sequence[Figure]) -> str:
    """The same as JSON, for scripts."""
    return json.dumps([{**asdict(figure), "ratio": figure.ratio} for figure in figures], indent=2)
