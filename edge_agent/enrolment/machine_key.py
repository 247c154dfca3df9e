"""The machine's own key in a file (Ed25519), by which it is enrolled and proves itself to the broker; imports
PyNaCl. A key in a TPM is in `tpm_key.py`."""

from __future__ import annotations

import base64
from pathlib import Path

from edge_agent.errors import ConfigError, Finding
from edge_agent.process.whole_file import write_whole
from edge_agent.protocol.enrolment import KeyAlgorithm, signed_request

_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
"""What stands before the 32 bytes of the key (RFC 8410, 7)."""
_BEGIN, _END = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"


class MachineKey:
    """A private key; it never leaves the machine."""

    algorithm = KeyAlgorithm.ED25519

    def __init__(self, seed: bytes) -> None:
        from nacl.signing import SigningKey  # only machines that are enrolled need it

        self._key = SigningKey(seed)

    @classmethod
    def make(cls) -> MachineKey:
        """A new key."""
        from nacl.signing import SigningKey

        return cls(bytes(SigningKey.generate()))

    @classmethod
    def read(cls, path: Path) -> MachineKey:
        """The key in a file. Raises `ConfigError`."""
        try:
            lines = path.read_text(encoding="ascii").strip().splitlines()
            raw = base64.b64decode("".join(lines[1:-1]), validate=True)
        except (OSError, ValueError) as error:
            raise ConfigError([Finding("mqtt.tls.key_file", f"{path}: {error}")]) from None
        if lines[:1] != [_BEGIN] or not raw.startswith(_PKCS8) or len(raw) != len(_PKCS8) + 32:
            raise ConfigError([Finding("mqtt.tls.key_file", f"{path}: must be an Ed25519 key")])
        return cls(raw[len(_PKCS8) :])

    def write(self, path: Path) -> None:
        """Writes the key where only its owner can read it. Raises `OSError`."""
        write_whole(path, as_pem(bytes(self._key)).encode())

    @property
    def public_key(self) -> str:
        """The public half, in base64."""
        return base64.b64encode(bytes(self._key.verify_key)).decode("ascii")

    def signature(self, path: str, body: bytes) -> str:
        """The signature of a request to the gateway, in base64."""
        signed = self._key.sign(signed_request(path, body)).signature
        return base64.b64encode(signed).decode("ascii")


def as_pem(seed: bytes) -> str:
    """A key as PKCS 8 in PEM."""
    text = base64.b64encode(_PKCS8 + seed).decode("ascii")
    return f"{_BEGIN}\n{text}\n{_END}\n"
