"""Relay and input modules and instruments with one value: what they do when the daemon asks."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from edge_agent.drivers.boards import Device, TimedRelay, outputs_of
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.modbus import build_frame, parse_reply
from edge_agent.drivers.profiles import BusNeeds, load_profile
from edge_agent.drivers.requests import Request
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.drivers.simulated.world import World
from edge_agent.model import Door
from tests.drivers.simulated.test_devices import MS, PROFILES, Bench


def pulses(world: World) -> list[tuple[str, int | None]]:
    return [(a.label, a.duration_ms) for a in world.actuations()]


class Direct:
    """A bus without a wire: the daemon's requests go straight into the device."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def transact(
        self, address: int, request: Request, needs: BusNeeds, priority: Priority, deadline_s: float
    ) -> list[int]:
        reply = self.bench.slave.answer(build_frame(address, request), self.bench.clock.now)
        assert reply is not None
        return parse_reply(address, request, reply)


def test_a_plain_off_is_ignored_while_a_delay_runs_and_a_cancel_is_not() -> None:
    bench = Bench("eletechsup-r4d8a08")
    bench.exchange("01 06 00 01 06 05")
    bench.exchange("01 06 00 01 02 00")
    bench.exchange("01 06 00 00 08 00")
    bench.clock.advance(4_999 * MS)
    assert bench.exchange("01 03 00 01 00 01") == "01 03 02 00 01"
    bench.clock.advance(1 * MS)
    assert bench.exchange("01 03 00 01 00 01") == "01 03 02 00 00"
    bench.exchange("01 06 00 01 06 05")
    bench.clock.advance(1_000 * MS)
    bench.exchange("01 06 00 01 06 00")
    assert pulses(bench.world) == [("A01", 5000), ("A01", 1000)]


def test_the_other_commands_of_the_eletechsup() -> None:
    bench = Bench("eletechsup-r4d8a08")
    bench.exchange("01 06 00 02 05 00")
    bench.clock.advance(1_000 * MS)
    bench.exchange("01 06 00 03 01 00")
    bench.exchange("01 06 00 03 06 00")  # nothing to cancel
    bench.exchange("01 06 00 04 03 00")
    assert bench.exchange("01 03 00 01 00 04") == "01 03 08 00 00 00 00 00 01 00 01"
    bench.clock.advance(50 * MS)
    bench.exchange("01 06 00 03 02 00")
    bench.exchange("01 06 00 04 03 00")
    assert pulses(bench.world) == [("A02", 1000), ("A03", 50), ("A04", 50)]
    bench.exchange("01 06 00 00 07 00")
    assert bench.exchange("01 03 00 08 00 01") == "01 03 02 00 01"
    bench.exchange("01 06 00 00 08 00")
    assert bench.exchange("01 03 00 01 00 08") == "01 03 10" + " 00" * 16


@pytest.mark.parametrize("profile", ["eletechsup-r4d8a08", "lc-modbus-8r", "waveshare-relay-8ch"])
@pytest.mark.parametrize("channel", [1, 8])
def test_the_daemon_holds_a_relay_and_has_it_off_at_once(profile: str, channel: int) -> None:
    bench = Bench(profile)
    found = load_profile(PROFILES / f"{profile}.toml")
    assert found.relays is not None
    device = Device("climate", cast("BusOwner", Direct(bench)), 1, found.bus)
    relay, outputs = TimedRelay(device, found.relays, channel), outputs_of(device, found)
    assert outputs is not None
    label = f"A{channel:02}"
    for off in (relay.off, outputs.all_off):
        asyncio.run(relay.hold(20_000))
        bench.clock.advance(1_000 * MS)
        assert bench.world.cell(label).solenoid
        asyncio.run(off())
        assert not bench.world.cell(label).solenoid
    asyncio.run(relay.hold(20_000))
    bench.clock.advance(20_000 * MS)
    assert pulses(bench.world) == [(label, 1000), (label, 1000), (label, 20_000)]


def test_flash_of_the_lc_board() -> None:
    bench = Bench("lc-modbus-8r")
    bench.doors_open("A02")
    assert bench.exchange("01 02 00 00 00 08") == "01 02 01 FD"
    assert bench.exchange("01 10 00 26 00 02 04 00 04 00 05") == "01 10 00 26 00 02"
    bench.clock.advance(500 * MS)
    assert pulses(bench.world) == [("A08", 500)]
    assert bench.world.cell("A08").door is Door.OPEN


def test_relays_that_are_switched_from_here() -> None:
    for profile, on, off in (
        ("cheap-4-relay", "01 05 00 02 01 00", "01 05 00 02 00 00"),
        ("moxa-e1211", "01 05 00 01 FF 00", "01 05 00 01 00 00"),
        ("moxa-e1214", "01 0F 00 01 00 01 01 01", "01 0F 00 01 00 01 01 00"),
    ):
        bench = Bench(profile)
        bench.exchange(on)
        bench.clock.advance(300 * MS)
        bench.exchange(off)
        bench.clock.advance(1_000 * MS)
        assert pulses(bench.world) == [("A02", 300)]


@pytest.mark.parametrize(
    ("profile", "request_hex", "exception_code"),
    [
        ("eletechsup-r4d8a08", "01 06 00 09 01 00", 2),
        ("eletechsup-r4d8a08", "01 06 00 01 04 00", 3),
        ("eletechsup-r4d8a08", "01 03 00 00 00 01", 2),
        ("lc-modbus-8r", "01 10 00 04 00 02 04 00 04 00 05", 2),
        ("lc-modbus-8r", "01 10 00 2B 00 02 04 00 04 00 05", 2),
        ("lc-modbus-8r", "01 10 00 03 00 02 04 00 02 00 05", 3),
        ("lc-modbus-8r", "01 10 00 03 00 02 04 00 04 00 00", 3),
        ("cheap-4-relay", "01 05 00 01 FF 00", 3),
        ("cheap-4-relay", "01 05 00 00 01 00", 2),
        ("cheap-4-relay", "01 05 00 05 01 00", 2),
        ("cheap-4-relay", "01 0F 00 00 00 01 01 01", 2),
        ("cheap-4-relay", "01 02 00 00 00 01", 1),
        ("moxa-e1211", "01 05 00 10 FF 00", 2),
        ("generic-transmitter", "01 10 00 54 00 02 04 00 00 00 01", 3),
        ("generic-transmitter", "01 10 00 50 00 01 02 00 01", 2),
        ("generic-transmitter", "01 03 00 08 00 02", 2),
        ("xy-md02", "01 03 00 01 00 01", 1),
        ("dixell", "01 03 01 01 00 01", 2),
    ],
)
def test_exceptions(profile: str, request_hex: str, exception_code: int) -> None:
    bench = Bench(profile)
    function = int(request_hex[3:5], 16) | 0x80
    assert bench.exchange(request_hex) == f"01 {function:02X} {exception_code:02X}"
    assert pulses(bench.world) == []


@pytest.mark.parametrize(
    ("profile", "body"),
    [
        ("xy-md02", "01 04 00 01 00 01"),
        ("dixell", "01 03 01 00 00 01"),
        ("pixsys-atr142", "01 03 03 E8 00 01"),
    ],
)
def test_thermometers_with_one_sensor(profile: str, body: str) -> None:
    bench = Bench(profile, first_c=-4.2)
    assert bench.exchange(body).endswith(" 02 FF D6")
    end = bench.world.kill_probe("A01")
    function = int(body[3:5], 16) | 0x80
    assert bench.exchange(body) == f"01 {function:02X} 04"
    end()
    assert bench.exchange(body).endswith(" 02 FF D6")
    unwired = Bench(profile, probes=0)
    assert unwired.exchange(body) == f"01 {function:02X} 04"


def test_the_generic_transmitter_swings_and_is_zeroed() -> None:
    bench = Bench("generic-transmitter")
    bench.doors_open("A01")
    bench.world.place("A01", 200)
    assert bench.exchange("01 03 00 08 00 01") == "01 03 02 00 20"
    bench.clock.advance(300 * MS)
    assert bench.exchange("01 03 00 08 00 01") == "01 03 02 00 00"
    assert bench.exchange("01 10 00 5E 00 01 02 00 01") == "01 10 00 5E 00 01"
    bench.world.take("A01")
    assert bench.exchange("01 03 00 50 00 02") == "01 03 04 FF FF FF 38"
    assert bench.slave.answer(with_crc(bytes.fromhex("02030050 0002")), 0) is None
