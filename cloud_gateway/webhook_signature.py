"""Signs webhooks by Standard Webhooks, version 1 (github.com/standard-webhooks/standard-webhooks).

The signed content is `ID.TIMESTAMP.BODY`; the signature is its HMAC-SHA256 in base64, after `v1,`. A platform
may have two secrets while it replaces one: each webhook then carries a signature by each of them.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence

PREFIX = "whsec_"
KEY_BYTES = (24, 64)
"""The fewest and the most bytes of a secret (Standard Webhooks, "Signature scheme")."""


def key_of(secret: str) -> bytes:
    """The key in a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`. Raises `ValueError`."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"must begin with {PREFIX}")
    try:
        text = secret.removeprefix(PREFIX).rstrip("=")
        key = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError(f"must be base64 after {PREFIX}") from None
    least, most = KEY_BYTES
    if not least <= len(key) <= most:
        raise ValueError(f"must hold {least} to {most} bytes in base64, not {len(key)}")
    return key


def signed_headers(webhook_id: str, body: bytes, at_s: int, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of a webhook that is sent `at_s` (Unix seconds), with a signature by each key.

    `webhook_id` is the same for every attempt of one webhook.
    """
    content = f"{webhook_id}.{at_s}.".encode() + body
    signatures = [b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
