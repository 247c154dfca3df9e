"""Self-test of disk, clock, broker and the daemon itself, and of the alarms that stand."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.drivers.port_identity import ANOTHER_ADAPTER
from edge_agent.errors import SessionTaken, StorageFault
from edge_agent.journal.store import FREE_FOR_SPARE_BYTES, JournalStore
from edge_agent.journal.volatile import verdict
from edge_agent.model import Alarm, Instant
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.loop import LockerLoop
from edge_agent.service.diagnosis.findings import Found
from edge_agent.statemachine.state import StandingAlarm, cell_of

MEGABYTE = 1024 * 1024
LARGE_WAL_BYTES = 64 * MEGABYTE
"""A write-ahead log larger than this is not being checkpointed into the database file."""
MANY_EVENTS = 1000
STATM = Path("/proc/self/statm")

KINDS: dict[Alarm, tuple[str, ...]] = {
    Alarm.LOCK_JAMMED: ("lock_jammed", "door_sensor_stuck"),
    Alarm.DEVICE_SILENT: ("device_silent",),
    Alarm.BUS_DOWN: ("bus_unplugged",),
    Alarm.CLIMATE_NO_EFFECT: ("heater_stuck",),
}
"""The faults that an alarm may come from."""
STEPS: dict[Alarm, str] = {
    Alarm.DOOR_AJAR: "close the door; if it is closed, its contact or the wire to it",
    Alarm.DOOR_FORCED: "look into the cell and at the latch, close the door, then `edge-agent clear`",
    Alarm.WRONG_DOOR: "two locks or contacts are swapped: `edge-agent bus doors`; then `edge-agent clear`",
    Alarm.LOCK_JAMMED: "open it (`edge-agent open`) and look: if the bolt does not move, the lock or its"
    " wires (lock_jammed); if the door stands open and is reported closed, the contact (door_sensor_stuck)",
    Alarm.DEVICE_SILENT: "see the device above",
    Alarm.BUS_DOWN: "see the bus above",
    Alarm.CLOCK_UNSYNCED: "see the clock above",
    Alarm.CODE_GUESSING: "invalid codes were entered; it ends by itself",
    Alarm.STORAGE_FAULT: "see the disk above",
    Alarm.COMMAND_REJECTED: "commands arrive without permission: check who may publish at the broker",
    Alarm.CERTIFICATE_EXPIRES: "look at [enrolment] and at the gateway; else claim the machine again",
    Alarm.LINK_REFUSED: "look at the credentials of [mqtt] and at the broker's list of machines",
    Alarm.JOURNAL_LOST: "look into every cell, then `edge-agent restore` (field manual)",
    Alarm.PARCEL_LEFT_BEHIND: "look into the cell, then `edge-agent clear`",
    Alarm.CLIMATE_NO_EFFECT: "look at heater or cooler, its relay and its fuse, and at the probe",
}
TWIN = (
    "stop the machine that has a copy of this memory card, then release this one at the gateway's /operations"
)
SWAPPED = "plug the adapters back as they were; if one was really changed, start once with --rewired"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks need. `run_blocking` runs blocking calls where they hold up nothing."""

    loop: LockerLoop
    store: JournalStore
    clock: Clock
    started: Instant
    broker_up: Callable[[], bool]
    run_blocking: Callable[[Callable[[], list[str]]], Awaitable[list[str]]]


async def check(machine: Machine) -> list[Found]:
    """All checks except the alarms."""
    return [_daemon(machine), *await _disk(machine), _clock(machine), _broker(machine)]


def _daemon(machine: Machine) -> Found:
    up_s = (machine.clock.now().boottime_ns - machine.started.boottime_ns) / 1e9
    up = _duration(up_s)
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return Found("daemon", "", "good", f"version {__version__}, up {up}")
    memory = pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
    finding = f"version {__version__}, up {up}, {memory:.0f} MB of memory"
    return Found("daemon", "", "good", finding)


async def _disk(machine: Machine) -> list[Found]:
    store, fault = machine.store, machine.loop.storage_fault
    room = (
        "make room: `journalctl --vacuum-size=50M`, `apt-get clean`; a memory card that wears out is swapped"
    )
    if fault is not None:
        return [Found("disk", "", "fault", f"the journal cannot be written: {fault}", room)]
    try:
        about = os.statvfs(store.path.parent)
        wal = store.path.with_name(f"{store.path.name}-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
    except OSError as error:
        return [Found("disk", "", "fault", f"the journal's folder cannot be read: {error.strerror}", room)]
    found = [_room(machine, about, room)]
    forgets = verdict(store.path.parent)
    if forgets.volatile is not False:
        how = "loses its files at a power cut" if forgets.volatile else "may lose its files at a power cut"
        step = "put the journal on a disk or memory card (`paths.journal`); a test bench may stay as it is"
        found.append(Found("disk", "filesystem", "warning", f"{forgets.why}: {how}", step))
    if wal_bytes > LARGE_WAL_BYTES:
        why = f"the journal's log has grown to {wal_bytes // MEGABYTE} MB"
        found.append(
            Found("disk", "log", "warning", why, "restart the service when no customer is at the machine")
        )
    return [*found, await _journal(machine)]


def _room(machine: Machine, about: os.statvfs_result, room: str) -> Found:
    free = about.f_bavail * about.f_frsize
    if about.f_flag & os.ST_RDONLY:
        why = "the file system is read-only: the kernel has found it damaged, or it was mounted so"
        return Found(
            "disk", "", "fault", why, "look at `dmesg`; swap the memory card or disk, then move the journal"
        )
    share = about.f_bavail / about.f_blocks if about.f_blocks else 0.0
    finding = f"{free // MEGABYTE} MB free ({share:.0%})"
    if not machine.store.has_spare_space:
        return Found("disk", "", "fault", f"{finding}; the room kept for a full disk is gone", room)
    if free < FREE_FOR_SPARE_BYTES:
        return Found("disk", "", "warning", finding, room)
    return Found("disk", "", "good", finding)


async def _journal(machine: Machine) -> Found:
    swap = "take the journal off (operations manual), swap the memory card or disk"
    try:
        damage = await machine.run_blocking(machine.store.quick_check)
    except StorageFault as fault:
        return Found("disk", "journal", "fault", f"it cannot be read: {fault}", swap)
    if damage:
        return Found("disk", "journal", "fault", f"it is damaged: {damage[0]}", swap)
    return Found("disk", "journal", "good", "the journal is sound")


def _clock(machine: Machine) -> Found:
    if machine.clock.now().synced:
        return Found("clock", "", "good", "synchronised")
    step = (
        "look at the network and at `timedatectl timesync-status`; without a network it needs a clock with"
        ' a battery and clock = "rtc"'
    )
    why = "not synchronised: graces across a reboot open and free nothing"
    return Found("clock", "", "warning", why, step)


def _broker(machine: Machine) -> Found:
    try:
        waiting = machine.store.outbox_size()
    except StorageFault as fault:
        return Found("broker", "", "unknown", f"the outbox cannot be read: {fault}", "see the disk")
    finding = f"{waiting} events wait"
    if machine.broker_up():
        if waiting > MANY_EVENTS:
            return Found(
                "broker", "", "warning", f"connected, {finding}", "a backlog: look again in a minute"
            )
        return Found("broker", "", "good", f"connected, {finding}")
    refused = machine.loop.state.alarms.get(f"{Alarm.LINK_REFUSED}/")
    if refused is not None:
        cause, _, _ = refused.detail.partition(STEP_AFTER)
        return Found("broker", "", "fault", f"refused: {cause}; {finding}", _step(refused))
    step = "look at the network (cable, SIM, `ip route`), the name and port in [mqtt], the firewall"
    return Found("broker", "", "fault", f"not connected; {finding}; doors and codes work without", step)


def alarms(
    machine: Machine, found: Collection[Found], behind: Callable[[StandingAlarm], Collection[str]]
) -> Iterator[Found]:
    """The alarms that stand, except those that another row already shows.

    `behind`: the devices and buses that an alarm's subject depends on.
    """
    shown = {(row.target, kind) for row in found for kind in row.kinds}
    ill = {row.target for row in found if row.check in ("bus", "device") and row.verdict != "good"}
    stand = list(machine.loop.state.alarms.values())
    for alarm in stand:
        if _swapped(alarm) or not ill.intersection(behind(alarm)):
            yield from _alarm(alarm, shown)
    if not stand:
        yield Found("alarms", "", "good", "no alarm stands")


def _swapped(alarm: StandingAlarm) -> bool:
    return alarm.alarm is Alarm.BUS_DOWN and alarm.detail.startswith(ANOTHER_ADAPTER)


def _alarm(alarm: StandingAlarm, shown: Collection[tuple[str, str]]) -> Iterator[Found]:
    kinds = _kinds(alarm)
    where = cell_of(alarm.place)
    covered = kinds and all((where, kind) in shown for kind in kinds)
    if alarm.alarm is Alarm.CLOCK_UNSYNCED or covered:
        return
    step = _step(alarm)
    detail = f": {alarm.detail}" if alarm.detail else ""
    verdict: Any = "warning" if alarm.alarm in (Alarm.CODE_GUESSING, Alarm.COMMAND_REJECTED) else "fault"
    yield Found("alarm", alarm.place, verdict, f"{alarm.alarm}{detail}", step, kinds)


STEP_AFTER = "; "
"""Divides the cause of a refused link from what to do about it (`edge_agent.mqtt.packets`)."""


def _step(alarm: StandingAlarm) -> str:
    if _swapped(alarm):
        return SWAPPED
    if alarm.alarm is Alarm.LINK_REFUSED and alarm.detail == str(SessionTaken()):
        return TWIN
    if alarm.alarm is Alarm.LINK_REFUSED and STEP_AFTER in alarm.detail:
        return alarm.detail.partition(STEP_AFTER)[2]
    return STEPS.get(alarm.alarm, "look into the cell")


def _kinds(alarm: StandingAlarm) -> tuple[str, ...]:
    if _swapped(alarm):
        return ()
    if alarm.alarm is Alarm.SENSOR_FAULT:
        if alarm.place.endswith("/contact"):
            return ("door_chatter", "door_sensor_stuck")
        return ("scale_drift",) if "/scale" in alarm.place else ("temperature_sensor_dead",)
    return KINDS.get(alarm.alarm, ())


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"
