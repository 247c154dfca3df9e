"""Turns a decoded command into the core's input."""

from __future__ import annotations

from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.model import Purpose, Source
from edge_agent.protocol.commands import (
    AbandonCommand,
    BlockCellCommand,
    CancelCommand,
    ClearCellCommand,
    Command,
    DropoffCommand,
    MaintenanceCommand,
    OpenDoorCommand,
    PickupCommand,
    ReserveCommand,
    UnblockCellCommand,
)
from edge_agent.runtime.ids import Ids
from edge_agent.statemachine.inputs import (
    Abandon,
    BlockCell,
    Cancel,
    Clear,
    Input,
    OpenForReservation,
    RequestMaintenance,
    Reserve,
    UnblockCell,
)
from edge_agent.statemachine.state import Layout


class CommandTranslator:
    """Knows the cells of the machine by their ids, and makes the ids and candidate codes that inputs need."""

    def __init__(self, layout: Layout, ids: Ids, machine_id: str) -> None:
        self._layout = layout
        self._ids = ids
        self._machine_id = machine_id

    def to_input(self, command: Command, expires_ns: int, x_request_id: str | None) -> Input:
        """The input; it expires at `expires_ns` (CLOCK_BOOTTIME). Raises `Refusal`: `NOT_FOUND` for an
        unknown cell, `INVALID_ARGUMENT` for another machine, `NOT_BUILT` for a command that has no input."""
        key = command.request_id
        match command:
            case ReserveCommand():
                return self._reserve(command, expires_ns)
            case DropoffCommand() | PickupCommand():
                purpose = Purpose.DROPOFF if isinstance(command, DropoffCommand) else Purpose.PICKUP
                return OpenForReservation(
                    request_key=key,
                    reservation_id=command.reservation_id,
                    purpose=purpose,
                    unlock_id=self._ids.unique("unl"),
                    expires_ns=expires_ns,
                )
            case OpenDoorCommand():
                return OpenForReservation(
                    request_key=key,
                    reservation_id=command.reservation_id,
                    purpose=Purpose.OPEN_DOOR,
                    unlock_id=self._ids.unique("unl"),
                    expires_ns=expires_ns,
                    reason=command.reason,
                    platform_reference_id=command.platform_reference_id,
                    x_request_id=x_request_id,
                )
            case CancelCommand():
                return Cancel(key, command.reservation_id, expires_ns)
            case AbandonCommand():
                return Abandon(key, command.reservation_id, expires_ns)
            case MaintenanceCommand():
                return self._maintenance(command, expires_ns)
            case BlockCellCommand():
                return BlockCell(key, self.label_of(command.cell_id), command.reason, Source.API, expires_ns)
            case UnblockCellCommand():
                return UnblockCell(key, self.label_of(command.cell_id), Source.API, expires_ns)
            case ClearCellCommand():
                return Clear(key, self.label_of(command.cell_id), Source.API, expires_ns)
            case _:
                raise Refusal(Code.NOT_BUILT, f"{type(command).__name__} is not built in this version")

    def label_of(self, cell_id: str) -> str:
        """The label of a cell. Raises `Refusal` (`NOT_FOUND`) for an unknown cell id."""
        for spec in self._layout.specs.values():
            if spec.cell_id == cell_id:
                return spec.label
        raise Refusal(Code.NOT_FOUND, f"no such cell: {cell_id}")

    def _require_this_machine(self, machine_id: str) -> None:
        if machine_id != self._machine_id:
            violation = FieldViolation("machine_id", f"this is machine {self._machine_id!r}")
            message = f"{violation.field}: {violation.description}"
            raise Refusal(Code.INVALID_ARGUMENT, message, (violation,))

    def _maintenance(self, command: MaintenanceCommand, expires_ns: int) -> RequestMaintenance:
        if command.machine_id is not None:
            self._require_this_machine(command.machine_id)
        return RequestMaintenance(
            request_key=command.request_id,
            maintenance_ticket_id=self._ids.unique("maint"),
            description=command.description,
            severity=command.severity,
            cell=None if command.cell_id is None else self.label_of(command.cell_id),
            block=command.block_cell_immediately,
            expires_ns=expires_ns,
        )

    def _reserve(self, command: ReserveCommand, expires_ns: int) -> Reserve:
        self._require_this_machine(command.machine_id)
        return Reserve(
            request_key=command.request_id,
            reservation_id=command.reservation_id,
            platform=command.platform,
            platform_order_id=command.platform_order_id,
            packaging=command.packaging.to_model(),
            candidate_codes=self._ids.candidate_codes(self._layout.code_digits),
            notes=command.notes,
            webhook_url=command.webhook_url,
            eta_minutes=command.eta_minutes,
            grace_pickup_s=command.grace_period_pickup_in_seconds,
            grace_dropoff_s=command.grace_period_dropoff_in_seconds,
            accessible=command.accessible,
            expires_ns=expires_ns,
        )
