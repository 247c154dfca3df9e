"""Makes the enrolment of the configuration, from its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloud_gateway.db.store import Store
from cloud_gateway.enrolment.authority import FileAuthority
from cloud_gateway.enrolment.service import Enrolment
from cloud_gateway.settings import Settings, service_signer_of, signer_of
from edge_agent.errors import ConfigError, Finding


def make_enrolment(settings: Settings, store: Store, clock: Callable[[], float]) -> Enrolment | None:
    """None if the configuration has no `[enrolment]`. Raises `ConfigError` if its files cannot be used."""
    given = settings.enrolment
    if given is None:
        return None
    authority = FileAuthority(Path(given.ca_cert_file), Path(given.ca_key_file), given.certificate_days)
    try:
        trusted = Path(given.broker_ca_file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Finding("enrolment.broker_ca_file", str(error))]) from None
    signer, service = signer_of(settings.mqtt), service_signer_of(settings.mqtt)
    return Enrolment(
        store,
        given,
        authority,
        trusted,
        clock,
        signing_keys={} if signer is None else {signer.name: signer.public_key},
        service_keys={} if service is None else {service.name: service.public_key},
    )
