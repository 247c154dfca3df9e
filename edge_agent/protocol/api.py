"""Bodies of the delivery locker API, shared by the MQTT contract and the REST gateway.

Bounds are those of the behaviour page; a value outside raises pydantic's `ValidationError`, which
`refusal_from` turns into `INVALID_ARGUMENT` naming the field. Integers are JSON integers: `"10"` and `1.5`
are refused. Unknown fields are ignored, so that a newer sender can talk to an older machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.model import CellStatus, Occupancy, Packaging, ReservationStatus, Severity
from edge_agent.validation_findings import field_path, sentence_of

TEXT_MAX = 1024

_HOST_AND_PORT = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")


class FieldError(PydanticCustomError):
    """A finding about one field that needs the values of others."""

    def __new__(cls, field: str, problem: str) -> FieldError:
        """`field`: the path that the answer names."""
        return super().__new__(cls, "field", "{problem}", {"field": field, "problem": problem})


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _webhook_url(value: str) -> str:
    if not value:
        return value
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"must be an https URL: {error}") from None
    # `urlsplit` ignores what it does not expect; the caller of the URL may read it differently.
    plain = _HOST_AND_PORT.fullmatch(parts.netloc.rpartition("@")[2])
    if plain is None or int(plain[1] or 1) != (1 if port is None else port) or port == 0:
        raise ValueError("must be an https URL: the port is a number from 1 to 65535")
    if not host or parts.scheme not in ("https", "http"):
        raise ValueError("must be an https URL")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be an https URL (plain http only to loopback)")
    return value


def _null_is(default: Any) -> BeforeValidator:
    """JSON null means the default, as in proto3's JSON mapping."""
    return BeforeValidator(lambda value: default if value is None else value)


Text = Annotated[str, Field(strict=True, max_length=TEXT_MAX)]
Identifier = Annotated[str, Field(strict=True, min_length=1, max_length=TEXT_MAX)]
OptionalText = Annotated[Text, _null_is("")]
Millimetres = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Grams = Annotated[int, Field(strict=True, ge=0, le=1_000_000), _null_is(0)]
Flag = Annotated[bool, Field(strict=True), _null_is(False)]
GraceSeconds = Annotated[int, Field(strict=True, ge=0, le=86_400), _null_is(120)]
EtaMinutes = Annotated[int, Field(strict=True, ge=0, le=10_080)]
WebhookUrl = Annotated[Text, AfterValidator(_webhook_url), _null_is("")]
Degrees = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Body(BaseModel):
    """Base of all bodies: immutable, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PackagingBody(Body):
    """The API's Packaging; lengths in millimetres, weight in grams."""

    width: Millimetres
    height: Millimetres
    depth: Millimetres
    weight: Grams = 0
    heating_required: Flag = False
    cooling_required: Flag = False

    def to_model(self) -> Packaging:
        """Converts to the program's model."""
        return Packaging(
            width_mm=self.width,
            height_mm=self.height,
            depth_mm=self.depth,
            mass_g=self.weight,
            heating_required=self.heating_required,
            cooling_required=self.cooling_required,
        )


class ReserveBody(Body):
    """Body of POST /reservations."""

    machine_id: Identifier
    platform_order_id: Identifier
    packaging: PackagingBody
    notes: OptionalText = ""
    webhook_url: WebhookUrl = ""
    eta_minutes: EtaMinutes | None = None
    grace_period_pickup_in_seconds: GraceSeconds = 120
    grace_period_dropoff_in_seconds: GraceSeconds = 120
    accessible: Flag = False
    """Our extension: only a cell within reach of a person in a wheelchair suits."""


class OpenDoorBody(Body):
    """Body of POST /reservations/{reservation_id}/open-door."""

    reason: OptionalText = ""
    platform_reference_id: OptionalText = ""


class MaintenanceBody(Body):
    """Body of POST /maintenances; a cell to be blocked must be named."""

    cell_id: Identifier | None = None
    machine_id: Identifier | None = None
    description: Identifier
    severity: Annotated[Severity, _null_is(Severity.MEDIUM)] = Severity.MEDIUM
    block_cell_immediately: Flag = False

    @model_validator(mode="after")
    def _names_what_to_block(self) -> MaintenanceBody:
        if self.block_cell_immediately and self.cell_id is None:
            raise FieldError("cell_id", "is needed where block_cell_immediately is true")
        return self


class CellReference(Body):
    """The reference to a cell in an answer; `description` is the label on the door."""

    description: str
    cell_id: str | None = None


class CellInformation(Body):
    """The API's CellInformation: inside lengths in millimetres and the cell's abilities."""

    width: int
    height: int
    depth: int
    heating: bool
    cooling: bool
    weight_sensor: bool


class CellDetail(CellInformation):
    """A cell of `all_cells`, with fields for operators besides the API's."""

    cell_id: str
    description: str
    status: CellStatus
    blocked: bool
    faulty: bool
    available: bool | None = None
    """Whether a parcel could be given this cell now; None from a machine that does not report it."""
    max_weight: int | None = None
    """The cell's weight limit in grams; None from a machine that does not report it."""
    low: bool | None = None
    """Whether a person in a wheelchair reaches the cell; None from a machine that does not report it."""


class Machine(Body):
    """The API's Machine."""

    machine_id: str
    name: str
    location: str
    latitude: float
    longitude: float
    online: bool
    preferred_cells: list[CellInformation]
    all_cells: list[CellDetail]
    occupancy_information: Occupancy


class ReservationView(Body):
    """A reservation in a command's reply; codes are only sent there."""

    reservation_id: str
    machine_id: str
    platform: str = ""
    platform_order_id: str
    notes: str = ""
    webhook_url: str = ""
    status: ReservationStatus
    created_at: str
    cell: CellReference
    drop_off_code: str
    pickup_code: str
    packaging: PackagingBody
    eta_minutes: int | None = None
    grace_period_pickup_in_seconds: int
    grace_period_dropoff_in_seconds: int
    dropped_off_at: str | None = None
    picked_up_at: str | None = None


def rfc3339(wall_s: float) -> str:
    """A Unix time in the API's format: `2025-06-13T10:30:00Z`, whole seconds, UTC."""
    return datetime.fromtimestamp(int(wall_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def refusal_from(error: ValidationError) -> Refusal:
    """A pydantic finding as `INVALID_ARGUMENT`; names every wrong field, the first one in the message."""
    violations = tuple(
        FieldViolation(_field_of(item), sentence_of(item))
        for item in error.errors(include_url=False, include_input=False)
    )
    first = violations[0]
    return Refusal(Code.INVALID_ARGUMENT, f"{first.field}: {first.description}", violations)


def _field_of(item: Mapping[str, Any]) -> str:
    own = item["ctx"]["field"] if item["type"] == "field" else ""
    return field_path((*item["loc"], own) if own else item["loc"]) or "body"


def rpc_status(refusal: Refusal) -> dict[str, Any]:
    """A refusal as the API's rpcStatus; field findings in the form of google.rpc.BadRequest, the subject of a
    failed command in that of google.rpc.ErrorInfo."""
    details: list[dict[str, Any]] = []
    if refusal.violations:
        found = [{"field": v.field, "description": v.description} for v in refusal.violations]
        details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": found}]
    if refusal.info is not None:
        info = {"reason": refusal.info.reason, "domain": "locker", "metadata": dict(refusal.info.metadata)}
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info})
    return {"code": int(refusal.code), "message": refusal.message, "details": details}
