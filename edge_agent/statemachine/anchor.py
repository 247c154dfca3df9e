"""Converts moments of an earlier boot to the clock of this one as soon as that is possible.

Elapsed time across a reboot is taken from the wall clock if both ends were synchronised. From then on it runs
on the boot-time clock, so that a step or loss of the wall clock changes nothing.
"""

from __future__ import annotations

from typing import Any

from edge_agent.model import Instant, Reservation
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.turn import Turn

GRACES = ("first_dropoff", "picked_up")
"""The fields with the start of a reservation's graces."""


def brought_over(moment: Instant | None, now: Instant) -> Instant | None:
    """The same moment on this boot's clock, possibly before its zero; unchanged if no clock allows that.

    A moment of this boot from before the clock was synchronised gets its right date.
    """
    if moment is None:
        return None
    elapsed_ns = moment.elapsed_ns(now)
    if elapsed_ns is None:
        return moment
    if moment.boot_id != now.boot_id:
        return amend(moment, boot_id=now.boot_id, boottime_ns=now.boottime_ns - elapsed_ns)
    if now.synced and not moment.synced:
        return amend(moment, wall_s=now.wall_s - elapsed_ns / 1e9, synced=True)
    return moment


def bring_over(turn: Turn) -> None:
    """Converts every moment that something depends on: graces, doors, climate, rests of the keypad. For a
    synchronised clock."""
    now = turn.now
    for reservation in tuple(turn.reservations.values()):
        _bring_over_reservation(turn, reservation)
    for label, cell in tuple(turn.cells.items()):
        changes = _changes(cell, ("door_since", "open_since"), now)
        if changes:
            turn.change_cell(label, **changes)
    for label, climate in tuple(turn.climate.items()):
        changes = _changes(climate, ("switched", "good", "gap_from", "gap_to"), now)
        if changes:
            turn.put("climate", label, amend(climate, **changes))
    for label, waits in tuple(turn.unconfirmed.items()):
        changes = _changes(waits, ("since", "closed"), now)
        if changes:
            turn.put("unconfirmed", label, amend(waits, **changes))
    for way, guesses in tuple(turn.guesses.items()):
        changes = _changes(guesses, ("resting_since", "last"), now)
        recent = tuple(brought_over(at, now) for at in guesses.recent)
        wrong = tuple(brought_over(at, now) for at in guesses.wrong)
        if changes or recent != guesses.recent or wrong != guesses.wrong:
            turn.put("guesses", way, amend(guesses, recent=recent, wrong=wrong, **changes))


def _bring_over_reservation(turn: Turn, reservation: Reservation) -> None:
    """A grace with an unknown start began at the latest with this boot.

    That can end it in time; it opens no door.
    """
    now = turn.now
    changes: dict[str, Any] = _changes(reservation, ("created", "dropped_off", *GRACES), now)
    for name in GRACES:
        moment = getattr(reservation, name)
        if moment is not None and moment.elapsed_ns(now) is None:
            changes[name] = amend(moment, boot_id=now.boot_id, boottime_ns=0)
            changes["grace_unknown"] = True
    if changes:
        turn.change_reservation(reservation, **changes)


def _changes(value: object, names: tuple[str, ...], now: Instant) -> dict[str, Instant | None]:
    moved = {name: brought_over(getattr(value, name), now) for name in names}
    return {name: moment for name, moment in moved.items() if moment is not getattr(value, name)}
