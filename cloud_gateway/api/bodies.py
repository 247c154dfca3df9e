"""Request and response bodies that only the REST side has, and the reading of request bodies."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BeforeValidator, Field, ValidationError

from cloud_gateway.api.errors import invalid
from cloud_gateway.value_bounds import DEPTH_MAX, is_shallow
from edge_agent.errors import Refusal
from edge_agent.model import ReservationStatus
from edge_agent.protocol.api import (
    Body,
    Degrees,
    Flag,
    Machine,
    OptionalText,
    PackagingBody,
    refusal_from,
)

BODY_MAX_BYTES = 64 * 1024
DRAIN_MAX_BYTES = 8 * 1024 * 1024
"""How much of an oversized body is read and discarded, so that its sender can read the response."""

AnyBody = TypeVar("AnyBody", bound=Body)


class EchoBody(Body):
    """Body of POST /echo."""

    message: OptionalText = ""


class OperatorActBody(Body):
    """Body of an operator's act: why it is done, for the record."""

    reason: Annotated[str, Field(strict=True, min_length=1, max_length=200, pattern=r"\S")]


class EchoResponse(Body):
    """Response to POST /echo."""

    message: str


class SearchBody(Body):
    """Body of POST /machines/search; degrees and metres. Without `limit` all machines within the radius are
    returned."""

    latitude: Annotated[Degrees, Field(ge=-90, le=90)]
    longitude: Annotated[Degrees, Field(ge=-180, le=180)]
    radius: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    limit: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    only_available_lockers: Flag = False
    packaging: PackagingBody | None = None


class FoundMachine(Body):
    """One machine of a search result."""

    machine: Machine
    distance_in_metres: int


class SearchResponse(Body):
    """Response to POST /machines/search, nearest first."""

    machines: list[FoundMachine]


class MachineResponse(Body):
    """Response to GET /machines/{machine_id}."""

    machine: Machine


class NamedCell(Body):
    """A cell, named by the label on its door."""

    description: str


class OpenedResponse(Body):
    """Response to a drop-off or pick-up: the cell that opened."""

    cell: NamedCell


class Codes(Body):
    """The codes of a reservation: digits, QR text, address of the QR image."""

    drop_off_code: str
    drop_off_qrcode: str
    drop_off_qrcode_url: str
    pickup_code: str
    pickup_code_qrcode: str
    pickup_code_qrcode_url: str


class ReservedResponse(Codes):
    """Response to POST /reservations."""

    reservation_id: str
    machine_id: str
    machine: Machine


class ListedReservation(Body):
    """One reservation of a list; times as `2025-07-10T10:00:00Z`, absent until they have happened."""

    reservation_id: str
    machine_id: str
    platform_order_id: str
    status: ReservationStatus
    created_at: str
    cell: NamedCell | None = None
    dropped_off_at: str | None = None
    picked_up_at: str | None = None


class ReservationResponse(ListedReservation, Codes):
    """Response to GET /reservations/{reservation_id}; `machine` is absent if it never published its state."""

    machine: Machine | None = None
    notes: str


class ListResponse(Body):
    """Response to GET /reservations; `next_page_token` is empty on the last page."""

    reservations: list[ListedReservation]
    next_page_token: str
    total_count: int


class EmptyResponse(Body):
    """`{}`."""


class AcceptedResponse(Body):
    """Response to POST …/open-door; the webhook carries the same `request_id`."""

    request_id: str
    accepted_at: str


class MaintenanceResponse(Body):
    """Response to POST /maintenances."""

    maintenance_ticket_id: Annotated[str, Field(strict=True, min_length=1, max_length=128)]
    created_at: str
    status: Literal["OPEN"]


class HealthResponse(Body):
    """Response to GET /healthz."""

    status: str


class ErrorResponse(Body):
    """The API's rpcStatus."""

    code: int
    message: str
    details: list[dict[str, Any]]


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("must be a whole number")
    return value


DIGITS = BeforeValidator(_digits)
"""For an integer in a query: digits only; pydantic alone would accept `1_0` and `1.0`."""


async def read_json(request: Request) -> Any:
    """Returns the request's body as JSON; an empty one is an empty object. Raises `Refusal`
    INVALID_ARGUMENT."""
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= BODY_MAX_BYTES:
            body += chunk
        elif size > DRAIN_MAX_BYTES:
            break
    if size > BODY_MAX_BYTES:
        raise invalid("body", f"must not be larger than {BODY_MAX_BYTES} bytes")
    if not body.strip():
        return {}
    if not is_shallow(bytes(body)):
        raise invalid("body", f"must be JSON of at most {DEPTH_MAX} levels")
    try:
        document = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise invalid("body", "must be JSON") from None
    if not isinstance(document, dict):
        raise invalid("body", "must be a JSON object")
    return document


def read_body(model: type[AnyBody], document: Any) -> AnyBody:
    """Returns the validated body. Raises `Refusal` INVALID_ARGUMENT naming every wrong field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        refusal: Refusal = refusal_from(error)
        raise refusal from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
