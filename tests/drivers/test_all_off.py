"""The write that switches all outputs of a board off, by each function; outputs fail off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from edge_agent.drivers.boards import Device, outputs_of
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.decode import Decoder
from edge_agent.drivers.modbus import build_frame
from edge_agent.drivers.profiles import ConstantWrite, Profile, load_profile
from edge_agent.drivers.requests import Request, Write, WriteCoils, WriteRegisters
from edge_agent.drivers.simulated.devices import Wiring, build_device
from edge_agent.drivers.simulated.world import CellBuild, World
from tests.support.steps import SteppedClock

PROFILES = Path(__file__).parents[2] / "config" / "devices"
WAYS: list[tuple[dict[str, Any], Request]] = [
    ({"function": 5, "address": 0xFF, "value": 0}, Write(5, 0xFF, 0)),
    ({"function": 6, "address": 0x80, "value": 0x0800}, Write(6, 0x80, 0x0800)),
    ({"function": 15, "address": 0, "values": [0, 0, 0, 0]}, WriteCoils(0, (0, 0, 0, 0))),
    ({"function": 16, "address": 0x80, "values": [0, 7]}, WriteRegisters(0x80, (0, 7))),
]


def board(all_off: dict[str, Any], **relays: Any) -> Profile:
    """Four relays that are switched by coils 0 to 3."""
    document = load_profile(PROFILES / "cheap-4-relay.toml").model_dump()
    part = {"channels": 4, "function": 5, "address": 0, "all_off": all_off} | relays
    return Profile.model_validate(document | {"lock": None, "relays": part})


class Direct:
    """A bus without a wire, to one simulated board."""

    def __init__(self, profile: Profile, world: World, clock: SteppedClock) -> None:
        labels = ("A01", "A02", "A03", "A04")
        wiring = Wiring(loads={n: world.solenoid(label) for n, label in enumerate(labels, 1)})
        self.slave = build_device("relays", "of its profile", 1, wiring, profile)
        self.clock = clock
        self.sent: list[Request] = []

    async def transact(self, address: int, request: Request, *_: object) -> list[int]:
        self.sent.append(request)
        reply = self.slave.answer(build_frame(address, request), self.clock.now)
        assert reply is not None
        assert not reply[1] & 0x80
        return []


@pytest.mark.parametrize(("all_off", "request_"), WAYS)
def test_every_output_is_off_after_one_write(all_off: dict[str, Any], request_: Request) -> None:
    clock = SteppedClock()
    labels = ["A01", "A02", "A03", "A04"]
    world = World([CellBuild(label) for label in labels], clock_ns=clock.now_ns, wall_s=lambda: 0.0)
    profile = board(all_off)
    bus = Direct(profile, world, clock)
    outputs = outputs_of(Device("relays", cast("BusOwner", bus), 1, profile.bus), profile)
    assert outputs is not None
    for address in range(4):
        bus.slave.answer(build_frame(1, Write(5, address, 0xFF00)), clock.now)
    assert [a.duration_ms for a in world.actuations()] == [None] * 4
    clock.advance(1_000_000)
    asyncio.run(outputs.all_off())
    assert bus.sent == [request_]
    assert [a.duration_ms for a in world.actuations()] == [1] * 4
    decoder = Decoder("modbus", {1: ("relays", profile)})
    assert decoder.words("sent", build_frame(1, request_)) == "-> relays(1) all outputs off"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"function": 5, "address": 0, "values": [0]}, "function 5 needs value, alone"),
        ({"function": 15, "address": 0, "value": 0}, "function 15 needs values, alone"),
        ({"function": 16, "address": 0}, "function 16 needs values, alone"),
        ({"function": 15, "address": 0, "values": [0, 0xFF00]}, "each of values must be 0 or 1"),
        ({"function": 16, "address": 0, "values": [0] * 124}, "at most 123"),
    ],
)
def test_a_write_of_constants_has_what_its_function_needs(document: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ConstantWrite.model_validate(document)


@pytest.mark.parametrize(
    ("all_off", "relays", "left"),
    [
        ({"function": 15, "address": 0, "values": [0, 0, 0]}, {}, "4"),
        ({"function": 15, "address": 1, "values": [0, 0, 0, 0]}, {}, "1"),
        ({"function": 15, "address": 0, "values": [0, 1, 0, 1]}, {}, "2, 4"),
        ({"function": 5, "address": 0, "value": 0}, {}, "2, 3, 4"),
        ({"function": 15, "address": 0, "values": [0, 0, 0, 0]}, {"off": 0xFF00, "on": 0}, "1, 2, 3, 4"),
        (
            {"function": 16, "address": 1, "values": [2, 2, 2, 0]},
            {"function": 6, "address": 1, "off": 2},
            "4",
        ),
    ],
)
def test_a_write_that_leaves_an_output_on_is_refused(
    all_off: dict[str, Any], relays: dict[str, Any], left: str
) -> None:
    with pytest.raises(ValidationError, match=f"all_off does not switch off channels {left} \\["):
        board(all_off, **relays)


def test_locks_and_signals_are_held_to_it_too() -> None:
    document = load_profile(PROFILES / "cheap-4-relay.toml").model_dump() | {"relays": None}
    short = {"function": 15, "address": 1, "values": [0, 0]}
    lock = document["lock"]
    assert lock is not None
    with pytest.raises(ValidationError, match="all_off does not switch off channels 3, 4"):
        Profile.model_validate(document | {"lock": lock | {"all_off": short}})
    with pytest.raises(ValidationError, match="all_off does not switch off channels 3, 4"):
        Profile.model_validate(document | {"lock": lock | {"off": None, "all_off": short}})
    signal = {
        "channels": 4,
        "on": {"function": 15, "address": 1, "value": 1},
        "off": {"function": 15, "address": 1, "value": 0},
    }
    with pytest.raises(ValidationError, match="all_off does not switch off channels 3, 4"):
        Profile.model_validate(document | {"signal": signal | {"all_off": short}})
    whole = {"function": 15, "address": 1, "values": [0, 0, 0, 0]}
    assert Profile.model_validate(document | {"signal": signal | {"all_off": whole}}).signal is not None
