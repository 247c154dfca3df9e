"""The single faults: how each begins and is repaired, and which alarms name it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.field.temperatures import STEADY_S
from edge_agent.model import Door
from tools.fault_matrix import disasters, evidence
from tools.fault_matrix.disasters import Mend, mended_by
from tools.fault_matrix.evidence import Shows, never, soon
from tools.fault_matrix.people import customer_cell
from tools.fault_matrix.stage import Kind, Stage

NEIGHBOUR = "A1"
"""Where the stranger's parcel lies."""
LEFT_BOARD, LEFT = 1, "left"
BUSY = 6


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` makes it and returns its repair. `shows`: whether a witness has contradicted health since then;
    `equal`: why it may look healthy. `alarms`: those that name it, without their places. `blocks`: no command
    can reach a parcel before the repair. `lingers`: alarms that may outlast it."""

    name: str
    group: str
    begin: Callable[[Stage], Awaitable[Mend]]
    alarms: tuple[str, ...]
    shows: Shows
    equal: str
    kind: Kind = "plain"
    blocks: bool = False
    lingers: tuple[str, ...] = ()
    neighbour: bool = False
    """The fault affects the neighbour's cell as well."""
    bears: bool = False
    """No alarm but those of the fault may stand: the machine tolerates it."""
    wait_s: float = 3.0
    """How long after the acts its alarm is checked."""


def _contact(reads: Door) -> Callable[[Stage], Awaitable[Mend]]:
    async def begin(stage: Stage) -> Mend:
        return mended_by(stage.plant.world.stick_contact(stage.target, reads))

    return begin


async def _crossed_locks(stage: Stage) -> Mend:
    return mended_by(stage.plant.world.cross_locks(stage.target, NEIGHBOUR))


async def _crossed_contacts(stage: Stage) -> Mend:
    return mended_by(stage.plant.world.cross_contacts(stage.target, NEIGHBOUR))


async def _jam(stage: Stage) -> Mend:
    return mended_by(stage.plant.world.jam_lock(stage.target))


def _late_spring(late_ms: int) -> Callable[[Stage], Awaitable[Mend]]:
    async def begin(stage: Stage) -> Mend:
        stage.late_s = late_ms / 1000
        return mended_by(stage.plant.world.spring_late(stage.target, late_ms * 10**6))

    return begin


def _chatter(period_ms: int) -> Callable[[Stage], Awaitable[Mend]]:
    async def begin(stage: Stage) -> Mend:
        return mended_by(stage.plant.world.chatter_contact(stage.target, period_ms * 10**6))

    return begin


def _silent(addresses: Iterable[int]) -> Callable[[Stage], Awaitable[Mend]]:
    async def begin(stage: Stage) -> Mend:
        silences = stage.plant.cables[LEFT].trouble.silences
        return mended_by(*(silences[address].begin(None) for address in addresses))

    return begin


def _late_board(late_ms: int) -> Callable[[Stage], Awaitable[Mend]]:
    async def begin(stage: Stage) -> Mend:
        latenesses = stage.plant.cables[LEFT].trouble.latenesses_ns
        return mended_by(latenesses[LEFT_BOARD].begin(late_ms * 10**6))

    return begin


async def _busy_board(stage: Stage) -> Mend:
    (slave,) = (slave for slave in stage.plant.slaves[LEFT] if slave.address == LEFT_BOARD)
    answer = slave.answer

    def busy(frame: bytes, at_ns: int) -> bytes | None:
        return with_crc(bytes([LEFT_BOARD, frame[1] | 0x80, BUSY]))

    setattr(slave, "answer", busy)  # noqa: B010
    return mended_by(partial(setattr, slave, "answer", answer))


async def _babbling(stage: Stage) -> Mend:
    ghosts = stage.plant.cables[LEFT].trouble.ghosts
    return mended_by(*(ghosts[address].begin(0.3) for address in (LEFT_BOARD, 11)))


async def _unplugged(stage: Stage) -> Mend:
    cable = stage.plant.cables[LEFT]
    cable.unplug()
    return mended_by(cable.plug)


def _replies(change: Callable[[bytes], bytes]) -> Callable[[Stage], Awaitable[Mend]]:
    async def begin(stage: Stage) -> Mend:
        return mended_by(stage.plant.cables[LEFT].trouble.replies.begin(change))

    return begin


async def _frames_lost(stage: Stage) -> Mend:
    rng = stage.plant.rng
    lose = stage.plant.cables[LEFT].trouble.replies
    return mended_by(lose.begin(lambda reply: b"" if rng.random() < 0.15 else reply))


async def _frames_damaged(stage: Stage) -> Mend:
    return mended_by(stage.plant.cables[LEFT].trouble.noises.begin(0.1))


def _scale(reads: Callable[[int], int] | None) -> Callable[[Stage], Awaitable[Mend]]:
    """`reads` None: it stays at its present reading."""

    async def begin(stage: Stage) -> Mend:
        label = stage.target
        grams = stage.plant.world.cell(label).grams
        return mended_by(stage.plant.world.lie_scale(label, reads or (lambda _: grams)))

    return begin


def _probe(reads: Callable[[float], float] | None) -> Callable[[Stage], Awaitable[Mend]]:
    """`reads` None: it stays at its present reading."""

    async def begin(stage: Stage) -> Mend:
        label = stage.target
        now_c = stage.plant.world.cell(label).temperature_c
        return mended_by(stage.plant.world.lie_probe(label, reads or (lambda _: now_c)))

    return begin


def _jumping(by_c: float | None) -> Callable[[Stage], Awaitable[Mend]]:
    """A probe that reads another value from now on (None: it stays at its present reading); its return is a
    jump too, believed after a minute."""
    lie = _probe(None if by_c is None else lambda c: c + by_c)

    async def begin(stage: Stage) -> Mend:
        end = await lie(stage)

        async def mend() -> None:
            await end()
            await asyncio.sleep(STEADY_S + 6.0)

        return mend

    return begin


async def _dead_probe(stage: Stage) -> Mend:
    return mended_by(stage.plant.world.kill_probe(stage.target))


async def _fuse(stage: Stage) -> Mend:
    return mended_by(*(stage.plant.world.jam_lock(label) for label in ("A1", "A2", "A3", "A4")))


async def _common_wire(stage: Stage) -> Mend:
    labels = ("A1", "A2", "A3", "A4")
    return mended_by(*(stage.plant.world.stick_contact(label, Door.OPEN) for label in labels))


OPEN_DOOR = "a door that the machine opened may stand open until door_ajar_s"
SHORT = "closed moments too short to be believed read as a door that stands open"
UNUSED = "nothing was asked of the part that is broken"
TOLERATED = "the machine works on through it; nothing that it may believe is wrong"
EVIDENCE = "a weight is evidence for a parcel behind a closed door, and there is none to contradict"
CLOUD = "the machine serves on; who is offline or lies is the gateway's to name"
DOUBT = ("SENSOR_FAULT", "DOOR_AJAR")
STUCK = ("LOCK_JAMMED", "DEVICE_FAULT")
STRAY_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "trailing bytes": lambda reply: reply + b"\0\0",
    "leading byte": lambda reply: b"\xff" + reply,
}
FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("contact stuck open", "contact", _contact(Door.OPEN), DOUBT, evidence.reads_open, OPEN_DOOR),
        Fault("contact stuck closed", "contact", _contact(Door.CLOSED), STUCK, evidence.unmoved, UNUSED),
        Fault(
            "contact chatters, 170 ms", "contact", _chatter(170), DOUBT, evidence.chatters, SHORT, wait_s=4
        ),
        Fault("contact chatters, 400 ms", "contact", _chatter(400), DOUBT, soon(3.0), "", wait_s=4),
        Fault(
            "contacts crossed",
            "wire",
            _crossed_contacts,
            ("WRONG_DOOR", "DOOR_FORCED", *STUCK, "SENSOR_FAULT"),
            evidence.other_contact,
            UNUSED,
            neighbour=True,
        ),
        Fault(
            "locks crossed",
            "wire",
            _crossed_locks,
            ("WRONG_DOOR", *STUCK),
            evidence.wrong_door,
            UNUSED,
            blocks=True,
            neighbour=True,
        ),
        Fault("lock jammed", "lock", _jam, STUCK, evidence.unmoved, UNUSED, blocks=True),
        Fault("late spring, 1 s", "lock", _late_spring(1000), STUCK, never, TOLERATED),
        Fault("late spring, 4 s", "lock", _late_spring(4000), STUCK, never, TOLERATED),
        Fault(
            "board silent", "board", _silent([1]), ("DEVICE_SILENT",), soon(6.0), "", blocks=True, wait_s=6
        ),
        Fault("board late, 20 ms", "board", _late_board(20), (), never, TOLERATED, bears=True),
        Fault(
            "board late, 100 ms",
            "board",
            _late_board(100),
            ("DEVICE_SILENT",),
            evidence.unread,
            "too late is silent once it has lasted a second",
            blocks=True,
        ),
        Fault("board busy", "board", _busy_board, (), never, "busy for 30 s is no fault", blocks=True),
        Fault("board babbles", "board", _babbling, (), never, TOLERATED, bears=True),
        Fault("port gone", "port", _unplugged, ("BUS_DOWN",), soon(1.0), "", blocks=True),
        Fault("port swapped", "port", disasters.swap_ports, ("BUS_DOWN",), soon(1.0), "", blocks=True),
        Fault("frames lost", "frame", _frames_lost, (), never, TOLERATED, bears=True),
        Fault("frames damaged", "frame", _frames_damaged, (), never, TOLERATED, bears=True),
        *(
            Fault(name, "frame", _replies(change), (), never, TOLERATED, bears=True)
            for name, change in STRAY_BYTES.items()
        ),
        Fault(
            "scale high",
            "scale",
            _scale(lambda g: g + 1000),
            ("WEIGHT_CHANGED", "PARCEL_LEFT_BEHIND"),
            evidence.weight_contradicted,
            EVIDENCE,
            "scale",
            wait_s=6,
        ),
        Fault(
            "scale low",
            "scale",
            _scale(lambda g: g - 2000),
            ("WEIGHT_CHANGED", "EMPTY_DROPOFF", "SENSOR_FAULT"),
            evidence.weight_contradicted,
            EVIDENCE,
            "scale",
            wait_s=6,
        ),
        Fault(
            "scale frozen",
            "scale",
            _scale(None),
            ("EMPTY_DROPOFF", "PARCEL_LEFT_BEHIND"),
            never,
            EVIDENCE,
            "scale",
        ),
        Fault(
            "probe high",
            "probe",
            _jumping(+30),
            ("SENSOR_FAULT",),
            evidence.closed_since(5.0),
            "behind an open door a temperature may jump",
            "hot",
            wait_s=5,
        ),
        Fault(
            "probe low",
            "probe",
            _jumping(-30),
            ("SENSOR_FAULT",),
            evidence.closed_since(5.0),
            "behind an open door a temperature may jump",
            "cold",
            wait_s=5,
        ),
        Fault(
            "probe frozen",
            "probe",
            _jumping(None),
            ("CLIMATE_NO_EFFECT",),
            never,
            "a temperature that does not change is named after no_effect_min",
            "hot",
        ),
        Fault(
            "probe at 85", "probe", _probe(lambda _: 85.0), ("SENSOR_FAULT",), soon(5.0), "", "hot", wait_s=5
        ),
        Fault(
            "probe at -127",
            "probe",
            _probe(lambda _: -127.0),
            ("SENSOR_FAULT",),
            soon(5.0),
            "",
            "cold",
            wait_s=5,
        ),
        Fault("probe dead", "probe", _dead_probe, ("SENSOR_FAULT",), soon(5.0), "", "cold", wait_s=5),
        *(
            Fault(
                f"{what} {when} commit {n}",
                "process",
                make(n, before=when == "before"),
                alarms,
                never,
                TOLERATED,
                bears=True,
            )
            for what, make, alarms in (
                ("kill", disasters.kill_at, ()),
                ("power cut", disasters.power_cut_at, ("CLOCK_UNSYNCED",)),
            )
            for n in (1, 2, 3)
            for when in ("before", "after")
        ),
        Fault(
            "journal empty", "journal", disasters.empty_journal, ("JOURNAL_LOST",), soon(0.0), "", blocks=True
        ),
        Fault(
            "journal an older copy",
            "journal",
            disasters.older_journal(mark_too=False),
            ("JOURNAL_LOST",),
            evidence.gateway_answered,
            "nothing is granted before the gateway has answered",
            blocks=True,
        ),
        Fault(
            "card an older image",
            "journal",
            disasters.older_journal(mark_too=True),
            ("JOURNAL_LOST",),
            evidence.gateway_answered,
            "nothing is granted before the gateway has answered",
            blocks=True,
        ),
        Fault(
            "journal of another machine",
            "journal",
            disasters.foreign_journal,
            ("start refused",),
            soon(0.0),
            "",
            blocks=True,
        ),
        Fault(
            "journal read-only",
            "journal",
            disasters.read_only_journal,
            ("STORAGE_FAULT",),
            evidence.commit_refused,
            "nothing was to be written",
            blocks=True,
        ),
        Fault(
            "journal stalls",
            "journal",
            disasters.stalled_journal,
            (),
            never,
            "an entry waits, and expires",
            blocks=True,
        ),
        Fault(
            "journal full",
            "journal",
            disasters.full_journal,
            ("STORAGE_FAULT",),
            evidence.commit_refused,
            "nothing was to be written",
        ),
        Fault("clock stepped", "clock", disasters.step_clock, (), never, TOLERATED, bears=True),
        Fault(
            "clock stopped",
            "clock",
            disasters.stop_clock,
            ("CLOCK_UNSYNCED",),
            evidence.anything_happened,
            "nothing was dated",
        ),
        Fault(
            "clock contradicts",
            "clock",
            disasters.wrong_clock,
            ("CLOCK_UNSYNCED",),
            evidence.five_commands,
            "fewer than five fresh commands",
        ),
        Fault("broker gone", "broker", disasters.broker_gone, (), never, CLOUD, bears=True),
        Fault("broker delivers twice", "broker", disasters.broker_twice, (), never, CLOUD, bears=True),
        Fault(
            "broker strips properties",
            "broker",
            disasters.broker_strips,
            ("COMMAND_REJECTED",),
            evidence.commands_sent(1),
            "no command was sent",
            lingers=("COMMAND_REJECTED",),
        ),
        Fault(
            "a twin with the same id",
            "broker",
            disasters.twin,
            ("LINK_REFUSED",),
            soon(5.0),
            "",
            wait_s=5,
        ),
        Fault("gateway forgot", "broker", disasters.gateway_forgot, (), never, CLOUD, bears=True),
        Fault("lock fuse of a board", "common cause", _fuse, STUCK, evidence.unmoved, UNUSED, blocks=True),
        Fault("common wire of contacts", "common cause", _common_wire, ("DEVICE_FAULT",), soon(2.0), ""),
        Fault(
            "supply of a board",
            "common cause",
            _silent([1, 11]),
            ("DEVICE_SILENT",),
            soon(6.0),
            "",
            blocks=True,
            wait_s=6,
        ),
    )
}

ELSEWHERE: dict[str, tuple[str, str]] = {
    "a twin with the same id, as the gateway sees it": (
        "the gateway decides between twins, and it is a process with a database of its own",
        "tests/cloud_gateway/db/test_replicas.py, tests/system/test_fleet.py",
    ),
    "journal on a filesystem that forgets": (
        "mounts belong to the kernel; the start is refused before anything moves",
        "tests/journal/test_volatile.py",
    ),
    "power cut between two writes of one commit": (
        "SQLite writes inline in virtual time; torn writes need the real disk calls",
        "tests/journal",
    ),
}
"""Faults that virtual time cannot simulate: the reason, and the tests that cover them."""


async def begin(stage: Stage, fault: Fault) -> Mend:
    """Begins a fault; `alarms_seen` is collected from now on."""
    stage.alarms_seen.clear()
    stage.target = customer_cell(stage)
    mend = await fault.begin(stage)
    await asyncio.sleep(0)
    return mend
