"""Which bytes of a command are signed, and which user properties carry the signature (Ed25519, RFC 8032).

The signature covers the topic, which names machine and command, and the exact body, which holds `request_id`,
`issued_at` and `expires_at`: a command cannot be sent elsewhere, sent later or changed. The Message Expiry
Interval is not covered, as brokers count it down.
"""

from __future__ import annotations

SIGNATURE = "signature"
"""User property: the signature, 64 bytes in standard base64."""
SIGNATURE_KEY = "signature-key"
"""User property: the key's name in the machine's configuration."""

_PURPOSE = b"locker-command-v1"


def signed_bytes(topic: str, body: bytes) -> bytes:
    """The bytes that are signed: purpose, topic and body, separated by a byte that no topic may hold."""
    return b"\0".join((_PURPOSE, topic.encode(), body))
