"""Sentences on reservations that no other test shows, or not whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.errors import Code
from edge_agent.model import Door, Purpose, Reservation, ReservationStatus, UnlockOutcome, qr_text
from edge_agent.statemachine.inputs import DeviceHealth, DoorRead, DoorsChanged, Input, PulseDone, Reserve
from edge_agent.statemachine.outputs import FactKind
from tests.support.pure_core.core import SMALL, Core
from tests.support.site import Site, at_site


def intent(core: Core, reservation: Reservation, purpose: Purpose) -> str:
    """Starts an unlock attempt up to the intent of its first pulse; returns its unlock id."""
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    return command.unlock_id


@pytest.mark.behaviour("first-01", "reservation-10")
def test_a_door_seen_open_was_open_whatever_is_reported_later() -> None:
    core = Core()
    reservation = core.dropped_off()
    unlock_id = intent(core, reservation, Purpose.PICKUP)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    core.feed(PulseDone(unlock_id, 1, Door.CLOSED))
    picked = core.live(reservation)
    assert (picked.status, picked.picked_up) == (ReservationStatus.PICKED_UP, core.now)
    assert core.ledger_lines[-1].outcome is UnlockOutcome.OPENED


@pytest.mark.behaviour("reservation-02")
@pytest.mark.parametrize("way", ["api", "code", "qr"])
def test_a_drop_off_is_always_granted_while_pending(way: str) -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=0)
    code = reservation.drop_off_code
    commands: dict[str, Callable[[], Input]] = {
        "api": lambda: core.command(reservation, Purpose.DROPOFF),
        "code": lambda: core.entry(code),
        "qr": lambda: core.entry(qr_text(Purpose.DROPOFF, reservation.reservation_id, code)),
    }
    for _ in range(3):
        core.pass_s(24 * 3600)
        unlock_id = core.requested_reading(core.feed(commands[way]())).unlock_id
        core.feed(DoorRead(unlock_id, Door.CLOSED))
        core.feed(PulseDone(unlock_id, 1, Door.UNKNOWN))
        core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    assert len(core.pulses) == 3
    assert core.live(reservation).status is ReservationStatus.PENDING


@pytest.mark.behaviour("reservation-03", "reservation-09")
def test_the_drop_off_grace_runs_from_the_first_drop_off_call() -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=100)
    first = core.now
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.pass_s(60)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert core.live(reservation).first_dropoff == first
    core.close(reservation.cell)
    core.pass_s(40)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.pass_s(0.001)
    assert core.refused(core.command(reservation, Purpose.DROPOFF)).code is Code.NOT_ALLOWED


@pytest.mark.behaviour("reservation-13")
def test_picking_up_again_does_not_restart_the_grace() -> None:
    core = Core()
    reservation = core.picked_up(grace_pickup_s=100)
    core.pass_s(60)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.pass_s(40)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.pass_s(0.001)
    assert core.refused(core.command(reservation, Purpose.PICKUP)).code is Code.NOT_ALLOWED
    assert core.kinds().count(FactKind.PICKUP) == 1


@pytest.mark.behaviour("reservation-14")
def test_after_the_grace_it_is_not_listed_though_the_door_stands_open(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async def listed() -> list[str]:
            reply = await site.plant.broker.call("list-reservations", {"request_id": "l"})
            return [r["status"].removeprefix("RESERVATION_STATUS_") for r in reply["result"]["reservations"]]

        made = await site.reserve()
        await site.call("dropoff", "res_1")
        site.plant.world.close(made["cell"]["description"])
        await site.until(lambda: "DROPOFF" in site.types())
        await site.call("pickup", "res_1")
        assert await listed() == ["PICKED_UP"]
        await asyncio.sleep(5)
        assert await listed() == []
        agent = site.plant.agent
        assert agent is not None
        assert agent.loop.state.reservations["res_1"].status is ReservationStatus.PICKED_UP

    at_site(tmp_path, test)


COMMANDS: dict[str, Callable[[Core, Reservation], Input]] = {
    "reserve": lambda core, r: Reserve(core.key(), r.reservation_id, "p", "o", SMALL, ("0001", "0002")),
    "dropoff": lambda core, r: core.command(r, Purpose.DROPOFF),
    "pickup": lambda core, r: core.command(r, Purpose.PICKUP),
    "cancel": lambda core, r: core.cancel(r),
    "abandon": lambda core, r: core.abandon(r),
}


@pytest.mark.behaviour("reservation-19")
@pytest.mark.parametrize(
    ("status", "granted"),
    [("PENDING", "dropoff cancel"), ("DROPPED_OFF", "dropoff pickup abandon"), ("PICKED_UP", "pickup")],
)
def test_what_the_table_does_not_grant_is_refused_as_not_allowed(status: str, granted: str) -> None:
    made: dict[str, Callable[[Core], Reservation]] = {
        "PENDING": lambda core: core.reserve(),
        "DROPPED_OFF": lambda core: core.dropped_off(),
        "PICKED_UP": lambda core: core.picked_up(),
    }
    for name, command in COMMANDS.items():
        core = Core()
        reservation = made[status](core)
        assert core.live(reservation).status.name == status
        if name in granted.split():
            core.feed(command(core, reservation))
        else:
            assert core.refused(command(core, reservation)).code is Code.NOT_ALLOWED


@pytest.mark.behaviour("reservation-22")
def test_the_fresh_reading_decides_and_not_the_last_poll() -> None:
    core = Core()
    reservation = core.reserve()
    core.opened_by_hand(reservation.cell)
    pulses = len(core.pulses)
    command = core.command(reservation, Purpose.DROPOFF)
    assert core.requested_reading(core.feed(command)).cell == reservation.cell
    done = core.feed(DoorRead(command.unlock_id, Door.OPEN))
    assert done.answers[0].cell == reservation.cell
    assert len(core.pulses) == pulses
    other = core.reserve()
    core.feed(DoorsChanged({other.cell: Door.OPEN}))
    command = core.command(other, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    assert [pulse.cell for pulse in core.pulses[pulses:]] == [other.cell]


@pytest.mark.behaviour("reservation-25")
def test_a_pending_reservation_never_ends_by_itself() -> None:
    core = Core()
    reservation = core.reserve(eta_minutes=10)
    for _ in range(100):
        core.pass_s(10 * 24 * 3600)
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.opens(core.entry(reservation.drop_off_code))


@pytest.mark.behaviour("reservation-36")
def test_every_unlock_attempt_ends_with_one_of_four_outcomes() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.ledger_lines.clear()
    jammed = core.requested_reading(core.feed(core.command(reservation, Purpose.OPEN_DOOR))).unlock_id
    core.feed(DoorRead(jammed, Door.CLOSED))
    for attempt in (1, 2, 3):
        core.feed(PulseDone(jammed, attempt, Door.CLOSED))
    unseen = core.command(reservation, Purpose.OPEN_DOOR)
    core.feed(unseen)
    core.feed(DoorRead(unseen.unlock_id, Door.UNKNOWN))
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    outcomes = [fact.outcome for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]
    assert outcomes == [
        UnlockOutcome.NO_MOVEMENT,
        UnlockOutcome.UNKNOWN,
        UnlockOutcome.OPENED,
        UnlockOutcome.ALREADY_OPEN,
    ]
    last = {record.unlock_id: record.outcome for record in core.ledger_lines}
    assert list(last.values()) == outcomes


@pytest.mark.behaviour("reservation-37")
def test_a_board_that_does_not_answer_neither_opens_nor_closes_a_door() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.facts.clear()
    core.feed(DoorsChanged({reservation.cell: Door.UNKNOWN}))
    core.feed(DeviceHealth("locks_a", False, tuple(core.layout.specs)))
    assert core.live(reservation).status is ReservationStatus.PENDING
    assert core.live(reservation).dropoff_opened
    assert {cell.answering for cell in core.state.cells.values()} == {False}
    assert core.kinds() == [FactKind.ALARM_RAISED]
    core.close(reservation.cell)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


@pytest.mark.behaviour("reservation-38", "opening-02", "opening-12")
def test_the_intent_is_on_the_disk_before_the_lock_moves(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        label, store = made["cell"]["description"], agent.store
        lock, journaled = agent.devices.locks[label].pulse, []

        async def pulse(deadline_s: float) -> None:
            rows = [row for row in store.timeline((0, 0), 100) if row["kind"] == "unlock"]
            journaled.append([(row["cell"], row["attempt"], row["outcome"]) for row in rows])
            await lock(deadline_s)

        agent.devices.locks[label].pulse = pulse  # type: ignore[method-assign]
        assert "result" in await site.call("dropoff", "res_1")
        assert journaled == [[(label, 1, None)]]
        outcome = store.timeline((0, 0), 100)[-1]
        assert (outcome["outcome"], outcome["pulsed"]) == ("OPENED", 1)

    at_site(tmp_path, test)
