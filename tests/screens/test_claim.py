"""A machine is claimed on the fleet page: by the code that it shows, in a real browser, at a real gateway."""

from __future__ import annotations

import base64
import json
import secrets
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import tomli_w
from nacl.signing import SigningKey
from playwright.sync_api import Browser, Page, expect

from cloud_gateway.enrolment.authority import make_authority
from cloud_gateway.operations import fleet_page
from cloud_gateway.users import Role
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
from tests.support.screens.operators import PASSWORD, operators_file
from tools.measure.rig import API_KEY, Rig, Run, rig_of

pytestmark = pytest.mark.long
MESSAGES = Path(fleet_page.__file__).parent / "messages"
SIZES = ((1280, 800), (390, 844))
PLACE = {
    "Id of the machine": "machine_731",
    "Name": "North",
    "Place": "Hall",
    "Degrees north": "52.5",
    "Degrees east": "13.4",
}


class NewMachine:
    """A machine with a key of its own that shows a code."""

    def __init__(self, base_url: str, board: str = "b1") -> None:
        self._http = httpx.Client(base_url=base_url, trust_env=False)
        self._key = SigningKey.generate()
        self.code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        public_key = base64.b64encode(bytes(self._key.verify_key)).decode()
        body = ClaimBody(
            public_key=public_key, code_hash=code_hash(self.code), board=board, agent_version="0.2.0"
        )
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


@pytest.fixture(scope="module")
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
        document = tomllib.loads(rig.files.gateway_file.read_text(encoding="utf-8"))
        document |= {"enrolment": section, "users_file": str(operators_file(rig.folder))}
        rig.files.gateway_file.write_text(tomli_w.dumps(document), encoding="utf-8")
        rig.start_broker()
        rig.start_gateway()
        yield rig


def watched_page(browser: Browser, size: tuple[int, int] = SIZES[0], name: str = "ada") -> Watched:
    """The fleet page for one person; everybody but Ada has the password of the users file."""
    password = API_KEY if name == "ada" else PASSWORD
    credentials = {"username": name, "password": password}
    return Watched(browser, *size, http_credentials=credentials, locale="en-GB")


def fill_in(page: Page, code: str, **changes: str) -> None:
    """Fills the dialog of a claim, and claims."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Code that the machine shows").fill(code)
    for label, text in (PLACE | changes).items():
        dialog.get_by_label(label, exact=True).fill(text)
    dialog.get_by_role("button", name="Claim", exact=True).click()
    expect(dialog).to_be_hidden()


def width_of(page: Page) -> int:
    """How much wider than the window the page is."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


def test_a_code_is_entered_once_and_a_wrong_one_is_refused(rig: Rig, browser: Browser) -> None:
    machine = NewMachine(rig.wall_url)
    watched = watched_page(browser)
    page = watched.page
    try:
        page.goto(f"{rig.wall_url}fleet")
        for code, shown in (("77777-77777", "code"), (shown_code(machine.code), "machine_731 is claimed.")):
            page.get_by_role("button", name="Claim a machine").click()
            assert watched.faults() == []
            fill_in(page, code)
            expect(page.locator("#claimed")).to_contain_text(shown)
        assert machine.collect().status_code == 200
        assert all("40" in error for error in watched.errors)
    finally:
        machine.close()
        watched.close()


@pytest.mark.parametrize("size", SIZES, ids=["desk", "phone"])
def test_machines_that_wait_are_listed_and_the_chosen_one_is_claimed(
    rig: Rig, browser: Browser, size: tuple[int, int]
) -> None:
    machine_id = f"machine_{size[0]}"
    one, other = NewMachine(rig.wall_url, f"one-{size[0]}"), NewMachine(rig.wall_url, f"other-{size[0]}")
    watched = watched_page(browser, size)
    page = watched.page
    try:
        page.goto(f"{rig.wall_url}fleet")
        page.get_by_role("link", name="Enrolment").click()
        expect(page.locator("#enrolment-title")).to_be_focused()
        row = page.locator("#claims-rows tr").filter(has_text=f"one-{size[0]}")
        expect(row).to_contain_text("0.2.0")
        expect(row).to_contain_text("127.0.0.1")
        assert one.code not in page.content()
        assert width_of(page) <= 0
        assert watched.faults() == []
        row.get_by_role("button", name=f"Claim the machine with board one-{size[0]}").click()
        expect(page.get_by_role("dialog")).to_contain_text(f"one-{size[0]}")
        assert watched.faults() == []
        fill_in(page, other.code, **{"Id of the machine": machine_id})
        expect(page.locator("#enrolment-answer")).to_have_text(
            "another machine shows this code, not the one that was chosen"
        )
        refused = page.locator("#attempts-rows tr").filter(has_text=machine_id)
        expect(refused).to_contain_text("another machine shows this code")
        row.get_by_role("button").click()
        fill_in(page, one.code, **{"Id of the machine": machine_id})
        expect(page.locator("#enrolment-answer")).to_have_text(f"{machine_id} is claimed.")
        expect(row).to_have_count(0)
        assert (one.collect().status_code, other.collect().status_code) == (200, 202)
        assert width_of(page) <= 0
        assert watched.faults() == []
        assert all("400" in error for error in watched.errors)
    finally:
        one.close()
        other.close()
        watched.close()


@pytest.mark.parametrize("language", ["de", "id"])
def test_enrolment_in_other_languages_and_for_roles_that_may_only_read(
    rig: Rig, browser: Browser, language: str
) -> None:
    words = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
    machine = NewMachine(rig.wall_url, f"for {language}")
    try:
        for role in (Role.READER, Role.SUPPORT):
            watched = watched_page(browser, SIZES[1], str(role))
            watched.page.goto(f"{rig.wall_url}fleet?language={language}#/-/enrolment")
            expect(watched.page.locator("#enrolment-title")).to_have_text(words["Enrolment"])
            row = watched.page.locator("#claims-rows tr").filter(has_text=f"for {language}")
            expect(row.get_by_role("button")).to_be_disabled()
            expect(row.get_by_role("button")).to_have_text(words["Claim"])
            assert width_of(watched.page) <= 0
            assert watched.faults() == []
            assert watched.errors == []
            watched.close()
    finally:
        machine.close()
