"""Who answers: scans of simulated buses in virtual time, beside the daemon's work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_agent.console.api import ConsolePort, create_app
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.profiles import TemperatureCapability, load_profile
from edge_agent.drivers.requests import Read
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.devices import Wiring, build_device
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.drivers.simulated.trace import TraceCable
from edge_agent.drivers.trace import TraceFrame
from edge_agent.drivers.transport import Transport
from edge_agent.errors import Refusal
from edge_agent.service.bus_scan import Scans, addresses_of, patient_needs, reads_of
from edge_agent.service.bus_service import BusPlace, Placed
from tests.support.site import Site, at_site
from tools.bench.settings import REPOSITORY
from tools.simulate.virtual_loop import VirtualLoop

PROFILES = REPOSITORY / "config" / "devices"


def placed(name: str, address: int, profile: str) -> Placed:
    return Placed(name, address, profile, load_profile(PROFILES / f"{profile}.toml"))


def uses_modbus(path: Path) -> bool:
    return load_profile(path).bus.protocol == "modbus"


class Talker:
    """Answers the first read with `answers` in turn, then with the last one; everything else with a no."""

    def __init__(self, address: int, *answers: bytes) -> None:
        self.address = address
        self.answers = list(answers)

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        if frame[1:6] != bytes([3, 0, 0, 0, 1]):
            return with_crc(bytes([self.address, frame[1] | 0x80, 2]))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def on_wire(
    test: Callable[[BusPlace], Awaitable[None]],
    wire: Callable[[asyncio.AbstractEventLoop], Transport],
    *devices: Placed,
) -> None:
    """A bus without a daemon."""

    async def run() -> None:
        bus = BusOwner("main", wire(asyncio.get_running_loop()), baud=19200, bits_per_character=10)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        await test(BusPlace(bus, "/dev/x", "modbus", 19200, (1, 255, 247), devices))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def scanned(place: BusPlace, *bounds: int | None) -> dict[int, dict[str, Any]]:
    return {row["address"]: row async for row in Scans().scan("main", place, *bounds)}


async def post(site: Site, path: str, body: dict[str, Any]) -> httpx.Response:
    agent = site.plant.agent
    assert agent is not None
    app = create_app(ConsolePort(agent.local, agent.report, agent.buses))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=None) as client:
        return await client.post(path, json=body)


def test_a_scan_finds_every_device_while_the_locker_works(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        scanning = asyncio.create_task(post(site, "/v1/bus/main/scan", {}))
        await site.reserve()
        await site.call("open-door", "res_1", "od-1", body={"reason": "help"})
        await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
        assert not scanning.done()
        response = await scanning
        rows = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
        assert [row["address"] for row in rows] == list(range(1, 248))
        assert [row["number"] for row in rows] == list(range(1, 248))
        there = {row["device"]: row["result"] for row in rows if row["result"] != "silent"}
        assert there == dict.fromkeys(agent.settings.devices, "answers")
        assert all(row["finding"] is None for row in rows)
        assert agent.loop.state.alarms == {}
        bus = agent.devices.buses["main"]
        assert bus.counters.timeouts == 247 - 13  # a silent address costs one time-out
        configured = [device.address for device in agent.settings.devices.values()]
        assert all(bus.record(address).timeouts == 0 for address in configured)
        assert bus.counters.late_replies == 0
        await asyncio.sleep(3)
        assert len(bus.devices) < 13 + 60

    at_site(tmp_path, test)


def test_a_silent_device_is_a_finding(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.plant.cables["main"].trouble.silences[11].begin(None)
        response = await post(site, "/v1/bus/main/scan", {"first": 10, "last": 12})
        rows = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
        assert [row["finding"] for row in rows] == [None, "scale_b01 does not answer", None]
        assert [row["result"] for row in rows] == ["silent", "silent", "answers"]

    at_site(tmp_path, test)


def test_unknown_buses_and_invalid_ranges_are_refused(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert (await post(site, "/v1/bus/up/scan", {})).json()["code"] == 5
        wrong: list[dict[str, Any]] = [{"first": 0}, {"last": 256}, {"first": 9, "last": 8}, {"first": "x"}]
        for body in wrong:
            assert (await post(site, "/v1/bus/main/scan", body)).json()["code"] == 3
        site.plant.cables["main"].unplug()
        await asyncio.sleep(0)
        refused = await post(site, "/v1/bus/main/scan", {})
        assert (refused.status_code, refused.json()["code"]) == (503, 14)
        site.plant.cables["main"].plug()

    at_site(tmp_path, test)


def test_unknown_devices_are_distinguished_from_silence_and_noise() -> None:
    good = with_crc(bytes([9, 3, 2, 0, 1]))
    devices = [
        Talker(9, good),
        Talker(10, with_crc(bytes([10, 0x83, 2]))),
        Talker(11, b"\x0b\x03\x02\xff\xff\x00\x00"),
        Talker(12, b"\x0c\x03\x02\xff\xff\x00\x00", with_crc(bytes([12, 3, 2, 0, 1]))),
    ]

    async def test(place: BusPlace) -> None:
        rows = await scanned(place, 8, 12)
        assert {address: row["result"] for address, row in rows.items()} == {
            8: "silent",
            9: "answers",
            10: "exception",
            11: "garbled",
            12: "answers",
        }
        assert rows[10]["exception"] == "illegal data address"
        assert rows[11]["damaged"] == 3
        assert "two devices" in rows[11]["finding"]
        assert rows[12]["damaged"] == 1
        assert [row["finding"] for address, row in rows.items() if address != 11] == [None] * 4
        assert [row["reads_like"] for row in rows.values()] == [[]] * 5

    on_wire(test, lambda loop: MemoryCable(loop, devices), placed("locks", 1, "waveshare-io-8ch"))


def test_an_unknown_device_is_described_by_what_it_answers() -> None:
    frames = [
        ("sent", bytes.fromhex("070300000001")),
        ("heard", bytes.fromhex("0703020007")),
        ("sent", bytes.fromhex("070200000008")),
        ("heard", bytes.fromhex("07020155")),
        ("sent", bytes.fromhex("070310000008")),
        ("heard", bytes.fromhex("070310") + bytes(16)),
        ("sent", bytes.fromhex("070380000001")),
        ("heard", bytes.fromhex("07030200C8")),
        ("sent", bytes.fromhex("070300000008")),
        ("heard", bytes.fromhex("078302")),
    ]
    trace = [
        TraceFrame.model_validate({"at_s": n / 20, "direction": d, "hex": with_crc(data).hex()})
        for n, (d, data) in enumerate(frames)
    ]

    async def test(place: BusPlace) -> None:
        rows = await scanned(place, 7, 7)
        assert rows[7]["reads_like"] == ["waveshare-io-8ch"]
        assert rows[7]["device"] is None

    devices = placed("locks", 1, "waveshare-io-8ch"), placed("probes", 2, "r4dcb08")
    on_wire(test, lambda loop: TraceCable(loop, trace), *devices)


MODBUS = [path.stem for path in sorted(PROFILES.glob("*.toml")) if uses_modbus(path)]


@pytest.mark.parametrize("name", MODBUS)
def test_a_good_board_answers_a_scan_whatever_it_can_do(name: str) -> None:
    """Configured, and as a stranger beside one of its kind; a relay board has no registers to read."""
    profile = load_profile(PROFILES / f"{name}.toml")
    wired = Wiring(probes={1: lambda at_ns: 20.0})
    boards = [build_device("board", name, address, wired, profile) for address in (1, 2)]

    async def test(place: BusPlace) -> None:
        rows = await scanned(place, 1, 2)
        assert [row["result"] for row in rows.values()] == ["answers", "answers"]
        assert [row["exception"] for row in rows.values()] == [None, None]
        assert [row["finding"] for row in rows.values()] == [None, None]
        assert rows[2]["reads_like"] == [name]

    on_wire(test, lambda loop: MemoryCable(loop, boards), placed("board", 1, name))


def test_a_relay_board_beside_boards_of_other_kinds_is_no_exception() -> None:
    relays = build_device("relays", "moxa-e1211", 2, Wiring())

    async def test(place: BusPlace) -> None:
        rows = await scanned(place, 2, 2)
        assert (rows[2]["result"], rows[2]["exception"], rows[2]["reads_like"]) == ("answers", None, [])

    on_wire(test, lambda loop: MemoryCable(loop, [relays]), placed("probes", 1, "r4dcb08"))


def test_a_configured_board_that_refuses_a_sign_is_asked_for_another() -> None:
    """Its firmware may lack a register that others of the family have."""
    board = build_device("relays", "waveshare-relay-8ch", 1, Wiring())

    class Older:
        address = 1

        def answer(self, frame: bytes, at_ns: int) -> bytes | None:
            return with_crc(b"\x01\x83\x02") if frame[1] == 3 else board.answer(frame, at_ns)

    async def test(place: BusPlace) -> None:
        rows = await scanned(place, 1, 1)
        assert (rows[1]["result"], rows[1]["finding"]) == ("answers", None)

    on_wire(test, lambda loop: MemoryCable(loop, [Older()]), placed("relays", 1, "waveshare-relay-8ch"))


def test_a_scan_goes_as_far_as_there_are_addresses() -> None:
    async def test(place: BusPlace) -> None:
        assert addresses_of(place, None, None) == [*range(1, 248), 255]
        assert addresses_of(place, 240, 250) == list(range(240, 251))
        assert addresses_of(place, 250, None) == [250, 255]
        with pytest.raises(Refusal):
            addresses_of(place, 5, 4)
        needs = patient_needs(place)
        assert (needs.gap_ms, needs.turnaround_ms, needs.drain_ms) == (5, 80, 200)

    devices = placed("locks", 255, "waveshare-io-8ch"), placed("probes", 2, "r4dcb08")
    on_wire(test, lambda loop: MemoryCable(loop, []), *devices)


def test_a_scan_whose_port_disappears_reports_it() -> None:
    cables: list[MemoryCable] = []

    def wire(loop: asyncio.AbstractEventLoop) -> MemoryCable:
        cables.append(MemoryCable(loop, []))
        return cables[0]

    async def test(place: BusPlace) -> None:
        asyncio.get_running_loop().call_later(0.5, cables[0].unplug)
        rows = [row async for row in Scans().scan("main", place)]
        assert "error" in rows[-1]
        assert 2 < len(rows) < 20
        scans = Scans()
        with pytest.raises(Refusal):
            scans.scan("main", place)

    on_wire(test, wire)


def test_one_scan_at_a_time() -> None:
    async def test(place: BusPlace) -> None:
        scans = Scans()
        first = scans.scan("main", place, 1, 3)
        other = scans.scan("main", place, 1, 3)
        await anext(first)
        with pytest.raises(Refusal):
            scans.scan("main", place)
        assert [row async for row in other] == [{"bus": "main", "error": "another scan was started first"}]
        assert len([row async for row in first]) == 2
        assert len([row async for row in scans.scan("main", place, 1, 3)]) == 3

    on_wire(test, lambda loop: MemoryCable(loop, []))


def test_a_board_is_never_asked_for_more_points_than_it_bears() -> None:
    """It would keep silent, count as dead, and owe a reply that bars its doors from being read."""
    doors = load_profile(PROFILES / "waveshare-io-8ch.toml").doors
    probes = load_profile(PROFILES / "r4dcb08.toml").temperature
    assert doors is not None
    assert probes is not None
    profile = load_profile(PROFILES / "waveshare-io-8ch.toml").model_copy(
        update={
            "doors": doors.model_copy(update={"channels": 16, "bulk": 8}),
            "temperature": probes.model_copy(update={"bulk": 6}),
        }
    )
    assert reads_of(profile) == [Read(2, 0, 8), Read(2, 8, 8), Read(3, 0, 6), Read(3, 6, 2)]


def test_a_thermometer_is_asked_as_the_daemon_asks_it() -> None:
    """Two registers for each probe, and a gap between them."""
    profile = load_profile(PROFILES / "r4dcb08.toml")
    assert profile.temperature is not None
    stride = {"channels": 4, "number_format": "float32", "stride": 3, "no_sensor": None}
    part = TemperatureCapability.model_validate(profile.temperature.model_dump() | stride)
    asked = reads_of(profile.model_copy(update={"temperature": part}))
    assert asked == [Read(part.function, part.address, 11)]
