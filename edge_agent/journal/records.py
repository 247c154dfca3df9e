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
from edge_agent.statemachine.state import Climate, Doubted, Guesses, Pulses, StandingAlarm, UnconfirmedUnlock

RESERVATION: TypeAdapter[Reservation] = TypeAdapter(Reservation)

UNLOCK_NAMES = {
    "pulse_number": "attempt",
    "x_request_id": "echo_id",
    "other_cells_tried": "moves",
    "reported": "told",
}
"""Fields of an unlock attempt that have another name in the journal."""


def _to_journal(value: UnlockAttempt, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
    return {UNLOCK_NAMES.get(name, name): field for name, field in handler(value).items()}


def _from_journal(fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    names = {journaled: name for name, journaled in UNLOCK_NAMES.items()}
    return {names.get(name, name): field for name, field in fields.items()}


UNLOCK: TypeAdapter[UnlockAttempt] = TypeAdapter(
    Annotated[UnlockAttempt, BeforeValidator(_from_journal), WrapSerializer(_to_journal)]
)

ENTITIES: dict[str, TypeAdapter[Any]] = {
    "cells": TypeAdapter(Cell),
    "tickets": UNLOCK,
    "alarms": TypeAdapter(StandingAlarm),
    "resting_codes": TypeAdapter(Instant),
    "pulses": TypeAdapter(Pulses),
    "guesses": TypeAdapter(Guesses),
    "climate": TypeAdapter(Climate),
    "unconfirmed": TypeAdapter(UnconfirmedUnlock),
    "history": TypeAdapter(Doubted),
}
"""The maps of the state that are stored in the table `entity`, by their kind there; the others hold
reservations."""

KINDS = {"unlock_attempts": "tickets"}
"""Kinds of the table `entity` that are not named as the map of the state."""


def dump(adapter: TypeAdapter[Any], value: Any) -> str:
    """A value as JSON; fields with their default value are left out."""
    return adapter.dump_json(value, exclude_defaults=True).decode()


def load(adapter: TypeAdapter[Any], text: str, what: str) -> Any:
    """A value from JSON. Raises `StorageFault` naming `what` if the text is not valid."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise StorageFault(f"journal: {what} is damaged: {error.errors()[0]['msg']}") from None
