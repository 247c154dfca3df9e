"""Enrolment through a real gateway: a thousand machines, and everybody who must not get in."""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.signing import SigningKey
from pydantic import BaseModel

from cloud_gateway.enrolment.authority import CERT_NAME, KEY_NAME, FileAuthority, main, make_authority
from cloud_gateway.settings import EnrolmentSettings
from edge_agent.errors import Code, ConfigError
from edge_agent.protocol.enrolment import (
    CODE_ALPHABET,
    CODE_LENGTH,
    PREFIX,
    SIGNATURE_HEADER,
    ClaimBody,
    RenewBody,
    code_hash,
    shown_code,
    signed_request,
)
from tests.cloud_gateway.operations.test_remote_api import with_key
from tests.cloud_gateway.support import OPERATIONS_KEY, Gateway, running_gateway, settings
from tests.support.broker import Broker

V1 = "/api/operations/v1"
ADA = httpx.BasicAuth("ada", OPERATIONS_KEY)
DAY_S = 86_400.0


class Machine:
    """A new machine with a key of its own and a claim code."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.key = SigningKey.generate()
        self.code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        self.claim_id = ""

    @property
    def public_key(self) -> str:
        return base64.b64encode(bytes(self.key.verify_key)).decode()

    async def send(
        self, method: str, path: str, body: BaseModel | None = None, key: SigningKey | None = None
    ) -> httpx.Response:
        raw = b"" if body is None else body.model_dump_json().encode()
        place = f"{PREFIX}{path}"
        signature = (key or self.key).sign(signed_request(place, raw)).signature
        headers = {SIGNATURE_HEADER: base64.b64encode(signature).decode(), "Content-Type": "application/json"}
        return await self.gateway.http.request(method, place, content=raw, headers=headers)

    async def ask(self) -> httpx.Response:
        body = ClaimBody(public_key=self.public_key, code_hash=code_hash(self.code), board="b1")
        response = await self.send("POST", "/claims", body)
        self.claim_id = response.json().get("claim_id", "")
        return response

    async def collect(self, **options: Any) -> httpx.Response:
        return await self.send("GET", f"/claims/{self.claim_id}/certificate", **options)

    async def renew(self, machine_id: str, **options: Any) -> httpx.Response:
        body = RenewBody(machine_id=machine_id, public_key=self.public_key)
        return await self.send("POST", "/renewals", body, **options)


@asynccontextmanager
async def fresh_connections(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway by a client that leaves a connection before the server does."""
    limits = httpx.Limits(max_connections=40, keepalive_expiry=0.5)
    async with httpx.AsyncClient(
        base_url=gateway.http.base_url, limits=limits, timeout=60, trust_env=False
    ) as http:
        yield Gateway(http, gateway.app)


async def approve(gateway: Gateway, code: str, machine_id: str, **changes: Any) -> httpx.Response:
    place = {"name": "North", "location": "Hall", "latitude": 52.5, "longitude": 13.4}
    body = {"code": code, "machine_id": machine_id} | place | changes
    return await gateway.http.post(f"{V1}/claims/approve", json=body, auth=ADA)


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return datetime.now(UTC).timestamp() + self.ahead_s


@asynccontextmanager
async def enrolling(
    folder: Path, broker: Broker, clock: Callable[[], float] | None = None, **changes: Any
) -> AsyncIterator[Gateway]:
    cert, key = make_authority(folder / "ca", "machines", datetime.now(UTC).timestamp())
    given = EnrolmentSettings(
        ca_cert_file=str(cert),
        ca_key_file=str(key),
        broker_ca_file=str(cert),
        broker_host="broker.example.org",
        **changes,
    )
    made = with_key(folder, settings(folder, broker.port)).model_copy(update={"enrolment": given})
    async with running_gateway(made, clock=clock or Clock()) as gateway:
        yield gateway


async def test_from_box_to_certificate_without_typing_a_key(tmp_path: Path, broker: Broker) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine = Machine(gateway)
        assert (await machine.ask()).status_code == 202
        assert (await machine.collect()).status_code == 202
        (waiting,) = (await gateway.http.get(f"{V1}/claims", auth=ADA)).json()
        assert waiting["board"] == "b1"
        assert machine.code not in str(waiting)
        typed = shown_code(machine.code).lower()
        assert (await approve(gateway, f" {typed} ", "machine_731")).status_code == 201
        enrolled = (await machine.collect()).json()
        assert enrolled["machine_id"] == "machine_731"
        assert enrolled["broker"] == {"host": "broker.example.org", "port": 8883}
        assert set(enrolled["service_keys"]) == {"ops"}
        certificate = x509.load_pem_x509_certificate(enrolled["certificate"].encode())
        assert certificate.subject.rfc4514_string() == "CN=machine_731"
        assert certificate.public_key().public_bytes_raw() == bytes(machine.key.verify_key)  # type: ignore[union-attr]
        authority = x509.load_pem_x509_certificate(enrolled["authority"].encode())
        certificate.verify_directly_issued_by(authority)
        acts = (await gateway.http.get("/operations/acts.jsonl", auth=ADA)).text
        assert '"act": "claim machine"' in acts


async def test_a_claim_code_works_once_and_a_second_use_is_shown(tmp_path: Path, broker: Broker) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine = Machine(gateway)
        await machine.ask()
        assert (await approve(gateway, machine.code, "machine_1")).status_code == 201
        again = await approve(gateway, machine.code, "machine_2")
        assert (again.status_code, again.json()["code"]) == (400, Code.NOT_ALLOWED)
        assert again.json()["message"] == "the claim code was used for machine_1 already"
        unknown = await approve(gateway, "A" * CODE_LENGTH, "machine_3")
        assert unknown.json()["message"] == "no machine shows this code"
        shown = (await gateway.http.get(f"{V1}/enrolments/attempts", auth=ADA)).json()
        assert [(one["machine_id"], one["reason"]) for one in shown] == [
            ("machine_3", "no machine shows this code"),
            ("machine_2", "the claim code was used for machine_1 already"),
        ]
        only = (await gateway.http.get(f"{V1}/enrolments", auth=ADA)).json()
        assert [one["machine_id"] for one in only] == ["machine_1"]


async def test_the_code_of_another_machine_than_the_chosen_one_is_refused(
    tmp_path: Path, broker: Broker
) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine, other = Machine(gateway), Machine(gateway)
        await machine.ask()
        await other.ask()
        wrong = await approve(gateway, other.code, "machine_1", claim_id=machine.claim_id)
        assert (wrong.status_code, wrong.json()["code"]) == (400, Code.NOT_ALLOWED)
        assert wrong.json()["message"] == "another machine shows this code, not the one that was chosen"
        other.code = machine.code
        await other.ask()  # a newer claim under the same code takes nothing from the chosen one
        right = await approve(gateway, machine.code, "machine_1", claim_id=machine.claim_id)
        assert right.status_code == 201
        assert (await machine.collect()).status_code == 200
        assert (await other.collect()).status_code == 202


async def test_a_thief_of_the_code_gets_no_certificate(tmp_path: Path, broker: Broker) -> None:
    """Who has seen the code has not the key: he can neither collect the certificate nor claim a machine of
    his own with it unnoticed."""
    async with enrolling(tmp_path, broker) as gateway:
        machine, thief = Machine(gateway), Machine(gateway)
        await machine.ask()
        thief.claim_id = machine.claim_id
        assert (await approve(gateway, machine.code, "machine_1")).status_code == 201
        stolen = await thief.collect()
        assert (stolen.status_code, stolen.json()["code"]) == (403, Code.PERMISSION_DENIED)
        assert (await machine.collect(key=thief.key)).status_code == 403
        assert (await machine.collect()).status_code == 200
        thief.code = machine.code
        await thief.ask()  # a claim of his own under the same code
        late = await approve(gateway, machine.code, "machine_1")
        assert late.status_code == 400
        unsigned = await gateway.http.get(f"{PREFIX}/claims/{machine.claim_id}/certificate")
        assert unsigned.status_code == 403


async def test_an_expired_code_is_refused(tmp_path: Path, broker: Broker) -> None:
    clock = Clock()
    async with enrolling(tmp_path, broker, clock) as gateway:
        machine = Machine(gateway)
        await machine.ask()
        clock.ahead_s = 31 * 60
        late = await approve(gateway, machine.code, "machine_1")
        assert (late.status_code, late.json()["code"]) == (404, Code.NOT_FOUND)
        assert "expired" in late.json()["message"]
        assert (await machine.collect()).json()["code"] == Code.EXPIRED


async def test_a_machine_renews_by_its_own_key_within_the_grace(tmp_path: Path, broker: Broker) -> None:
    clock = Clock()
    async with enrolling(tmp_path, broker, clock, certificate_days=90, grace_days=30) as gateway:
        machine, other = Machine(gateway), Machine(gateway)
        for one, name in ((machine, "machine_1"), (other, "machine_2")):
            await one.ask()
            assert (await approve(gateway, one.code, name)).status_code == 201
        clock.ahead_s = 119 * DAY_S
        renewed = await machine.renew("machine_1")
        assert renewed.status_code == 200
        certificate = x509.load_pem_x509_certificate(renewed.json()["certificate"].encode())
        assert certificate.not_valid_after_utc.timestamp() > clock() + 89 * DAY_S
        clock.ahead_s = 121 * DAY_S
        too_late = await other.renew("machine_2")
        assert too_late.json()["code"] == Code.PERMISSION_DENIED
        assert "claim the machine again" in too_late.json()["message"]
        await other.ask()  # the way back: the same board is claimed again
        assert (await approve(gateway, other.code, "machine_2")).status_code == 400
        assert (await approve(gateway, other.code, "machine_2", replaces=True)).status_code == 201
        assert (await other.collect()).status_code == 200


async def test_another_machine_s_certificate_is_not_renewed_and_the_attempt_is_shown(
    tmp_path: Path, broker: Broker
) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine, other = Machine(gateway), Machine(gateway)
        for one, name in ((machine, "machine_1"), (other, "machine_2")):
            await one.ask()
            await approve(gateway, one.code, name)
        for response, why in (
            (await other.renew("machine_1"), "the key is not this machine's"),
            (await machine.renew("machine_1", key=other.key), "has not signed this request"),
            (await other.renew("machine_9"), "is not enrolled here"),
        ):
            assert response.json()["code"] == Code.PERMISSION_DENIED
            assert why in response.json()["message"]
        assert (await gateway.http.post(f"{V1}/enrolments/machine_1/revoke", auth=ADA)).status_code == 204
        assert (await gateway.http.post(f"{V1}/enrolments/machine_1/revoke", auth=ADA)).status_code == 404
        assert "revoked" in (await machine.renew("machine_1")).json()["message"]
        assert (await machine.collect()).status_code == 403
        shown = (await gateway.http.get(f"{V1}/enrolments/attempts", auth=ADA)).json()
        assert [one["machine_id"] for one in shown] == ["machine_1", "machine_9", "machine_1", "machine_1"]
        assert all(one["address"] == "127.0.0.1" for one in shown)


@pytest.mark.long
async def test_a_thousand_machines_are_enrolled(tmp_path: Path, broker: Broker) -> None:
    async with enrolling(tmp_path, broker) as given, fresh_connections(given) as gateway:
        fleet = [Machine(gateway) for _ in range(1000)]
        room = asyncio.Semaphore(40)

        async def enrol(number: int, machine: Machine) -> x509.Certificate:
            async with room:
                assert (await machine.ask()).status_code == 202
                assert (await approve(gateway, machine.code, f"machine_{number}")).status_code == 201
                enrolled = (await machine.collect()).json()
                assert enrolled["machine_id"] == f"machine_{number}"
                return x509.load_pem_x509_certificate(enrolled["certificate"].encode())

        made = await asyncio.gather(*(enrol(number, one) for number, one in enumerate(fleet)))
        assert len({one.serial_number for one in made}) == 1000
        assert len((await gateway.http.get(f"{V1}/enrolments", auth=ADA)).json()) == 1000
        assert (await gateway.http.get(f"{V1}/claims", auth=ADA)).json() == []


async def test_without_the_section_nothing_is_enrolled(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        machine = Machine(gateway)
        assert (await machine.ask()).status_code == 501
        assert (await approve(gateway, "A" * 10, "machine_1")).status_code == 501


def test_the_authority_s_files_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "ca")]) == 0
    assert "ca_cert_file" in capsys.readouterr().out
    assert main([str(tmp_path / "ca")]) == 2  # nothing is overwritten
    cert, key = tmp_path / "ca" / CERT_NAME, tmp_path / "ca" / KEY_NAME
    assert key.stat().st_mode & 0o777 == 0o600
    issued = FileAuthority(cert, key, 90).issue(Ed25519PrivateKey.generate().public_key(), "m1", 1.8e9)
    assert issued.not_after_s == 1.8e9 + 90 * DAY_S
    other = make_authority(tmp_path / "other", "x", 1.8e9)
    with pytest.raises(ConfigError, match="is not the key of"):
        FileAuthority(cert, other[1], 90)
    with pytest.raises(ConfigError, match="No such file"):
        FileAuthority(tmp_path / "none", key, 90)


def test_a_machine_s_key_and_certificate_make_a_tls_context(tmp_path: Path) -> None:
    cert, key = make_authority(tmp_path / "ca", "machines", datetime.now(UTC).timestamp())
    machine = SigningKey.generate()
    public = Ed25519PublicKey.from_public_bytes(bytes(machine.verify_key))
    issued = FileAuthority(cert, key, 90).issue(public, "m1", datetime.now(UTC).timestamp())
    (tmp_path / "cert.pem").write_text(issued.certificate)
    from edge_agent.enrolment.machine_key import as_pem

    (tmp_path / "key.pem").write_text(as_pem(bytes(machine)))
    context = ssl.create_default_context(cafile=str(cert))
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
