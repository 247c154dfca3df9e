"""A machine is claimed on the fleet page: by the code that it shows, in a real browser, at a real gateway."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
import tomli_w
from nacl.signing import SigningKey
from playwright.sync_api import Browser, expect

from cloud_gateway.enrolment.authority import make_authority
from edge_agent.protocol.enrolment import (
    CODE_ALPHABET,
    CODE_LENGTH,
    PREFIX,
    SIGNATURE_HEADER,
    ClaimBody,
    code_hash,
    shown_code,
    signed_request,
)
from tests.support.screens.browser import Watched
from tools.measure.rig import API_KEY, Rig, Run, rig_of

pytestmark = pytest.mark.long
PLACE = {
    "Id of the machine": "machine_731",
    "Name": "North",
    "Place": "Hall",
    "Degrees north": "52.5",
    "Degrees east": "13.4",
}


class NewMachine:
    """A machine with a key of its own that shows a code."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(base_url=base_url, trust_env=False)
        self._key = SigningKey.generate()
        self.code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        public_key = base64.b64encode(bytes(self._key.verify_key)).decode()
        body = ClaimBody(public_key=public_key, code_hash=code_hash(self.code), board="b1")
        made = self._send("POST", "/claims", body.model_dump_json().encode())
        assert made.is_success, made.text
        self._claim_id = made.json()["claim_id"]

    def collect(self) -> httpx.Response:
        """Asks for its certificate."""
        return self._send("GET", f"/claims/{self._claim_id}/certificate", b"")

    def close(self) -> None:
        """Closes its connection."""
        self._http.close()

    def _send(self, method: str, path: str, raw: bytes) -> httpx.Response:
        place = f"{PREFIX}{path}"
        signature = self._key.sign(signed_request(place, raw)).signature
        headers = {SIGNATURE_HEADER: base64.b64encode(signature).decode(), "Content-Type": "application/json"}
        return self._http.request(method, place, content=raw, headers=headers)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A broker, and a gateway that enrols machines."""
    with rig_of(Run(True, None)) as rig:
        cert, key = make_authority(rig.folder / "ca", "machines", datetime.now(UTC).timestamp())
        section = {
            "ca_cert_file": str(cert),
            "ca_key_file": str(key),
            "broker_ca_file": str(cert),
            "broker_host": "broker.example.org",
        }
        with rig.files.gateway_file.open("a", encoding="utf-8") as file:
            file.write("\n" + tomli_w.dumps({"enrolment": section}))
        rig.start_broker()
        rig.start_gateway()
        yield rig


def test_a_code_is_entered_once_and_a_wrong_one_is_refused(rig: Rig, browser: Browser) -> None:
    machine = NewMachine(rig.wall_url)
    credentials = {"username": "ada", "password": API_KEY}
    watched = Watched(browser, 1280, 800, http_credentials=credentials, locale="en-GB")
    page = watched.page
    try:
        page.goto(f"{rig.wall_url}fleet")
        for code, shown in (("77777-77777", "code"), (shown_code(machine.code), "machine_731 is claimed.")):
            page.get_by_role("button", name="Claim a machine").click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("Code that the machine shows").fill(code)
            for label, text in PLACE.items():
                dialog.get_by_label(label, exact=True).fill(text)
            assert watched.faults() == []
            dialog.get_by_role("button", name="Claim", exact=True).click()
            expect(page.locator("#claimed")).to_contain_text(shown)
        assert machine.collect().status_code == 200
        assert all("40" in error for error in watched.errors)
    finally:
        machine.close()
        watched.close()
