"""Reservation ids with a seal, which proves the platform's request that they were made for.

After the database was lost, only the machine states which platform a reservation belongs to and where its
webhooks go; the seal shows whether this gateway requested exactly that. The key is the platform's API key, so
a machine cannot make one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cloud_gateway.settings import Platform
from edge_agent.protocol.api import ReservationView

PREFIX = "res_"
NONCE_BYTES = 6
SEAL_BYTES = 6


@dataclass(frozen=True, slots=True)
class SealedRequest:
    """The content that a seal covers."""

    machine_id: str
    platform: str
    platform_order_id: str
    notes: str
    webhook_url: str


class Seals:
    """Makes and checks reservation ids with the keys of the platforms."""

    def __init__(self, platforms: Sequence[Platform]) -> None:
        self._keys = {one.name: one.api_key.get_secret_value().encode() for one in platforms}

    def new_id(self, request: SealedRequest) -> str:
        """An unguessable reservation id for a request, without dashes: in a QR text, dashes surround it."""
        nonce = secrets.token_hex(NONCE_BYTES)
        return f"{PREFIX}{nonce}{self._seal(nonce, request)}"

    def holds(self, view: ReservationView) -> bool:
        """Whether the id of a reservation was made for exactly this request of a platform."""
        text = view.reservation_id.removeprefix(PREFIX)
        nonce, seal = text[: 2 * NONCE_BYTES], text[2 * NONCE_BYTES :]
        if view.platform not in self._keys or not seal.isascii():
            return False
        request = SealedRequest(
            view.machine_id, view.platform, view.platform_order_id, view.notes, view.webhook_url
        )
        return hmac.compare_digest(seal, self._seal(nonce, request))

    def _seal(self, nonce: str, request: SealedRequest) -> str:
        parts = (
            nonce,
            request.machine_id,
            request.platform,
            request.platform_order_id,
            request.notes,
            request.webhook_url,
        )
        text = json.dumps(parts).encode()
        return hmac.digest(self._keys[request.platform], text, hashlib.sha256)[:SEAL_BYTES].hex()
