"""What is signed of a command, and where its signature travels (Ed25519, RFC 8032).

The signature is over the topic, which names machine and command, and over the body to the byte, which holds
`request_id`, `issued_at` and `expires_at`: nothing of it can be sent elsewhere, later or changed. The Message
Expiry Interval is not covered, as brokers count it down.
"""

from __future__ import annotations

SIGNATURE = "signature"
"""User property: the signature, 64 bytes in standard base64."""
SIGNATURE_KEY = "signature-key"
"""User property: the name under which the machine's configuration knows the key."""

_PURPOSE = b"locker-command-v1"


def signed_bytes(topic: str, body: bytes) -> bytes:
    """The bytes that are signed: purpose, topic and body, set apart by a byte that no topic may hold."""
    return b"\0".join((_PURPOSE, topic.encode(), body))
