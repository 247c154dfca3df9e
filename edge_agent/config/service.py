"""The sections `[service]`, which keys may sign service commands, and `[enrolment]`, who renews the
certificate."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge_agent.protocol.broker import key_bytes
from edge_agent.protocol.enrolment import gateway_url
from edge_agent.protocol.service_commands import Right

KeyName = Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


def _public_key(text: str) -> str:
    key_bytes(text)
    return text


PublicKey = Annotated[str, Field(strict=True), AfterValidator(_public_key)]
"""An Ed25519 public key: 32 bytes in base64."""


class ServiceKey(BaseModel):
    """A key that may sign service commands; `rights`: the names of these commands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_key: PublicKey
    rights: Annotated[list[Right], Field(min_length=1)]


class ServiceSection(BaseModel):
    """Who may request technicians' work over MQTT (docs/decisions/0049-service-commands.md). Without keys
    nobody may."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Annotated[dict[KeyName, ServiceKey], Field(max_length=32)] = {}


class EnrolmentSection(BaseModel):
    """The gateway that renews the machine's certificate; `edge-agent init --claim` writes this section. The
    key is `mqtt.tls.key_file`, and the certificate beside it is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(strict=True, min_length=1, max_length=1024), AfterValidator(gateway_url)]


class RetentionSection(BaseModel):
    """How long personal data are kept: a reservation that is over loses order id, notes and codes after
    `reservations_days` (docs/privacy.md); without it never by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reservations_days: Annotated[float, Field(ge=1, le=3650, allow_inf_nan=False)] | None = None
