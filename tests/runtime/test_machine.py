"""The production composition in virtual time: requests, expiry, full disk, silent boards, forced doors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.drivers.requests import AddressedRequest
from edge_agent.model import Alarm, CellStatus, Door
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.site import PARCEL, Site, at_site
from tools.simulate.plant import rfc3339


def test_the_same_request_twice_acts_once_also_after_a_kill(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        assert await site.reserve() == made
        first = await site.call("dropoff", "res_1")
        assert first["result"]["cell"]["description"] == made["cell"]["description"]
        site.plant.world.close(made["cell"]["description"])
        assert await site.call("dropoff", "res_1") == first
        await site.plant.kill()
        site.plant.start()
        assert await site.call("dropoff", "res_1") == first
        assert site.pulses() == 1

    at_site(tmp_path, test)


def test_one_request_that_arrives_twice_at_once_acts_once(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        first, second = await asyncio.gather(site.call("dropoff", "res_1"), site.call("dropoff", "res_1"))
        assert first == second
        assert "result" in first
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-13", "time-23")
def test_an_expired_command_never_acts_and_may_be_retried(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        now_s = asyncio.get_running_loop().time()
        old = {"issued_at": rfc3339(now_s - 60), "expires_at": rfc3339(now_s - 50)}
        late = await site.call("dropoff", "res_1", body=old)
        assert late["error"]["code"] == 4
        assert site.pulses() == 0
        assert "result" in await site.call("dropoff", "res_1")

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-24", "time-25", "alarms-11")
def test_without_a_synchronised_clock_only_the_message_expiry_counts(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        site.plant.clock.synced = False
        refused = await site.call("dropoff", "res_1", "a", message_expiry=False)
        assert refused["error"]["code"] == 3
        assert "message_expiry_interval" in refused["error"]["message"]
        old = {"issued_at": rfc3339(-9000), "expires_at": rfc3339(-8000)}
        assert "result" in await site.call("dropoff", "res_1", "b", body=old)
        assert site.pulses() == 1
        await site.until(lambda: any(e.get("alarm_raised_event", {}).get("alarm") for e in site.events))
        raised = next(e for e in site.events if "alarm_raised_event" in e)
        assert raised["alarm_raised_event"]["alarm"] == "CLOCK_UNSYNCED"
        assert not raised["clock_synced"]
        site.plant.clock.synced = True
        await site.until(lambda: site.types()[-1] == "ALARM_CLEARED")

    at_site(tmp_path, test)


def test_a_full_disk_refuses_commands_and_keeps_what_was_seen(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        await site.call("dropoff", "res_1")
        await asyncio.sleep(1)
        site.plant.lifeline.disk_full = True
        site.plant.world.close(label)
        refused = await site.call("cancel", "res_1")
        assert refused["error"]["code"] == 14
        assert "journal" in refused["error"]["message"]
        await asyncio.sleep(5)
        assert "DROPOFF" not in site.types()
        site.plant.lifeline.disk_full = False
        await site.until(lambda: "DROPOFF" in site.types())
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("reservation-37", "cells-05", "alarms-08")
def test_a_silent_bus_makes_doors_unknown_and_opens_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        cable = site.plant.cables["main"]
        cable.unplug()
        await asyncio.sleep(3)
        agent = site.plant.agent
        assert agent is not None
        assert {row["door"] for row in agent.report.cells()} == {"unknown"}
        assert len([a for a in agent.loop.state.alarms.values() if a.alarm is Alarm.DEVICE_SILENT]) >= 3
        refused = await site.call("dropoff", "res_1", "a")
        assert refused["error"]["code"] == 13
        full = await site.plant.broker.call(
            "reserve",
            {
                "request_id": "x",
                "reservation_id": "res_x",
                "machine_id": "machine_123",
                "platform_order_id": "o",
                "packaging": PARCEL,
            },
        )
        assert full["error"]["code"] == 8
        cable.plug()
        await site.until(lambda: {row["door"] for row in agent.report.cells()} == {"closed"})
        await site.until(lambda: not agent.loop.state.alarms)
        assert "result" in await site.call("dropoff", "res_1", "b")
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-19")
def test_a_door_forced_and_closed_changes_no_reservation(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        site.plant.world.open(label)
        await asyncio.sleep(2)
        site.plant.world.close(label)
        await asyncio.sleep(2)
        agent = site.plant.agent
        assert agent is not None
        assert agent.loop.state.cells[label].status is CellStatus.RESERVED
        assert site.types() == ["RESERVATION_CREATED", "ALARM_RAISED", "ALARM_RAISED"]
        raised = [event["alarm_raised_event"] for event in site.published("ALARM_RAISED")]
        assert [(one["alarm"], one["cell"]["description"]) for one in raised] == [
            ("DOOR_FORCED", label),
            ("SENSOR_FAULT", label),
        ]

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-10", "time-12")
@pytest.mark.parametrize("door", [Door.OPEN, Door.CLOSED])
def test_killed_after_the_pulse_and_before_the_outcome(tmp_path: Path, door: Door) -> None:
    """A client that retries with the same id gets the outcome of the door, and no second pulse."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        asked = asyncio.create_task(site.call("dropoff", "res_1"))
        await site.until(lambda: site.pulses() == 1)
        await site.plant.kill()
        await asyncio.sleep(0.5)
        if door is Door.CLOSED:
            site.plant.world.close(label)
        site.plant.start()
        first = await asked
        again = await site.call("dropoff", "res_1")
        assert again == first
        assert ("result" in first) == (door is Door.OPEN)
        assert site.pulses() == 1
        agent = site.plant.agent
        assert agent is not None
        assert agent.loop.state.cells[label].outcome_unknown == (door is Door.CLOSED)

    at_site(tmp_path, test)


def test_queries_show_the_present_state(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        ask = site.plant.broker.call
        assert (await ask("echo", {"request_id": "e", "message": "hi"}))["result"] == {"message": "hi"}
        machine = (await ask("get-machine", {"request_id": "m"}))["result"]["machine"]
        assert len(machine["all_cells"]) == 24
        assert machine["occupancy_information"] == "OCCUPANCY_STATUS_LOW"
        listed = await ask("list-reservations", {"request_id": "l"})
        assert listed["result"]["reservations"] == [made]
        assert (await site.call("get-reservation", "res_1"))["result"]["reservation"] == made
        await site.call("cancel", "res_1")
        ended = (await site.call("get-reservation", "res_1"))["result"]["reservation"]
        assert ended["status"] == "RESERVATION_STATUS_CANCELLED"
        assert (await site.call("get-reservation", "res_0"))["error"]["code"] == 5
        assert (await site.call("dropoff", "res_1"))["error"]["code"] == 9
        assert (await site.call("dropoff", "res_0"))["error"]["code"] == 5
        assert (await ask("list-reservations", {"request_id": "l"}))["result"]["reservations"] == []

    at_site(tmp_path, test)


def test_an_id_that_was_reserved_and_cancelled_at_once_is_not_reserved_again(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        body = {
            "reservation_id": "res_1",
            "machine_id": "machine_123",
            "platform_order_id": "o",
            "packaging": PARCEL,
        }
        commands = [("reserve", "a"), ("cancel", "b"), ("reserve", "c"), ("dropoff", "d")]
        site.plant.lifeline.disk_stall_s = 0.5  # the first is being committed while the others arrive
        calls = []
        for name, request_id in commands:
            fields = body if name == "reserve" else {"reservation_id": "res_1"}
            calls.append(
                asyncio.create_task(site.plant.broker.call(name, fields | {"request_id": request_id}))
            )
            await asyncio.sleep(0.1)  # keeps their order on the network
        replies = await asyncio.gather(*calls)
        assert [reply.get("error", {}).get("code") for reply in replies] == [None, None, 9, 9]
        site.plant.lifeline.disk_stall_s = 0.0
        await site.plant.kill()
        site.plant.start()
        found = await site.call("get-reservation", "res_1")
        assert found["result"]["reservation"]["status"] == "RESERVATION_STATUS_CANCELLED"

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-13")
def test_a_pulse_that_the_disk_delayed_beyond_the_expiry_is_not_given(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        asked = asyncio.create_task(site.call("dropoff", "res_1", timeout_s=2))
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: bool(agent.loop.state.unlock_attempts))
        site.plant.lifeline.disk_stall_s = 3.0
        assert (await asked)["error"]["code"] == 4
        await asyncio.sleep(8)
        site.plant.lifeline.disk_stall_s = 0.0
        assert site.pulses() == 0
        await site.until(lambda: not agent.loop.state.unlock_attempts)
        assert agent.loop.state.cells[made["cell"]["description"]].faulty is None
        assert "result" in await site.call("dropoff", "res_1")

    at_site(tmp_path, test)


def test_a_cancel_that_the_disk_delayed_beyond_the_expiry_cancels_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        site.plant.lifeline.disk_stall_s = 3.0
        slow = asyncio.create_task(site.reserve(2))
        await asyncio.sleep(0.5)
        assert (await site.call("cancel", "res_1", timeout_s=2))["error"]["code"] == 4
        await slow
        site.plant.lifeline.disk_stall_s = 0.0
        agent = site.plant.agent
        assert agent is not None
        await asyncio.sleep(5)
        assert "res_1" in agent.loop.state.reservations

    at_site(tmp_path, test)


def test_a_reply_that_was_journaled_but_not_sent_is_sent_after_the_restart(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        asked = asyncio.create_task(site.call("dropoff", "res_1"))
        agent = site.plant.agent
        assert agent is not None
        store = agent.store

        def journaled() -> bool:
            row = store.request("dropoff-res_1")
            return row is not None and row.reply is not None

        await site.until(journaled)
        await site.plant.kill()
        site.plant.start()
        assert "result" in await asked
        assert site.pulses() == 1

    at_site(tmp_path, test)


def test_lost_readings_after_a_pulse_do_not_block_the_cell(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        agent = site.plant.agent
        assert agent is not None
        asked = asyncio.create_task(site.call("dropoff", "res_1"))
        await site.until(lambda: site.pulses() == 1)
        board = agent.settings.devices[agent.doors.board_of(label)].address
        begun_s = asyncio.get_running_loop().time()
        end_silence = site.plant.cables["main"].trouble.silences[board].begin(None)
        while not asked.done():  # somebody holds the door shut: it is never read open
            site.plant.world.close(label)
            await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().time() - begun_s > 5, "watched until the command expired"
        end_silence()
        assert (await asked)["error"]["code"] == 13
        await site.until(lambda: not agent.loop.state.unlock_attempts)
        assert "result" in await site.call("dropoff", "res_1", "again")

    at_site(tmp_path, test)


@pytest.mark.behaviour("codes-11")
def test_a_live_code_entered_again_is_answered_that_the_door_is_being_opened(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        answers = await asyncio.gather(*(agent.local.enter_code(made["drop_off_code"]) for _ in range(3)))
        said = [answer.refusal.message for answer in answers if answer.refusal is not None]
        assert said == ["the door of cell A01 is being opened just now"] * 2
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("reservation-22")
def test_a_door_that_was_open_just_before_does_not_count_as_opened(tmp_path: Path) -> None:
    """A closing of a door counts after 50 ms; a pick-up within them must read the door open again."""

    async def test(site: Site) -> None:
        made = await site.reserve(grace_period_dropoff_in_seconds=3600)
        label = made["cell"]["description"]
        await site.call("dropoff", "res_1")
        await asyncio.sleep(1)
        site.plant.world.close(label)
        await site.until(lambda: "DROPOFF" in site.types())
        for attempt in range(12):
            await asyncio.sleep(15)
            assert "result" in await site.call("dropoff", "res_1", f"again-{attempt}")
            await asyncio.sleep(1)
            site.plant.world.jam(label, True)
            before = site.pulses()
            calling = asyncio.create_task(site.call("pickup", "res_1", f"pickup-{attempt}"))
            await asyncio.sleep(0.01 * attempt)
            site.plant.world.close(label)
            answer = await calling
            if "error" in answer:
                assert answer["error"]["code"] == 13
                assert "PICKUP" not in site.types()
            else:
                assert site.pulses() == before, "picked up behind a door that did not open"
                return  # the door was read before it was closed
            site.plant.world.jam(label, False)
            site.plant.world.close(label)
        raise AssertionError("the door was never read open")

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-19", "time-20", "time-21", "alarms-12")
def test_a_nearly_full_disk_refuses_new_parcels_and_gives_out_those_stored(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        await site.call("dropoff", "res_1")
        await asyncio.sleep(1)
        site.plant.world.close(label)
        await site.until(lambda: "DROPOFF" in site.types())
        agent = site.plant.agent
        assert agent is not None
        assert agent.store.has_spare_space
        site.plant.lifeline.disk_tight = True
        assert "result" in await site.call("pickup", "res_1")
        assert not agent.store.has_spare_space
        await site.until(lambda: bool(site.published("ALARM_RAISED")))
        raised = site.published("ALARM_RAISED")[0]["alarm_raised_event"]
        assert raised["alarm"] == "STORAGE_FAULT"
        body = {"reservation_id": "res_2", "machine_id": "machine_123", "platform_order_id": "o"}
        packaging = {"packaging": PARCEL, "request_id": "r2"}
        refused = await site.plant.broker.call("reserve", body | packaging)
        assert refused["error"]["code"] == 14
        site.plant.lifeline.disk_tight = False
        await site.until(lambda: bool(site.published("ALARM_CLEARED")))
        assert agent.store.has_spare_space
        assert "result" in await site.plant.broker.call("reserve", body | packaging)

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-09")
def test_a_lost_port_raises_an_alarm_until_it_is_back(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None

        def down() -> bool:
            return any(row["alarm"] == "BUS_DOWN" for row in agent.report.alarms())

        site.plant.cables["main"].unplug()
        await site.until(down)
        site.plant.cables["main"].plug()
        await site.until(lambda: not down())

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-19")
@pytest.mark.parametrize("payload", [b"\xff\x00", b"[]", b"{", b""])
def test_unreadable_bytes_raise_command_rejected(tmp_path: Path, payload: bytes) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        agent.commands.handle(IncomingCommand("pickup", payload, lambda: None))
        agent.commands.handle(IncomingCommand("echo", b"{}", lambda: None))
        await site.until(lambda: bool(site.published("ALARM_RAISED")))
        detail = site.published("ALARM_RAISED")[0]["alarm_raised_event"]
        assert detail["alarm"] == "COMMAND_REJECTED"
        assert detail["reason"].startswith("pickup: ")

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-19")
@pytest.mark.long
def test_command_rejected_clears_after_an_hour(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        agent.commands.handle(IncomingCommand("pickup", b"{", lambda: None))
        await site.until(lambda: bool(site.published("ALARM_RAISED")))
        await asyncio.sleep(3590)
        assert not site.published("ALARM_CLEARED")
        await asyncio.sleep(15)
        await site.until(lambda: bool(site.published("ALARM_CLEARED")))
        assert len(site.published("ALARM_RAISED")) == 1

    at_site(tmp_path, test, baud=1200)  # an hour of polling is shorter on a slow wire


def test_an_unexpected_error_of_a_bus_ends_the_daemon(tmp_path: Path) -> None:
    """It is restarted; going on would leave every door of that bus dead, and nobody would know."""

    async def test(site: Site) -> None:
        agent, task = site.plant.agent, site.plant._task
        assert agent is not None
        assert task is not None

        def broken(question: AddressedRequest, reply: bytes) -> list[int]:
            raise ZeroDivisionError

        agent.devices.buses["main"]._codec.parse = broken  # type: ignore[method-assign]
        await site.until(task.done, 5)
        with pytest.raises(ExceptionGroup) as caught:
            task.result()
        assert caught.group_contains(ZeroDivisionError)
        site.plant.start()
        await asyncio.sleep(3)

    at_site(tmp_path, test)
