"""The form of the state machine's values on disk: one JSON text each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    WrapSerializer,
)

from edge_agent.errors import StorageFault
from edge_agent.model import Cell, Instant, Reservation, UnlockAttempt
from edge_agent.statemachine.state import (
    Climate,
    Guesses,
    HistoryMark,
    Pulses,
    StandingAlarm,
    UnconfirmedUnlock,
)

RESERVATION: TypeAdapter[Reservation] = TypeAdapter(Reservation)

JOURNAL_NAMES: dict[type, dict[str, str]] = {
    Cell: {
        "contact_doubt": "doubt",
        "outcome_unknown": "suspect",
        "pulse_count": "unlocks",
        "unexplained_since": "unexplained",
    },
    Pulses: {"pulses_without_opening": "unspent", "read_open_before": "doubtful"},
    UnlockAttempt: {
        "other_cells_tried": "moves",
        "other_door_opened": "stopped",
        "pulse_number": "attempt",
        "pulses_counted": "counted",
        "reported": "told",
        "read_open_before": "doubtful",
        "wrong_doors": "wrong",
        "x_request_id": "echo_id",
    },
}
"""Fields whose name in the journal differs from that in the code, by type: older journals stay readable."""


def _adapter(of: type) -> TypeAdapter[Any]:
    """Reads and writes values of a type, with the names that its fields have in the journal."""
    journaled = JOURNAL_NAMES[of]
    in_code = {name: field for field, name in journaled.items()}

    def to_journal(value: Any, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {journaled.get(name, name): field for name, field in handler(value).items()}

    def from_journal(fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {in_code.get(name, name): field for name, field in fields.items()}

    named: Any = Annotated[of, BeforeValidator(from_journal), WrapSerializer(to_journal)]
    return TypeAdapter(named)


ENTITIES: dict[str, TypeAdapter[Any]] = {
    "cells": _adapter(Cell),
    "tickets": _adapter(UnlockAttempt),
    "alarms": TypeAdapter(StandingAlarm),
    "resting_codes": TypeAdapter(Instant),
    "pulses": _adapter(Pulses),
    "guesses": TypeAdapter(Guesses),
    "climate": TypeAdapter(Climate),
    "unconfirmed": TypeAdapter(UnconfirmedUnlock),
    "history": TypeAdapter(HistoryMark),
}
"""The maps of the state that are stored in the table `entity`, by their kind there; the others hold
reservations."""

ENTITY_KINDS = {"retired_codes": "resting_codes", "unlock_attempts": "tickets"}
"""The kind in the table `entity` of each map of the state that is called otherwise there."""


def dump(adapter: TypeAdapter[Any], value: Any) -> str:
    """A value as JSON; fields with their default value are left out."""
    return adapter.dump_json(value, exclude_defaults=True).decode()


def load(adapter: TypeAdapter[Any], text: str, what: str) -> Any:
    """A value from JSON. Raises `StorageFault` naming `what` if the text is not valid."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise StorageFault(f"journal: {what} is damaged: {error.errors()[0]['msg']}") from None
