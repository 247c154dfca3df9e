"""A board without a simulated device of its own does what its profile says."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.config import load_settings
from edge_agent.drivers.profiles import load_profile
from edge_agent.drivers.simulated.devices import Wiring, build_device
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.drivers.simulated.world import CellBuild, World
from edge_agent.model import Door
from tests.support.site import Site
from tests.support.steps import SteppedClock
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

PROFILES = Path(__file__).parents[3] / "config" / "devices"
MODBUS = sorted(file.stem for file in PROFILES.glob("*.toml") if load_profile(file).bus.protocol == "modbus")
NEW_BOARD = """
# A made-up board: sixteen relays that pulse by function 06, sixteen inputs.

[identity]
vendor = "nobody"
models = ["RB-16"]
evidence = "single-source"
source = "made up for this test"
hw_verified = false

[bus]
turnaround_ms = 30

[lock]
channels = 16

[lock.pulse]
kind = "timed"
function = 6
address = 0x0300
base = 0x0600
unit_ms = 100
min_ms = 100
max_ms = 2500

[lock.all_off]
function = 6
address = 0x03FF
value = 0x0800

[doors]
channels = 16
function = 2
address = 0x0040

[[checks]]
name = "mode"
function = 3
address = 0x1000
values = [7]
why = "in any other mode the inputs drive the relays"

[[vectors]]
name = "pulse channel 3 for 300 ms (computed)"
request = "01 06 03 02 06 03 6B 87"
reply = "01 06 03 02 06 03 6B 87"
"""


class Bench:
    """A device made from a profile alone, with 64 cells fastened to it."""

    def __init__(self, profile: str) -> None:
        self.profile = load_profile(PROFILES / f"{profile}.toml")
        self.clock = SteppedClock()
        labels = [f"A{number:02}" for number in range(1, 65)]
        self.world = World(
            [CellBuild(label, temperature_c=-3.5, grams=1250) for label in labels],
            clock_ns=self.clock.now_ns,
            wall_s=lambda: 0.0,
        )
        wiring = Wiring(
            loads={n: self.world.solenoid(label) for n, label in enumerate(labels, 1)},
            inputs={n: self.world.contact(label, 1) for n, label in enumerate(labels, 1)},
            probes={n: self.world.probe(label) for n, label in enumerate(labels, 1)},
            weigh=self.world.platform("A01"),
        )
        self.slave = build_device("board", "without a device of its own", 1, wiring, self.profile)

    def ask(self, function: int, address: int, value: int) -> bytes:
        """The reply's bytes after the address, without the checksum."""
        frame = with_crc(bytes([1, function]) + address.to_bytes(2, "big") + value.to_bytes(2, "big"))
        reply = self.slave.answer(frame, self.clock.now)
        assert reply is not None
        return reply[1:-2]


@pytest.mark.parametrize("name", [name for name in MODBUS if load_profile(PROFILES / f"{name}.toml").doors])
def test_every_door_reads_as_it_stands(name: str) -> None:
    bench = Bench(name)
    doors = bench.profile.doors
    assert doors is not None
    assert doors.function is not None
    bench.world.open("A02")
    reply = bench.ask(doors.function, doors.address, doors.points)
    data = reply[2:]
    if doors.function < 3:
        values = [data[n // 8] >> n % 8 & 1 for n in range(doors.points)]
    else:
        values = [int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2)]
    assert doors.levels(values) == [1, 0, *[1] * (doors.channels - 2)]


@pytest.mark.parametrize(
    "name", [name for name in MODBUS if load_profile(PROFILES / f"{name}.toml").temperature]
)
def test_temperatures_read_as_they_are(name: str) -> None:
    bench = Bench(name)
    part = bench.profile.temperature
    assert part is not None
    reply = bench.ask(part.function, part.address, 1)
    counts = int.from_bytes(reply[2:4], "big", signed=True)
    assert counts * part.degrees_per_count == pytest.approx(-3.5, abs=part.degrees_per_count)


@pytest.mark.parametrize("name", [name for name in MODBUS if load_profile(PROFILES / f"{name}.toml").scale])
def test_a_scale_reads_what_lies_on_it(name: str) -> None:
    bench = Bench(name)
    part = bench.profile.scale
    assert part is not None
    bench.clock.now += 10 * 10**9
    reply = bench.ask(part.function, part.address, part.count)
    words = [int.from_bytes(reply[2 + 2 * n : 4 + 2 * n], "big") for n in range(part.count)]
    pair = words[part.mass_offset : part.mass_offset + 2]
    high, low = pair if part.word_order == "high-first" else reversed(pair)
    assert (high << 16 | low) * part.grams_per_count == pytest.approx(1250)
    status = words[part.status_offset]
    if part.status_address is not None:
        status = int.from_bytes(bench.ask(part.function, part.status_address, 1)[2:4], "big")
    if part.stable_bit is not None:
        assert status >> part.stable_bit & 1 == part.stable_level
    assert not status & part.error_mask


DISCRETE = """function = 2
address = 0x0040
"""
DOORS = {
    "discrete inputs": DISCRETE,
    "coils": "function = 1\naddress = 0x0200\n",
    "a register each": 'function = 3\naddress = 0x0081\nregisters = "each"\n',
    "input registers each": 'function = 4\naddress = 0x0081\nregisters = "each"\nbulk = 5\n',
    "a mask": 'function = 3\naddress = 0x0081\nregisters = "mask"\n',
    "a mask of two registers": 'function = 4\naddress = 0x0081\nregisters = "mask"\nfirst_bit = 5\n',
}
"""How boards give their inputs."""


def cabinet(folder: Path, doors: str) -> Path:
    """A machine of four cells on the new board."""
    (folder / "devices").mkdir()
    (folder / "devices" / "rb-16.toml").write_text(NEW_BOARD.replace(DISCRETE, doors))
    cells: list[dict[str, Any]] = [
        {
            "label": f"A{n:02}",
            "cell_id": f"cell_{n}",
            "size": "only",
            "lock": {"device": "board", "channel": n},
            "door": {"device": "board", "channel": 17 - n},
        }
        for n in (1, 2, 15, 16)
    ]
    file = folder / "machine.toml"
    document = {
        "machine": {
            "machine_id": "machine_123",
            "name": "new board",
            "location": "here",
            "latitude": 1.0,
            "longitude": 1.0,
        },
        "mqtt": {"host": "127.0.0.1"},
        "paths": {"profiles": "devices", "volatile": True},
        "doors": {"closed_level": 1},
        "buses": {"main": {"port": "/dev/ttyUSB0", "baud": 19200}},
        "devices": {"board": {"bus": "main", "address": 5, "profile": "rb-16"}},
        "sizes": {"only": {"width_mm": 350, "height_mm": 250, "depth_mm": 450, "max_mass_g": 10_000}},
        "cells": cells,
    }
    file.write_text(tomli_w.dumps(document))
    return file


SIGNALS = {
    "coils": """
[signal.on]
function = 5
address = 0x0050
value = 0xFF00
[signal.off]
function = 5
address = 0x0050
value = 0
""",
    "several coils": """
[signal.on]
function = 15
address = 0x0050
value = 1
[signal.off]
function = 15
address = 0x0050
value = 0
""",
    "a register each, other values": """
[signal.on]
function = 6
address = 0x0050
stride = 2
value = 0x0102
[signal.off]
function = 6
address = 0x0050
stride = 2
value = 0x0201
""",
    "several registers, with a time": """
[signal.on]
function = 16
address = 0x0050
stride = 2
values = [1, 0]
[signal.off]
function = 16
address = 0x0050
stride = 2
values = [0, 0]
[signal.pulse]
function = 16
address = 0x0050
stride = 2
before = [1]
unit_ms = 1000
min_ms = 1000
max_ms = 60000
""",
}
"""How boards switch their lights."""


@pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)
def test_lights_of_a_new_board_are_in_its_file(tmp_path: Path, signal: str) -> None:
    """Each door's own light comes on with it, by every function, and none is left on."""

    async def run() -> None:
        file = cabinet(tmp_path, DISCRETE)
        profile = tmp_path / "devices" / "rb-16.toml"
        profile.write_text(f"{profile.read_text()}\n[signal]\nchannels = 16\nown_outputs = true\n{signal}")
        document = tomllib.loads(file.read_text())
        for cell in document["cells"]:
            cell["signal"] = {"device": "board", "channel": cell["lock"]["channel"]}
        file.write_text(tomli_w.dumps(document))
        site = Site(Plant(with_journal(load_settings(file), tmp_path / "journal.sqlite"), 7))
        site.plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in site.plant.broker.retained)
        assert site.plant.agent is not None
        world = site.plant.world

        def lit() -> list[str]:
            return [cell.label for cell in world.cells() if cell.signal]

        for label in ("A15", "A02"):
            assert (await site.plant.agent.local.open_cell(label, "a look")).refusal is None
            await asyncio.sleep(0.5)
            assert lit() == [label]
            world.close(label)
            await asyncio.sleep(0.5)
            assert lit() == []
        await site.plant.agent.local.open_cell("A16", "a look")
        await site.until(lambda: lit() == ["A16"], 1)
        await site.plant.stop()
        assert lit() == []
        assert [moved for _, _, moved in world.pulses_seen] == ["A15", "A02", "A16"]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize("doors", DOORS.values(), ids=DOORS)
def test_f4_a_new_board_is_one_new_file(tmp_path: Path, doors: str) -> None:
    """From its profile alone it is driven by the production composition and simulated: a whole life."""

    async def life(site: Site) -> None:
        made = await site.reserve()
        reply = await site.call("dropoff", "res_1")
        label = reply["result"]["cell"]["description"]
        world = site.plant.world
        assert world.cell(label).door is Door.OPEN
        world.place(label, 500)
        world.close(label)
        await site.until(lambda: len(site.published("DROPOFF")) == 1)
        assert site.plant.agent is not None
        answer = await site.plant.agent.local.enter_code(made["pickup_code"])
        assert (answer.refusal, answer.cell) == (None, label)
        await site.until(lambda: len(site.published("PICKUP")) == 1)
        assert [moved for _, wires, moved in world.pulses_seen if wires != moved] == []
        assert len(world.pulses_seen) == 2

    async def run() -> None:
        settings = load_settings(cabinet(tmp_path, doors))
        site = Site(Plant(with_journal(settings, tmp_path / "journal.sqlite"), 7))
        site.plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in site.plant.broker.retained)
        shown = json.loads(site.plant.broker.retained["locker/v1/machine_123/state/machine"])
        assert len(shown["all_cells"]) == 4
        await life(site)
        await site.plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
