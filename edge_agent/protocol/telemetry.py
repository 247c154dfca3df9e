"""Figures from the field (topic `telemetry`, QoS 0): what changed, and at a slow beat everything."""

from __future__ import annotations

from edge_agent.model import Alarm, Door
from edge_agent.protocol.api import Body


class CellFigures(Body):
    """The sensor readings of one cell and the alarms that stand for it; a figure is null if there is no
    sensor or no reading."""

    label: str
    door: Door
    mass_g: int | None
    temperature_c: float | None
    alarms: list[Alarm] | None = None
    in_doubt: bool | None = None
    """Whether the door contact is not believed. Both are absent from a machine of an older version."""


class Overdue(Body):
    """A pending reservation that is past its ETA."""

    reservation_id: str
    overdue_s: int


class LockFigures(Body):
    """How often the lock of one cell was pulsed to open its door, among the machine's last unlocks, and how
    often the first pulse opened it."""

    label: str
    unlocks: int
    opened_first: int


class MachineFigures(Body):
    """Figures of the machine as a whole, for the operator of many machines."""

    up_since: str | None = None
    """When the daemon started; absent while the clock is not synchronised."""
    events_waiting: int
    """Events that the broker does not have yet."""
    worn: list[str]
    """The cells whose lock opens ever more slowly, by label."""
    locks: list[LockFigures]
    """The locks that were pulsed lately."""


class TelemetryBody(Body):
    """The cells that changed; at the beat all of them, the counters of each bus, the overdue reservations,
    and the figures of the machine."""

    at: str
    cells: list[CellFigures]
    buses: dict[str, dict[str, int]] | None = None
    overdue: list[Overdue] | None = None
    figures: MachineFigures | None = None
    """Absent from a machine of an older version, and while the journal cannot be read."""
