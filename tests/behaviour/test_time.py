"""Sentences on time, power, cloud and alarms that no other test shows, or not whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.app import system_environment
from edge_agent.config import load_settings
from edge_agent.errors import Code
from edge_agent.model import Alarm, CellStatus, Door, Purpose, ReservationStatus
from edge_agent.runtime.clock import SystemClock
from edge_agent.statemachine.inputs import DeviceHealth, DoorRead, DoorsChanged, PulseDone
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.reservation import open_window
from tests.support.pure_core.core import Core
from tests.support.site import PARCEL, Site, at_site
from tools.bench.settings import REPOSITORY

YEAR_S = 365 * 24 * 3600


def standing(site: Site) -> list[str]:
    agent = site.plant.agent
    assert agent is not None
    return [alarm.alarm.value for alarm in agent.loop.state.alarms.values()]


@pytest.mark.behaviour("time-01")
@pytest.mark.parametrize("step_s", [YEAR_S, -YEAR_S])
def test_a_step_of_the_wall_clock_opens_and_closes_no_window(step_s: float) -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=60, grace_pickup_s=60)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)

    def window() -> int | None:
        found = open_window(core.live(reservation), core.state.cells[reservation.cell], core.now)
        return None if found is None else found.number

    core.pass_s(60, wall_step_s=step_s)
    assert window() == 2
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.pass_s(1)
    assert window() == 3
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    core.pass_s(60, wall_step_s=-step_s)
    assert window() == 4
    assert core.state.cells[reservation.cell].status is CellStatus.IN_GRACE
    core.pass_s(1)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE


@pytest.mark.behaviour("time-02")
def test_a_grace_that_runs_across_a_reboot_still_opens_and_still_ends() -> None:
    core = Core()
    reservation = core.picked_up(grace_pickup_s=60)
    core.restart({}, boot_id="boot-2", off_s=30)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    core.pass_s(31)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE


@pytest.mark.behaviour("time-03")
@pytest.mark.parametrize("unsynchronised", ["before", "after"])
def test_where_one_end_of_a_reboot_was_not_synchronised_no_grace_opens_a_door(unsynchronised: str) -> None:
    core = Core()
    core.now = replace(core.now, synced=unsynchronised != "before")
    dropped = core.dropped_off(grace_dropoff_s=3600)
    picked = core.picked_up(grace_pickup_s=3600)
    core.now = replace(core.now, synced=unsynchronised != "after")
    core.restart({}, boot_id="boot-2", off_s=1)
    assert core.refused(core.command(dropped, Purpose.DROPOFF)).code is Code.NOT_ALLOWED
    assert core.refused(core.command(picked, Purpose.PICKUP)).code is Code.NOT_ALLOWED
    core.opens(core.command(dropped, Purpose.PICKUP))


@pytest.mark.behaviour("time-05")
def test_rtc_in_the_config_trusts_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "_synchronised", lambda self: False)
    settings = load_settings(REPOSITORY / "config" / "demo.toml")
    assert settings.machine.clock == "ntp"
    assert not system_environment(settings).clock.now().synced
    document: dict[str, Any] = settings.model_dump(exclude_none=True)
    document["machine"]["clock"] = "rtc"
    document["paths"]["profiles"] = str(REPOSITORY / "config" / "devices")
    path = tmp_path / "machine.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    assert system_environment(load_settings(path)).clock.now().synced


@pytest.mark.behaviour("time-07", "alarms-11")
def test_without_time_a_machine_works_as_any_other(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.plant.clock.synced = False
        made = await site.reserve()
        label = made["cell"]["description"]
        for name, event_type in (("dropoff", "DROPOFF"), ("pickup", "RESERVATION_COMPLETED")):
            assert "result" in await site.call(name, "res_1")
            await asyncio.sleep(1)
            site.plant.world.close(label)
            await site.until(lambda event_type=event_type: bool(site.published(event_type)))  # type: ignore[misc]
        made = await site.reserve(2)
        agent = site.plant.agent
        assert agent is not None
        assert (await agent.local.enter_code(made["drop_off_code"])).refusal is None
        assert standing(site) == ["CLOCK_UNSYNCED"]
        assert len(site.published("ALARM_RAISED")) == 1
        site.plant.clock.synced = True
        await site.until(lambda: not standing(site))

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-08")
def test_a_start_switches_every_output_off(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        asked = asyncio.create_task(site.call("dropoff", "res_1"))
        await site.until(lambda: site.pulses() == 1)
        await site.plant.kill()
        loop = asyncio.get_running_loop()
        now_ns = round(loop.time() * 1e9)
        heated = next(cell.label for cell in site.plant.settings.cells if cell.heating is not None)
        site.plant.world.heater(heated)(now_ns, None)
        site.plant.world.solenoid(label)(now_ns, None)
        site.plant.start()
        await asked
        cells = site.plant.world.cells()
        assert not [cell.label for cell in cells if cell.heating or cell.cooling or cell.solenoid]

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-09", "time-15")
def test_a_command_that_waited_for_the_start_is_judged_by_fresh_door_readings(tmp_path: Path) -> None:
    """The parcel was put in while the daemon was dead; the pick-up that waits at the broker sees that."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        await site.call("dropoff", "res_1")
        await site.plant.kill()
        asked = asyncio.create_task(site.call("pickup", "res_1"))
        await asyncio.sleep(1)
        site.plant.world.close(label)
        site.plant.start()
        assert "result" in await asked
        await site.until(lambda: "PICKUP" in site.types())
        assert site.types() == ["RESERVATION_CREATED", "DROPOFF", "PICKUP"]
        assert site.published("DROPOFF")[0]["drop_off_event"]["recovered"] is True

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-10", "time-11")
def test_a_pick_up_whose_door_is_found_open_at_the_start_was_not_forced() -> None:
    core = Core()
    reservation = core.dropped_off()
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.restart({reservation.cell: Door.OPEN}, boot_id="boot-2", off_s=60)
    picked = core.live(reservation)
    assert (picked.status, picked.picked_up) == (ReservationStatus.PICKED_UP, core.now)
    assert core.kinds()[-1] is FactKind.PICKUP
    assert not core.state.alarms


@pytest.mark.behaviour("time-12")
def test_an_attempt_that_ended_unknown_at_a_start_is_not_pulsed_later() -> None:
    core = Core()
    reservation = core.dropped_off()
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.pulses.clear()
    core.restart({}, off_s=1)
    for _ in range(10):
        core.pass_s(600)
        core.feed(DoorsChanged(dict.fromkeys(core.layout.specs, Door.CLOSED)))
        core.restart({}, off_s=1)
    assert not core.pulses
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


@pytest.mark.behaviour("time-13")
@pytest.mark.parametrize("purpose", [Purpose.DROPOFF, Purpose.OPEN_DOOR])
def test_a_cell_whose_opening_was_not_observed_awaits_inspection_afterwards(
    purpose: Purpose,
) -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.restart({})
    core.feed(core.cancel(reservation))
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_INSPECTION


@pytest.mark.behaviour("time-16", "time-18")
def test_offline_the_locker_works_on_and_publishes_everything_in_order_later(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        agent, link = site.plant.agent, site.plant.broker.link
        assert agent is not None
        assert link is not None
        await site.until(lambda: agent.store.outbox_size() == 0)
        link._up = False
        assert (await agent.local.enter_code(made["drop_off_code"])).refusal is None
        await asyncio.sleep(130)
        assert standing(site) == ["DOOR_AJAR"]
        site.plant.world.close(label)
        await asyncio.sleep(1)
        assert (await agent.local.enter_code(made["pickup_code"])).refusal is None
        site.plant.world.close(label)
        await asyncio.sleep(6)
        assert agent.loop.state.cells[label].status is CellStatus.IDLE
        assert len(site.events) == 1
        link._up = True
        link.report_up()
        await site.until(lambda: "RESERVATION_COMPLETED" in site.types())
        assert site.types() == [
            "RESERVATION_CREATED",
            "ALARM_RAISED",
            "ALARM_CLEARED",
            "DROPOFF",
            "PICKUP",
            "RESERVATION_COMPLETED",
        ]
        assert [event["sequence"] for event in site.events] == [1, 2, 3, 4, 5, 6]

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-18")
def test_no_event_is_dropped_however_long_the_link_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 1000
    monkeypatch.setattr("edge_agent.journal.store.EVENTS_KEPT", kept)

    async def test(site: Site) -> None:
        link, agent = site.plant.broker.link, site.plant.agent
        assert link is not None
        assert agent is not None
        link._up = False
        for _ in range(kept // 2 + 1):
            await agent.local.block("A01", "x")
            await agent.local.unblock("A01")
        await site.plant.kill()
        site.plant.start()
        await site.until(lambda: len(site.events) > kept + 1)
        assert [event["sequence"] for event in site.events] == list(range(1, kept + 3))

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-20")
def test_with_a_full_disk_no_cell_is_reserved(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.plant.lifeline.disk_full = True
        body = {"reservation_id": "res_1", "machine_id": "machine_123", "platform_order_id": "o"}
        command = body | {"request_id": "r", "packaging": PARCEL}
        assert (await site.plant.broker.call("reserve", command))["error"]["code"] == 14
        agent = site.plant.agent
        assert agent is not None
        assert not agent.loop.state.reservations
        site.plant.lifeline.disk_full = False
        # There is room again; the reserve is written again, and the alarm is cleared.
        await site.until(lambda: bool(site.published("ALARM_CLEARED")))
        assert "result" in await site.plant.broker.call("reserve", command)

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-22")
def test_a_cancel_after_an_offline_drop_off_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent, link = site.plant.agent, site.plant.broker.link
        assert agent is not None
        assert link is not None
        link._up = False
        cancelling = asyncio.create_task(site.call("cancel", "res_1"))
        assert (await agent.local.enter_code(made["drop_off_code"])).refusal is None
        site.plant.world.close(made["cell"]["description"])
        await asyncio.sleep(1)
        link._up = True
        link.report_up()
        link.deliver_soon()
        error = (await cancelling)["error"]
        assert error["code"] == 9
        assert "the parcel was dropped off" in error["message"]
        assert agent.loop.state.reservations["res_1"].status is ReservationStatus.DROPPED_OFF

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-23")
def test_no_command_acts_after_its_expiry(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None

        def stands() -> object:
            state = agent.loop.state
            cells = [(cell.status, cell.blocked, cell.pulse_count) for cell in state.cells.values()]
            return state.reservations, state.unlock_attempts, cells

        before = stands()
        old = {"issued_at": "2020-01-01T00:00:00Z", "expires_at": "2020-01-01T00:00:10Z"}
        fields = {"description": "d", "reason": "r", "cell_id": made["cell"]["cell_id"]}
        for name in ("dropoff", "pickup", "open-door", "cancel", "abandon", "maintenance", "block-cell"):
            reply = await site.call(name, "res_1", body=old | fields)
            assert reply["error"]["code"] == 4, name
        assert stands() == before
        assert site.pulses() == 0

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-01", "opening-20")
def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    for _ in range(10):
        core.pass_s(120)
        core.feed(DeviceHealth("scale", False, ()))
        core.now = replace(core.now, synced=False)
    core.now = replace(core.now, synced=True)
    for _ in range(3):
        core.close(reservation.cell)
        core.feed(DeviceHealth("scale", True, ()))
        core.pass_s(5)
    event_type = [(fact.kind.name, fact.alarm) for fact in core.facts if fact.alarm is not None]
    assert sorted(event_type) == sorted(
        (kind, alarm)
        for kind in ("ALARM_RAISED", "ALARM_CLEARED")
        for alarm in (Alarm.DOOR_AJAR, Alarm.DEVICE_SILENT, Alarm.CLOCK_UNSYNCED)
    )
    assert not core.state.alarms


@pytest.mark.behaviour("alarms-05", "alarms-07")
def test_clear_ends_a_jam_and_a_wrong_door() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
    assert f"{Alarm.LOCK_JAMMED}/{reservation.cell}" in core.state.alarms
    core.clear(reservation.cell)
    assert not core.state.alarms
    core.pass_s(11)
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.forced("C01")
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    for label in (reservation.cell, "C01"):
        assert f"{Alarm.WRONG_DOOR}/{label}" in core.state.alarms
        core.close(label)
        core.opened_by_hand(label)
        core.close(label)
        core.clear(label)
    assert not core.state.alarms
