"""The certificate authority of the machines.

`python -m cloud_gateway.enrolment.authority FOLDER` makes one: `machines-ca.pem` and `machines-ca.key`.
Another authority (step-ca, a hardware module) stands behind the same interface.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_gateway.enrolment.machine_keys import PublicKey
from edge_agent.errors import ConfigError, Finding
from edge_agent.mqtt.credentials import read_secret

BACKDATED_S = 3600.0
"""A certificate is valid from this long ago: a machine's clock may be behind."""
AUTHORITY_DAYS = 3650
CERT_NAME, KEY_NAME = "machines-ca.pem", "machines-ca.key"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate; times in Unix seconds."""

    certificate: str
    serial: str
    not_before_s: float
    not_after_s: float


class Authority(Protocol):
    """Issues certificates for machines."""

    def issue(self, public_key: PublicKey, machine_id: str, now_s: float) -> Issued:
        """A certificate for a machine's key, with the machine_id as common name, for clients only."""


class FileAuthority:
    """`Authority` whose key is in a file."""

    def __init__(self, cert_file: Path, key_file: Path, days: float) -> None:
        """`days`: for how long a certificate is valid. Raises `ConfigError` if the files cannot be used."""
        try:
            self._certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
            key = serialization.load_pem_private_key(read_secret(key_file, "the file"), None)
        except OSError as error:
            raise ConfigError([Finding("enrolment", f"{error.filename}: {error.strerror}")]) from None
        except ValueError as error:
            raise ConfigError([Finding("enrolment", f"{cert_file}, {key_file}: {error}")]) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError([Finding("enrolment.ca_key_file", "must be an Ed25519 key")])
        if key.public_key() != self._certificate.public_key():
            raise ConfigError([Finding("enrolment.ca_key_file", "is not the key of ca_cert_file")])
        self._key = key
        self._life = timedelta(days=days)

    def issue(self, public_key: PublicKey, machine_id: str, now_s: float) -> Issued:
        """See `Authority.issue`."""
        begins = datetime.fromtimestamp(now_s - BACKDATED_S, UTC).replace(microsecond=0)
        ends = datetime.fromtimestamp(now_s, UTC).replace(microsecond=0) + self._life
        serial = x509.random_serial_number()
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, machine_id)]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, None)
        )
        pem = made.public_bytes(serialization.Encoding.PEM).decode("ascii")
        return Issued(pem, f"{serial:x}", begins.timestamp(), ends.timestamp())


def make_authority(folder: Path, name: str, now_s: float) -> tuple[Path, Path]:
    """Makes a self-signed authority in a folder; returns the paths of certificate and key. Raises `OSError`,
    also if a file exists."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = datetime.fromtimestamp(now_s - BACKDATED_S, UTC).replace(microsecond=0)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, plain)
    paths = folder / CERT_NAME, folder / KEY_NAME
    folder.mkdir(parents=True, exist_ok=True)
    for path, content, mode in zip(
        paths, (made.public_bytes(serialization.Encoding.PEM), secret), (0o644, 0o600), strict=True
    ):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Makes an authority; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="cloud_gateway.enrolment.authority", description="makes the machines' certificate authority"
    )
    parser.add_argument("folder", type=Path, help="where its two files go")
    parser.add_argument("--name", default="parcel locker machines", help="its common name")
    options = parser.parse_args(arguments)
    try:
        made = make_authority(options.folder, options.name, datetime.now(UTC).timestamp())
    except OSError as error:
        print(f"authority: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print("# the gateway's [enrolment]")
    print(f'ca_cert_file = "{made[0]}"')
    print(f'ca_key_file = "{made[1]}"')
    print("# the broker's cafile, so that it accepts the machines (Mosquitto: require_certificate true,")
    print("# use_identity_as_username true)")
    print(f"# cafile {made[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
