"""One broken witness at a door: the rows W1 to W5 of the field cases, on the production composition."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_agent.app import Agent
from edge_agent.model import Alarm, CellStatus, Door, Purpose, ReservationStatus, Verdict
from edge_agent.statemachine.outputs import Answer
from tests.support.site import Site, at_site

INTERNAL, NOT_ALLOWED = 13, 9


def agent_of(site: Site) -> Agent:
    agent = site.plant.agent
    assert agent is not None
    return agent


def status(site: Site, rid: str = "res_1") -> ReservationStatus:
    return agent_of(site).loop.state.reservations[rid].status


def standing(site: Site) -> set[str]:
    return set(agent_of(site).loop.state.alarms)


def said(answer: Answer) -> str:
    assert answer.refusal is not None
    return answer.refusal.message


async def drop_off(site: Site, number: int = 1, grams: int = 700) -> str:
    """A parcel lies in its cell behind a closed door; the cell's label. Its lock has rested."""
    made = await site.reserve(number)
    rid, label = f"res_{number}", made["cell"]["description"]
    assert "result" in await site.call("dropoff", rid)
    site.plant.world.place(label, grams)
    site.plant.world.close(label)
    await site.until(lambda: status(site, rid) is ReservationStatus.DROPPED_OFF)
    await asyncio.sleep(11)
    return str(label)


async def settled(site: Site, label: str) -> None:
    await site.until(lambda: agent_of(site).loop.state.cells[label].settled)


async def in_doubt(site: Site, label: str) -> None:
    await site.until(lambda: agent_of(site).loop.state.cells[label].contact_doubt is not None)


async def pulsed_for(site: Site, label: str, before: int) -> list[str]:
    """The labels of the solenoids that were energised since."""
    await asyncio.sleep(0.5)
    return [one.label for one in site.plant.world.actuations(before)]


@pytest.mark.parametrize("way", ["pickup", "code", "open-door", "technician"])
def test_w1_a_broken_contact_wire_locks_no_parcel_in(tmp_path: Path, way: str) -> None:
    async def test(site: Site) -> None:
        label = await drop_off(site)
        code = agent_of(site).loop.state.reservations["res_1"].pickup_code
        site.plant.world.stick_contact(label, Door.OPEN)
        await in_doubt(site, label)
        assert {f"SENSOR_FAULT/{label}/contact", f"DOOR_FORCED/{label}"} <= standing(site)
        before = site.pulses()
        if way == "pickup":
            error = (await site.call("pickup", "res_1"))["error"]
            assert error["code"] == INTERNAL
            assert error["details"][0]["metadata"] == {"cell": label, "pulsed": "true"}
        elif way == "code":
            assert f"the lock of cell {label} was pulsed" in said(await agent_of(site).local.enter_code(code))
        elif way == "open-door":
            assert "result" in await site.call("open-door", "res_1", body={"reason": "r"})
            await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
            assert (
                site.published("OPEN_DOOR_FULFILLED")[0]["open_door_fulfilled_event"]["outcome"] == "UNKNOWN"
            )
        else:
            assert label in said(await agent_of(site).local.open_cell(label, "look", "bob"))
        assert await pulsed_for(site, label, before) == [label]
        assert site.plant.world.cell(label).door is Door.OPEN
        assert status(site) is ReservationStatus.DROPPED_OFF
        assert not agent_of(site).loop.state.unlock_attempts, "the cell is not busy"
        site.plant.world.take(label)
        site.plant.world.close(label)
        answer = await agent_of(site).local.resolve(label, Verdict.PICKED_UP, "bob")
        assert answer.refusal is None
        assert status(site) is ReservationStatus.PICKED_UP
        await site.until(lambda: bool(site.published("PICKUP")))
        assert [_detail(event)["actor"] for event in site.published("PICKUP")] == ["bob"]

    at_site(tmp_path, test)


@pytest.mark.long
def test_w1_a_contact_that_closes_within_ten_minutes_concludes_the_pick_up(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        label = await drop_off(site)
        mend = site.plant.world.stick_contact(label, Door.OPEN)
        await in_doubt(site, label)
        assert (await site.call("pickup", "res_1"))["error"]["code"] == INTERNAL
        await asyncio.sleep(0.5)
        site.plant.world.take(label)
        site.plant.world.close(label)
        await asyncio.sleep(300)
        assert not site.published("PICKUP_FAILED")
        mend()
        await site.until(lambda: status(site) is ReservationStatus.PICKED_UP)
        await site.until(lambda: bool(site.published("PICKUP")))
        (event,) = site.published("PICKUP")
        assert _detail(event)["recovered"] is True
        await site.until(lambda: not agent_of(site).loop.state.reservations)
        assert agent_of(site).loop.state.cells[label].status is CellStatus.AWAITING_INSPECTION

    at_site(tmp_path, test)


@pytest.mark.long
def test_w1_without_a_closing_the_pick_up_has_failed_after_ten_minutes(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        label = await drop_off(site)
        site.plant.world.stick_contact(label, Door.OPEN)
        await in_doubt(site, label)
        assert (await site.call("pickup", "res_1"))["error"]["code"] == INTERNAL
        await asyncio.sleep(598)
        assert not site.published("PICKUP_FAILED")
        await asyncio.sleep(5)
        assert len(site.published("PICKUP_FAILED")) == 1
        assert status(site) is ReservationStatus.DROPPED_OFF

    at_site(tmp_path, test)


def test_w1_a_first_drop_off_into_a_cell_in_doubt_opens_another_one(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        site.plant.world.stick_contact(label, Door.OPEN)
        await in_doubt(site, label)
        other = (await site.call("dropoff", "res_1"))["result"]["cell"]["description"]
        assert other != label
        assert [one.label for one in site.plant.world.actuations()] == [other]
        assert agent_of(site).loop.state.cells[label].status is CellStatus.AWAITING_INSPECTION

    at_site(tmp_path, test)


def test_w1_a_door_that_the_machine_opened_counts_as_open_however_long_it_stands_open(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        assert "result" in await site.call("dropoff", "res_1")
        site.plant.world.place(label, 700)
        await asyncio.sleep(150)  # past `door_ajar_s` and the 10 s of a pulse
        await site.plant.kill()
        site.plant.start()
        await site.until(lambda: site.plant.broker.link is not None)
        assert "result" in await site.call("dropoff", "res_1", "again")
        assert site.pulses() == 1

    at_site(tmp_path, test)


def test_doubt_ends_when_a_pulse_opens_a_door_that_read_closed(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        label = await drop_off(site)
        mend = site.plant.world.stick_contact(label, Door.OPEN)
        await in_doubt(site, label)
        mend()
        await asyncio.sleep(2)
        assert f"SENSOR_FAULT/{label}/contact" in standing(site)
        assert "result" in await site.call("pickup", "res_1")
        await asyncio.sleep(6)
        assert f"SENSOR_FAULT/{label}/contact" not in standing(site)
        assert agent_of(site).loop.state.cells[label].contact_doubt is None

    at_site(tmp_path, test)


def test_a_glitch_of_a_contact_is_no_forced_door(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        label = await drop_off(site)
        mend = site.plant.world.stick_contact(label, Door.OPEN)
        await site.until(lambda: agent_of(site).loop.state.cells[label].door is Door.OPEN)
        mend()
        await asyncio.sleep(1)
        assert not [key for key in standing(site) if label in key]
        assert "result" in await site.call("pickup", "res_1")

    at_site(tmp_path, test)


def test_w2_crossed_lock_wires_open_one_wrong_door_and_no_second(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        first, second = await drop_off(site, 1), await drop_off(site, 2)
        mend = site.plant.world.cross_locks(first, second)
        before = site.pulses()
        assert (await site.call("pickup", "res_1"))["error"]["code"] == INTERNAL
        assert {f"WRONG_DOOR/{first}", f"WRONG_DOOR/{second}"} <= standing(site)
        assert {one.label for one in site.plant.world.actuations(before)} == {second}
        site.plant.world.close(second)
        opened = site.pulses()
        error = (await site.call("pickup", "res_2"))["error"]
        assert error["code"] == NOT_ALLOWED
        assert "call for help" in error["message"]
        code = agent_of(site).loop.state.reservations["res_2"].pickup_code
        assert "call for help" in said(await agent_of(site).local.enter_code(code))
        assert site.pulses() == opened
        assert status(site, "res_1") is status(site, "res_2") is ReservationStatus.DROPPED_OFF
        assert said(await agent_of(site).local.clear(first)).startswith(f"open cell {first} first")
        mend()
        await asyncio.sleep(11)
        for label in (first, second):
            assert (await agent_of(site).local.open_cell(label, "check", "bob")).refusal is None
            site.plant.world.close(label)
            await settled(site, label)
            assert (await agent_of(site).local.clear(label, "bob")).refusal is None
        await asyncio.sleep(11)
        for number in (1, 2):
            assert "result" in await site.call("pickup", f"res_{number}", f"again-{number}")

    at_site(tmp_path, test)


def test_w3_after_a_wrong_door_its_lock_is_pulsed_no_more(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        first, second = await drop_off(site, 1), await drop_off(site, 2)
        site.plant.world.cross_locks(first, second)
        await site.call("pickup", "res_1")
        before = site.pulses()
        for number in range(3):
            await asyncio.sleep(15)
            error = (await site.call("pickup", "res_1", f"again-{number}"))["error"]
            assert error["code"] == NOT_ALLOWED
        assert site.pulses() == before

    at_site(tmp_path, test)


def test_w4_a_door_that_opens_late_after_its_reservation_moved_awaits_inspection(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        free = site.plant.world.jam_lock(label)
        other = (await site.call("dropoff", "res_1"))["result"]["cell"]["description"]
        assert other != label
        await asyncio.sleep(1)
        free()
        site.plant.world.open(label)  # the bolt lets go at last
        await asyncio.sleep(1)
        site.plant.world.place(label, 700)
        for one in (label, other):
            site.plant.world.close(one)
        await asyncio.sleep(3)
        cell = agent_of(site).loop.state.cells[label]
        assert cell.status is CellStatus.AWAITING_INSPECTION
        assert cell.faulty is not None
        assert f"DOOR_FORCED/{label}" not in standing(site)

    at_site(tmp_path, test)


@pytest.mark.parametrize(
    "period_ms",
    [100, 333, 500, *(pytest.param(ms, marks=pytest.mark.long) for ms in (170, 250, 400))],
)
def test_w5_a_contact_that_chatters_drops_nothing_off(tmp_path: Path, period_ms: int) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        assert "result" in await site.call("dropoff", "res_1")
        site.plant.world.chatter_contact(label, period_ms * 10**6)
        await asyncio.sleep(120 if period_ms <= 100 else 40)
        assert not site.published("DROPOFF")
        assert status(site) is ReservationStatus.PENDING
        # Closed moments shorter than 50 ms are never believed: such a door reads as open.
        alarm = f"DOOR_AJAR/{label}" if period_ms <= 100 else f"SENSOR_FAULT/{label}/contact"
        assert alarm in standing(site)

    at_site(tmp_path, test)


def test_three_locks_of_a_board_that_fail_in_a_row_are_the_board_s_fault(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        labels = [await drop_off(site, number) for number in (1, 2, 3)]
        free = [site.plant.world.jam_lock(label) for label in labels]
        for number in (1, 2, 3):
            assert (await site.call("pickup", f"res_{number}"))["error"]["code"] == INTERNAL
        device = next(cell.lock.device for cell in site.plant.settings.cells if cell.label == labels[0])
        assert standing(site) & {f"{Alarm.DEVICE_FAULT}/{device}"}
        cells = agent_of(site).loop.state.cells
        assert [cells[label].faulty for label in labels] == [None] * 3
        assert not [key for key in standing(site) if key.startswith(Alarm.LOCK_JAMMED)]
        for end in free:
            end()
        await asyncio.sleep(11)
        assert "result" in await site.call("pickup", "res_1", "again")
        assert not standing(site) & {f"{Alarm.DEVICE_FAULT}/{device}"}

    at_site(tmp_path, test)


def test_two_contacts_that_open_in_one_reading_are_their_board_s_fault(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        labels = [await drop_off(site, number) for number in (1, 2)]
        ends = [site.plant.world.stick_contact(label, Door.OPEN) for label in labels]
        await asyncio.sleep(2)
        assert [key for key in standing(site) if key.startswith(Alarm.DEVICE_FAULT)]
        assert not [key for key in standing(site) if key.startswith(Alarm.DOOR_FORCED)]
        before = site.pulses()
        assert (await site.call("pickup", "res_1"))["error"]["code"] == INTERNAL
        assert await pulsed_for(site, labels[0], before) == [labels[0]]
        for end in ends:
            end()

    at_site(tmp_path, test)


def _detail(event: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for key, value in event.items() if key.endswith("_event"))
    return found


def test_an_open_door_of_a_free_cell_asks_for_inspection(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.plant.world.open("A05")
        await in_doubt(site, "A05")
        assert agent_of(site).loop.state.cells["A05"].status is CellStatus.AWAITING_INSPECTION
        site.plant.world.close("A05")
        await asyncio.sleep(2)
        assert (await agent_of(site).local.clear("A05")).refusal is None
        assert agent_of(site).loop.state.cells["A05"].status is CellStatus.IDLE
        assert agent_of(site).loop.state.cells["A05"].contact_doubt is None
        answer = await agent_of(site).local.open_cell("A06", "look", "bob", Purpose.TECHNICIAN)
        assert answer.refusal is None
        site.plant.world.close("A06")
        await asyncio.sleep(2)
        assert agent_of(site).loop.state.cells["A06"].status is CellStatus.IDLE

    at_site(tmp_path, test)
