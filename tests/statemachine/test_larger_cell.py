"""A larger cell for a parcel that does not fit into the one that its drop-off has opened."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.errors import Code
from edge_agent.model import Alarm, CellStatus, Door, Purpose, Reservation, ReservationStatus, Source
from edge_agent.statemachine.inputs import (
    DoorRead,
    DoorsChanged,
    HistoryAhead,
    LargerCell,
    PulseDone,
    Weighed,
)
from edge_agent.statemachine.larger_cell import offer_left_s
from edge_agent.statemachine.outputs import FactKind, ReadDoor, Weigh
from edge_agent.statemachine.state import Layout, StandingAlarm
from tests.support.pure_core.core import SMALL, Core, specs


def dropping_off(core: Core) -> Reservation:
    """A drop-off by its code has opened the door of A01."""
    reservation = core.reserve()
    core.opens(core.entry(reservation.drop_off_code))
    assert reservation.cell == "A01"
    return core.live(reservation)


def asked_larger(core: Core, reservation: Reservation) -> LargerCell:
    """The request for a larger cell."""
    return LargerCell(core.key(), reservation.reservation_id, f"unl-{core.key()}")


def opened_larger(core: Core, reservation: Reservation) -> Reservation:
    """The request, and the other door opens."""
    given = asked_larger(core, reservation)
    (effect,) = core.feed(given).effects
    assert isinstance(effect, ReadDoor)
    core.feed(DoorRead(given.unlock_id, Door.CLOSED))
    done = core.feed(PulseDone(given.unlock_id, 1, Door.OPEN))
    assert [(answer.cell, answer.refusal) for answer in done.answers] == [(effect.cell, None)]
    return core.live(reservation)


def test_the_reservation_moves_and_the_old_cell_awaits_inspection() -> None:
    core = Core()
    reservation = dropping_off(core)
    moved = opened_larger(core, reservation)
    assert (moved.cell, moved.status, moved.larger_than) == ("C01", ReservationStatus.PENDING, "A01")
    old = core.state.cells["A01"]
    assert (old.status, old.reservation_id) == (CellStatus.AWAITING_INSPECTION, None)
    assert [pulse.cell for pulse in core.pulses] == ["A01", "C01"]
    assert (moved.drop_off_code, moved.pickup_code) == (reservation.drop_off_code, reservation.pickup_code)
    core.close("A01")
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.close("C01")
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    (dropped,) = (fact for fact in core.facts if fact.kind is FactKind.DROPOFF)
    assert (dropped.cell, dropped.source) == ("C01", Source.MACHINE)
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION


def test_the_pick_up_opens_the_larger_cell_and_never_the_old_one() -> None:
    core = Core()
    reservation = opened_larger(core, dropping_off(core))
    core.close("A01")
    core.close("C01")
    core.opens(core.entry(reservation.pickup_code))
    assert [pulse.cell for pulse in core.pulses] == ["A01", "C01", "C01"]
    assert core.live(reservation).status is ReservationStatus.PICKED_UP


def test_a_larger_cell_is_given_once() -> None:
    core = Core(
        Layout(
            specs={spec.label: spec for spec in (*specs(), replace(specs()[4], label="D01", height_mm=800))}
        )
    )
    reservation = opened_larger(core, dropping_off(core))
    assert reservation.cell == "C01"
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED


def test_a_larger_cell_is_given_for_a_minute_after_the_opening() -> None:
    core = Core()
    reservation = dropping_off(core)
    core.pass_s(60.001)
    refusal = core.refused(asked_larger(core, reservation))
    assert (refusal.code, "within 60 s" in refusal.message) == (Code.NOT_ALLOWED, True)


def test_the_same_code_again_does_not_prolong_the_minute() -> None:
    core = Core()
    reservation = dropping_off(core)
    core.pass_s(50)
    given = core.entry(reservation.drop_off_code)
    core.feed(given)
    core.feed(DoorRead(given.unlock_id, Door.OPEN))
    core.pass_s(11)
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED


def test_none_is_given_once_the_door_is_closed() -> None:
    core = Core()
    reservation = dropping_off(core)
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED
    core.pass_s(0.6)
    core.settle("A01")
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED


def test_none_is_given_for_a_door_that_an_open_door_opened() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED


def test_none_is_given_while_the_contact_is_in_doubt() -> None:
    core = Core()
    reservation = dropping_off(core)
    doubted = replace(core.state.cells["A01"], contact_doubt="chatters")
    core.state = replace(core.state, cells={**core.state.cells, "A01": doubted})
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED


def test_none_is_given_while_wrong_door_stands_for_the_cell() -> None:
    core = Core()
    reservation = dropping_off(core)
    key = f"{Alarm.WRONG_DOOR}/A01"
    standing = StandingAlarm(Alarm.WRONG_DOOR, "A01", core.now)
    core.state = replace(core.state, alarms={**core.state.alarms, key: standing})
    refusal = core.refused(asked_larger(core, reservation))
    assert refusal.info is not None
    assert (refusal.code, refusal.info.reason) == (Code.NOT_ALLOWED, "WRONG_DOOR")
    assert refusal.info.metadata == {"cell": "A01"}
    assert refusal.message == "another door opened in place of that of cell A01; call for help"


def test_none_is_given_while_the_history_is_in_doubt() -> None:
    core = Core()
    reservation = dropping_off(core)
    core.feed(HistoryAhead("older"))
    assert core.refused(asked_larger(core, reservation)).code is Code.NOT_ALLOWED


def test_without_a_larger_cell_the_reservation_keeps_its_cell() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs() if spec.label in ("A01", "A02")}))
    reservation = dropping_off(core)
    refusal = core.refused(asked_larger(core, reservation))
    assert (refusal.code, refusal.message) == (Code.NO_CELL, "no larger cell is free")
    assert refusal.info is not None
    assert refusal.info.reason == "NO_LARGER_CELL"
    assert offer_left_s(core.state, core.layout, reservation.reservation_id, core.now) == 0
    core.close("A01")
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def test_the_offer_counts_down() -> None:
    core = Core()
    reservation = core.reserve()
    rid = reservation.reservation_id
    assert offer_left_s(core.state, core.layout, rid, core.now) == 0
    core.opens(core.entry(reservation.drop_off_code))
    assert offer_left_s(core.state, core.layout, rid, core.now) == 60
    core.pass_s(20.5)
    assert offer_left_s(core.state, core.layout, rid, core.now) == 40
    opened_larger(core, core.live(reservation))
    assert offer_left_s(core.state, core.layout, rid, core.now) == 0
    assert offer_left_s(core.state, core.layout, "res_none", core.now) == 0


def test_a_larger_cell_that_jams_gives_way_to_another_larger_one() -> None:
    wide = replace(specs()[4], label="D01", cell_id="id_d01", height_mm=800)
    core = Core(Layout(specs={spec.label: spec for spec in (*specs(), wide)}))
    reservation = dropping_off(core)
    given = asked_larger(core, reservation)
    core.feed(given)
    core.feed(DoorRead(given.unlock_id, Door.CLOSED))
    for number in (1, 2, 3):
        done = core.feed(PulseDone(given.unlock_id, number, Door.CLOSED))
    assert core.live(reservation).cell == "D01"
    (effect,) = done.effects
    assert isinstance(effect, ReadDoor)
    assert effect.cell == "D01"
    assert f"{Alarm.LOCK_JAMMED}/C01" in core.state.alarms


def test_a_request_that_waited_for_long_moves_nothing() -> None:
    core = Core()
    reservation = dropping_off(core)
    asked_ns = core.now.boottime_ns
    core.pass_s(30.1)
    refusal = core.refused(replace(asked_larger(core, reservation), asked_ns=asked_ns))
    assert (refusal.code, refusal.message) == (Code.EXPIRED, "too late: ask for a larger cell again")


def test_a_request_acts_until_thirty_seconds_have_passed() -> None:
    core = Core()
    reservation = dropping_off(core)
    asked_ns = core.now.boottime_ns
    core.pass_s(30)
    given = replace(asked_larger(core, reservation), asked_ns=asked_ns)
    (effect,) = core.feed(given).effects
    assert isinstance(effect, ReadDoor)
    assert effect.expires_ns == asked_ns + 30 * 10**9


def test_the_ledger_names_the_larger_cell_and_the_kiosk() -> None:
    core = Core()
    given = asked_larger(core, dropping_off(core))
    core.feed(given)
    waiting = core.state.unlock_attempts[given.unlock_id]
    assert (waiting.cell, waiting.source, waiting.purpose) == ("C01", Source.MACHINE, Purpose.DROPOFF)
    core.feed(DoorRead(given.unlock_id, Door.CLOSED))
    intent = core.ledger_lines[-1]
    assert (intent.cell, intent.source, intent.purpose) == ("C01", Source.MACHINE, Purpose.DROPOFF)


def test_a_request_waits_for_its_turn_and_opens_the_larger_cell() -> None:
    spec = {one.label: one for one in specs()}
    core = Core(Layout(specs=spec, max_concurrent_unlocks=1))
    reservation = dropping_off(core)
    other = core.reserve()
    first = core.command(other, Purpose.DROPOFF)
    core.feed(first)
    given = asked_larger(core, reservation)
    assert not core.feed(given).effects
    assert core.state.unlock_attempts[given.unlock_id].cell == "C01"
    core.feed(DoorRead(first.unlock_id, Door.CLOSED))
    done = core.feed(PulseDone(first.unlock_id, 1, Door.OPEN))
    assert [effect.cell for effect in done.effects if isinstance(effect, ReadDoor)] == ["C01"]


def test_the_last_reservation_of_the_larger_cell_can_no_longer_open_it() -> None:
    core = Core()
    tall = core.reserve(replace(SMALL, height_mm=390))
    assert tall.cell == "C01"
    core.opens(core.entry(tall.drop_off_code))
    core.close("C01")
    core.opens(core.entry(tall.pickup_code))
    core.close("C01")
    core.pass_s(130)
    assert core.state.former["C01"].reservation_id == tall.reservation_id
    opened_larger(core, dropping_off(core))
    assert "C01" not in core.state.former


def test_an_alarm_of_the_empty_drop_off_ends_with_the_exchange() -> None:
    weighed = [replace(one, weight_sensor=True) for one in specs() if one.label in ("A01", "C01")]
    layout = Layout(
        specs={one.label: one for one in weighed}, weighed=frozenset({"A01"}), hold_empty_dropoff=True
    )
    core = Core(layout)
    reservation = dropping_off(core)
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    core.pass_s(0.6)
    core.settle("A01")
    core.feed(Weighed("A01", 0))
    assert f"{Alarm.EMPTY_DROPOFF}/A01" in core.state.alarms
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.opens(core.entry(reservation.drop_off_code))
    opened_larger(core, core.live(reservation))
    assert f"{Alarm.EMPTY_DROPOFF}/A01" not in core.state.alarms
    (cleared,) = (fact for fact in core.facts if fact.kind is FactKind.ALARM_CLEARED)
    assert (cleared.alarm, cleared.cell) == (Alarm.EMPTY_DROPOFF, "A01")


def test_a_scale_that_shows_the_old_cell_empty_frees_it() -> None:
    weighed = [replace(one, weight_sensor=True) for one in specs() if one.label in ("A01", "C01")]
    core = Core(Layout(specs={one.label: one for one in weighed}, weighed=frozenset({"A01"})))
    reservation = dropping_off(core)
    opened_larger(core, reservation)
    effects = core.feed(DoorsChanged({"A01": Door.CLOSED})).effects
    assert Weigh("A01") in effects
    core.pass_s(0.6)
    core.settle("A01")
    statuses = [core.state.cells["A01"].status]
    for mass_g in (900, 0):
        core.feed(Weighed("A01", mass_g))
        statuses.append(core.state.cells["A01"].status)
    waits = CellStatus.AWAITING_INSPECTION
    assert statuses == [waits, waits, CellStatus.IDLE]
