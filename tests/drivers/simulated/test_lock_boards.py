"""Lock boards with protocols of their own: published frames, locks that open, the daemon's codecs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.lock_protocols import codec_of
from edge_agent.drivers.profiles import BusNeeds, Protocol
from edge_agent.drivers.requests import AddressedRequest, LockStatus, Request, Unlock
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.devices import framing_of
from edge_agent.drivers.simulated.lock_boards import (
    PULSE_NS,
    Board8a,
    KerongCu12,
    KerongCu16,
    KerongCu48,
    LockBoard,
    WklyBoard,
)
from edge_agent.drivers.simulated.trouble import flip_a_bit
from edge_agent.drivers.simulated.world import CellBuild, World
from edge_agent.errors import BadReply, BusTimeout, DeviceFault
from edge_agent.model import Door
from tests.support.bus_listener import RecordingListener
from tests.support.steps import SteppedClock
from tools.simulate.virtual_loop import VirtualLoop

Kind = Callable[..., LockBoard]
KINDS: dict[Protocol, tuple[Kind, int]] = {
    "8a": (Board8a, 1),
    "kerong-cu12": (KerongCu12, 0),
    "kerong-cu16": (KerongCu16, 0),
    "kerong-cu48": (KerongCu48, 0),
    "wkly": (WklyBoard, 0),
}
"""Each protocol's board, and the address that the published frames give it."""
LABELS = [f"A{n:02}" for n in range(1, 13)]
NEEDS = BusNeeds(turnaround_ms=30, drain_ms=50)


class Site:
    """Twelve cells wired to one board."""

    def __init__(
        self,
        kind: Kind,
        address: int,
        *,
        open_: tuple[int, ...] = (),
        closed_level: int = 1,
        **options: object,
    ) -> None:
        self.clock = SteppedClock()
        builds = [
            CellBuild(label, Door.OPEN if n in open_ else Door.CLOSED) for n, label in enumerate(LABELS, 1)
        ]
        self.world = World(builds, clock_ns=self.clock.now_ns, wall_s=lambda: 0.0)
        self.loads = {n: self.world.solenoid(label) for n, label in enumerate(LABELS, 1)}
        self.contacts = {n: self.world.contact(label, closed_level) for n, label in enumerate(LABELS, 1)}
        self.board = kind(address, self.loads, self.contacts, **options)

    def ask(self, request: str) -> str:
        """The reply in hex; empty if none came."""
        reply = self.board.answer(bytes.fromhex(request), self.clock.now)
        return "" if reply is None else reply.hex(" ").upper()

    def pulsed(self) -> list[tuple[str, int | None]]:
        """The solenoids that were energised, once the last pulse is over."""
        self.clock.advance(PULSE_NS)
        return [(a.label, a.duration_ms) for a in self.world.actuations()]


@pytest.mark.parametrize(
    ("protocol", "open_", "closed_level", "request_hex", "reply_hex"),
    [
        ("8a", (), 1, "8A 01 01 11 9B", "8A 01 01 11 9B"),
        ("8a", (), 0, "8A 01 01 11 9B", "8A 01 01 00 8A"),
        ("8a", (), 1, "80 01 01 33 B3", "80 01 01 11 91"),
        ("8a", (1,), 1, "80 01 01 33 B3", "80 01 01 00 80"),
        ("8a", (), 0, "80 01 00 33 B2", "80 01 00 00 00 33 B2"),
        ("8a", (1, 10), 0, "80 01 00 33 B2", "80 01 00 02 01 33 B1"),
        ("kerong-cu12", (), 1, "02 00 00 80 00 00 03 85", "02 00 00 80 10 02 03 97 FF 0F"),
        ("kerong-cu12", (1, 12), 1, "02 00 00 80 00 00 03 85", "02 00 00 80 10 02 03 97 FE 07"),
        ("kerong-cu12", (), 1, "02 00 00 81 00 00 03 86", "02 00 00 81 10 00 03 96"),
        ("kerong-cu16", (), 1, "02 00 30 03 35", "02 00 35 FF 0F 00 00 03 48"),
        ("kerong-cu16", (), 1, "02 00 31 03 36", ""),
        ("kerong-cu16", (), 1, "02 00 38 03 3D", ""),
        ("kerong-cu16", (), 1, "02 10 30 03 45", ""),
        ("kerong-cu48", (1,), 0, "02 00 00 60 03 65", "02 00 00 75 01" + " 00" * 11 + " 03 7B"),
        ("kerong-cu48", (), 1, "02 00 04 61 03 6A", ""),
        ("wkly", (1,), 1, "57 4B 4C 59 09 00 82 01 83", "57 4B 4C 59 0B 00 82 00 01 00 81"),
        ("wkly", (), 1, "57 4B 4C 59 09 00 83 01 82", "57 4B 4C 59 0B 00 83 00 01 01 81"),
        ("wkly", (), 1, "57 4B 4C 59 09 00 82 0D 8F", "57 4B 4C 59 0B 00 82 FF 0D 00 72"),
    ],
)
def test_published_frames(
    protocol: Protocol, open_: tuple[int, ...], closed_level: int, request_hex: str, reply_hex: str
) -> None:
    kind, address = KINDS[protocol]
    assert Site(kind, address, open_=open_, closed_level=closed_level).ask(request_hex) == reply_hex


def test_the_published_status_of_a_board_with_four_locks() -> None:
    site = Site(WklyBoard, 0, open_=(1, 4), channels=4)
    assert site.ask("57 4B 4C 59 08 00 84 85") == "57 4B 4C 59 0E 00 84 00 04 00 01 01 00 87"


def test_the_published_status_with_second_contacts() -> None:
    wired: dict[int, Callable[[int], int]] = dict.fromkeys(range(2, 17), lambda _: 1)
    board = KerongCu16(0, {}, wired, {1: lambda _: 1})
    assert board.answer(bytes.fromhex("0200300335"), 0) == bytes.fromhex("020035FEFF0100 0338")


@pytest.mark.parametrize(
    ("protocol", "request_hex", "label"),
    [
        ("8a", "8A 01 01 11 9B", "A01"),
        ("kerong-cu12", "02 00 00 81 00 00 03 86", "A01"),
        ("kerong-cu12", "02 00 0B 81 00 00 03 91", "A12"),
        ("kerong-cu16", "02 00 31 03 36", "A01"),
        ("kerong-cu48", "02 00 00 61 03 66", "A01"),
        ("kerong-cu48", "02 00 04 61 03 6A", "A05"),
        ("wkly", "57 4B 4C 59 09 00 82 01 83", "A01"),
    ],
)
def test_an_unlock_energises_one_solenoid_for_its_time_and_frees_the_door(
    protocol: Protocol, request_hex: str, label: str
) -> None:
    site = Site(*KINDS[protocol])
    site.ask(request_hex)
    assert site.pulsed() == [(label, 500)]
    assert [cell.label for cell in site.world.cells() if cell.door is Door.OPEN] == [label]


def test_unlocks_of_other_boards_and_channels_do_nothing() -> None:
    for protocol, request in (
        ("8a", "8A 02 01 11 98"),
        ("8a", "8A 01 01 33 B9"),
        ("8a", "8A 01 19 11 83"),
        ("kerong-cu12", "02 01 00 81 00 00 03 87"),
        ("kerong-cu12", "02 00 0C 81 00 00 03 92"),
        ("kerong-cu16", "02 10 31 03 46"),
        ("kerong-cu48", "02 01 00 61 03 67"),
        ("wkly", "57 4B 4C 59 09 01 82 01 82"),
    ):
        site = Site(*KINDS[protocol])  # type: ignore[index]
        assert site.ask(request) == ""
        assert site.pulsed() == []


def test_dialects_of_the_8a_boards() -> None:
    site = Site(Board8a, 1, closed_level=0, unlock=0x33, query=0x99)
    assert site.ask("8A 01 01 33 B9") == "8A 01 01 00 8A"
    assert site.ask("80 01 00 99 18") == "80 01 00 00 00 99 18"
    assert site.ask("80 01 00 33 B2") == ""
    assert site.pulsed() == [("A01", 500)]


def test_a_held_lock_stays_energised_until_it_is_let_go() -> None:
    site = Site(Board8a, 1)
    site.ask("9A 01 01 11 8B")
    site.clock.advance(3 * PULSE_NS)
    assert site.world.cell("A01").solenoid
    site.ask("9B 01 01 11 8A")
    assert site.pulsed() == [("A01", 1500)]


def test_lock_30_of_a_cu48_is_all_of_them() -> None:
    site = Site(KerongCu48, 0)
    site.ask("02 00 30 61 03 96")
    assert [label for label, _ in site.pulsed()] == LABELS


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=64), st.integers(0, 2**32))
def test_no_bytes_break_a_board_and_one_wrong_bit_is_noticed(
    protocol: Protocol, rubbish: bytes, seed: int
) -> None:
    kind, address = KINDS[protocol]
    site = Site(kind, address)
    framing = framing_of(protocol)
    reply = site.board.answer(rubbish, site.clock.now)
    assert reply is None or framing.intact(reply)
    codec = codec_of(protocol)
    for request in (Unlock(3), LockStatus(12)):
        frame = codec.encode(question(protocol, request))
        assert framing.intact(frame)
        assert framing.request_length(frame) == len(frame)
        assert framing.addressee(frame) == address
        assert not framing.intact(flip_a_bit(Random(seed), frame))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**48 - 1), st.integers(1, 3))
@example("8a", 0x001190, 2)
def test_however_the_doors_stand_the_daemon_reads_them(protocol: Protocol, doors: int, piece: int) -> None:
    """Also while the answer comes in pieces; and no beginning of it is taken for another frame."""
    kind, address = KINDS[protocol]
    wired = {n: lambda _, bit=doors >> n - 1 & 1: bit for n in range(1, 49)}
    board = kind(address, {}, wired)
    codec, asked = codec_of(protocol), question(protocol, LockStatus(board.channels))
    reply = board.answer(codec.encode(asked), 0)
    assert reply is not None
    for size in range(piece, len(reply), piece):
        assert codec.first_frame(reply[:size], asked, []) is None
    frame = codec.first_frame(reply, asked, [])
    assert frame is not None
    assert (frame.skipped, frame.length, frame.question) == (0, len(reply), asked)
    assert codec.parse(asked, reply) == [doors >> n & 1 for n in range(board.channels)]


def question(protocol: Protocol, request: Request) -> AddressedRequest:
    return AddressedRequest(KINDS[protocol][1], request)


# On a wire, asked by the daemon's own codec.


def on_wire(
    protocol: Protocol,
    test: Callable[[BusOwner, World, MemoryCable], Awaitable[None]],
    listener: RecordingListener | None = None,
    **options: object,
) -> None:
    """Runs a test in virtual time against a bus with one board of twelve cells."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        world = World(
            [CellBuild(label) for label in LABELS],
            clock_ns=lambda: round(loop.time() * 1e9),
            wall_s=lambda: 0.0,
        )
        kind, address = KINDS[protocol]
        loads = {n: world.solenoid(label) for n, label in enumerate(LABELS, 1)}
        contacts = {n: world.contact(label, 1) for n, label in enumerate(LABELS, 1)}
        board = kind(address, loads, contacts, **options)
        cable = MemoryCable(loop, [board], baud=9600, framing=framing_of(protocol), split=3)
        bus = BusOwner("locks", cable, baud=9600, bits_per_character=10, codec=codec_of(protocol))
        task = asyncio.create_task(bus.run(listener))
        await bus.wait_open(1)
        try:
            await test(bus, world, cable)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def ask(bus: BusOwner, protocol: Protocol, request: Request) -> list[int]:
    return await bus.transact(KINDS[protocol][1], request, NEEDS, Priority.COMMAND)


def unlock(protocol: Protocol, channel: int) -> Unlock:
    return Unlock(channel, acknowledged=not protocol.startswith("kerong"))


@pytest.mark.parametrize("protocol", sorted(KINDS))
def test_the_daemon_unlocks_and_reads(protocol: Protocol) -> None:
    async def test(bus: BusOwner, world: World, cable: MemoryCable) -> None:
        assert await ask(bus, protocol, LockStatus(12)) == [1] * 12
        await ask(bus, protocol, unlock(protocol, 11))
        await asyncio.sleep(0.2)
        assert await ask(bus, protocol, LockStatus(12)) == [1] * 10 + [0, 1]
        assert [a.label for a in world.actuations()] == ["A11"]
        figures = cable.figures()
        assert (figures.requests, figures.damaged, figures.early_requests) == (3, 0, 0)

    on_wire(protocol, test)


@pytest.mark.parametrize("protocol", sorted(KINDS))
def test_noise_is_noticed_on_both_sides_of_the_wire(protocol: Protocol) -> None:
    async def test(bus: BusOwner, __: World, cable: MemoryCable) -> None:
        end = cable.trouble.noises.begin(1.0)
        with pytest.raises(BusTimeout):
            await ask(bus, protocol, LockStatus(12))
        assert cable.figures().damaged == 1
        end()
        end = cable.trouble.noises.begin(0.5)
        good = 0
        for _ in range(60):
            with suppress(BusTimeout, BadReply):
                read = await ask(bus, protocol, LockStatus(12))
                # The checksum of a CU12 does not cover its status.
                assert read == [1] * 12 or (protocol == "kerong-cu12" and bus.least_readings == 3)
                good += 1
        assert 0 < good < 60
        end()

    on_wire(protocol, test)


@pytest.mark.parametrize("protocol", ["8a", "wkly"])
def test_a_moving_door_is_sent_unasked_by_boards_that_do_that(protocol: Protocol) -> None:
    listener = RecordingListener()
    unasked = listener.unasked

    async def test(bus: BusOwner, world: World, _: MemoryCable) -> None:
        await ask(bus, protocol, LockStatus(12))
        world.open("A04")
        assert await ask(bus, protocol, LockStatus(12)) == [1, 1, 1, 0] + [1] * 8
        await asyncio.sleep(0.1)
        assert unasked == [KINDS[protocol][1]]
        await ask(bus, protocol, LockStatus(12))
        await asyncio.sleep(0.1)
        assert len(unasked) == 1

    on_wire(protocol, test, listener, reports_changes=True)


def test_a_missing_channel_is_answered_with_an_error_or_silence() -> None:
    async def refused(bus: BusOwner, world: World, _: MemoryCable) -> None:
        with pytest.raises(DeviceFault):
            await ask(bus, "wkly", unlock("wkly", 13))
        assert not world.actuations()

    async def silent(bus: BusOwner, world: World, _: MemoryCable) -> None:
        with pytest.raises(BusTimeout):
            await ask(bus, "8a", unlock("8a", 25))
        assert not world.actuations()

    on_wire("wkly", refused)
    on_wire("8a", silent)
