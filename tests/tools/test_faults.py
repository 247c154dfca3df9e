"""Every kind of fault of the control API, on the demo machine's hardware with a cable in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge_agent.config import load_settings
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.errors import Code, Refusal
from edge_agent.model import Door
from tools.bench.settings import REPOSITORY
from tools.bus_simulator.faults import FaultBody, Faults
from tools.simulate.plant import Plant
from tools.simulate.virtual_loop import VirtualLoop

DOORS_A = with_crc(bytes.fromhex("010200000008"))
ALL_CLOSED = with_crc(bytes.fromhex("010201FF"))
A01_OPEN = with_crc(bytes.fromhex("010201FE"))
DOORS_B = with_crc(bytes.fromhex("020200000008"))
B_CLOSED = with_crc(bytes.fromhex("020201FF"))
PULSE_A01 = with_crc(bytes.fromhex("010502000005"))
SCALE_B01 = with_crc(bytes.fromhex("0B0300070002"))
PROBE_B01 = with_crc(bytes.fromhex("050300000001"))
HEAT_B05 = with_crc(bytes.fromhex("040502040005"))


class Hardware:
    """The demo machine without an agent: a test is the master."""

    def __init__(self) -> None:
        self.plant = Plant(load_settings(REPOSITORY / "config" / "demo.toml"), seed=1)
        self.world = self.plant.world
        self.cable = self.plant.cables["main"]
        self.faults = Faults(self.world, self.plant.cables, self.plant.slaves)
        self.heard = b""
        self.lost: list[str] = []
        self.cable.open(self._hear, self.lost.append)

    def _hear(self, data: bytes) -> None:
        self.heard += data

    def begin(self, kind: str, **rest: Any) -> str:
        return self.faults.raise_fault(FaultBody(kind=kind, **rest))

    async def ask(self, request: bytes, wait_s: float = 0.3) -> bytes:
        """What is heard within a time; long enough for every pulse to have ended."""
        self.heard = b""
        self.cable.write(request)
        await asyncio.sleep(wait_s)
        return self.heard


def on_hardware(test: Callable[[Hardware], Awaitable[None]]) -> None:
    """Runs a test in virtual time."""

    async def run() -> None:
        await test(Hardware())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def grams(hardware: Hardware) -> int:
    return int.from_bytes((await hardware.ask(SCALE_B01))[3:7], "big")


def test_faults_are_listed_and_cleared_once() -> None:
    async def test(hardware: Hardware) -> None:
        first = hardware.begin("lock_jammed", target="A01")
        second = hardware.begin("noise", value=0.5)
        assert hardware.faults.all() == [
            {"id": first, "kind": "lock_jammed", "target": "A01"},
            {"id": second, "kind": "noise", "value": 0.5},
        ]
        hardware.faults.clear(first)
        assert [fault["id"] for fault in hardware.faults.all()] == [second]
        with pytest.raises(Refusal) as refused:
            hardware.faults.clear(first)
        assert refused.value.code is Code.NOT_FOUND
        with pytest.raises(Refusal):
            hardware.begin("noise", value=2)
        assert hardware.begin("echo") not in (first, second)

    on_hardware(test)


def test_jammed_until_both_are_cleared() -> None:
    async def test(hardware: Hardware) -> None:
        for fault in [hardware.begin("lock_jammed", target="A01") for _ in range(2)]:
            await hardware.ask(PULSE_A01, 1)
            assert hardware.world.cell("A01").door is Door.CLOSED
            hardware.faults.clear(fault)
        await hardware.ask(PULSE_A01, 1)
        assert hardware.world.cell("A01").door is Door.OPEN

    on_hardware(test)


@pytest.mark.parametrize(("value", "reads"), [(None, ALL_CLOSED), (0, A01_OPEN), (1, ALL_CLOSED)])
def test_a_stuck_contact(value: float | None, reads: bytes) -> None:
    async def test(hardware: Hardware) -> None:
        fault = hardware.begin("door_sensor_stuck", target="A01", value=value)
        assert await hardware.ask(DOORS_A) == reads
        hardware.world.open("A01")
        assert await hardware.ask(DOORS_A) == reads
        hardware.faults.clear(fault)
        assert await hardware.ask(DOORS_A) == A01_OPEN

    on_hardware(test)


def test_a_bouncing_contact() -> None:
    async def test(hardware: Hardware) -> None:
        hardware.begin("door_bounce", target="A01", value=1000)
        hardware.world.open("A01")
        assert {await hardware.ask(DOORS_A, 0.03) for _ in range(30)} == {ALL_CLOSED, A01_OPEN}
        await asyncio.sleep(0.2)
        assert await hardware.ask(DOORS_A) == A01_OPEN

    on_hardware(test)


def test_a_drifting_scale() -> None:
    async def test(hardware: Hardware) -> None:
        fault = hardware.begin("scale_drift", target="B01", value=60)
        await asyncio.sleep(30)
        assert await grams(hardware) == 30
        assert hardware.world.cell("B01").grams == 0
        hardware.faults.clear(fault)
        assert await grams(hardware) == 0

    on_hardware(test)


def test_a_dead_temperature_sensor() -> None:
    async def test(hardware: Hardware) -> None:
        fault = hardware.begin("temperature_sensor_dead", target="B01")
        assert await hardware.ask(PROBE_B01) == with_crc(bytes.fromhex("0503028000"))
        hardware.faults.clear(fault)
        assert await hardware.ask(PROBE_B01) == with_crc(bytes.fromhex("05030200DC"))

    on_hardware(test)


def test_outputs_that_do_not_go_off() -> None:
    async def test(hardware: Hardware) -> None:
        coil = hardware.begin("coil_stuck", target="A01")
        heater = hardware.begin("heater_stuck", target="B05")
        await hardware.ask(PULSE_A01, 5)
        await hardware.ask(HEAT_B05, 5)
        cells = {cell.label: cell for cell in hardware.world.cells()}
        assert [c for c in cells if cells[c].solenoid] == ["A01"]
        assert [c for c in cells if cells[c].heating] == ["B05"]
        hardware.faults.clear(coil)
        hardware.faults.clear(heater)
        assert not any(cell.solenoid or cell.heating for cell in hardware.world.cells())

    on_hardware(test)


@pytest.mark.parametrize("target", [2, "2", "main:2"])
def test_faults_of_a_device(target: int | str) -> None:
    async def test(hardware: Hardware) -> None:
        silent = hardware.begin("device_silent", target=target)
        assert (await hardware.ask(DOORS_A), await hardware.ask(DOORS_B)) == (ALL_CLOSED, b"")
        hardware.faults.clear(silent)
        late = hardware.begin("late_reply", target=target, value=80)
        assert await hardware.ask(DOORS_B, 0.04) == b""
        assert await hardware.ask(DOORS_A) == ALL_CLOSED + B_CLOSED
        hardware.faults.clear(late)
        assert await hardware.ask(DOORS_B, 0.02) == B_CLOSED
        ghost = hardware.begin("ghost_reply", target=target, value=1)
        assert await hardware.ask(DOORS_A) == ALL_CLOSED + B_CLOSED
        hardware.faults.clear(ghost)
        assert await hardware.ask(DOORS_A) == ALL_CLOSED

    on_hardware(test)


@pytest.mark.parametrize("target", [None, "main"])
def test_faults_of_a_bus(target: str | None) -> None:
    async def test(hardware: Hardware) -> None:
        noise = [hardware.begin("noise", target=target, value=value) for value in (1, 0)]
        assert await hardware.ask(DOORS_A) == b""
        hardware.faults.clear(noise[0])
        assert await hardware.ask(DOORS_A) == ALL_CLOSED
        delay = hardware.begin("delay_ms", target=target, value=100)
        assert (await hardware.ask(DOORS_A, 0.05), await hardware.ask(DOORS_A)) == (b"", ALL_CLOSED * 2)
        hardware.faults.clear(delay)
        echo = hardware.begin("echo", target=target)
        assert await hardware.ask(DOORS_A) == DOORS_A + ALL_CLOSED
        hardware.faults.clear(echo)
        assert await hardware.ask(DOORS_A) == ALL_CLOSED

    on_hardware(test)


def test_an_unplugged_bus_returns_when_its_last_unplug_fault_ends() -> None:
    async def test(hardware: Hardware) -> None:
        faults = [hardware.begin("bus_unplugged", target=target) for target in ("main", None)]
        assert hardware.lost == ["the cable was unplugged"]
        for fault in faults:
            with pytest.raises(Exception, match="unplugged"):
                hardware.cable.write(DOORS_A)
            hardware.faults.clear(fault)
        hardware.cable.open(hardware._hear, hardware.lost.append)
        assert await hardware.ask(DOORS_A) == ALL_CLOSED

    on_hardware(test)
