"""Every profile: its published frames against the real codec, and everything the daemon sends to such a board
among them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError

from edge_agent.config.vectors import asked_by
from edge_agent.drivers.boards import (
    Device,
    DoorInputs,
    RegisterScale,
    SignalLine,
    TemperatureInputs,
    TimedRelay,
    lock_at,
    outputs_of,
)
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.lock_protocols import codec_of
from edge_agent.drivers.profiles import BusNeeds, ChannelWrite, Profile, Vector, load_profile
from edge_agent.drivers.requests import (
    AddressedRequest,
    LockStatus,
    Read,
    Request,
    Write,
    WriteCoils,
    WriteRegisters,
)
from edge_agent.drivers.simulated.devices import framing_of
from edge_agent.errors import BadReply

FOLDER = Path(__file__).resolve().parents[2] / "config" / "devices"
PROFILES = {path.stem: load_profile(path) for path in sorted(FOLDER.glob("*.toml"))}
VECTORS = [
    pytest.param(profile, vector, id=f"{name}: {vector.name}")
    for name, profile in PROFILES.items()
    for vector in profile.vectors
]
HOLD_MS = 20_000
COVERED = {"kerong-cu12": 8}
"""How many bytes of a reply the checksum covers, if not all: then three readings must agree."""


def test_every_family_of_the_hardware_notes_has_a_profile() -> None:
    assert set(PROFILES) == {
        *("waveshare-io-8ch", "waveshare-relay-8ch", "eletechsup-r4d8a08", "lc-modbus-8r", "cheap-4-relay"),
        *("moxa-e1211", "moxa-e1214", "laumas-tlb", "generic-transmitter"),
        *("r4dcb08", "xy-md02", "dixell", "pixsys-atr142"),
        *("lock-8a", "lock-8a-50", "lock-8a-9933", "kerong-cu12", "kerong-cu16", "kerong-cu48", "wkly-12"),
        *("waveshare-relay-16ch", "waveshare-relay-32ch", "waveshare-poe-relay-8ch"),
        *("waveshare-poe-relay-16ch", "waveshare-poe-relay-30ch", "waveshare-poe-relay-b"),
        *("eletechsup-n4d8b08", "eletechsup-n4d3e16", "eletechsup-n4dsc08", "eletechsup-nt48c32"),
        *("advantech-adam-4055", "advantech-adam-4056so", "advantech-adam-4068", "advantech-adam-4150"),
        *("moxa-e1212", "moxa-e1213"),
        *("wellpro-wp8025", "dini-argeo-dgt", "wkly-24"),
    }


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_says_where_its_facts_are_from(name: str) -> None:
    identity = PROFILES[name].identity
    assert identity.source
    assert identity.models
    assert not identity.hw_verified  # nothing has been seen on hardware yet


@pytest.mark.parametrize(("profile", "vector"), VECTORS)
def test_published_requests_and_replies(profile: Profile, vector: Vector) -> None:
    codec, asked = codec_of(profile.bus.protocol), asked_by(profile, vector)
    assert codec.encode(asked).hex(" ").upper() == vector.request
    if not vector.reply:
        assert vector.values is None
        return
    reply = bytes.fromhex(vector.reply)
    frame = codec.first_frame(reply, asked, [])
    assert frame is not None
    assert (frame.skipped, frame.length, frame.question) == (0, len(reply), asked)
    values = codec.parse(asked, reply)
    if vector.values is not None:
        assert values == list(vector.values)
    elif isinstance(asked.request, Read | LockStatus):
        assert values
    else:
        assert values == []


@pytest.mark.parametrize(("profile", "vector"), VECTORS)
def test_a_published_reply_is_no_answer_once_a_bit_is_wrong(profile: Profile, vector: Vector) -> None:
    codec, asked = codec_of(profile.bus.protocol), asked_by(profile, vector)
    covered = COVERED.get(profile.bus.protocol, len(bytes.fromhex(vector.reply)))
    assert profile.bus.protocol not in COVERED or codec.least_readings > 2
    for place in range(8 * min(covered, len(bytes.fromhex(vector.reply)))):
        spoilt = bytearray.fromhex(vector.reply)
        spoilt[place // 8] ^= 1 << place % 8
        with pytest.raises(BadReply):
            codec.parse(asked, bytes(spoilt))


class Recorder:
    """A bus that takes down what is sent, and answers with zeros."""

    least_readings = 1

    def __init__(self, profile: Profile, address: int) -> None:
        self.sent: list[str] = []
        self._codec = codec_of(profile.bus.protocol)
        self.device = Device("board", cast("BusOwner", self), address, profile.bus)

    async def transact(
        self, address: int, request: Request, needs: BusNeeds, priority: Priority, deadline_s: float
    ) -> list[int]:
        self.sent.append(self._codec.encode(AddressedRequest(address, request)).hex(" ").upper())
        count = request.count if isinstance(request, Read) else 0
        return [0] * (request.channels if isinstance(request, LockStatus) else count)


def acts(profile: Profile, recorder: Recorder) -> Iterator[tuple[str, list[list[str]]]]:
    """Each thing that the daemon does to a board's channel 1, and the frames of each way to do it."""

    def sent() -> list[str]:
        frames, recorder.sent = recorder.sent, []
        return frames

    if profile.lock is not None:
        ways = []
        for ms in (100, 500, 1000):
            if profile.lock.pulse.able(ms):
                asyncio.run(pulse(recorder.device, profile, ms))
                ways.append(sent())
        yield "pulse", ways
    if profile.relays is not None:
        relay = TimedRelay(recorder.device, profile.relays, 1)
        asyncio.run(relay.hold(HOLD_MS))
        yield "hold", [sent()]
        asyncio.run(relay.off())
        yield "off", [sent()]
    if profile.signal is not None:
        signal = SignalLine(recorder.device, profile.signal, 1)
        asyncio.run(signal.hold())
        yield "signal", [sent()]
        asyncio.run(signal.off())
        yield "signal off", [sent()]
    outputs = outputs_of(recorder.device, profile)
    if outputs is not None:
        asyncio.run(outputs.all_off())
        yield "all off", [of_channel_1(profile, sent())]
    if profile.doors is not None:
        asyncio.run(read(DoorInputs(recorder.device, profile.doors)))
        yield "doors", [sent()]
    if profile.scale is not None:
        asyncio.run(weigh(RegisterScale(recorder.device, profile.scale)))
        yield "weight", [sent()]
    if profile.temperature is not None:
        asyncio.run(measure(TemperatureInputs(recorder.device, profile.temperature)))
        yield "temperature", [sent()]
    for check in profile.checks:
        asyncio.run(recorder.device.ask(Read(check.function, check.address, check.count), Priority.POLL))
        yield f"check {check.name}", [sent()]


async def pulse(device: Device, profile: Profile, ms: int) -> None:
    assert profile.lock is not None
    await lock_at(device, profile.lock, 1, ms).pulse(float("inf"))
    for task in asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}:
        await task  # a pulse that is switched off from here


async def read(doors: DoorInputs) -> None:
    assert set(await doors.read_levels(Priority.WATCH)) == {0}


async def weigh(scale: RegisterScale) -> None:
    assert (await scale.read()).mass_g == 0


async def measure(thermometer: TemperatureInputs) -> None:
    assert set(await thermometer.read_all()) == {0.0}


def of_channel_1(profile: Profile, frames: list[str]) -> list[str]:
    """Where channels are switched off one by one, only those of channel 1; every channel has its address."""
    firsts, together = set(), set()
    for part in (profile.lock, profile.relays):
        if part is not None and part.all_off is not None:
            together.add(part.all_off.address)
    if profile.relays is not None:
        firsts.add(profile.relays.address)
    if profile.lock is not None and profile.lock.off is not None:
        firsts.add(profile.lock.off.address)
    channels = max(profile.channels("lock"), profile.channels("relays"))
    addresses = {int(frame[6:11].replace(" ", ""), 16) for frame in frames}
    assert addresses in (together, {*together, *(first + n for first in firsts for n in range(channels))})
    return [frame for frame in frames if int(frame[6:11].replace(" ", ""), 16) in firsts | together]


@pytest.mark.parametrize("name", PROFILES)
def test_what_the_daemon_sends_is_among_the_published_frames(name: str) -> None:
    profile = PROFILES[name]
    known = {vector.request for vector in profile.vectors}
    address = framing_of(profile.bus.protocol).addressee(bytes.fromhex(profile.vectors[0].request))
    assert address is not None
    done = []
    for act, ways in acts(profile, Recorder(profile, address)):
        assert any(frames and known >= set(frames) for frames in ways), (act, ways)
        done.append(act)
    assert done


@pytest.mark.parametrize(
    ("name", "channels"), [("kerong-cu12", 13), ("kerong-cu16", 17), ("kerong-cu48", 49), ("wkly-12", 55)]
)
def test_a_profile_has_no_channel_that_its_protocol_would_take_for_another_boards(
    name: str, channels: int
) -> None:
    """Lock 17 of a CU16 would be lock 1 of the next board: a wrong door."""
    document = PROFILES[name].model_dump()
    for part in ("lock", "doors"):
        wrong = document | {part: document[part] | {"channels": channels}}
        with pytest.raises(ValidationError, match=f"{channels - 1} channels at most"):
            Profile.model_validate(wrong)


@pytest.mark.parametrize(
    ("write", "wrong"),
    [
        ({"function": 15, "address": 0, "value": 2}, "value must be 0 or 1"),
        ({"function": 15, "address": 0, "values": [1]}, "function 15 needs value, alone"),
        ({"function": 6, "address": 0}, "function 6 needs value, alone"),
        ({"function": 16, "address": 0, "value": 1}, "function 16 needs values"),
    ],
)
def test_a_write_without_what_its_function_needs_is_refused(write: dict[str, object], wrong: str) -> None:
    """A write with function 15 is one coil: a second value would be another door's lock."""
    with pytest.raises(ValidationError, match=wrong):
        ChannelWrite.model_validate(write)


def test_a_channel_is_written_with_each_function() -> None:
    def written(**write: object) -> Request:
        return ChannelWrite.model_validate({"address": 16, "stride": 2} | write).request(3)

    assert written(function=5, value=0x5500) == Write(5, 20, 0x5500)
    assert written(function=6, value=7) == Write(6, 20, 7)
    assert written(function=15, value=1) == WriteCoils(20, (1,))
    assert written(function=16, values=(4, 7)) == WriteRegisters(20, (4, 7))
