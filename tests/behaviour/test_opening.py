"""Sentences on opening a door that no other test shows, or not whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import load_settings
from edge_agent.drivers.bus import Priority
from edge_agent.errors import BusTimeout, Code
from edge_agent.model import CellStatus, Door, Purpose
from edge_agent.statemachine.inputs import DoorRead, PulseDone
from edge_agent.statemachine.outputs import ReadDoor
from edge_agent.statemachine.state import Layout, attempt_on
from tests.support.pure_core.core import Core, specs
from tests.support.site import Site, at_site
from tools.bench.settings import REPOSITORY


def one_at_a_time() -> Core:
    return Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))


@pytest.mark.behaviour("opening-01", "opening-03", "opening-05")
def test_a_jammed_lock_gets_three_pulses_with_the_door_watched_in_between(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        site.plant.world.jam(label, True)
        agent = site.plant.agent
        assert agent is not None
        looks: list[tuple[int, float]] = []
        look = agent.doors.read_board

        async def watched(board: str, priority: Priority) -> dict[str, Door]:
            looks.append((site.pulses(), asyncio.get_running_loop().time()))
            return await look(board, priority)

        agent.doors.read_board = watched  # type: ignore[method-assign]
        assert (await site.call("open-door", "res_1")).get("result")
        await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
        pulses = site.plant.world.actuations()
        assert [pulse.label for pulse in pulses] == [label] * 3
        for number, pulse in enumerate(pulses, 1):
            after_s = [at_s - pulse.monotonic for count, at_s in looks if count == number]
            assert len(after_s) > 50
            assert after_s[-1] >= 1.4
        assert (
            site.published("OPEN_DOOR_FULFILLED")[0]["open_door_fulfilled_event"]["outcome"] == "NO_MOVEMENT"
        )

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-04")
@pytest.mark.parametrize("given", [True, False])
def test_a_pulse_whose_acknowledgement_is_lost_is_judged_by_the_door(tmp_path: Path, given: bool) -> None:
    """Given and unheard: the door is open, no second pulse. Not given: the door did not move, the next."""

    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        lock = agent.devices.locks[made["cell"]["description"]]
        pulse, times = lock.pulse, 0

        async def unheard(deadline_s: float) -> None:
            nonlocal times
            times += 1
            if given or times > 1:
                await pulse(deadline_s)
            if times == 1:
                raise BusTimeout("the acknowledgement was lost")

        lock.pulse = unheard  # type: ignore[method-assign]
        assert "result" in await site.call("dropoff", "res_1")
        assert times == (1 if given else 2)
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-06")
def test_a_board_that_falls_silent_after_the_pulse_gets_no_second_one(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        site.plant.world.jam(made["cell"]["description"], True)
        asked = asyncio.create_task(site.call("dropoff", "res_1"))
        await site.until(lambda: site.pulses() == 1)
        site.plant.cables["main"].unplug()
        error = (await asked)["error"]
        assert (error["code"], "UNKNOWN" in error["message"]) == (13, True)
        await asyncio.sleep(60)
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-07")
def test_a_solenoid_is_on_for_pulse_ms_and_not_longer_also_over_a_restart(tmp_path: Path) -> None:
    pulse_ms = load_settings(REPOSITORY / "config" / "demo.toml").unlock.pulse_ms

    async def test(site: Site) -> None:
        for number in (1, 2):
            await site.reserve(number)
        await site.call("dropoff", "res_1")
        asked = asyncio.create_task(site.call("dropoff", "res_2"))
        await site.until(lambda: site.pulses() == 2)
        await site.plant.kill()
        await asyncio.sleep(1)
        site.plant.start()
        await asked
        await asyncio.sleep(1)
        assert [pulse.duration_ms for pulse in site.plant.world.actuations()] == [pulse_ms, pulse_ms]

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-08")
def test_at_most_six_pulses_in_any_ten_seconds() -> None:
    """Unlocks of four pulses each, so that the limit falls in the middle of one."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=4))
    reservation = core.dropped_off()
    core.pass_s(60)
    core.pulses.clear()
    given: list[int] = []
    for _ in range(400):
        core.pass_s(0.1)
        if attempt_on(core.state.unlock_attempts, reservation.cell) is None:
            core.feed(command := core.command(reservation, Purpose.OPEN_DOOR))
            core.feed(DoorRead(command.unlock_id, Door.CLOSED))
        meant, core.pulses = core.pulses, []
        for pulse in meant:
            given.append(core.now.boottime_ns)
            core.feed(PulseDone(pulse.unlock_id, pulse.pulse_number, Door.CLOSED))
    assert len(given) >= 18
    assert all(b - a >= 10 * 10**9 for a, b in zip(given, given[6:], strict=False))


@pytest.mark.behaviour("opening-08")
def test_a_restart_does_not_reset_the_pulse_limit_of_a_lock() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(6):
        core.opens(core.command(reservation, Purpose.DROPOFF))
        core.restart({reservation.cell: Door.CLOSED}, off_s=1)
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    done = core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    assert done.answers[0].refusal is not None
    assert len(core.pulses) == 6


@pytest.mark.behaviour("opening-09", "opening-10")
def test_waiting_attempts_are_served_in_the_order_of_their_requests() -> None:
    core = Core()
    commands = [core.command(core.reserve(), Purpose.DROPOFF) for _ in range(5)]
    looked_at: list[str] = []
    for command in commands:
        looked_at += [
            effect.unlock_id for effect in core.feed(command).effects if isinstance(effect, ReadDoor)
        ]
    assert looked_at == [command.unlock_id for command in commands[:2]]
    for number in range(5):
        core.feed(DoorRead(commands[number].unlock_id, Door.CLOSED))
        done = core.feed(PulseDone(commands[number].unlock_id, 1, Door.OPEN))
        looked_at += [effect.unlock_id for effect in done.effects if isinstance(effect, ReadDoor)]
        assert core.state.active_unlocks() <= 2
    assert looked_at == [command.unlock_id for command in commands]


def expire(core: Core) -> None:
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 20 * 10**9)


def take_state(core: Core) -> None:
    """The grace in which it was asked for ends while it waits."""
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 6 * 10**9)


@pytest.mark.behaviour("opening-11", "opening-12")
@pytest.mark.parametrize(("meanwhile", "code"), [(expire, Code.EXPIRED), (take_state, Code.NOT_ALLOWED)])
def test_a_waiting_attempt_is_judged_again_and_leaves_no_intent(
    meanwhile: Callable[[Core], None], code: Code
) -> None:
    core = one_at_a_time()
    other, reservation = core.reserve(), core.picked_up(grace_pickup_s=5)
    core.opened_by_hand(other.cell)
    busy, waiting = core.command(other, Purpose.DROPOFF), core.command(reservation, Purpose.PICKUP)
    core.feed(busy)
    core.feed(waiting)
    core.ledger_lines.clear()
    meanwhile(core)
    done = core.feed(DoorRead(busy.unlock_id, Door.OPEN))
    refusals = {answer.request_key: answer.refusal for answer in done.answers}
    refusal = refusals[waiting.request_key]
    assert refusal is not None
    assert refusal.code is code
    assert waiting.unlock_id not in {record.unlock_id for record in core.ledger_lines}


@pytest.mark.behaviour("opening-12")
def test_neither_waiting_nor_reading_the_door_is_an_intent() -> None:
    core = one_at_a_time()
    first, second = (core.command(core.reserve(), Purpose.DROPOFF) for _ in range(2))
    core.feed(first)
    core.feed(second)
    assert not core.ledger_lines
    core.feed(DoorRead(first.unlock_id, Door.CLOSED))
    assert [record.unlock_id for record in core.ledger_lines] == [first.unlock_id]
    core.feed(PulseDone(first.unlock_id, 1, Door.OPEN))
    assert second.unlock_id not in {record.unlock_id for record in core.ledger_lines}
    core.feed(DoorRead(second.unlock_id, Door.CLOSED))
    assert (core.ledger_lines[-1].unlock_id, core.ledger_lines[-1].outcome) == (second.unlock_id, None)


@pytest.mark.behaviour("opening-13")
def test_no_second_pulse_after_the_command_has_expired() -> None:
    core = Core()
    command = core.command(core.dropped_off(), Purpose.PICKUP, life_s=2)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.pulses.clear()
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 3 * 10**9)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert not core.pulses


@pytest.mark.behaviour("opening-14")
def test_a_drop_off_that_was_answered_offline_opens_nothing_when_the_disk_is_back(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        site.plant.lifeline.disk_full = True
        assert (await site.call("dropoff", "res_1"))["error"]["code"] == 14
        site.plant.lifeline.disk_full = False
        await asyncio.sleep(60)
        assert site.pulses() == 0
        assert "result" in await site.call("dropoff", "res_1")

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-14")
def test_a_drop_off_that_a_restart_interrupted_before_its_intent_opens_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        asked = asyncio.create_task(site.call("dropoff", "res_1"))
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: bool(agent.loop.state.unlock_attempts))
        await site.plant.kill()
        site.plant.start()
        assert (await asked)["error"]["code"] == 14
        await asyncio.sleep(60)
        assert site.pulses() == 0

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-15")
def test_a_cell_whose_lock_did_not_move_is_not_allocated() -> None:
    core = Core()
    reservation = core.reserve()
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_INSPECTION
    assert reservation.cell not in {core.reserve().cell for _ in range(3)}


@pytest.mark.behaviour("opening-18")
def test_after_a_wrong_door_there_is_no_further_pulse_and_neither_cell_is_allocated() -> None:
    core = Core()
    reservation = core.dropped_off()
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.forced("C01")
    core.pulses.clear()
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert not core.pulses
    core.close("C01")
    assert "C01" not in {core.reserve().cell for _ in range(3)}
    assert core.state.cells[reservation.cell].faulty == core.state.cells["C01"].faulty is not None


@pytest.mark.behaviour("opening-21")
def test_the_opening_time_of_each_lock_is_kept_and_shown(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        labels = [(await site.reserve(number))["cell"]["description"] for number in (1, 2)]
        await site.call("dropoff", "res_1")
        agent = site.plant.agent
        assert agent is not None

        def shown(label: str) -> tuple[int | None, int | None]:
            assert site.plant.agent is not None
            row = next(row for row in site.plant.agent.report.cells() if row["label"] == label)
            return row["usual_open_ms"], row["recent_open_ms"]

        taken = shown(labels[0])
        assert taken[0] is not None
        assert 40 <= taken[0] <= 250
        assert shown(labels[1]) == (None, None)
        await site.plant.kill()
        site.plant.start()
        assert shown(labels[0]) == taken

    at_site(tmp_path, test)
