"""Corners where the product once differed from the behaviour page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.config import load_settings
from edge_agent.drivers.bus import Priority
from edge_agent.errors import BusTimeout, ConfigError
from edge_agent.journal.recovery import restore
from edge_agent.journal.store import Batch, JournalStore
from edge_agent.model import Alarm, CellStatus, Door, Purpose, ReservationStatus
from edge_agent.statemachine.inputs import Boot, DeviceHealth, DoorRead
from edge_agent.statemachine.locker import step
from edge_agent.statemachine.state import Layout, empty_state
from tests.support.pure_core.core import Core, specs
from tests.support.site import Site, at_site
from tools.bench.settings import REPOSITORY

ReadLevels = Callable[[Priority], Coroutine[Any, Any, list[int]]]


def stands(core: Core, alarm: Alarm, place: str) -> bool:
    return f"{alarm}/{place}" in core.state.alarms


def standing(site: Site) -> list[str]:
    agent = site.plant.agent
    assert agent is not None
    return [alarm.alarm.value for alarm in agent.loop.state.alarms.values()]


@pytest.mark.behaviour("opening-07")
def test_two_pulses_of_one_lock_never_run_into_each_other(tmp_path: Path) -> None:
    """A rider who lets the door fall shut at once and asks again: one solenoid is on for too long."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        await site.call("dropoff", "res_1", "a")
        site.plant.world.close(made["cell"]["description"])
        await site.call("dropoff", "res_1", "b")
        await asyncio.sleep(2)
        longest_ms = max(pulse.duration_ms or 0 for pulse in site.plant.world.actuations())
        assert longest_ms <= site.plant.settings.unlock.pulse_ms

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-07")
def test_a_door_is_watched_at_least_as_long_as_its_lock_is_pulsed(tmp_path: Path) -> None:
    """Three pulses of 10 s at 0.1 s intervals: the board energises the solenoid for more than 10 s."""
    document = load_settings(REPOSITORY / "config" / "demo.toml").model_dump(exclude_none=True)
    document["unlock"] |= {"pulse_ms": 10_000, "watch_ms": 100}
    document["paths"]["profiles"] = str(REPOSITORY / "config" / "devices")
    path = tmp_path / "machine.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError, match="watch_ms"):
        load_settings(path)


@pytest.mark.behaviour("opening-09")
def test_no_more_solenoids_are_on_at_once_than_unlocks_are_allowed(tmp_path: Path) -> None:
    """An unlock is over when its door is seen open, after some 60 ms; its pulse lasts 300 ms."""

    async def test(site: Site) -> None:
        for number in range(1, 9):
            await site.reserve(number)
        await asyncio.gather(*(site.call("dropoff", f"res_{number}") for number in range(1, 9)))
        await asyncio.sleep(1)
        pulses = site.plant.world.actuations()
        assert len(pulses) == 8
        ends = [(pulse.monotonic, pulse.monotonic + (pulse.duration_ms or 0) / 1000) for pulse in pulses]
        at_once = [sum(begin <= at < end for begin, end in ends) for at, _ in ends]
        assert max(at_once) <= site.plant.settings.unlock.max_concurrent_unlocks

    at_site(tmp_path, test)


def lose_one_reading(site: Site) -> None:
    """The next reading of a door board that is asked for at a command's priority gets no answer."""
    agent = site.plant.agent
    assert agent is not None
    for board in agent.devices.door_boards.values():

        def losing(real: ReadLevels) -> ReadLevels:
            lost = False

            async def read_levels(priority: Priority) -> list[int]:
                nonlocal lost
                if priority is Priority.COMMAND and not lost:
                    lost = True
                    raise BusTimeout("one frame was damaged")
                return await real(priority)

            return read_levels

        board.read_levels = losing(board.read_levels)  # type: ignore[method-assign, assignment]


@pytest.mark.behaviour("reservation-11")
def test_one_damaged_frame_does_not_fail_a_pick_up(tmp_path: Path) -> None:
    """A pick-up fails after all attempts; here none was made, and the next poll reads the door well."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        await site.call("dropoff", "res_1")
        site.plant.world.close(made["cell"]["description"])
        await site.until(lambda: "DROPOFF" in site.types())
        await asyncio.sleep(5)
        lose_one_reading(site)
        assert "result" in await site.call("pickup", "res_1")
        assert "PICKUP_FAILED" not in site.types()

    at_site(tmp_path, test)


@pytest.mark.behaviour("cells-06")
def test_one_damaged_frame_moves_no_reservation(tmp_path: Path) -> None:
    """Only behind a silent board does an unopened reservation move at its drop-off."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        lose_one_reading(site)
        opened = await site.call("dropoff", "res_1")
        assert opened["result"]["cell"] == made["cell"]

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-23")
def test_a_code_that_the_disk_delayed_by_a_minute_opens_nothing(tmp_path: Path) -> None:
    """The customer is gone; a late entry never moves a lock."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        entering = asyncio.create_task(agent.local.enter_code(made["drop_off_code"]))
        await site.until(lambda: bool(agent.loop.state.unlock_attempts))
        site.plant.lifeline.disk_full = True
        await asyncio.sleep(60)
        site.plant.lifeline.disk_full = False
        await asyncio.sleep(10)
        entering.cancel()
        assert site.pulses() == 0

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-08")
def test_a_device_that_answers_after_a_restart_clears_its_silence(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        cable = site.plant.cables["main"]
        cable.unplug()
        await site.until(lambda: "DEVICE_SILENT" in standing(site))
        await site.plant.kill()
        cable.plug()
        site.plant.start()
        await asyncio.sleep(60)
        assert "DEVICE_SILENT" not in standing(site)

    at_site(tmp_path, test)


def without(core: Core, label: str, folder: Path) -> Core:
    """The same machine after a restart on a configuration that has a cell less."""
    fewer = Layout(specs={k: v for k, v in core.layout.specs.items() if k != label})
    with closing(JournalStore(folder / "journal.sqlite")) as store:
        before = empty_state(core.layout)
        store.commit(Batch(before=before, after=core.state, changed=core.take_changed()))
        core.layout, core.state = fewer, restore(store.load(0.0), fewer, core.now)
    doors = dict.fromkeys(fewer.specs, Door.CLOSED)
    core.state = step(core.state, fewer, Boot(doors), core.now).state
    return core


@pytest.mark.behaviour("alarms-04")
def test_a_cell_may_be_taken_out_of_the_configuration_while_its_alarm_stands(tmp_path: Path) -> None:
    core = Core()
    core.forced("C01")
    core.close("C01")
    assert stands(core, Alarm.DOOR_FORCED, "C01")
    assert not stands(without(core, "C01", tmp_path), Alarm.DOOR_FORCED, "C01")


@pytest.mark.behaviour("alarms-05")
def test_a_jam_ends_when_its_cell_is_removed(tmp_path: Path) -> None:
    core = Core()
    core.jams(core.feed(core.command(core.reserve(), Purpose.DROPOFF)))
    assert stands(core, Alarm.LOCK_JAMMED, "A01")
    core.pass_s(60)
    assert not stands(without(core, "A01", tmp_path), Alarm.LOCK_JAMMED, "A01")


@pytest.mark.behaviour("reservation-37", "alarms-04")
def test_a_silent_board_does_not_show_that_a_forced_door_stays_closed() -> None:
    core = Core()
    core.forced("A01")
    core.close("A01")
    core.feed(DeviceHealth("locks_a", False, ("A01", "A02")))
    core.pass_s(3600)
    assert stands(core, Alarm.DOOR_FORCED, "A01")


@pytest.mark.behaviour("time-14")
def test_a_drop_off_is_marked_recovered_also_where_the_board_answers_late() -> None:
    """After a power cut the board needs longer than the daemon: no reading showed the door being closed."""
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.restart({reservation.cell: Door.UNKNOWN}, boot_id="boot-2", off_s=60)
    core.close(reservation.cell)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert core.live(reservation).recovered


@pytest.mark.behaviour("time-04")
def test_a_grace_that_began_without_time_ends_once_the_clock_is_synchronised() -> None:
    """None frees a cell until the clock is synchronised; then, and a whole grace later, it may be freed."""
    core = Core()
    core.now = replace(core.now, synced=False)
    reservation = core.picked_up(grace_pickup_s=60)
    core.restart({}, boot_id="boot-2", off_s=60)
    core.now = replace(core.now, synced=True)
    core.pass_s(24 * 3600)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE


@pytest.mark.behaviour("time-02")
def test_a_grace_is_dated_as_soon_as_the_clock_is_synchronised() -> None:
    """Both ends of the reboot were synchronised: the clock came a minute after the pick-up."""
    core = Core()
    core.now = replace(core.now, synced=False)
    reservation = core.picked_up(grace_pickup_s=600)
    core.now = replace(core.now, synced=True)
    core.pass_s(60)
    core.restart({}, boot_id="boot-2", off_s=3600)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE


@pytest.mark.behaviour("opening-18")
def test_another_door_that_is_found_open_after_a_kill_is_the_wrong_one() -> None:
    """The daemon died between the pulse and the reading; the commanded door is shut, another one open."""
    core = Core()
    reservation = core.dropped_off()
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.restart({"C01": Door.OPEN}, off_s=1)
    core.lasts()
    assert stands(core, Alarm.WRONG_DOOR, reservation.cell)
    assert stands(core, Alarm.WRONG_DOOR, "C01")


@pytest.mark.behaviour("reservation-03")
def test_the_drop_off_grace_begins_with_the_call_and_not_with_the_pulse() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    busy, reservation = core.command(core.reserve(), Purpose.DROPOFF), core.reserve()
    core.feed(busy)
    called = core.now
    core.feed(core.command(reservation, Purpose.DROPOFF))
    core.pass_s(5)
    core.feed(DoorRead(busy.unlock_id, Door.OPEN))
    assert core.live(reservation).first_dropoff == called
