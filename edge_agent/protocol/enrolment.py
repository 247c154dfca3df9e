"""Enrolment: how a machine gets its certificate without a key that somebody types
(docs/decisions/0056-enrolment.md).

The machine makes an Ed25519 key, and asks the gateway over HTTPS, below `/api/enrolment/v1`. It signs each
request with that key. A person enters the one-time claim code, which only the machine shows, at the gateway.
"""

from __future__ import annotations

import hashlib
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from edge_agent.protocol.api import Body, Text, is_loopback
from edge_agent.protocol.broker import key_bytes
from edge_agent.protocol.service_commands import Right

PREFIX = "/api/enrolment/v1"
SIGNATURE_HEADER = "X-Machine-Signature"
"""Header: the signature of the request, 64 bytes in standard base64."""
CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without 0, 1, I and O, which people confuse."""
CODE_LENGTH = 10
"""Characters of a claim code: 50 bits."""
POLL_S = 3.0
"""How often a machine asks whether its claim was approved."""
_PURPOSE = b"locker-enrolment-v1"


def _public_key(text: str) -> str:
    key_bytes(text)
    return text


PublicKeyText = Annotated[str, Field(strict=True), AfterValidator(_public_key)]
"""An Ed25519 public key: 32 bytes in base64."""
Pem = Annotated[str, Field(strict=True, max_length=16_384, pattern=r"^-----BEGIN CERTIFICATE-----\n")]


def gateway_url(text: str) -> str:
    """The address of a gateway, without a slash at its end. Raises `ValueError`."""
    parts = urlsplit(text)
    plain = parts.scheme == "http" and is_loopback(parts.hostname)
    if not parts.hostname or not (parts.scheme == "https" or plain) or parts.query or parts.fragment:
        raise ValueError("must be an https URL (plain http only to loopback)")
    return text.rstrip("/")


def signed_request(path: str, body: bytes) -> bytes:
    """The bytes that a machine signs: purpose, path and body."""
    return b"\0".join((_PURPOSE, path.encode(), body))


def plain_code(text: str) -> str:
    """A claim code as it was typed: without blanks and dashes, in capitals."""
    return "".join(text.split()).replace("-", "").upper()


def shown_code(code: str) -> str:
    """A claim code for people, in two groups."""
    half = CODE_LENGTH // 2
    return f"{code[:half]}-{code[half:]}"


def code_hash(code: str) -> str:
    """What the machine sends in place of its claim code."""
    return hashlib.sha256(plain_code(code).encode()).hexdigest()


class ClaimBody(Body):
    """A machine asks to be claimed; `board`: the serial number of its board, for people."""

    public_key: PublicKeyText
    code_hash: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
    board: Text = ""
    agent_version: Text = ""


class ClaimAccepted(Body):
    """The claim waits for a person; it ends at `expires_at`."""

    claim_id: str
    expires_at: str


class BrokerPlace(Body):
    """The broker of the machines."""

    host: Text
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)]


class ServiceKeyPlace(Body):
    """A key that may sign service commands."""

    public_key: PublicKeyText
    rights: list[Right]


class Enrolled(Body):
    """A machine's certificate, and what it needs to work with it. `authority`: the certificate authority that
    the machine trusts at the broker. Times are RFC 3339."""

    machine_id: str
    name: Text
    location: Text
    latitude: float
    longitude: float
    certificate: Pem
    authority: Pem
    not_before: str
    not_after: str
    broker: BrokerPlace
    signing_keys: dict[str, PublicKeyText] = Field(default_factory=dict)
    service_keys: dict[str, ServiceKeyPlace] = Field(default_factory=dict)


class RenewBody(Body):
    """A machine asks for a new certificate for the key that it has."""

    machine_id: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    public_key: PublicKeyText


class Renewed(Body):
    """The new certificate."""

    certificate: Pem
    not_before: str
    not_after: str
