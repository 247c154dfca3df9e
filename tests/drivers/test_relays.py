"""A heater's or cooler's relay: which frames hold it on, and which one switches it off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from edge_agent.drivers.boards import Device, TimedRelay
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.modbus import build_frame
from edge_agent.drivers.profiles import BusNeeds, RelaysCapability, load_profile
from edge_agent.drivers.requests import Request

PROFILE = Path(__file__).resolve().parents[2] / "config" / "devices" / "waveshare-relay-8ch.toml"


class Wire:
    """Takes down what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Priority]] = []

    async def transact(
        self, address: int, request: Request, needs: BusNeeds, priority: Priority, deadline_s: float
    ) -> list[int]:
        assert deadline_s == float("inf")
        self.sent.append((build_frame(address, request)[:-2].hex(" ").upper(), priority))
        return []


def relay(channel: int, *, pulse: bool) -> tuple[TimedRelay, Wire]:
    relays = load_profile(PROFILE).relays
    assert relays is not None
    fields = relays.model_dump() if pulse else relays.model_dump() | {"pulse": None}
    wire = Wire()
    device = Device("climate", cast("BusOwner", wire), 4, BusNeeds())
    return TimedRelay(device, RelaysCapability.model_validate(fields), channel), wire


@pytest.mark.behaviour("climate-08")
@pytest.mark.parametrize(
    ("channel", "pulse", "on", "off"),
    [
        (1, True, "04 05 02 00 00 C8", "04 05 00 00 00 00"),
        (8, True, "04 05 02 07 00 C8", "04 05 00 07 00 00"),
        (3, False, "04 05 00 02 FF 00", "04 05 00 02 00 00"),
    ],
)
def test_a_relay_is_held_by_pulses_where_the_board_has_them(
    channel: int, pulse: bool, on: str, off: str
) -> None:
    made, wire = relay(channel, pulse=pulse)
    assert (made.board, made.timed) == ("climate", pulse)
    asyncio.run(made.hold(20_000))
    asyncio.run(made.off())
    assert wire.sent == [(on, Priority.POLL), (off, Priority.WATCH)]


def test_a_board_that_ignores_an_off_during_a_pulse_gets_a_cancel_first() -> None:
    relays = load_profile(PROFILE.with_name("eletechsup-r4d8a08.toml")).relays
    assert relays is not None
    wire = Wire()
    made = TimedRelay(Device("climate", cast("BusOwner", wire), 4, BusNeeds()), relays, 3)
    asyncio.run(made.hold(20_000))
    asyncio.run(made.off())
    assert [frame for frame, _ in wire.sent] == [
        "04 06 00 03 06 14",
        "04 06 00 03 06 00",
        "04 06 00 03 02 00",
    ]
