"""Every device's frames, against the published bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.vectors import asked_by
from edge_agent.drivers.lock_protocols import codec_of
from edge_agent.drivers.profiles import Profile, Vector, load_profile
from edge_agent.drivers.requests import Read
from edge_agent.drivers.simulated.devices import Wiring, build_device, framing_of
from edge_agent.drivers.simulated.from_profile import ProfiledBoard
from edge_agent.drivers.simulated.instruments import LaumasTransmitter, ThermometerBoard
from edge_agent.drivers.simulated.line import LineDevice
from edge_agent.drivers.simulated.lock_boards import KerongCu16, WklyBoard
from edge_agent.drivers.simulated.slave import crc16, intact, request_length, with_crc
from edge_agent.drivers.simulated.waveshare import IoBoard, RelayBoard
from edge_agent.drivers.simulated.world import CellBuild, World
from edge_agent.errors import ConfigError
from edge_agent.model import Door
from tests.support.steps import SteppedClock

MS = 1_000_000
PROFILES = Path(__file__).parents[3] / "config" / "devices"
LABELS = [f"A{n:02}" for n in range(1, 9)]


class Bench:
    """Eight cells wired to one device of a profile."""

    def __init__(
        self, profile: str, *, address: int = 1, closed_level: int = 1, probes: int = 8, **first: float
    ) -> None:
        self.clock = SteppedClock()
        temperatures = [first.get("first_c", 22.0), first.get("second_c", 22.0)] + [22.0] * 6
        builds = [CellBuild(x, temperature_c=t) for x, t in zip(LABELS, temperatures, strict=True)]
        self.world = World(builds, clock_ns=self.clock.now_ns, wall_s=lambda: 0.0)
        self.wiring = Wiring(
            loads={n: self.world.solenoid(label) for n, label in enumerate(LABELS, 1)},
            inputs={n: self.world.contact(label, closed_level) for n, label in enumerate(LABELS, 1)},
            probes={n: self.world.probe(label) for n, label in enumerate(LABELS[:probes], 1)},
            weigh=self.world.platform("A01"),
        )
        self.slave = build_device(
            "board", profile, address, self.wiring, load_profile(PROFILES / f"{profile}.toml")
        )

    def ask(self, request: str) -> str:
        """The reply in hex; empty if none came."""
        reply = self.slave.answer(bytes.fromhex(request), self.clock.now)
        return "" if reply is None else reply.hex(" ").upper()

    def exchange(self, body: str) -> str:
        """The same with the checksum put on, and taken off the reply after a look at it."""
        reply = self.ask(with_crc(bytes.fromhex(body)).hex())
        assert not reply or intact(bytes.fromhex(reply))
        return reply[:-6]

    def doors_open(self, *labels: str) -> None:
        for label in labels:
            self.world.open(label)


def _two_probes() -> Bench:
    return Bench("r4dcb08", probes=2, first_c=21.5, second_c=-3.2)


def _weighed(grams: int, zero_g: int = 0) -> Bench:
    bench = Bench("laumas-tlb")
    bench.doors_open("A01")
    bench.world.place("A01", zero_g)
    bench.exchange("01 10 00 05 00 01 02 00 08")
    bench.world.take("A01")
    bench.world.place("A01", grams)
    bench.clock.advance(400 * MS)
    return bench


def _doors_with_1_6_7_closed() -> Bench:
    bench = Bench("waveshare-io-8ch")
    bench.doors_open(*(label for n, label in enumerate(LABELS, 1) if n not in (1, 6, 7)))
    return bench


def _generic(grams: int, tare_g: int = 0) -> Bench:
    bench = Bench("generic-transmitter")
    bench.doors_open("A01")
    bench.world.place("A01", tare_g)
    assert bench.exchange("01 10 00 54 00 02 04 7F FF FF FF") == "01 10 00 54 00 02"
    bench.world.take("A01")
    bench.world.place("A01", grams)
    bench.clock.advance(400 * MS)
    return bench


def _open_first(profile: str, address: int) -> Bench:
    bench = Bench(profile, address=address)
    bench.doors_open("A01")
    return bench


def _other_board(slave: LineDevice) -> Bench:
    bench = Bench("lock-8a")
    bench.slave = slave
    return bench


def _with_levels(*levels: int) -> dict[int, Callable[[int], int]]:
    return {n: lambda _, level=level: level for n, level in enumerate(levels, 1)}  # type: ignore[misc]


def _doors_with_1_3_closed() -> Bench:
    bench = Bench("waveshare-io-8ch")
    bench.doors_open(*(label for n, label in enumerate(LABELS, 1) if n not in (1, 3)))
    return bench


SCENES: dict[tuple[str, str], Callable[[], Bench]] = {
    ("laumas-tlb", "1234 g, stable"): lambda: _weighed(1234),
    ("laumas-tlb", "-10 g, stable"): lambda: _weighed(0, zero_g=10),
    ("generic-transmitter", "132 g gross"): lambda: _generic(132),
    ("generic-transmitter", "-15889 g net (the request computed)"): lambda: _generic(0, tare_g=15889),
    ("r4dcb08", "eight channels, the first two with a sensor: 21.5 and -3.2 degrees"): _two_probes,
    ("xy-md02", "30.5 degrees, 54.6 %"): lambda: Bench("xy-md02", first_c=30.5),
    ("xy-md02", "-20.5 degrees (the request computed)"): lambda: Bench("xy-md02", first_c=-20.5),
    ("waveshare-io-8ch", "read the inputs: 1 and 6 and 7 are high"): _doors_with_1_6_7_closed,
    ("waveshare-io-8ch", "read the inputs: 1 and 3 are high"): _doors_with_1_3_closed,
    ("lock-8a", "unlock lock 1; its contact reads 0"): lambda: Bench("lock-8a", closed_level=0),
    ("lock-8a-50", "unlock lock 1; its contact reads 0"): lambda: Bench("lock-8a-50", closed_level=0),
    ("lock-8a", "all contacts read 0"): lambda: Bench("lock-8a", closed_level=0),
    ("kerong-cu16", "all contacts of board 0: that of lock 1 reads 0"): lambda: _other_board(
        KerongCu16(0, {}, _with_levels(0, *[1] * 15), _with_levels(1))
    ),
    ("wkly-12", "unlock lock 1; its door reads open"): lambda: _open_first("wkly-12", 0),
    ("wkly-12", "all contacts, of a board with four locks: 2 and 3 are closed"): lambda: _other_board(
        WklyBoard(0, {}, _with_levels(0, 1, 1, 0), channels=4)
    ),
    ("wkly-24", "unlock lock 1; its door reads open"): lambda: _open_first("wkly-24", 0),
    ("wkly-24", "all contacts: all open"): lambda: _other_board(
        WklyBoard(0, {}, _with_levels(*[0] * 24), channels=24)
    ),
}
"""The state of the simulated world that a published reply describes."""
VECTORS = [
    pytest.param(file.stem, load_profile(file), vector, id=f"{file.stem}: {vector.name}")
    for file in sorted(PROFILES.glob("*.toml"))
    for vector in load_profile(file).vectors
]


@pytest.mark.parametrize(("name", "profile", "vector"), VECTORS)
def test_vectors_of_the_profiles(name: str, profile: Profile, vector: Vector) -> None:
    """The published reply where there is one, else a sound one that the daemon can read, or silence where the
    device gives none. What a board reads that is made from its profile depends on the world, so only the
    size of its reply is compared."""
    request = bytes.fromhex(vector.request)
    address = framing_of(profile.bus.protocol).addressee(request)
    assert address is not None
    bench = SCENES.get((name, vector.name), lambda: Bench(name, address=address))()
    reply = bench.ask(vector.request)
    asked = asked_by(profile, vector)
    codec = codec_of(profile.bus.protocol)
    if vector.reply and isinstance(bench.slave, ProfiledBoard) and isinstance(asked.request, Read):
        codec.parse(asked, bytes.fromhex(reply))
        assert len(reply) == len(vector.reply)
    elif vector.reply:
        assert reply == vector.reply
    elif codec.reply_bytes(asked.request):
        codec.parse(asked, bytes.fromhex(reply))
        assert framing_of(profile.bus.protocol).intact(bytes.fromhex(reply))
    else:
        assert reply == ""


MODBUS = sorted(file.stem for file in PROFILES.glob("*.toml") if load_profile(file).bus.protocol == "modbus")


def test_every_profile_has_a_device() -> None:
    for file in PROFILES.glob("*.toml"):
        assert build_device("x", file.stem, 9, Wiring(), load_profile(file)).address == 9


def test_unknown_profile() -> None:
    with pytest.raises(ConfigError, match=r"devices\.dog\.profile: no simulated device for profile 'dog'"):
        build_device("dog", "dog", 1, Wiring())


# Frames of the hardware notes, beyond the profiles' own.


def test_io_board_published_frames() -> None:
    bench = Bench("waveshare-io-8ch")
    bench.doors_open(*(label for n, label in enumerate(LABELS, 1) if n not in (1, 3)))
    assert bench.ask("01 02 00 00 00 08 79 CC") == "01 02 01 05 61 8B"
    assert bench.ask("01 05 00 00 FF 00 8C 3A") == "01 05 00 00 FF 00 8C 3A"
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 01"
    assert bench.ask("01 01 00 00 00 08 3D CC")[:11] == "01 01 01 01"
    assert bench.ask("01 05 00 FF 00 00 FD FA") == "01 05 00 FF 00 00 FD FA"
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 00"


def test_inputs_follow_the_wiring_of_the_site() -> None:
    bench = Bench("waveshare-io-8ch", closed_level=0)
    bench.doors_open("A02")
    assert bench.exchange("01 02 00 00 00 08") == "01 02 01 02"


def test_timed_pulse_opens_and_ends_by_itself() -> None:
    bench = Bench("waveshare-io-8ch")
    assert bench.ask("01 05 02 00 00 05 0C 71") == "01 05 02 00 00 05 0C 71"
    assert bench.world.cell("A01").solenoid
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 01"
    bench.clock.advance(499 * MS)
    assert bench.world.cell("A01").solenoid
    bench.clock.advance(1 * MS)
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 00"
    assert bench.world.cell("A01").door is Door.OPEN
    assert [(a.label, a.duration_ms) for a in bench.world.actuations()] == [("A01", 500)]


def test_off_ends_a_timed_pulse() -> None:
    bench = Bench("waveshare-io-8ch")
    bench.exchange("01 05 02 07 00 0A")
    bench.clock.advance(30 * MS)
    bench.exchange("01 05 00 FF 00 00")
    bench.clock.advance(2_000 * MS)
    assert [(a.label, a.duration_ms) for a in bench.world.actuations()] == [("A08", 30)]


def test_coils_toggle_and_multiple() -> None:
    bench = Bench("waveshare-relay-8ch")
    bench.exchange("01 05 00 02 55 00")
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 04"
    bench.exchange("01 05 00 02 55 00")
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 00"
    # Published: Waveshare wiki, "write relay states": 01 0F 00 00 00 08 01 FF BE D5.
    assert bench.ask("01 0F 00 00 00 08 01 FF BE D5") == "01 0F 00 00 00 08 54 0D"
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 FF"
    assert bench.exchange("01 0F 00 02 00 03 01 02") == "01 0F 00 02 00 03"
    assert bench.exchange("01 01 00 00 00 08") == "01 01 01 EB"
    bench.exchange("01 05 00 FF FF 00")
    assert bench.exchange("01 01 00 02 00 02") == "01 01 01 03"


def test_holding_registers_of_the_boards() -> None:
    bench = Bench("waveshare-io-8ch")
    assert bench.exchange("01 03 10 00 00 08") == "01 03 10" + " 00" * 16
    assert bench.exchange("01 06 10 03 00 02") == "01 06 10 03 00 02"
    assert bench.exchange("01 03 10 03 00 01") == "01 03 02 00 02"
    assert bench.exchange("01 10 10 00 00 02 04 00 01 00 03") == "01 10 10 00 00 02"
    assert bench.exchange("01 03 10 00 00 02") == "01 03 04 00 01 00 03"
    assert bench.exchange("01 03 80 00 00 01") == "01 03 02 00 C8"
    assert bench.exchange("01 03 20 00 00 01") == "01 03 02 00 01"
    assert bench.exchange("01 03 40 00 00 01") == "01 03 02 00 01"
    assert bench.exchange("01 06 40 00 00 09") == "01 06 40 00 00 09"
    assert bench.exchange("01 03 40 00 00 01") == ""
    assert bench.exchange("09 03 40 00 00 01") == "09 03 02 00 09"


def test_failed_multiple_write_changes_nothing() -> None:
    bench = Bench("waveshare-io-8ch")
    assert bench.exchange("01 10 10 00 00 02 04 00 01 00 04") == "01 90 03"
    assert bench.exchange("01 03 10 00 00 01") == "01 03 02 00 00"


@pytest.mark.parametrize(
    ("profile", "request_hex", "exception_code"),
    [
        ("waveshare-relay-8ch", "01 02 00 00 00 08", 1),
        ("waveshare-io-8ch", "01 04 00 00 00 01", 1),
        ("waveshare-io-8ch", "01 2B 0E 01 00", 1),
        ("laumas-tlb", "01 05 00 00 FF 00", 1),
        ("r4dcb08", "01 06 00 FD 00 01", 1),
        ("waveshare-io-8ch", "01 01 00 01 00 08", 2),
        ("waveshare-io-8ch", "01 02 00 08 00 01", 2),
        ("waveshare-io-8ch", "01 05 00 08 FF 00", 2),
        ("waveshare-io-8ch", "01 05 02 08 00 05", 2),
        ("waveshare-io-8ch", "01 0F 00 01 00 08 01 FF", 2),
        ("waveshare-io-8ch", "01 03 10 07 00 02", 2),
        ("waveshare-relay-8ch", "01 03 10 00 00 01", 2),
        ("waveshare-relay-8ch", "01 06 10 00 00 00", 2),
        ("laumas-tlb", "01 03 00 0A 00 02", 2),
        ("laumas-tlb", "01 10 00 06 00 01 02 00 07", 2),
        ("r4dcb08", "01 03 00 01 00 08", 2),
        ("waveshare-io-8ch", "01 01 00 00 00 00", 3),
        ("waveshare-io-8ch", "01 01 00 00 07 D1", 3),
        ("waveshare-io-8ch", "01 05 00 00 01 00", 3),
        ("waveshare-io-8ch", "01 05 02 00 00 00", 3),
        ("waveshare-io-8ch", "01 05 02 00 80 00", 3),
        ("waveshare-io-8ch", "01 05 00", 3),
        ("waveshare-io-8ch", "01 0F 00 00 00 08 02 FF FF", 3),
        ("waveshare-io-8ch", "01 06 40 00 00 00", 3),
        ("waveshare-io-8ch", "01 06 20 00 00 05", 3),
        ("waveshare-io-8ch", "01 10 10 00 00 02 02 00 01", 3),
        ("laumas-tlb", "01 03 00 06 00 7E", 3),
        ("laumas-tlb", "01 10 00 05 00 01 02 00 55", 3),
    ],
)
def test_exceptions(profile: str, request_hex: str, exception_code: int) -> None:
    bench = Bench(profile)
    function = int(request_hex[3:5], 16) | 0x80
    assert bench.exchange(request_hex) == f"01 {function:02X} {exception_code:02X}"
    assert bench.world.actuations() == []


def test_scale_is_unstable_until_it_rests() -> None:
    bench = Bench("laumas-tlb")
    bench.doors_open("A01")
    bench.world.place("A01", 70_000)
    assert bench.exchange("01 03 00 06 00 05") == "01 03 0A 00 00 00 01 11 70 00 01 11 70"
    bench.clock.advance(300 * MS)
    assert bench.exchange("01 03 00 06 00 05") == "01 03 0A 08 00 00 01 11 70 00 01 11 70"


def test_scale_tare_and_zero() -> None:
    bench = _weighed(500)
    assert (
        bench.ask("01 10 00 05 00 01 02 00 07 E7 C7")
        == with_crc(bytes.fromhex("011000050001")).hex(" ").upper()
    )
    bench.world.take("A01")
    bench.world.place("A01", 200)
    bench.clock.advance(300 * MS)
    # Gross stays, net is below zero: bit 8.
    assert bench.exchange("01 03 00 06 00 05") == "01 03 0A 09 00 00 00 00 C8 00 00 01 2C"
    bench.world.place("A01", 101)
    assert bench.exchange("01 10 00 05 00 01 02 00 08") == "01 90 03"
    assert bench.exchange("01 10 00 05 00 01 02 00 63") == "01 10 00 05 00 01"


def test_silence_for_others_damage_and_broadcast() -> None:
    bench = Bench("waveshare-io-8ch")
    assert bench.exchange("02 05 00 00 FF 00") == ""
    assert bench.ask("01 05 00 00 FF 00 8C 3B") == ""
    assert bench.world.actuations() == []
    assert bench.exchange("00 05 00 03 FF 00") == ""
    assert [a.label for a in bench.world.actuations()] == ["A04"]
    assert bench.exchange("00 05 00 55 FF 00") == ""


def test_unwired_channels() -> None:
    io, relays = IoBoard(1, {}, {}), RelayBoard(1, {})
    ask = with_crc(bytes.fromhex("010200000008"))
    assert io.answer(ask, 0) == with_crc(bytes.fromhex("01020100"))
    on = with_crc(bytes.fromhex("01050000FF00"))
    assert relays.answer(on, 0) == on
    assert ThermometerBoard(1, {}).answer(with_crc(bytes.fromhex("010300000001")), 0) == with_crc(
        bytes.fromhex("0103028000")
    )
    weightless = LaumasTransmitter(1, None).answer(with_crc(bytes.fromhex("010300060001")), 0)
    assert weightless == with_crc(bytes.fromhex("0103020800"))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_crc_is_the_published_one(data: bytes) -> None:
    """Bit by bit, as the serial line guide describes it."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    assert crc16(data) == crc


@pytest.mark.parametrize(
    ("start", "length"),
    [
        ("", None),
        ("01", None),
        ("01 03", 8),
        ("01 05 00", 8),
        ("01 10 00 05 00 01", None),
        ("01 10 00 05 00 01 02", 11),
        ("01 0F 00 00 00 08 01", 10),
        ("01 2B 0E", None),
    ],
)
def test_request_length(start: str, length: int | None) -> None:
    assert request_length(bytes.fromhex(start)) == length


@settings(deadline=None)
@given(st.sampled_from(MODBUS), st.binary(max_size=260))
def test_no_request_breaks_a_device(profile: str, body: bytes) -> None:
    bench = Bench(profile)
    reply = bench.slave.answer(with_crc(b"\x01" + body), bench.clock.now)
    if reply is None:
        assert not 4 <= len(body) + 3 <= 256
    else:
        assert intact(reply)
        assert reply[0] == 1
        assert reply[1] & 0x7F == body[0] & 0x7F
