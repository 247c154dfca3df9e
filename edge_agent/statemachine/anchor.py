"""Moments of an earlier boot, brought over to the clock of this one as soon as that can be told.

Elapsed time across a reboot is taken from the wall clock if both ends were synchronised. From then on it runs
on the boot-time clock, so that a wall clock that steps, or is lost, changes nothing.
"""

from __future__ import annotations

from edge_agent.model import Instant
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.turn import Turn


def brought_over(moment: Instant | None, now: Instant) -> Instant | None:
    """The same moment on this boot's clock, which may be before its zero; unchanged if no clock can tell.

    The wall clock's reading stays what it was.
    """
    if moment is None or moment.boot_id == now.boot_id:
        return moment
    elapsed_ns = moment.elapsed_ns(now)
    if elapsed_ns is None:
        return moment
    return amend(moment, boot_id=now.boot_id, boottime_ns=now.boottime_ns - elapsed_ns)


def bring_over(turn: Turn) -> None:
    """Every moment on which something depends: graces, doors, climate, rests of the keypad."""
    now = turn.now
    for reservation in tuple(turn.reservations.values()):
        changes = _changes(reservation, ("created", "first_dropoff", "dropped_off", "picked_up"), now)
        if changes:
            turn.change_reservation(reservation, **changes)
    for label, cell in tuple(turn.cells.items()):
        changes = _changes(cell, ("door_since",), now)
        if changes:
            turn.change_cell(label, **changes)
    for label, climate in tuple(turn.climate.items()):
        changes = _changes(climate, ("switched", "good", "gap_from", "gap_to"), now)
        if changes:
            turn.put("climate", label, amend(climate, **changes))
    for way, guesses in tuple(turn.guesses.items()):
        changes = _changes(guesses, ("resting_since", "last"), now)
        recent = tuple(brought_over(at, now) for at in guesses.recent)
        if changes or recent != guesses.recent:
            turn.put("guesses", way, amend(guesses, recent=recent, **changes))


def _changes(value: object, names: tuple[str, ...], now: Instant) -> dict[str, Instant | None]:
    moved = {name: brought_over(getattr(value, name), now) for name in names}
    return {name: moment for name, moment in moved.items() if moment is not getattr(value, name)}
