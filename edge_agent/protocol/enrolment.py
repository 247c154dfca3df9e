"""Enrolment: how a machine gets its certificate without a key that somebody types
(docs/decisions/0056-enrolment.md).

The machine makes a key (Ed25519 in a file, ECDSA on P-256 in a TPM), and asks the gateway over HTTPS, below
`/api/enrolment/v1`. It signs each request with that key. A person enters the one-time claim code, which only
the machine shows, at the gateway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from edge_agent.protocol.api import Body, Text, is_loopback
from edge_agent.protocol.broker import key_bytes
from edge_agent.protocol.service_commands import Right

PREFIX = "/api/enrolment/v1"
SIGNATURE_HEADER = "X-Machine-Signature"
"""Header: the signature of the request in standard base64: 64 bytes of Ed25519, or ECDSA's DER (RFC 3279,
2.2.3)."""
CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without 0, 1, I and O, which people confuse."""
CODE_LENGTH = 10
"""Characters of a claim code: 50 bits."""
POLL_S = 3.0
"""How often a machine asks whether its claim was approved."""
_PURPOSE = b"locker-enrolment-v1"
_ED25519_BYTES, _P256_BYTES = 32, 33


class KeyAlgorithm(StrEnum):
    """How a machine signs. Ed25519: RFC 8032. ECDSA: on P-256 with SHA-256 (FIPS 186-5)."""

    ED25519 = "ed25519"
    ECDSA_P256_SHA256 = "ecdsa-p256-sha256"


def machine_key_bytes(text: str) -> tuple[KeyAlgorithm, bytes]:
    """A machine's public key from base64, and its algorithm, which its length shows.

    Ed25519: 32 bytes. P-256: a compressed point, 33 bytes (SEC 1, 2.3.3); whether it lies on the curve is not
    checked. Raises `ValueError`.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if len(key) == _ED25519_BYTES:
        return KeyAlgorithm.ED25519, key
    if len(key) == _P256_BYTES and key[0] in (2, 3):
        return KeyAlgorithm.ECDSA_P256_SHA256, key
    raise ValueError("must be an Ed25519 key (32 bytes) or a compressed point of P-256 (33 bytes)")


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


class OfMachineKey(Body):
    """What a machine asks with its key. A request that names no algorithm is of an Ed25519 key."""

    key_algorithm: KeyAlgorithm = KeyAlgorithm.ED25519
    public_key: Annotated[str, Field(strict=True, max_length=64)]

    @field_validator("public_key")
    @classmethod
    def _of_this_algorithm(cls, text: str, info: ValidationInfo) -> str:
        algorithm, _ = machine_key_bytes(text)
        named = info.data.get("key_algorithm", algorithm)  # absent if it is wrong itself
        if algorithm is not named:
            raise ValueError(f"is of {algorithm}, but key_algorithm is {named}")
        return text


class ClaimBody(OfMachineKey):
    """A machine asks to be claimed; `board`: the serial number of its board, for people."""

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


class RenewBody(OfMachineKey):
    """A machine asks for a new certificate for the key that it has."""

    machine_id: Annotated[str, Field(strict=True, min_length=1, max_length=64)]


class Renewed(Body):
    """The new certificate."""

    certificate: Pem
    not_before: str
    not_after: str
