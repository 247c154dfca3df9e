"""Converts moments of an earlier boot to the clock of this one, and dates moments of this one.

This happens as soon as the clock is synchronised. Elapsed time across a reboot is taken from the wall clock
if both ends were synchronised. From then on it runs on the boot-time clock, so that a step or loss of the
wall clock changes nothing.
"""

from __future__ import annotations

from typing import Any

from edge_agent.model import Instant, Reservation
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.step_builder import StepBuilder

GRACES = ("first_dropoff", "picked_up")
"""The fields with the start of a reservation's graces."""


def redated(moment: Instant | None, now: Instant) -> Instant | None:
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


def redate_moments(builder: StepBuilder) -> None:
    """Converts every moment that something depends on: graces, doors, climate, rests of the keypad. For a
    synchronised clock."""
    now = builder.now
    for reservation in tuple(builder.reservations.values()):
        _redate_reservation(builder, reservation)
    for label, cell in tuple(builder.cells.items()):
        changes = _changes(cell, ("door_since", "open_since"), now)
        if changes:
            builder.change_cell(label, **changes)
    for label, climate in tuple(builder.climate.items()):
        changes = _changes(climate, ("switched", "good", "gap_from", "gap_to"), now)
        if changes:
            builder.put("climate", label, amend(climate, **changes))
    for label, pending in tuple(builder.unconfirmed.items()):
        changes = _changes(pending, ("since", "closed"), now)
        if changes:
            builder.put("unconfirmed", label, amend(pending, **changes))
    for way, guesses in tuple(builder.guesses.items()):
        changes = _changes(guesses, ("resting_since", "last"), now)
        recent = tuple(redated(at, now) for at in guesses.recent)
        wrong = tuple(redated(at, now) for at in guesses.wrong)
        if changes or recent != guesses.recent or wrong != guesses.wrong:
            builder.put("guesses", way, amend(guesses, recent=recent, wrong=wrong, **changes))


def _redate_reservation(builder: StepBuilder, reservation: Reservation) -> None:
    """A grace with an unknown start began at the latest with this boot.

    That can end it in time; it opens no door.
    """
    now = builder.now
    changes: dict[str, Any] = _changes(reservation, ("created", "dropped_off", *GRACES), now)
    for name in GRACES:
        moment = getattr(reservation, name)
        if moment is not None and moment.elapsed_ns(now) is None:
            changes[name] = amend(moment, boot_id=now.boot_id, boottime_ns=0)
            changes["grace_unknown"] = True
    if changes:
        builder.change_reservation(reservation, **changes)


def _changes(value: object, names: tuple[str, ...], now: Instant) -> dict[str, Instant | None]:
    moved = {name: redated(getattr(value, name), now) for name in names}
    return {name: moment for name, moment in moved.items() if moment is not getattr(value, name)}
