"""THE table: what each trigger does to a reservation in each status. Nothing moves outside it.

Triggers are of two kinds. A *wish* (drop-off, pick-up, cancel) is granted or refused with code 9; granting
an opening only starts an unlock. A *fact* (the door opened for it, the door closed, a grace ran out) moves
the reservation whether anybody likes it or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.model import ReservationStatus as S
from edge_agent.statemachine.outputs import FactKind


class Trigger(StrEnum):
    """What can happen to a reservation."""

    DROPOFF = "drop-off asked for"
    DROPOFF_OPENED = "door open for a drop-off"
    PICKUP = "pick-up asked for"
    PICKUP_OPENED = "door open for a pick-up"
    PICKUP_FAILED = "door did not open for a pick-up"
    DOOR_CLOSED = "door closed"
    CANCEL = "cancel asked for"
    GRACE_OVER = "pick-up grace over, door closed"


class Guard(StrEnum):
    """Conditions beside the status; `reservation.holds` tells whether one is met."""

    DROPOFF_HAS_DOOR = "a drop-off opened the door"
    NO_DROPOFF_HAS_DOOR = "no drop-off has the door open"
    WITHIN_DROPOFF_GRACE = "within the drop-off grace"
    WITHIN_PICKUP_GRACE = "within the pick-up grace"


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table: under `guard` the reservation goes `to`, and `fact` is told."""

    to: S
    guard: Guard | None = None
    fact: FactKind | None = None
    ends: bool = False
    """The reservation gives its cell back."""


TABLE: dict[tuple[S, Trigger], Rule] = {
    (S.PENDING, Trigger.DROPOFF): Rule(S.PENDING),
    (S.PENDING, Trigger.DROPOFF_OPENED): Rule(S.PENDING),
    (S.PENDING, Trigger.DOOR_CLOSED): Rule(
        S.DROPPED_OFF, guard=Guard.DROPOFF_HAS_DOOR, fact=FactKind.DROPOFF
    ),
    (S.PENDING, Trigger.CANCEL): Rule(
        S.CANCELLED, guard=Guard.NO_DROPOFF_HAS_DOOR, fact=FactKind.RESERVATION_CANCELLED, ends=True
    ),
    (S.DROPPED_OFF, Trigger.DROPOFF): Rule(S.DROPPED_OFF, guard=Guard.WITHIN_DROPOFF_GRACE),
    (S.DROPPED_OFF, Trigger.DROPOFF_OPENED): Rule(S.DROPPED_OFF),
    (S.DROPPED_OFF, Trigger.PICKUP): Rule(S.DROPPED_OFF),
    (S.DROPPED_OFF, Trigger.PICKUP_OPENED): Rule(S.PICKED_UP, fact=FactKind.PICKUP),
    (S.DROPPED_OFF, Trigger.PICKUP_FAILED): Rule(S.DROPPED_OFF, fact=FactKind.PICKUP_FAILED),
    (S.PICKED_UP, Trigger.PICKUP): Rule(S.PICKED_UP, guard=Guard.WITHIN_PICKUP_GRACE),
    (S.PICKED_UP, Trigger.PICKUP_OPENED): Rule(S.PICKED_UP),
    (S.PICKED_UP, Trigger.GRACE_OVER): Rule(S.PICKED_UP, fact=FactKind.RESERVATION_COMPLETED, ends=True),
}
