"""The kinds of machine keys that the gateway accepts: Ed25519, and ECDSA on P-256 with SHA-256. No other."""

from __future__ import annotations

import base64
import json
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.signing import SigningKey

from cloud_gateway.enrolment.machine_keys import has_signed, public_key_of
from edge_agent.errors import Code
from edge_agent.protocol.enrolment import (
    CODE_ALPHABET,
    CODE_LENGTH,
    PREFIX,
    SIGNATURE_HEADER,
    code_hash,
    signed_request,
)
from tests.cloud_gateway.enrolment.test_enrolment import approve, enrolling
from tests.cloud_gateway.support import Gateway
from tests.support.broker import Broker

P256 = "ecdsa-p256-sha256"
NOT_SIGNED = "the machine's key has not signed this request"


def text_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def point_of(key: ec.EllipticCurvePublicKey, form: PublicFormat = PublicFormat.CompressedPoint) -> str:
    return text_of(key.public_bytes(Encoding.X962, form))


class Machine:
    """A machine with a key of both kinds, which sends whatever a test wants."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.p256 = ec.generate_private_key(ec.SECP256R1())
        self.ed25519 = SigningKey.generate()
        self.code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))

    def by_p256(self, signed: bytes, algorithm: HashAlgorithm | None = None) -> bytes:
        return self.p256.sign(signed, ec.ECDSA(algorithm or SHA256()))

    def by_ed25519(self, signed: bytes) -> bytes:
        return self.ed25519.sign(signed).signature

    async def send(self, sign: Any, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        raw = b"" if body is None else json.dumps(body).encode()
        place = f"{PREFIX}{path}"
        signature = text_of(sign(signed_request(place, raw)))
        headers = {SIGNATURE_HEADER: signature, "Content-Type": "application/json"}
        return await self.gateway.http.request(method, place, content=raw, headers=headers)

    async def ask(self, sign: Any, **body: str) -> httpx.Response:
        return await self.send(sign, "POST", "/claims", {"code_hash": code_hash(self.code)} | body)


async def test_a_machine_with_a_key_on_p256_is_enrolled_and_renewed(tmp_path: Path, broker: Broker) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine = Machine(gateway)
        mine = {"public_key": point_of(machine.p256.public_key()), "key_algorithm": P256}
        asked = await machine.ask(machine.by_p256, **mine)
        assert asked.status_code == 202, asked.text
        assert (await approve(gateway, machine.code, "machine_1")).status_code == 201
        place = f"/claims/{asked.json()['claim_id']}/certificate"
        stolen = await machine.send(machine.by_ed25519, "GET", place, None)
        assert (stolen.status_code, stolen.json()["message"]) == (403, NOT_SIGNED)
        given = [(await machine.send(machine.by_p256, "GET", place, None)).json()]
        renewal = {"machine_id": "machine_1"} | mine
        refused = await machine.send(machine.by_ed25519, "POST", "/renewals", renewal)
        assert (refused.status_code, refused.json()["message"]) == (403, NOT_SIGNED)
        given.append((await machine.send(machine.by_p256, "POST", "/renewals", renewal)).json())
        for one in given:
            certificate = x509.load_pem_x509_certificate(one["certificate"].encode())
            assert certificate.public_key() == machine.p256.public_key()
        assert given[0]["certificate"] != given[1]["certificate"]


async def test_a_request_that_names_no_algorithm_is_of_an_ed25519_key(tmp_path: Path, broker: Broker) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine = Machine(gateway)
        public = text_of(bytes(machine.ed25519.verify_key))
        assert (await machine.ask(machine.by_ed25519, public_key=public)).status_code == 202
        named = await machine.ask(machine.by_ed25519, public_key=public, key_algorithm="ed25519")
        assert named.status_code == 202
        wrong = await machine.ask(machine.by_p256, public_key=public)
        assert (wrong.status_code, wrong.json()["code"]) == (403, Code.PERMISSION_DENIED)
        assert wrong.json()["message"] == NOT_SIGNED
        on_p256 = point_of(machine.p256.public_key())
        old = await machine.ask(machine.by_p256, public_key=on_p256)
        assert violations(old) == {"public_key": f"is of {P256}, but key_algorithm is ed25519"}


def violations(response: httpx.Response) -> dict[str, str]:
    """The fields that were refused, and why."""
    assert (response.status_code, response.json()["code"]) == (400, Code.INVALID_ARGUMENT), response.text
    found = response.json()["details"][0]["field_violations"]
    return {one["field"]: one["description"] for one in found}


async def test_other_kinds_of_keys_are_refused_by_the_name_of_the_field(
    tmp_path: Path, broker: Broker
) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        machine = Machine(gateway)
        on_p256 = point_of(machine.p256.public_key())
        for algorithm in ("rsa", "ecdsa-p384-sha384", "ECDSA-P256-SHA256", ""):
            refused = await machine.ask(machine.by_p256, public_key=on_p256, key_algorithm=algorithm)
            assert list(violations(refused)) == ["key_algorithm"]
        for key in (
            point_of(machine.p256.public_key(), PublicFormat.UncompressedPoint)[:64],
            point_of(ec.generate_private_key(ec.SECP384R1()).public_key())[:64],
            text_of(b"\x05" + bytes(32)),
            text_of(bytes(31)),
            "not base64",
            "",
        ):
            refused = await machine.ask(machine.by_p256, public_key=key, key_algorithm=P256)
            assert list(violations(refused)) == ["public_key"]
        by_sha384 = partial(machine.by_p256, algorithm=SHA384())
        wrong = await machine.ask(by_sha384, public_key=on_p256, key_algorithm=P256)
        assert (wrong.status_code, wrong.json()["message"]) == (403, NOT_SIGNED)
        assert (await gateway.http.get(f"{PREFIX}/claims/claim_x/certificate")).status_code == 404


def test_a_point_that_is_not_on_the_curve_has_signed_nothing() -> None:
    points = (text_of(b"\x02" + x.to_bytes(32)) for x in range(20))
    outside = [point for point in points if not _is_key(point)]
    assert outside
    assert not any(has_signed(point, b"", text_of(bytes(70))) for point in outside)


def _is_key(text: str) -> bool:
    try:
        public_key_of(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("signature", ["", "%", "AAAA"])
def test_a_damaged_signature_is_none(signature: str) -> None:
    machine = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not has_signed(point_of(machine), b"", signature)
    assert not has_signed(text_of(bytes(SigningKey.generate().verify_key)), b"", signature)
