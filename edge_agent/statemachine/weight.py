"""Scales: evidence in addition to the doors, and never a gate, unless configured to hold an empty drop-off.

A weight counts from the closing of the door on; an open door makes it unknown. A scale that does not answer,
or takes too long to settle, proves nothing and holds nothing up.

The scale's reading of an empty cell is stored here, as the cell's `tare_g`: a transmitter loses its own tare
at a power cut, and its memory wears (docs/decisions/0011). While a cell is free, closed and known to be
empty, a drift of that is followed, as its `drift_g`, up to `drift_max_g`. A zero that is further off, or has
jumped, is a fault: such a scale proves no cell empty until it shows zero in a free one again, or is tared.
"""

from __future__ import annotations

from edge_agent.errors import Code, Refusal
from edge_agent.model import Alarm, Cell, CellCause, CellStatus, Door, Instant, Source
from edge_agent.statemachine.conditions import stands
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.step_builder import StepBuilder

PATIENCE_NS = 5 * 10**9
"""How long a scale is awaited after its door was closed."""
SCALE, ZERO = "scale", "scale zero"
"""The parts of a cell that SENSOR_FAULT names besides its temperature sensor: a scale that reports that it
cannot weigh, and one with an impossible reading of an empty cell."""
TARE_PERCENT = 20
"""At most this share of a cell's weight limit can be tared: more would be a parcel."""


def weighed(builder: StepBuilder, label: str, reading_g: int | None, *, error: bool = False) -> bool | None:
    """A scale has reported its reading, or an `error`. Returns whether the cell is empty; None if the reading
    does not count.

    A change is measured from the last report: a slow drift is followed, however far it goes.
    """
    cell = builder.cells[label]
    if label in builder.layout.weighed:
        if error:
            cannot = "the scale answers that it cannot weigh"
            builder.raise_alarm(Alarm.SENSOR_FAULT, _place(label, SCALE), cannot, cell=label)
        elif reading_g is not None:
            builder.clear_alarm(Alarm.SENSOR_FAULT, _place(label, SCALE), cell=label)
    if reading_g is None or cell.door is not Door.CLOSED or label not in builder.layout.weighed:
        if cell.mass_g is not None:
            builder.change_cell(label, mass_g=None, empty=None)
        return None
    mass_g = reading_g - cell.zero_g
    if cell.status is CellStatus.IDLE:
        mass_g = _follow_zero(builder, label, mass_g)
        _check_zero(builder, label, cell, mass_g)
    stepped = cell.mass_g is not None and abs(mass_g - cell.mass_g) > builder.layout.weight_change_g
    if stepped and cell.reservation_id is not None:
        changed = f"{cell.mass_g} g became {mass_g} g behind the closed door"
        builder.raise_alarm(Alarm.WEIGHT_CHANGED, label, changed, cell=label)
    empty = _is_nothing(builder, label, mass_g)
    if (cell.mass_g, cell.empty) != (mass_g, empty):
        builder.change_cell(label, mass_g=mass_g, empty=empty)
    return empty


def _place(label: str, part: str) -> str:
    return f"{label}/{part}"


def _follow_zero(builder: StepBuilder, label: str, mass_g: int) -> int:
    """Follows a drift of the zero in a cell known to be empty; returns what is left of `mass_g`.

    A drift is a change since the last report of at most half of `empty_below_g`, and moves the zero by no
    more than that.
    """
    cell, step_g = builder.cells[label], builder.layout.empty_below_g // 2
    if not cell.empty or cell.mass_g is None or abs(mass_g - cell.mass_g) > step_g:
        return mass_g
    moved_g = max(-step_g, min(step_g, mass_g))
    if moved_g == 0 or abs(cell.drift_g + moved_g) > builder.layout.drift_max_g:
        return mass_g
    builder.change_cell(label, drift_g=cell.drift_g + moved_g)
    return mass_g - moved_g


def _check_zero(builder: StepBuilder, label: str, before: Cell, mass_g: int) -> None:
    """Whether a free cell's scale has a possible reading. `before` is the cell before this reading."""
    layout, why = builder.layout, None
    off_g = builder.cells[label].drift_g + mass_g
    if mass_g <= -layout.empty_below_g:
        why = f"the scale shows {mass_g} g, less than nothing"
    elif mass_g < layout.empty_below_g:
        if abs(off_g) > layout.drift_max_g:
            why = f"the scale's zero has drifted by {off_g} g"
        else:
            builder.clear_alarm(Alarm.SENSOR_FAULT, _place(label, ZERO), cell=label)
    elif before.empty:
        why = f"the scale shows {mass_g} g in an empty cell whose door was not opened"
    if why is not None:
        builder.raise_alarm(Alarm.SENSOR_FAULT, _place(label, ZERO), why, cell=label)


def _is_nothing(builder: StepBuilder, label: str, mass_g: int) -> bool | None:
    """Whether this mass is nothing; None if the scale's zero is wrong and so proves nothing."""
    if mass_g <= -builder.layout.empty_below_g or stands(
        builder, f"{Alarm.SENSOR_FAULT}/{_place(label, ZERO)}"
    ):
        return None
    return mass_g < builder.layout.empty_below_g


def at_start(builder: StepBuilder) -> None:
    """At a start: clears the faults of scales that are no longer configured."""
    for standing in tuple(builder.alarms.values()):
        label, _, part = standing.place.partition("/")
        if part in (SCALE, ZERO) and label in builder.cells and label not in builder.layout.weighed:
            builder.clear_alarm(standing.alarm, standing.place, cell=label, at_once=True)


def tare(builder: StepBuilder, label: str, source: Source, actor: str = "") -> int:
    """Takes the scale's reading of a free, closed cell as zero from now on; returns the reading in grams.

    Raises `Refusal` (`NOT_ALLOWED`) if the cell has no scale or is not free, its door is not read closed, its
    scale has not settled since, or reads more than `TARE_PERCENT` of the cell's weight limit.
    """
    cell, limit_g = builder.cells[label], builder.layout.specs[label].max_mass_g
    why = None
    if label not in builder.layout.weighed:
        why = "has no scale"
    elif cell.status is not CellStatus.IDLE:
        why = f"is {cell.status}: only a free one is tared"
    elif cell.door is not Door.CLOSED or not cell.answering:
        why = "is not seen closed"
    elif cell.mass_g is None:
        why = "has not been weighed since its door was closed"
    if why is not None or cell.mass_g is None:
        raise Refusal(Code.NOT_ALLOWED, f"cell {label} {why}")
    reading_g = cell.mass_g + cell.zero_g
    if abs(reading_g) * 100 > limit_g * TARE_PERCENT:
        too_much = f"its scale reads {reading_g} g, more than {TARE_PERCENT} % of its limit of {limit_g} g"
        raise Refusal(Code.NOT_ALLOWED, f"cell {label}: {too_much}")
    builder.change_cell(label, mass_g=0, empty=True, tare_g=reading_g, drift_g=0)
    explanation = f"{cell.mass_g} g more count as zero now: {reading_g} g in all"
    builder.add_cell_fact(label, CellCause.TARED, reason=explanation, source=source, actor=actor)
    builder.clear_alarm(Alarm.SENSOR_FAULT, _place(label, ZERO), cell=label)
    return reading_g


def empty_dropoff(builder: StepBuilder, label: str) -> None:
    """A drop-off was closed, and there is nothing behind the door."""
    builder.raise_alarm(Alarm.EMPTY_DROPOFF, label, "closed after a drop-off without a parcel", cell=label)


def left_behind(builder: StepBuilder, label: str) -> None:
    """The pick-up grace is over: raises an alarm if something is still in the cell."""
    cell = builder.cells[label]
    if cell.empty is False:
        builder.raise_alarm(Alarm.PARCEL_LEFT_BEHIND, label, f"{cell.mass_g} g left behind", cell=label)


def wait_left_ns(layout: Layout, cell: Cell, now: Instant) -> int:
    """How long a closed cell's scale is still awaited; 0 or less: it has reported, or is not awaited."""
    if cell.label not in layout.weighed or cell.mass_g is not None or cell.door_since is None:
        return 0
    elapsed_ns = cell.door_since.elapsed_ns(now)
    return 0 if elapsed_ns is None else PATIENCE_NS - elapsed_ns
