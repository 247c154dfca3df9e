"""Signs commands (Ed25519). `edge_agent.protocol.signing` defines the signed content.

PyNaCl is imported only if a key is configured.
"""

from __future__ import annotations

import base64
from pathlib import Path

from edge_agent.errors import LinkRefused
from edge_agent.mqtt.credentials import read_secret
from edge_agent.protocol.broker import key_bytes
from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY, signed_bytes


class Signer:
    """One private key and the name under which machines know it."""

    def __init__(self, seed: bytes, name: str) -> None:
        from nacl.signing import SigningKey

        self._key = SigningKey(seed)
        self._name = name

    @classmethod
    def from_file(cls, path: Path, name: str) -> Signer:
        """Raises `LinkRefused` if others can read the file, or if it is not an Ed25519 seed in base64."""
        text = read_secret(path, "the file").decode("ascii", errors="replace").strip()
        try:
            return cls(key_bytes(text), name)
        except ValueError as error:
            raise LinkRefused(f"the file {error}") from None

    @property
    def name(self) -> str:
        """The name under which machines know the key."""
        return self._name

    @property
    def public_key(self) -> str:
        """The public half, in base64."""
        return base64.b64encode(bytes(self._key.verify_key)).decode("ascii")

    def properties(self, topic: str, body: bytes) -> list[tuple[str, str]]:
        """The user properties that make a command a signed one."""
        signature = self._key.sign(signed_bytes(topic, body)).signature
        return [(SIGNATURE, base64.b64encode(signature).decode("ascii")), (SIGNATURE_KEY, self._name)]
