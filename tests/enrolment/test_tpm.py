"""A machine's key in a TPM: a software TPM, a real gateway, a real broker that demands certificates."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from cloud_gateway.enrolment.authority import CERT_NAME, FileAuthority, make_authority
from cloud_gateway.enrolment.machine_keys import has_signed, public_key_of
from edge_agent.config import load_settings
from edge_agent.enrolment.files import CERTIFICATE, KEY
from edge_agent.enrolment.key_store import KeyStore, make_key, read_key, store_of
from edge_agent.enrolment.machine_key import MachineKey
from edge_agent.errors import ConfigError, LinkRefused
from edge_agent.mqtt import tpm_provider
from edge_agent.mqtt.credentials import WallTime
from edge_agent.mqtt.tpm_provider import PEM_BEGIN, PLACE, TpmUnusable
from edge_agent.protocol.enrolment import KeyAlgorithm, signed_request
from tests.cloud_gateway.enrolment.test_enrolment import Clock, enrolling
from tests.enrolment.software_tpm import software_tpm
from tests.enrolment.test_claim import Enrolled, Shown, claimed, init_arguments
from tests.support.broker import Broker
from tests.support.new_machine import NewMachine
from tests.support.pki import Authority, write_private
from tests.support.secure import LOCALHOST, Keys, SecureBroker
from tools.bench.settings import REPOSITORY

PROVIDERS = (
    "Providers:\n  default\n    version: 3.0.19\n  tpm2\n    name: TPM 2.0 Provider\n    version: {}\n"
)


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A TPM that this process would find."""
    with software_tpm(tmp_path / "tpm") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment


@pytest.fixture
def no_tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a TPM, whatever this one has."""
    monkeypatch.delenv(PLACE, raising=False)
    monkeypatch.setattr(tpm_provider, "DEVICE", tmp_path / "tpmrm0")


@contextmanager
def daemon(folder: Path, broker: SecureBroker, ca_file: Path, environment: dict[str, str]) -> Iterator[None]:
    """The daemon as a process of its own."""
    module = "tests.enrolment.tpm_machine"
    command = [sys.executable, "-m", module, str(folder), str(broker.port), str(ca_file)]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def broker_of_machines(
    folder: Path, server: Authority, clients: Path, port: int | None = None
) -> SecureBroker:
    """A broker whose users are the common names of certificates."""
    pair = server.issue("broker", hosts=(LOCALHOST, "localhost"))
    rules = ("allow_anonymous false", "use_identity_as_username true")
    made = SecureBroker(folder / f"of-{clients.stem}", pair, clients, *rules)
    made.port = made.port if port is None else port
    return made


@contextmanager
def running(broker: SecureBroker) -> Iterator[None]:
    """Runs a broker for the length of a `with`."""
    broker.start()
    try:
        yield
    finally:
        broker.stop(kill=True)


async def logged(broker: SecureBroker, number: int, text: str) -> None:
    """Waits until a broker has logged a text this often."""
    async with asyncio.timeout(30):
        while broker.log().count(text) < number:
            await asyncio.sleep(0.02)


async def test_a_key_in_a_tpm_from_the_claim_to_the_renewed_certificate(
    tmp_path: Path, broker: Broker, tpm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's certificate is of a key that is no TPM's: it is verified without the TPM."""
    server = Authority(tmp_path / "server")
    # It began an hour ago and ends in less than half an hour: two thirds of its life are over.
    async with enrolling(tmp_path, broker, certificate_days=0.02) as gateway:
        shown = await claimed(gateway, tmp_path, monkeypatch, "m1", key_store="tpm")
        assert "the machine's key is in the TPM" in shown
        folder = tmp_path / "enrolment"
        assert (folder / KEY).read_text().startswith(PEM_BEGIN)
        assert (folder / KEY).stat().st_mode & 0o777 == 0o600
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
        key = certificate.public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        assert isinstance(key.curve, SECP256R1)
        secure = broker_of_machines(tmp_path, server, tmp_path / "ca" / CERT_NAME)
        with running(secure), daemon(tmp_path, secure, server.file, tpm):
            await logged(secure, 1, "u'm1'")
            machine = Enrolled(tmp_path, str(gateway.http.base_url), Clock())
            for number in range(2, 6):
                before = machine.serial()
                await machine.renewal.check()
                assert machine.serial() != before
                await logged(secure, number, "u'm1'")  # the daemon notices the new certificate


async def test_refused_connections_leave_nothing_in_the_tpm(tmp_path: Path, tpm: dict[str, str]) -> None:
    """One connection to a TPM has room for three objects."""
    server, folder = Authority(tmp_path / "server"), tmp_path / "enrolment"
    now_s = datetime.now(UTC).timestamp()
    ca, ca_key = make_authority(tmp_path / "ca", "machines", now_s)
    folder.mkdir()
    key, _ = make_key(folder / KEY, KeyStore.TPM)
    issued = FileAuthority(ca, ca_key, 90).issue(public_key_of(key.public_key), "m1", now_s)
    (folder / CERTIFICATE).write_text(issued.certificate)
    foreign = broker_of_machines(tmp_path, server, server.file)
    with daemon(tmp_path, foreign, server.file, tpm):
        with running(foreign):
            for number in range(1, 6):
                (folder / CERTIFICATE).touch()  # ends the pause between two attempts
                await logged(foreign, number, "certificate verify failed")
        mended = broker_of_machines(tmp_path, server, ca, port=foreign.port)
        with running(mended):
            (folder / CERTIFICATE).touch()
            await logged(mended, 1, "u'm1'")


def test_the_kinds_of_keys_sign_as_the_gateway_verifies(tmp_path: Path, tpm: dict[str, str]) -> None:
    for store, algorithm in (
        (KeyStore.TPM, KeyAlgorithm.ECDSA_P256_SHA256),
        (KeyStore.FILE, KeyAlgorithm.ED25519),
    ):
        path = tmp_path / f"{store}.pem"
        key, why_not = make_key(path, store)
        assert (key.algorithm, store_of(path), why_not) == (algorithm, store, "")
        again = read_key(path)
        assert again.public_key == key.public_key
        signature = again.signature("/claims", b"{}")
        assert has_signed(key.public_key, signed_request("/claims", b"{}"), signature)
        assert not has_signed(key.public_key, signed_request("/claims", b"{ }"), signature)


def test_auto_takes_the_tpm_if_there_is_one(tmp_path: Path, tpm: dict[str, str]) -> None:
    key, why_not = make_key(tmp_path / KEY, KeyStore.AUTO)
    assert (key.algorithm, why_not) == (KeyAlgorithm.ECDSA_P256_SHA256, "")


def test_auto_without_a_tpm_takes_a_file_and_says_why(tmp_path: Path, no_tpm: None) -> None:
    key, why_not = make_key(tmp_path / KEY, KeyStore.AUTO)
    assert key.algorithm is KeyAlgorithm.ED25519
    assert why_not == f"there is no TPM 2.0: {tmp_path}/tpmrm0 is missing"


def test_a_tpm_that_was_asked_for_and_is_not_there_is_named(tmp_path: Path, no_tpm: None) -> None:
    with pytest.raises(TpmUnusable, match=r"there is no TPM 2\.0"):
        make_key(tmp_path / KEY, KeyStore.TPM)
    assert not (tmp_path / KEY).exists()


async def test_init_stops_without_the_tpm_that_was_asked_for(
    tmp_path: Path, no_tpm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, machine = Shown(monkeypatch), NewMachine(load_settings(REPOSITORY / "config" / "demo.toml"))
    missing = f"--key-store tpm: there is no TPM 2.0: {tmp_path}/tpmrm0 is missing"
    arguments = init_arguments(tmp_path, "http://127.0.0.1:1", machine.ports)
    result = await asyncio.to_thread(machine.init, *arguments, "--key-store", "tpm")
    assert result.exit_code == 2
    assert (shown.lines, machine.sent) == ([missing], [])
    MachineKey.make().write(tmp_path / "enrolment" / KEY)  # of an earlier attempt
    result = await asyncio.to_thread(machine.init, *arguments, "--key-store", "tpm")
    assert result.exit_code == 2
    assert "is a key of another kind" in shown.lines[-1]
    await asyncio.to_thread(machine.init, *arguments[:2], "--key-store", "tpm")
    assert shown.lines[-1] == "--key-store: without --claim no key is made"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (None, "the command openssl is missing (package openssl)"),
        # what Debian 12's package shows
        (PROVIDERS.format("1.1.1"), "tpm2-openssl 1.1.1 is too old: 1.3 or newer is needed"),
        ("Providers:\n  default\n    version: 3.0.19\n", "OpenSSL's provider tpm2 shows no version"),
    ],
)
def test_what_is_missing_for_a_tpm_is_named(
    tmp_path: Path, tpm: dict[str, str], monkeypatch: pytest.MonkeyPatch, program: str | None, why: str
) -> None:
    if program is not None:
        stand_in = tmp_path / "openssl"
        stand_in.write_text(f"#!/bin/sh\nprintf '%s' '{program}'\n")
        stand_in.chmod(0o755)
    keys = Keys.make(tmp_path)
    write_private(keys.client.key, f"{PEM_BEGIN}\n".encode())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TpmUnusable, match=re.escape(why)):
        make_key(tmp_path / KEY, KeyStore.TPM)
    with pytest.raises(LinkRefused, match=re.escape(f"is in a TPM that cannot be used: {why}")):
        keys.credentials().check(WallTime(datetime.now(UTC).timestamp(), synced=True))


def test_a_missing_provider_and_a_tpm_that_is_gone_are_named(
    tmp_path: Path, tpm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, f"swtpm:path={tmp_path}/none")
    with pytest.raises(TpmUnusable, match="IO failure"):
        make_key(tmp_path / KEY, KeyStore.TPM)
    monkeypatch.setenv("OPENSSL_MODULES", str(tmp_path))
    with pytest.raises(TpmUnusable, match=r"provider for a TPM is missing \(package tpm2-openssl\)"):
        make_key(tmp_path / KEY, KeyStore.TPM)


def test_the_file_of_a_key_is_of_no_use_in_another_tpm(
    tmp_path: Path, tpm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / KEY, KeyStore.TPM)
    with software_tpm(tmp_path / "thief") as environment:
        monkeypatch.setenv(PLACE, environment[PLACE])
        with pytest.raises(
            ConfigError, match=r"mqtt\.tls\.key_file: .*: the TPM does not load the key; another one made it"
        ):
            read_key(tmp_path / KEY)


def test_the_link_is_refused_while_the_keys_tpm_is_missing(tmp_path: Path, no_tpm: None) -> None:
    keys = Keys.make(tmp_path)
    write_private(keys.client.key, f"{PEM_BEGIN}\n".encode())
    with pytest.raises(
        LinkRefused, match=r"^mqtt\.tls\.key_file is in a TPM that cannot be used: there is no TPM"
    ):
        keys.credentials().check(WallTime(datetime.now(UTC).timestamp(), synced=True))
