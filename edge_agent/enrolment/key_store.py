"""Where a machine's key is: in a file, or in a TPM."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from edge_agent.enrolment.machine_key import MachineKey
from edge_agent.enrolment.tpm_key import TpmKey
from edge_agent.errors import ConfigError, Finding
from edge_agent.mqtt.tpm_provider import TpmUnusable, in_tpm
from edge_agent.protocol.enrolment import KeyAlgorithm


class KeyStore(StrEnum):
    """Where a new key goes. `AUTO`: into the TPM if it can be used, else into a file."""

    AUTO = "auto"
    FILE = "file"
    TPM = "tpm"


class EnrolmentKey(Protocol):
    """A key that signs the machine's requests to the gateway."""

    @property
    def algorithm(self) -> KeyAlgorithm:
        """How it signs."""

    @property
    def public_key(self) -> str:
        """The public half, in base64."""

    def signature(self, path: str, body: bytes) -> str:
        """The signature of a request, in base64. Raises `ConfigError` if the key's TPM gives none."""


def read_key(path: Path) -> EnrolmentKey:
    """The key of a file, which may be in a TPM. Raises `ConfigError`."""
    return TpmKey(path) if store_of(path) is KeyStore.TPM else MachineKey.read(path)


def store_of(path: Path) -> KeyStore:
    """Where the key of a file is. Raises `ConfigError` if the file cannot be read."""
    try:
        return KeyStore.TPM if in_tpm(path.read_bytes()) else KeyStore.FILE
    except OSError as error:
        raise ConfigError([Finding("mqtt.tls.key_file", f"{path}: {error.strerror}")]) from None


def make_key(path: Path, store: KeyStore) -> tuple[EnrolmentKey, str]:
    """Makes a key and writes its file; also why an `AUTO` key is not in a TPM, else nothing.

    Raises `TpmUnusable` for a `TPM` that cannot be used, `ConfigError`, `OSError`.
    """
    why_not = ""
    if store is not KeyStore.FILE:
        try:
            return TpmKey.make(path), ""
        except TpmUnusable as problem:
            if store is KeyStore.TPM:
                raise
            why_not = str(problem)
    key = MachineKey.make()
    key.write(path)
    return key, why_not
