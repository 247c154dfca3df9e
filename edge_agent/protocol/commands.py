"""Commands to a machine: their content, and how long they may act.

Topic `cmd/{command}`; the body is the API's request fields plus `request_id`, `issued_at`, `expires_at`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, ValidationError

from edge_agent.errors import Code, FieldViolation, Refusal, Unreadable
from edge_agent.model import Instant, ReservationStatus
from edge_agent.protocol.api import (
    Body,
    EtaMinutes,
    GraceSeconds,
    Identifier,
    MaintenanceBody,
    OpenDoorBody,
    OptionalText,
    PackagingBody,
    ReserveBody,
    Text,
    refusal_from,
)

DOOR_OPENING_LIFE_S = 30.0
"""Longest life of a command that opens a door, whatever its sender sets."""
UNDATED_LIFETIME_S = 3600.0
"""The life of a command of unknown age that opens no door."""


def _text_time(value: Any) -> Any:
    if isinstance(value, datetime | str):
        return value
    raise ValueError("must be an RFC 3339 time")


FIRST_YEAR, LAST_YEAR = 1970, 2200
"""Every time in a command must be between them. A machine whose clock was never set starts in 1970."""


def _plausible_time(value: datetime) -> datetime:
    if not FIRST_YEAR <= value.year < LAST_YEAR or value.timestamp() < 0:
        raise ValueError(f"must be from {FIRST_YEAR} to {LAST_YEAR - 1}")
    return value


Rfc3339 = Annotated[AwareDatetime, BeforeValidator(_text_time), AfterValidator(_plausible_time)]


NewReservationId = Annotated[
    str, Field(strict=True, min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_]+$")
]
"""Part of a QR text between dashes, so it contains none."""


RequestId = Annotated[str, Field(strict=True, min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Printable; the machine's own keys begin with a control character, so the two never collide."""


class Command(Body):
    """The fields of every command. `request_id` is the idempotency key."""

    request_id: RequestId
    issued_at: Rfc3339
    expires_at: Rfc3339
    challenge: OptionalText = ""
    """The `challenge` of the machine's `state/online`, if it published one."""


class EchoCommand(Command):
    """Answers `{"message"}`."""

    message: OptionalText = ""


class ReserveCommand(Command, ReserveBody):
    """Reserve a cell; the gateway makes `reservation_id`, `platform` names the owner."""

    reservation_id: NewReservationId
    platform: OptionalText = ""


class ReservationCommand(Command):
    """A command on one reservation."""

    reservation_id: Identifier


class DropoffCommand(ReservationCommand):
    """Open the cell for the drop-off."""


class PickupCommand(ReservationCommand):
    """Open the cell for the pick-up."""


class CancelCommand(ReservationCommand):
    """Give the cell back before anything was dropped off."""


class AbandonCommand(ReservationCommand):
    """The customer will not come: the parcel stays for the operations team."""


class OpenDoorCommand(ReservationCommand, OpenDoorBody):
    """Open the cell for support, without moving the reservation; the outcome comes as an event."""


class MaintenanceCommand(Command, MaintenanceBody):
    """Request maintenance of a cell or of the machine."""


class CellCommand(Command):
    """A command on one cell."""

    cell_id: Identifier


class BlockCellCommand(CellCommand):
    """Take a cell out of allocation."""

    reason: Identifier


class UnblockCellCommand(CellCommand):
    """Return a blocked cell to allocation."""


class ClearCellCommand(CellCommand):
    """A person has checked the cell: it is empty and in order."""


class GetReservationCommand(ReservationCommand):
    """Read one reservation."""


class GetMachineCommand(Command):
    """Read the machine."""


class ListReservationsCommand(Command):
    """Read the ongoing reservations, oldest first."""

    platform: Text | None = None


class SyncCommand(Command):
    """Read the events from a sequence on, and the live reservations: what a gateway lacks."""

    from_sequence: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]


Digits = Annotated[str, Field(strict=True, pattern=r"^[0-9]{4,9}$")]
Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]


class LostReservation(Body):
    """A live reservation as the gateway knows it, codes included; `cell` is the label on its door."""

    reservation_id: NewReservationId
    platform: OptionalText = ""
    platform_order_id: Text
    notes: OptionalText = ""
    webhook_url: OptionalText = ""
    status: Literal[ReservationStatus.PENDING, ReservationStatus.DROPPED_OFF, ReservationStatus.PICKED_UP]
    created_at: Rfc3339
    cell: Text
    drop_off_code: Digits
    pickup_code: Digits
    packaging: PackagingBody | None = None
    eta_minutes: EtaMinutes | None = None
    grace_period_pickup_in_seconds: GraceSeconds = 120
    grace_period_dropoff_in_seconds: GraceSeconds = 120
    dropped_off_at: Rfc3339 | None = None
    picked_up_at: Rfc3339 | None = None


class RestoreCommand(Command):
    """What the gateway holds of a machine whose `history` is lost or asking: up to which event it has each
    journal (`applied`), which journal it takes as the present one (`journal_id`), and the live reservations,
    which a technician restores."""

    journal_id: Text | None = None
    applied: Annotated[dict[Identifier, Count], Field(max_length=1000)]
    reservations: Annotated[list[LostReservation], Field(max_length=1024)]


COMMANDS: dict[str, type[Command]] = {
    "echo": EchoCommand,
    "reserve": ReserveCommand,
    "dropoff": DropoffCommand,
    "pickup": PickupCommand,
    "cancel": CancelCommand,
    "abandon": AbandonCommand,
    "open-door": OpenDoorCommand,
    "maintenance": MaintenanceCommand,
    "block-cell": BlockCellCommand,
    "unblock-cell": UnblockCellCommand,
    "clear-cell": ClearCellCommand,
    "get-machine": GetMachineCommand,
    "get-reservation": GetReservationCommand,
    "list-reservations": ListReservationsCommand,
    "sync": SyncCommand,
    "restore": RestoreCommand,
}
"""Every command, by the last word of its topic."""

DOOR_OPENING = frozenset({"dropoff", "pickup", "open-door"})
"""Commands that may open a door."""
QUERIES = frozenset({"echo", "get-machine", "get-reservation", "list-reservations", "sync"})
"""Commands that change nothing, so nothing of them is stored."""


def decode(name: str, payload: bytes) -> Command:
    """The command in `payload`.

    Raises `Refusal`: `NOT_BUILT` for a command that is not built, otherwise `INVALID_ARGUMENT` naming the
    field; `Unreadable` if there is no field to name.
    """
    model = COMMANDS.get(name)
    if model is None:
        raise Refusal(Code.NOT_BUILT, f"command {name!r} is not built in this version")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        refusal = refusal_from(error)
        if error.errors(include_url=False, include_input=False)[0]["type"] in ("json_invalid", "model_type"):
            raise Unreadable(refusal.code, refusal.message, refusal.violations) from None
        raise refusal from None


def remaining_ns(name: str, command: Command, now: Instant, message_expiry_s: int | None) -> int:
    """How many nanoseconds from `now` the command may still act.

    With a synchronised wall clock the sender's `expires_at` counts; without one only what is left of the
    Message Expiry Interval on arrival (MQTT 5, 3.3.2.3.3). A door-opening command lives 30 s at most. Raises
    `Refusal`: `EXPIRED` if it has expired, `INVALID_ARGUMENT` if its life is unknown and it would open a
    door.
    """
    lives: list[float] = []
    if message_expiry_s is not None:
        lives.append(float(message_expiry_s))
    if now.synced:
        lives.append(command.expires_at.timestamp() - now.wall_s)
    if name in DOOR_OPENING:
        if not lives:
            problem = "is needed while the machine's clock is not synchronised"
            violation = FieldViolation("message_expiry_interval", problem)
            raise Refusal(Code.INVALID_ARGUMENT, f"{violation.field}: {problem}", (violation,))
        lives.append(DOOR_OPENING_LIFE_S)
        if now.synced:
            lives.append(command.issued_at.timestamp() + DOOR_OPENING_LIFE_S - now.wall_s)
    if not lives:
        return round(UNDATED_LIFETIME_S * 1e9)
    left_s = min(lives)
    if left_s <= 0:
        raise Refusal(Code.EXPIRED, "the command has expired")
    return round(left_s * 1e9)


def longest_life_s(name: str, command: Command, now: Instant) -> float:
    """For at most how many seconds from `now` the command can act, even if a broker delivers it again with a
    new Message Expiry Interval."""
    if name in DOOR_OPENING:
        return DOOR_OPENING_LIFE_S
    return command.expires_at.timestamp() - now.wall_s if now.synced else UNDATED_LIFETIME_S
