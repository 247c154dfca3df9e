"""The machine's own key in a TPM 2.0 (ECDSA on P-256: a TPM has no Ed25519); works by the command `openssl`.

The file of the key holds it wrapped: without the TPM that made it the file is of no use.
"""

from __future__ import annotations

import base64
from pathlib import Path

from edge_agent.errors import ConfigError, Finding
from edge_agent.mqtt.tpm_provider import TpmUnusable, in_tpm, require_provider, require_tpm, run_openssl
from edge_agent.process.whole_file import write_whole
from edge_agent.protocol.enrolment import KeyAlgorithm, signed_request

_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""What stands before an uncompressed point of P-256 in a SubjectPublicKeyInfo (RFC 5480, 2)."""


class TpmKey:
    """A private key that its TPM does not give away."""

    algorithm = KeyAlgorithm.ECDSA_P256_SHA256

    def __init__(self, path: Path) -> None:
        """The key of a file. Raises `ConfigError` if its TPM cannot load it."""
        self._path = path
        try:
            require_tpm()
            found = run_openssl("pkey", "-in", str(path), "-pubout", "-outform", "DER")
        except TpmUnusable as problem:
            raise _unusable(path, problem) from None
        if not found.startswith(_SPKI + b"\x04") or len(found) != len(_SPKI) + 65:
            raise ConfigError([Finding("mqtt.tls.key_file", f"{path}: must be an ECDSA key on P-256")])
        x, y = found[-64:-32], found[-32:]
        self.public_key = base64.b64encode(bytes((2 + y[-1] % 2,)) + x).decode("ascii")
        """The public half in base64: a compressed point (SEC 1, 2.3.3)."""

    @classmethod
    def make(cls, path: Path) -> TpmKey:
        """Makes a key in the TPM and writes its file. Raises `TpmUnusable`, `ConfigError`, `OSError`."""
        require_provider()
        # Without the query the default provider would make the key, in memory.
        query, curve = ("-propquery", "provider=tpm2"), ("-pkeyopt", "group:P-256")
        key = run_openssl("genpkey", *query, "-algorithm", "EC", *curve)
        if not in_tpm(key):
            raise TpmUnusable("OpenSSL has made a key outside the TPM")
        write_whole(path, key)
        return cls(path)

    def signature(self, path: str, body: bytes) -> str:
        """The signature of a request, in base64. Raises `ConfigError` if the TPM makes none."""
        given = signed_request(path, body)
        try:
            signed = run_openssl("dgst", "-sha256", "-sign", str(self._path), given=given)
        except TpmUnusable as problem:
            raise _unusable(self._path, problem) from None
        return base64.b64encode(signed).decode("ascii")


def _unusable(path: Path, problem: TpmUnusable) -> ConfigError:
    return ConfigError([Finding("mqtt.tls.key_file", f"{path}: {problem}")])
