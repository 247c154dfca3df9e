"""Every phase a reservation can be in, with the circumstances that guards ask for, each on a real core.

Beside each situation stands which guards of the table are met in it. That is said here by hand, from what the
builder did, and never asked of the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent.model import Door, Instant, Purpose, Reservation, ReservationStatus
from edge_agent.statemachine.inputs import DeviceHealth, DoorRead, PulseDone
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.transitions import OVER, STATUS, Guard, Phase
from tests.support.pure_core.core import SMALL, Core, specs

LABEL = "A01"
"""The cell that every situation is about."""
NOBODY = Reservation("res_none", "p", "o", SMALL, LABEL, "", "", Instant("boot-1", 0, 0.0, True))


def locker(*labels: str) -> Core:
    """A locker of these cells; the parcels of the situations fit into each, and best into A01."""
    built = {spec.label: spec for spec in specs() if spec.label in (labels or (LABEL, "C01"))}
    return Core(Layout(specs=built))


@dataclass(frozen=True)
class Situation:
    """One phase under certain circumstances; `met` are the guards that are met."""

    name: str
    phase: Phase
    build: Callable[[Core], Reservation]
    met: frozenset[Guard]

    def __str__(self) -> str:
        return f"{self.phase} {self.name}".strip()


def _opened(core: Core, purpose: Purpose, *, closed: bool = True) -> Reservation:
    (reservation,) = core.state.reservations.values()
    core.opens(core.command(reservation, purpose))
    if closed:
        core.close(reservation.cell)
    return core.live(reservation)


def _silent(core: Core) -> None:
    core.feed(DeviceHealth("locks", False, (LABEL,)))


def _no_clock(core: Core) -> None:
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2", off_s=3600)


def fresh(core: Core) -> Reservation:
    """Reserved; no drop-off yet."""
    return core.reserve()


def forced(core: Core) -> Reservation:
    """Somebody pulled the door open."""
    reservation = core.reserve()
    core.forced(reservation.cell)
    return reservation


def opened_for_support(core: Core) -> Reservation:
    """An open-door, and the door closed again."""
    core.reserve()
    return _opened(core, Purpose.OPEN_DOOR)


def lapsed(core: Core) -> Reservation:
    """A drop-off was asked for, but the lock could not be reached in time."""
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED, sent=False))
    return core.live(reservation)


def doubtful(core: Core) -> Reservation:
    """A drop-off's pulse was given, and no reading showed what it did."""
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.close(reservation.cell)
    return core.live(reservation)


def dropping_off(core: Core) -> Reservation:
    """A drop-off has the door open."""
    core.reserve()
    return _opened(core, Purpose.DROPOFF, closed=False)


def dropped_off(core: Core) -> Reservation:
    """The parcel is in, the door closed, the grace runs."""
    return core.dropped_off()


def reopened(core: Core) -> Reservation:
    """The parcel is in; the door was opened again within the grace."""
    core.dropped_off()
    return _opened(core, Purpose.DROPOFF, closed=False)


def picking_up(core: Core) -> Reservation:
    """Picked up, the door still open."""
    core.dropped_off()
    return _opened(core, Purpose.PICKUP, closed=False)


def picked_up(core: Core) -> Reservation:
    """Picked up, the door closed, the grace runs."""
    return core.picked_up()


def completed(core: Core) -> Reservation:
    """The grace is over, the cell is free."""
    reservation = core.picked_up()
    (over,) = core.pass_s(130).ended
    assert over.reservation_id == reservation.reservation_id
    return over


def given_again(core: Core) -> Reservation:
    """The grace is over, and somebody else has the cell."""
    over = completed(core)
    assert core.reserve().cell == over.cell
    return over


def cancelled(core: Core) -> Reservation:
    """Given up before anything was in the cell."""
    (over,) = core.feed(core.cancel(core.reserve())).ended
    return over


def abandoned(core: Core) -> Reservation:
    """The parcel is in the cell, and will not be picked up."""
    (over,) = core.feed(core.abandon(core.dropped_off())).ended
    return over


def none(core: Core) -> Reservation:
    """No such reservation."""
    return NOBODY


def later(build: Callable[[Core], Reservation], seconds: float = 130) -> Callable[[Core], Reservation]:
    """The same some time after, when both graces are over."""

    def built(core: Core) -> Reservation:
        reservation = build(core)
        core.pass_s(seconds)
        return core.live(reservation)

    return built


def silent(build: Callable[[Core], Reservation], after_s: float = 0) -> Callable[[Core], Reservation]:
    """The same with a board that ceased to answer, perhaps some time ago."""

    def built(core: Core) -> Reservation:
        reservation = build(core)
        _silent(core)
        core.pass_s(after_s)
        return core.live(reservation)

    return built


def no_clock(build: Callable[[Core], Reservation]) -> Callable[[Core], Reservation]:
    """The same after a reboot across which no clock kept the time."""

    def built(core: Core) -> Reservation:
        reservation = build(core)
        _no_clock(core)
        return core.live(reservation)

    return built


G = Guard
_MINE = {G.CELL_NOT_GIVEN_AGAIN, G.IN_A_WINDOW}
_EMPTY = {G.NEVER_OPENED, G.NEVER_UNLOCKED}
_FRESH = {G.NO_DROPOFF_HAS_DOOR, G.NO_DROPOFF_YET, G.DOOR_SEEN_CLOSED, *_EMPTY, *_MINE}
_IN = {G.NO_DROPOFF_HAS_DOOR, G.DOOR_SEEN_CLOSED, *_MINE}
_PUTTING_IN = {G.DROPOFF_HAS_DOOR, *_MINE}
_EARLY = {G.WITHIN_DROPOFF_GRACE}
_TAKING = {G.WITHIN_DROPOFF_GRACE, G.WITHIN_PICKUP_GRACE}
_SHUT = {G.DOOR_SEEN_CLOSED}
_OVER = {G.NO_DROPOFF_HAS_DOOR, G.DOOR_SEEN_CLOSED, *_EMPTY}
P = Phase

SITUATIONS = tuple(
    Situation(name, phase, build, frozenset(met))
    for phase, name, build, met in (
        (P.NONE, "", none, set[Guard]()),
        (P.PENDING, "", fresh, _FRESH),
        (P.PENDING, "for long", later(fresh), _FRESH),
        (P.PENDING, "door forced", forced, _FRESH - _SHUT - {G.NEVER_OPENED}),
        (P.PENDING, "opened for support", opened_for_support, _FRESH - _EMPTY),
        (P.PENDING, "board silent", silent(fresh), _FRESH - _SHUT),
        (P.PENDING, "drop-off lapsed", lapsed, _FRESH - {G.NO_DROPOFF_YET} | _EARLY),
        (P.PENDING, "drop-off lapsed long ago", later(lapsed), _FRESH - {G.NO_DROPOFF_YET}),
        (P.PENDING, "drop-off in doubt", doubtful, _FRESH - {G.NO_DROPOFF_YET} - _EMPTY | _EARLY),
        (P.PENDING, "dropping off", dropping_off, {G.CELL_TOO_SMALL, *_PUTTING_IN} | _EARLY),
        (P.PENDING, "dropping off for a minute", later(dropping_off, 61), _PUTTING_IN | _EARLY),
        (P.PENDING, "dropping off for long", later(dropping_off), _PUTTING_IN),
        (P.PENDING, "dropping off, no clock", no_clock(dropping_off), _PUTTING_IN | {G.CELL_TOO_SMALL}),
        (P.DROPPED_OFF, "in grace", dropped_off, _IN | _EARLY),
        (P.DROPPED_OFF, "after grace", later(dropped_off), _IN),
        (P.DROPPED_OFF, "door open", reopened, _IN - _SHUT | _EARLY),
        (P.DROPPED_OFF, "door open after grace", later(reopened), _IN - _SHUT),
        (P.DROPPED_OFF, "board silent", silent(dropped_off), _IN - _SHUT | _EARLY),
        (P.DROPPED_OFF, "no clock", no_clock(dropped_off), _IN),
        (P.PICKED_UP, "door open", picking_up, _IN - _SHUT | _TAKING),
        (P.PICKED_UP, "door open after grace", later(picking_up), _IN - _SHUT),
        (P.PICKED_UP, "door closed", picked_up, _IN | _TAKING),
        (P.PICKED_UP, "board silent", silent(picked_up), _IN - _SHUT | _TAKING),
        (P.PICKED_UP, "board silent after grace", silent(picked_up, 130), _IN - _SHUT),
        (P.PICKED_UP, "no clock", no_clock(picked_up), _IN | {G.ENDS_BY_CLEAR}),
        (P.COMPLETED, "", completed, _OVER | _MINE),
        (P.COMPLETED, "cell given again", given_again, _OVER),
        (P.CANCELLED, "", cancelled, _OVER | {G.NO_DROPOFF_YET, G.CELL_NOT_GIVEN_AGAIN}),
        (P.ABANDONED, "", abandoned, _OVER | _EARLY | {G.CELL_NOT_GIVEN_AGAIN}),
    )
)


def ended(core: Core, reservation: Reservation) -> ReservationStatus | None:
    """What the loop would know from the journal about a reservation that is over."""
    known = reservation is not NOBODY and reservation.reservation_id not in core.state.reservations
    return reservation.status if known else None


def phase_of(core: Core, reservation: Reservation) -> Phase:
    """Where a reservation really stands, read from the state."""
    if reservation is NOBODY:
        return Phase.NONE
    live = core.state.reservations.get(reservation.reservation_id)
    if live is None:
        return OVER[reservation.status]
    return next(phase for phase in (P.PENDING, P.DROPPED_OFF, P.PICKED_UP) if STATUS[phase] == live.status)
