"""From box to first command: `edge-agent init --claim` at a real gateway, the link to a real broker with the
issued certificate, and its renewal."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from cloud_gateway.enrolment.authority import FileAuthority, make_authority
from cloud_gateway.enrolment.machine_keys import public_key_of
from edge_agent.app.renewal import CertificateRenewal
from edge_agent.cli.init.kiosk_page import kiosk_page
from edge_agent.config import load_settings
from edge_agent.config.screen import USUAL_PORT
from edge_agent.console.screen.claim_page import claim_page
from edge_agent.enrolment.client import EnrolmentClient, GatewayUnreachable
from edge_agent.enrolment.files import CERTIFICATE, KEY, TERM, read_term
from edge_agent.enrolment.machine_key import MachineKey
from edge_agent.errors import ConfigError, Refusal
from edge_agent.model import Alarm, Instant
from edge_agent.statemachine.inputs import Condition
from tests.cloud_gateway.enrolment.test_enrolment import Clock, approve, enrolling
from tests.cloud_gateway.support import Gateway
from tests.support.broker import Broker
from tests.support.new_machine import NewMachine
from tests.support.pki import Authority
from tests.support.real_site import real_site
from tests.support.secure import LOCALHOST, SecureBroker
from tools.bench.ports import free_port
from tools.bench.settings import REPOSITORY

DAY_S = 86_400.0
CODE = re.compile(r"^\s+([2-9A-Z]{5}-[2-9A-Z]{5})\s*$", re.MULTILINE)


def init_arguments(folder: Path, url: str, ports: str) -> list[str]:
    """A whole command line; who and where the machine is comes from the gateway."""
    answers = {"ports": ports, "closed-level": "1", "profiles": str(REPOSITORY / "config" / "devices")}
    said = [word for key, value in answers.items() for word in (f"--{key}", value)]
    return ["--output", str(folder / "locker.toml"), "--claim", url, *said]


class Shown:
    """What the command shows while it waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        monkeypatch.setattr("edge_agent.cli.init.claim.problems.print", self._print)
        monkeypatch.setattr("edge_agent.cli.init.claim.POLL_S", 0.05)

    def _print(self, *objects: Any, **_: Any) -> None:
        self.lines.append(" ".join(map(str, objects)))

    def code(self) -> str | None:
        found = CODE.findall("\n".join(self.lines))
        return found[-1] if found else None


async def claimed(
    gateway: Gateway,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine_id: str = "machine_731",
    *options: str,
    at_kiosk: Callable[[Shown], object] = lambda shown: None,
    key_store: str = "file",
) -> str:
    """Runs `init --claim` while a person enters the code; the output of the command. With `options` the
    kiosk's page is served; `at_kiosk` is called while the command waits."""
    shown, machine = Shown(monkeypatch), NewMachine(load_settings(REPOSITORY / "config" / "demo.toml"))
    machine.claim_page = claim_page if options else None
    arguments = [*init_arguments(folder, str(gateway.http.base_url), machine.ports), *options]
    arguments += ["--key-store", key_store]
    running = asyncio.create_task(asyncio.to_thread(machine.init, *arguments))
    while shown.code() is None:
        assert not running.done(), running.result().output
        await asyncio.sleep(0.02)
    await asyncio.to_thread(at_kiosk, shown)
    assert (await approve(gateway, shown.code() or "", machine_id)).status_code == 201
    result = await running
    assert result.exit_code == 0, result.output
    return "\n".join([*shown.lines, result.output])


async def test_init_gets_everything_from_the_gateway(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        await claimed(gateway, tmp_path, monkeypatch)
        settings = load_settings(tmp_path / "locker.toml")
        assert settings.machine.machine_id == "machine_731"
        assert (settings.machine.name, settings.machine.location) == ("North", "Hall")
        assert settings.mqtt.host == "broker.example.org"
        assert settings.enrolment is not None
        assert settings.enrolment.url == str(gateway.http.base_url).rstrip("/")
        assert list(settings.service.keys) == ["ops"]
        folder = tmp_path / "enrolment"
        assert (folder / KEY).stat().st_mode & 0o777 == 0o600
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
        assert certificate.subject.rfc4514_string() == "CN=machine_731"
        assert (await gateway.http.get("/healthz")).status_code == 200


async def test_the_kiosks_page_shows_the_same_code_and_ends_with_the_claim(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seen = free_port(), []
    address = f"http://127.0.0.1:{port}/claim.json"

    def look(shown: Shown) -> None:
        while (code := httpx.get(address, trust_env=False).json()["code"]) is None:
            pass
        seen.append(code == shown.code())

    async with enrolling(tmp_path, broker) as gateway:
        options = ("--screen-port", str(port))
        await claimed(gateway, tmp_path, monkeypatch, "machine_731", *options, at_kiosk=look)
        assert seen == [True]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_taken_port_is_named_in_one_line_and_the_terminal_goes_on(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        async with enrolling(tmp_path, broker) as gateway:
            options = ("--screen-port", port)
            look = lambda shown: lines.extend(shown.lines)  # noqa: E731
            await claimed(gateway, tmp_path, monkeypatch, "machine_731", *options, at_kiosk=look)
    named = [line for line in lines if "screen" in line]
    assert named == [f"the kiosk's screen does not show the code: port {port}: Address already in use"]


def test_the_port_is_that_of_the_file_that_is_replaced(tmp_path: Path) -> None:
    asked: list[int] = []

    @contextmanager
    def page(port: int, language: str) -> Iterator[Callable[[str | None], None]]:
        asked.append(port)
        yield lambda code: None

    file = tmp_path / "locker.toml"
    for text in ("[screen]\nport = 8099\n", "[screen]\nport = true\n", "screen = 1\n", "not TOML", None):
        if text is None:
            file.unlink()
        else:
            file.write_text(text, encoding="utf-8")
        with kiosk_page(page, file, None):
            pass
    with kiosk_page(page, file, 8100):
        pass
    assert asked == [8099, USUAL_PORT, USUAL_PORT, USUAL_PORT, USUAL_PORT, 8100]


async def test_a_wrong_address_is_named_before_anything_is_searched(tmp_path: Path) -> None:
    machine = NewMachine(load_settings(REPOSITORY / "config" / "demo.toml"))
    for url in ("http://gateway.example.org", "gateway.example.org", "https://"):
        result = await asyncio.to_thread(machine.init, *init_arguments(tmp_path, url, machine.ports))
        assert result.exit_code == 2
        assert "https" in result.output
    assert machine.sent == []


async def test_the_issued_certificate_opens_the_broker_to_its_machine(tmp_path: Path) -> None:
    """The broker takes the common name as the user, as `config/mosquitto` does."""
    now_s = datetime.now(UTC).timestamp()
    ca, ca_key = make_authority(tmp_path / "machines", "machines", now_s)
    server = Authority(tmp_path / "server")
    key = MachineKey.make()
    (tmp_path / "m1").mkdir()
    key.write(tmp_path / "m1" / KEY)
    issued = FileAuthority(ca, ca_key, 90).issue(public_key_of(key.public_key), "m1", now_s)
    (tmp_path / "m1" / CERTIFICATE).write_text(issued.certificate)
    secure = SecureBroker(
        tmp_path / "broker",
        server.issue("broker", hosts=(LOCALHOST, "localhost")),
        ca,
        "allow_anonymous false",
        "use_identity_as_username true",
    )
    secure.start()
    files = {"ca_file": str(server.file), "cert_file": "m1/cert.pem", "key_file": "m1/key.pem"}
    try:
        mqtt = {"host": LOCALHOST, "port": secure.port, "tls": files}
        async with real_site(tmp_path, mqtt, synced=True) as site:
            await site.until(lambda: site.agent.link.up)
    finally:
        secure.stop(kill=True)


class Enrolled:
    """A machine that was enrolled, and the time that a test moves, at both sides."""

    def __init__(self, folder: Path, url: str, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.conditions: list[Condition] = []
        self.synced = True
        self.renewal = CertificateRenewal(
            url, folder / "enrolment" / KEY, self, self.conditions.append, random.Random(1)
        )

    def now(self) -> Instant:
        return Instant("boot", 0, self.clock(), self.synced)

    def serial(self) -> int:
        pem = (self.folder / "enrolment" / CERTIFICATE).read_bytes()
        return x509.load_pem_x509_certificate(pem).serial_number


async def test_the_certificate_is_renewed_at_two_thirds_of_its_life(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with enrolling(tmp_path, broker, clock) as gateway:
        await claimed(gateway, tmp_path, monkeypatch)
        machine = Enrolled(tmp_path, str(gateway.http.base_url), clock)
        first = machine.serial()
        clock.ahead_s = 59 * DAY_S
        await machine.renewal.check()
        assert machine.serial() == first
        machine.synced = False
        clock.ahead_s = 61 * DAY_S
        await machine.renewal.check()  # without the time nothing is due
        assert machine.serial() == first
        machine.synced = True
        await machine.renewal.check()
        assert machine.serial() != first
        assert read_term(tmp_path / "enrolment").not_after.timestamp() > clock() + 89 * DAY_S
        assert [one.stands for one in machine.conditions] == [False]
        assert machine.renewal.ends_s == read_term(tmp_path / "enrolment").not_after.timestamp()


async def test_a_renewal_that_fails_raises_an_alarm_thirty_days_before_the_end(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with enrolling(tmp_path, broker, clock) as gateway:
        await claimed(gateway, tmp_path, monkeypatch)
        url = str(gateway.http.base_url)
    machine = Enrolled(tmp_path, url, clock)  # the gateway is gone
    first = machine.serial()
    clock.ahead_s = 59.9 * DAY_S
    await machine.renewal.check()
    assert [one.stands for one in machine.conditions] == [False]
    clock.ahead_s = 61 * DAY_S
    await machine.renewal.check()
    await machine.renewal.check()
    assert machine.serial() == first
    (_, alarm) = machine.conditions
    assert (alarm.alarm, alarm.stands) == (Alarm.CERTIFICATE_EXPIRES, True)
    assert alarm.detail.startswith("the certificate for the broker ends at ")


def test_a_foreign_or_damaged_key_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / KEY
    for text in ("", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"mqtt\.tls\.key_file"):
            MachineKey.read(path)
    key = MachineKey.make()
    key.write(path)
    assert MachineKey.read(path).public_key == key.public_key


def test_a_gateway_that_is_not_there_or_talks_nonsense_is_unreachable(tmp_path: Path) -> None:
    client = EnrolmentClient("http://127.0.0.1:1", MachineKey.make())
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.ask("A" * 10, "b"),
        lambda: client.collect("c"),
        lambda: client.renew("m"),
    )
    for call in calls:
        with pytest.raises(GatewayUnreachable):
            call()
    assert not (tmp_path / TERM).exists()


async def test_the_gateway_s_refusal_reaches_the_technician(tmp_path: Path, broker: Broker) -> None:
    async with enrolling(tmp_path, broker) as gateway:
        client = EnrolmentClient(str(gateway.http.base_url), MachineKey.make())
        with pytest.raises(Refusal, match="no such claim"):
            await asyncio.to_thread(client.collect, "claim_x")
        with pytest.raises(Refusal, match="is not enrolled here"):
            await asyncio.to_thread(client.renew, "machine_1")
