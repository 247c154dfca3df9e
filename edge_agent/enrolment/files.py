"""The files of an enrolled machine: key, certificate, the CA of the broker, and when the certificate ends."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.errors import StorageFault
from edge_agent.process.whole_file import write_whole
from edge_agent.protocol.enrolment import Enrolled, Renewed

KEY, CERTIFICATE, AUTHORITY, TERM = "key.pem", "cert.pem", "ca.pem", "certificate.json"


class CertificateTerm(BaseModel):
    """Whose certificate it is, and when it begins and ends (RFC 3339)."""

    model_config = ConfigDict(frozen=True)

    machine_id: str
    not_before: datetime
    not_after: datetime

    @property
    def renew_at_s(self) -> float:
        """When it has lived two thirds of its life, in Unix seconds."""
        begins_s, ends_s = self.not_before.timestamp(), self.not_after.timestamp()
        return begins_s + (ends_s - begins_s) * 2 / 3


def write_enrolled(folder: Path, enrolled: Enrolled) -> None:
    """Writes certificate, CA and term. Raises `OSError`."""
    write_whole(folder / AUTHORITY, enrolled.authority.encode())
    write_certificate(folder, enrolled.machine_id, enrolled)


def write_certificate(folder: Path, machine_id: str, given: Enrolled | Renewed) -> None:
    """Replaces certificate and term. Raises `OSError`."""
    term = CertificateTerm.model_validate(
        {"machine_id": machine_id, "not_before": given.not_before, "not_after": given.not_after}
    )
    write_whole(folder / CERTIFICATE, given.certificate.encode())
    write_whole(folder / TERM, term.model_dump_json().encode())


def read_term(folder: Path) -> CertificateTerm:
    """The term of the certificate in a folder. Raises `StorageFault`."""
    path = folder / TERM
    try:
        return CertificateTerm.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StorageFault(f"the certificate's term: {path}: {error}") from None
