"""A machine's reply to each command: `{"result": …}` or `{"error": …}` on the Response Topic."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edge_agent.protocol.api import Body, CellReference, Machine, ReservationView
from edge_agent.protocol.events import HistoryState
from edge_agent.protocol.sync import SyncReply


class EchoResult(Body):
    """The message that was sent."""

    message: str


class ReservationResult(Body):
    """The reservation as it stands after the command, and its cell: the one that opened, if any."""

    reservation: ReservationView
    cell: CellReference | None = None


class AcceptedResult(Body):
    """An open-door was accepted; `request_id` is the X-Request-ID that the event with its outcome will
    carry."""

    request_id: str
    accepted_at: str


class TicketResult(Body):
    """A maintenance ticket was made."""

    maintenance_ticket_id: str
    created_at: str
    status: Literal["OPEN"] = "OPEN"
    cell: CellReference | None = None


class CellResult(Body):
    """The cell of the command."""

    cell: CellReference


class MachineResult(Body):
    """The machine as it stands."""

    machine: Machine


class OneReservationResult(Body):
    """A reservation, also one that is over."""

    reservation: ReservationView


class ReservationsResult(Body):
    """The ongoing reservations, oldest first."""

    reservations: list[ReservationView]


class RestoreResult(Body):
    """The state of the machine's history when the command arrived."""

    history: HistoryState


class RpcStatus(Body):
    """The API's error: a code of google.rpc.Code, a message, and for `INVALID_ARGUMENT` the wrong fields."""

    code: int
    message: str
    details: list[dict[str, Any]] = Field(default_factory=list)


RESULTS: dict[str, type[Body]] = {
    "echo": EchoResult,
    "reserve": ReservationResult,
    "dropoff": ReservationResult,
    "pickup": ReservationResult,
    "cancel": ReservationResult,
    "abandon": ReservationResult,
    "open-door": AcceptedResult,
    "maintenance": TicketResult,
    "block-cell": CellResult,
    "unblock-cell": CellResult,
    "clear-cell": CellResult,
    "get-machine": MachineResult,
    "get-reservation": OneReservationResult,
    "list-reservations": ReservationsResult,
    "sync": SyncReply,
    "restore": RestoreResult,
}
"""The `result` of each command."""
