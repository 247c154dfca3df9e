"""Faults of process, journal, clock, ports and cloud: how they are made, and how they are repaired."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edge_agent.app.housekeeping import MARK_S
from edge_agent.cloud.link import STEADY_S
from edge_agent.cloud.publisher import DIGEST_S
from edge_agent.model import Instant
from edge_agent.protocol.sync import Digest
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.clock import IN_A_ROW, OFF_S
from edge_agent.statemachine.step_builder import GONE_NS
from tools.fault_matrix.stage import Stage
from tools.simulate.plant import EPOCH_S, Severed, VirtualClock

Mend = Callable[[], Awaitable[None]]
DOWN_S = 0.5
STALL_S = 20.0
TAKEN_S = 0.7
"""How long each of two machines of one id keeps the session."""
YEAR_S = 365 * 86_400.0


def mended_by(*ends: Callable[[], object]) -> Mend:
    """A repair made of all of these."""

    async def mend() -> None:
        for end in ends:
            end()

    return mend


# Process.


def kill_at(number: int, *, before: bool) -> Callable[[Stage], Awaitable[Mend]]:
    """The process dies just before, or just after, the commit of this number from now on."""
    return lambda stage: _die_at(stage, number, before=before, reboots=False)


def power_cut_at(number: int, *, before: bool) -> Callable[[Stage], Awaitable[Mend]]:
    """The machine loses its power at that commit: it starts with another boot, and its clock is not
    synchronised."""
    return lambda stage: _die_at(stage, number, before=before, reboots=True)


async def _die_at(stage: Stage, number: int, *, before: bool, reboots: bool) -> Mend:
    lifeline, seen = stage.plant.lifeline, 0
    tasks: list[asyncio.Task[None]] = []

    async def come_again() -> None:
        with contextlib.suppress(Severed, ExceptionGroup):
            await stage.plant.kill()
        stage.plant.agent = None
        if reboots:
            stage.plant.clock.reboot()
            stage.plant.clock.synced = False
        await asyncio.sleep(DOWN_S)
        if stage.plant.agent is None:  # another fault of a pair may have started it
            await stage.start()
        if reboots:
            stage.plant.clock.synced = True

    def at_commit(is_before: bool) -> None:
        nonlocal seen
        if is_before is not before or not lifeline.alive:
            return
        seen += 1
        if seen == number:
            lifeline.alive = False
            tasks.append(asyncio.create_task(come_again()))

    lifeline.at_commit = at_commit

    async def mend() -> None:
        lifeline.at_commit = lambda before: None
        await asyncio.gather(*tasks)

    return mend


# Journal.


def copy_journal(stage: Stage) -> None:
    """An image of the card is made, while the machine runs."""
    with (
        contextlib.closing(sqlite3.connect(stage.folder / "copy.sqlite")) as copy,
        contextlib.closing(sqlite3.connect(stage.journal)) as journal,
    ):
        journal.backup(copy)
    shutil.copy(_mark(stage), stage.folder / "copy.mark")


def _mark(stage: Stage) -> Path:
    return Path(str(stage.plant.settings.paths.mark))


def _journal_files(stage: Stage) -> list[Any]:
    return sorted(stage.folder.glob("journal.sqlite*"))


async def _gateway_restores(stage: Stage) -> None:
    """The gateway answers the machine's birth with its reservations."""
    last = max(stage.books.events, key=lambda event: int(event["sequence"]), default=None)
    if last is None:
        return
    rows = [view | {"cell": view["cell"]["description"]} for view in stage.held.values()]
    journal_id = last["journal_id"]
    body = {"journal_id": journal_id, "applied": {journal_id: last["sequence"]}, "reservations": rows}
    await stage.call("restore", body)
    await asyncio.sleep(0.3)
    stage.gateway_asked_s = stage.now_s


async def _restored(stage: Stage) -> None:
    """The technician's part after a lost journal."""
    await _gateway_restores(stage)
    if stage.agent is not None and any(key.startswith("JOURNAL_LOST") for key in stage.standing()):
        await stage.agent.local.restore(none=False, place={}, actor="bob")


async def empty_journal(stage: Stage) -> Mend:
    """The journal is truncated to nothing; its companions stay."""
    await stage.hold_views()
    await stage.stop()
    for file in _journal_files(stage):
        if file.suffix not in (".lock", ".reserve"):
            file.unlink()
    stage.journal.touch()
    await stage.start()
    await _gateway_restores(stage)
    return lambda: _restored(stage)


def older_journal(*, mark_too: bool) -> Callable[[Stage], Awaitable[Mend]]:
    """The machine starts on a journal that was copied before the last parcels came. `mark_too`: on an image
    of the whole card, so that the commissioning mark is as old."""

    async def begin(stage: Stage) -> Mend:
        await stage.hold_views()
        await asyncio.sleep(max(DIGEST_S, MARK_S) + 1.0)  # broker and mark have the newest number
        await stage.stop()
        for file in _journal_files(stage):
            if file.suffix not in (".lock", ".reserve"):
                file.unlink()
        shutil.copy(stage.folder / "copy.sqlite", stage.journal)
        if mark_too:
            shutil.copy(stage.folder / "copy.mark", _mark(stage))
        await stage.start()
        await _gateway_restores(stage)
        return lambda: _restored(stage)

    return begin


async def foreign_journal(stage: Stage) -> Mend:
    """The card of another machine is in this one."""
    await stage.stop()
    own = stage.plant.settings
    other = own.machine.model_copy(update={"machine_id": "machine_other"})
    moved = own.model_copy(update={"machine": other})
    stage.plant.settings = moved
    await stage.start()

    async def mend() -> None:
        await stage.stop()
        stage.plant.settings = own
        await stage.start()

    return mend


async def read_only_journal(stage: Stage) -> Mend:
    """No commit succeeds."""
    lifeline = stage.plant.lifeline
    lifeline.disk_full = True

    async def mend() -> None:
        lifeline.disk_full = False
        await asyncio.sleep(12.0)  # the machine checks for room every ten seconds

    return mend


async def stalled_journal(stage: Stage) -> Mend:
    """A failing card: the next commits take longer than the life of any entry at the kiosk."""
    lifeline = stage.plant.lifeline
    lifeline.disk_stall_s = STALL_S

    async def mend() -> None:
        lifeline.disk_stall_s = 0.0
        await asyncio.sleep(STALL_S)

    return mend


async def full_journal(stage: Stage) -> Mend:
    """Commits fail until the reserve is used."""
    lifeline = stage.plant.lifeline
    lifeline.disk_tight = True

    async def mend() -> None:
        lifeline.disk_tight = False
        await asyncio.sleep(12.0)

    return mend


# Clock.


class RtcClock(VirtualClock):
    """A clock that the configuration trusts, compared with the senders of commands as the system's is."""

    def __init__(self, off_s: float) -> None:
        super().__init__()
        self.off_s = off_s
        self.difference_s: float | None = None
        self.contradicted = False
        self._disagreeing = 0

    def now(self) -> Instant:
        """See `Clock.now`."""
        self.synced = not self.contradicted
        return super().now()

    def compare(self, issued_s: float) -> None:
        """See `ComparedClock.compare`."""
        self.difference_s = self.now().wall_s - issued_s
        wrong = abs(self.difference_s) > OFF_S
        self._disagreeing = self._disagreeing + 1 if wrong is not self.contradicted else 0
        if self._disagreeing >= IN_A_ROW:
            self.contradicted, self._disagreeing = wrong, 0


async def step_clock(stage: Stage) -> Mend:
    """The wall clock steps by an hour."""
    stage.plant.clock.off_s = 3600.0

    async def mend() -> None:
        stage.plant.clock.off_s = 0.0

    return mend


async def stop_clock(stage: Stage) -> Mend:
    """The wall clock stands still in the year 2000, and nothing synchronises it."""
    clock = stage.plant.clock
    clock.stands_s, clock.synced = EPOCH_S - 25 * YEAR_S, False

    async def mend() -> None:
        clock.stands_s, clock.synced = None, True

    return mend


async def wrong_clock(stage: Stage) -> Mend:
    """A trusted clock is years ahead; a bystander sends commands that contradict it."""
    clock = RtcClock(74 * YEAR_S)
    await stage.stop()
    stage.plant.clock = clock
    await stage.start()
    for _ in range(IN_A_ROW):
        await stage.call("clear-cell", {"cell_id": "cell_a3"})

    async def mend() -> None:
        clock.off_s = 0.0
        for _ in range(IN_A_ROW):
            await stage.call("clear-cell", {"cell_id": "cell_a3"})

    return mend


# Ports and cloud.


async def swap_ports(stage: Stage) -> Mend:
    """Between two starts the two adapters swap their names."""

    async def swap(plugged: dict[str, str], sockets: tuple[int, int]) -> None:
        await stage.stop()
        stage.plant.plugged = plugged
        for number in (0, 1):
            stage.usb.unplug(f"ttyUSB{number}")
        for number, name in zip(sockets, ("left", "right"), strict=True):
            stage.usb.plug(f"ttyUSB{number}", f"1.{number}", serial=f"{name}-7")
        await stage.start()

    await swap({"left": "right", "right": "left"}, (1, 0))
    return lambda: swap({"left": "left", "right": "right"}, (0, 1))


async def broker_gone(stage: Stage) -> Mend:
    """The broker is unreachable."""
    stage.plant.broker.leave()
    return mended_by(stage.plant.broker.come_back)


async def twin(stage: Stage) -> Mend:
    """A second machine runs with a copy of the journal and the same id: each takes the session from the
    other, and each leaves a digest with the broker."""
    broker = stage.plant.broker
    topic = Topics(stage.plant.settings.machine.machine_id).digest
    copied = Digest.model_validate_json(broker.retained[topic]).model_copy(update={"run": "twin"})

    async def take_turns() -> None:
        for number in itertools.count(1):
            broker.leave()
            digest = copied.model_copy(update={"last_sequence": copied.last_sequence + number})
            broker.retained[topic] = digest.model_dump_json()
            await asyncio.sleep(TAKEN_S)
            broker.come_back()
            await asyncio.sleep(TAKEN_S)

    task = asyncio.create_task(take_turns())

    async def mend() -> None:
        task.cancel()
        broker.come_back()
        await asyncio.sleep(STEADY_S + GONE_NS / 1e9 + 1.0)

    return mend


async def broker_twice(stage: Stage) -> Mend:
    """Every command is delivered three times, once seconds later."""
    stage.plant.broker.twice = True

    async def mend() -> None:
        stage.plant.broker.twice = False
        await asyncio.sleep(4.5)

    return mend


async def broker_strips(stage: Stage) -> Mend:
    """A bridge that uses MQTT 3.1.1 is in between."""
    stage.plant.broker.strips = True

    async def mend() -> None:
        stage.plant.broker.strips = False

    return mend


async def gateway_forgot(stage: Stage) -> Mend:
    """The gateway's database is lost: it is empty, and the gateway reports that."""
    await stage.call("restore", {"journal_id": None, "applied": {}, "reservations": []})
    return mended_by()
