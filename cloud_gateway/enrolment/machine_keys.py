"""The public keys of machines, and what they have signed. With `authority.py` the only file that imports
`cryptography`."""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from edge_agent.protocol.enrolment import KeyAlgorithm, machine_key_bytes

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
"""The second: a point of P-256."""


def public_key_of(text: str) -> PublicKey:
    """A machine's public key from base64. Raises `ValueError`, also for a point that is not on P-256."""
    algorithm, key = machine_key_bytes(text)
    if algorithm is KeyAlgorithm.ED25519:
        return Ed25519PublicKey.from_public_bytes(key)
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key)


def has_signed(public_key: str, signed: bytes, signature: str) -> bool:
    """Whether a key, in base64, has made a signature, in base64: by Ed25519, or by ECDSA with SHA-256."""
    try:
        key, raw = public_key_of(public_key), base64.b64decode(signature, validate=True)
        if isinstance(key, Ed25519PublicKey):
            VerifyKey(key.public_bytes_raw()).verify(signed, raw)  # refuses weak keys, which OpenSSL does not
        else:
            key.verify(raw, signed, ECDSA(SHA256()))
    except (BadSignatureError, InvalidSignature, ValueError):
        return False
    return True
