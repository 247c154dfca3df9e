"""Frames described in words: requests, replies, damage, late and unexpected replies."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Literal

import pytest

from edge_agent.drivers.decode import Decoder, Wire, codec_for, question_of
from edge_agent.drivers.modbus import TcpCodec
from edge_agent.drivers.profiles import Profile, load_profile
from edge_agent.drivers.requests import (
    AddressedRequest,
    LockStatus,
    Read,
    Request,
    Unlock,
    Write,
    WriteCoils,
    WriteRegisters,
)
from edge_agent.drivers.simulated.slave import with_crc

PROFILES = Path(__file__).resolve().parents[2] / "config" / "devices"


def profile(name: str) -> Profile:
    return load_profile(PROFILES / f"{name}.toml")


IO = Decoder("modbus", {1: ("locks_a", profile("waveshare-io-8ch"))})


def sent(decoder: Decoder, text: str) -> str:
    return decoder.words("sent", bytes.fromhex(text))


def heard(decoder: Decoder, text: str, note: str = "") -> str:
    return decoder.words("heard", bytes.fromhex(text), note)


def test_a_board_with_a_profile_is_understood() -> None:
    assert sent(IO, "01 02 00 00 00 08 79 CC") == "-> locks_a(1) read 8 inputs from 0"
    assert heard(IO, "01 02 01 61 60 60") == "<- locks_a(1) inputs 1,6,7 high"
    assert heard(IO, with_crc(bytes([1, 2, 1, 0])).hex()) == "<- locks_a(1) inputs all low"
    pulse = with_crc(bytes.fromhex("01 05 02 02 00 03")).hex()
    assert sent(IO, pulse) == "-> locks_a(1) pulse channel 3 for 300 ms"
    assert heard(IO, pulse) == "<- locks_a(1) done"
    assert sent(IO, "01 05 00 FF 00 00 FD FA") == "-> locks_a(1) all outputs off"
    beyond = with_crc(bytes.fromhex("01 05 02 08 00 03")).hex()
    assert sent(IO, beyond) == "-> locks_a(1) write coil 520: 0x0003"


def test_relays_that_are_switched_and_boards_that_nobody_configured() -> None:
    relays = Decoder("modbus", {4: ("climate", profile("waveshare-relay-8ch"))})
    assert sent(relays, with_crc(bytes.fromhex("04 05 00 04 FF 00")).hex()) == "-> climate(4) channel 5 on"
    assert sent(relays, with_crc(bytes.fromhex("04 05 00 00 00 00")).hex()) == "-> climate(4) channel 1 off"
    assert sent(relays, "01 10 00 05 00 01 02 00 07 E7 C7") == "-> ?(1) write registers from 5: 7"
    assert heard(relays, with_crc(bytes.fromhex("01 10 00 05 00 01")).hex()) == "<- ?(1) done"
    assert sent(relays, "01 03 00 06 00 05 65 C8") == "-> ?(1) read 5 registers from 6"
    said = heard(relays, "01 03 0A 08 00 00 00 04 D2 00 00 04 D2 9E 57")
    assert said == "<- ?(1) registers from 6: 2048 0 1234 0 1234"


def test_errors_are_described() -> None:
    sent(IO, "01 02 00 00 00 08 79 CC")
    assert heard(IO, "01 82 02 C1 61") == "<- locks_a(1) exception 2: illegal data address"
    assert heard(IO, "01 02 01 60 60 60") == "<- locks_a(1) damaged: checksum is wrong"
    assert heard(IO, "01 02 01", "damaged") == "<- locks_a(1) damaged: 3 bytes, not 6"
    assert heard(IO, "FF 00", "rubbish") == "<- rubbish, 2 bytes"
    sent(IO, "01 01 00 00 00 08 3D CC")
    assert heard(IO, "01 02 01 61 60 60", "late") == "<- locks_a(1) late: inputs 1,6,7 high"
    assert heard(IO, "01 03 01 61 60 60", "late") == "<- late"
    assert heard(IO, "01 02 01 61 60 60", "unasked") == "<- unasked from locks_a(1)"
    assert sent(IO, "01 02 03") == "-> not a request that is known"
    assert heard(Decoder("modbus", {}), "01 02 03") == "<- nobody was asked"


@pytest.mark.parametrize(
    ("wire", "asked", "answered", "words"),
    [
        ("8a", "80 01 00 33 B2", "80 01 00 00 05 33 B7", ("read the contacts", "contacts 1,3 high")),
        ("8a", "8A 01 03 11 99", "8A 01 03 00 88", ("unlock 3", "done")),
        (
            "kerong-cu16",
            "02 00 30 03 35",
            "02 00 35 05 00 00 00 03 3F",
            ("read the contacts", "contacts 1,3 high"),
        ),
        ("kerong-cu48", "02 01 04 61 03 6B", "", ("unlock 5", None)),
        ("wkly", "57 4B 4C 59 09 00 82 01 83", "57 4B 4C 59 0B 00 82 00 01 00 81", ("unlock 1", "done")),
        ("wkly", "57 4B 4C 59 08 00 84 85", "", ("read the contacts", None)),
    ],
)
def test_lock_boards_are_understood(
    wire: Wire, asked: str, answered: str, words: tuple[str, str | None]
) -> None:
    decoder = Decoder(wire, {})
    assert sent(decoder, asked).endswith(f") {words[0]}")
    if answered:
        said = heard(decoder, answered)
        assert "damaged" not in said
        assert words[1] is None or said.endswith(words[1])


def test_a_late_status_of_a_lock_board_is_recognised_as_late() -> None:
    decoder = Decoder("kerong-cu16", {})
    sent(decoder, "02 00 30 03 35")
    sent(decoder, "02 0F 31 03 45")
    assert heard(decoder, "02 00 35 05 00 00 00 03 3F", "late") == "<- ?(0) late: contacts 1,3 high"
    assert heard(decoder, "02 00 35 05 00 00 00 03 3F", "unasked") == "<- unasked from ?(0)"


REQUESTS: list[tuple[Wire, Request]] = [
    ("modbus", Read(4, 1, 2)),
    ("modbus", Write(5, 0x200, 5)),
    ("modbus", Write(6, 1, 0x0501)),
    ("modbus", WriteRegisters(5, (7, 0xFFFF))),
    ("modbus", WriteCoils(3, (1,))),
    ("modbus", WriteCoils(0, (1, 0, 1, 1, 0, 0, 1, 0, 1))),
    ("modbus-tcp", WriteCoils(7, (0,))),
    ("modbus-tcp", Read(2, 0, 8)),
    ("modbus-tcp", WriteRegisters(5, (7,))),
    ("8a", Unlock(2, 0x33)),
    ("8a", LockStatus(8, 0x99)),
    ("kerong-cu12", Unlock(12)),
    ("kerong-cu12", LockStatus(12)),
    ("kerong-cu16", Unlock(16)),
    ("kerong-cu16", LockStatus(16)),
    ("kerong-cu48", Unlock(48)),
    ("kerong-cu48", LockStatus(48)),
    ("wkly", Unlock(4)),
    ("wkly", LockStatus(12)),
]


@pytest.mark.parametrize(("wire", "request_"), REQUESTS, ids=str)
def test_every_request_is_read_back_from_its_frame(wire: Wire, request_: Request) -> None:
    question = AddressedRequest(3, request_)
    frame = codec_for(wire).encode(question)
    channels = request_.channels if isinstance(request_, LockStatus) else None
    found = question_of(wire, frame, channels)
    assert found is not None
    assert found.address == 3
    assert codec_for(wire).encode(found) == frame
    assert type(found.request) is type(request_)
    for length in range(len(frame)):
        assert question_of(wire, frame[:length]) is None


def test_a_network_is_decoded_too() -> None:
    decoder, codec = Decoder("modbus-tcp", {}), TcpCodec()
    frame = codec.encode(AddressedRequest(7, Read(3, 20, 1)))
    assert decoder.words("sent", frame) == "-> ?(7) read 1 registers from 20"
    reply = frame[:2] + bytes([0, 0, 0, 5, 7, 3, 2, 0, 42])
    assert decoder.words("heard", reply) == "<- ?(7) register from 20: 42"
    assert decoder.words("heard", reply, "unasked") == "<- unasked from ?(7)"


@pytest.mark.parametrize(
    "wire", ["modbus", "modbus-tcp", "8a", "kerong-cu12", "kerong-cu16", "kerong-cu48", "wkly"]
)
def test_nothing_that_passes_can_break_the_decoder(wire: Wire) -> None:
    random = Random(5)
    decoder = Decoder(wire, {3: ("locks", profile("waveshare-io-8ch"))})
    mine = [request for spoken, request in REQUESTS if spoken == wire] or [Read(2, 0, 8)]
    codec = codec_for(wire)
    for _ in range(3000):
        data = bytearray(codec.encode(AddressedRequest(random.randrange(5), random.choice(mine))))
        data = data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data
        data += random.randbytes(random.choice((0, 0, 0, 1, 5, 20)))
        if data and random.random() < 0.5:
            data[random.randrange(len(data))] = random.randrange(256)
        direction: Literal["sent", "heard"] = random.choice(("sent", "heard"))
        note = random.choice(("", "late", "unasked", "damaged", "rubbish"))
        assert decoder.words(direction, bytes(data), note)[:3] in ("-> ", "<- ")


def test_writes_of_signals_are_named() -> None:
    document = profile("waveshare-relay-8ch").model_dump()
    own = {
        "channels": 4,
        "own_outputs": True,
        "on": {"function": 15, "address": 0x50, "value": 1},
        "off": {"function": 15, "address": 0x50, "value": 0},
        "all_off": {"function": 6, "address": 0x60, "value": 0},
        "pulse": {"function": 6, "address": 0x70, "unit_ms": 1000, "min_ms": 1000, "max_ms": 60000},
    }
    board = Profile.model_validate(document | {"signal": own})
    decoder = Decoder("modbus", {3: ("lights", board)})
    said: list[tuple[Request, str]] = [
        (WriteCoils(0x51, (1,)), "signal 2 on"),
        (WriteCoils(0x53, (0,)), "signal 4 off"),
        (Write(6, 0x72, 10), "signal 3 on"),
        (Write(6, 0x60, 0), "all signals off"),
        (WriteCoils(0x54, (1,)), "write coils from 84: 1"),
        (Write(5, 0, 0xFF00), "channel 1 on"),
    ]
    for request, words in said:
        frame = codec_for("modbus").encode(AddressedRequest(3, request))
        assert decoder.words("sent", frame) == f"-> lights(3) {words}"
