"""What comes late: doors, weights, dates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, Cell, CellStatus, Door, Purpose, Reservation, ReservationStatus, Source
from edge_agent.statemachine.inputs import (
    Boot,
    Condition,
    DoorRead,
    DoorsChanged,
    EnterCode,
    OpenForReservation,
    PulseDone,
    Reserve,
    Tick,
    Weighed,
)
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.redating import redated
from edge_agent.statemachine.state import Layout, StandingAlarm
from edge_agent.statemachine.weight import wait_left_ns
from tests.support.pure_core.core import SMALL, START, Core, specs


def only(*labels: str) -> Core:
    """A machine of these cells."""
    return Core(Layout(specs={spec.label: spec for spec in specs() if spec.label in labels}))


def weighing(*, hold: bool = False) -> Core:
    """A machine of one cell with a scale."""
    return Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=hold))


def stands(core: Core, alarm: Alarm, place: str = "A01") -> bool:
    return f"{alarm}/{place}" in core.state.alarms


def pulse(core: Core, command: OpenForReservation | EnterCode) -> str:
    """A command whose first pulse is under way."""
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    return command.unlock_id


def jams(core: Core, command: OpenForReservation | EnterCode) -> None:
    """Three pulses, and the door stays shut."""
    pulse(core, command)
    for attempt in (1, 2, 3):
        core.feed(PulseDone(command.unlock_id, attempt, Door.CLOSED))


def test_the_wrong_door_at_the_last_pulse_is_no_jam() -> None:
    core = only("A01", "C01")
    command = core.command(core.dropped_off(), Purpose.PICKUP)
    pulse(core, command)
    for attempt in (1, 2):
        core.feed(PulseDone(command.unlock_id, attempt, Door.CLOSED))
    core.forced("C01")
    (answer,) = core.feed(PulseDone(command.unlock_id, 3, Door.CLOSED)).answers
    assert answer.refusal is not None
    assert answer.refusal.message == "the door of cell A01 did not open (NO_MOVEMENT)"
    assert stands(core, Alarm.WRONG_DOOR)
    assert not stands(core, Alarm.LOCK_JAMMED)
    assert not core.state.unlock_attempts


@pytest.mark.parametrize("source", Source)
def test_a_parcel_may_be_taken_from_a_door_that_opens_late(source: Source) -> None:
    core = only("A01")
    reservation = core.dropped_off()
    core.pass_s(11)
    kiosk = source is Source.MACHINE
    jams(core, core.entry(reservation.pickup_code) if kiosk else core.command(reservation, Purpose.PICKUP))
    core.facts.clear()
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    (published,) = (fact for fact in core.facts if fact.kind is FactKind.PICKUP)
    assert (published.source, published.recovered, published.request_key) == (source, False, None)
    assert core.live(reservation).status is ReservationStatus.PICKED_UP
    assert not stands(core, Alarm.LOCK_JAMMED)


def test_a_door_that_support_asked_for_and_that_opens_late_moves_nothing() -> None:
    core = only("A01")
    reservation = core.dropped_off()
    core.pass_s(11)
    jams(core, core.command(reservation, Purpose.OPEN_DOOR))
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert not stands(core, Alarm.DOOR_FORCED)


def test_a_door_that_opens_late_is_nothing_to_one_that_moved_on() -> None:
    core = only("A01", "A02")
    reservation = core.reserve()
    jams(core, core.command(reservation, Purpose.DROPOFF))
    assert core.live(reservation).cell == "A02"
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert not core.live(reservation).dropoff_opened
    assert not stands(core, Alarm.DOOR_FORCED)


def test_a_door_that_opens_late_is_nothing_to_one_that_is_over() -> None:
    core = only("A01")
    reservation = core.reserve()
    jams(core, core.command(reservation, Purpose.DROPOFF))
    core.feed(core.cancel(reservation))
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert not core.state.reservations
    assert not stands(core, Alarm.DOOR_FORCED)


def test_what_is_left_of_the_pulses_when_the_last_was_not_sent() -> None:
    core = only("A01")
    reservation = core.dropped_off()
    core.pass_s(11)
    uid = pulse(core, core.command(reservation, Purpose.PICKUP))
    first_ns = core.now.boottime_ns
    core.pass_s(1)
    core.feed(PulseDone(uid, 1, Door.CLOSED))
    assert (core.state.pulses["A01"].at_ns, core.state.pulses["A01"].pulses_without_opening) == (
        (first_ns, core.now.boottime_ns),
        2,
    )
    core.feed(PulseDone(uid, 2, Door.CLOSED, sent=False))
    assert (core.state.pulses["A01"].at_ns, core.state.pulses["A01"].pulses_without_opening) == (
        (first_ns,),
        1,
    )
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.state.pulses["A01"].pulses_without_opening == 0
    core.close("A01")
    core.feed(PulseDone(pulse(core, core.command(reservation, Purpose.PICKUP)), 1, Door.CLOSED, sent=False))
    assert (core.state.pulses["A01"].at_ns, core.state.pulses["A01"].pulses_without_opening) == (
        (first_ns,),
        0,
    )


def undated(core: Core) -> Reservation:
    """Picked up while no clock was synchronised; then a reboot, and the clock is."""
    core.now = replace(core.now, synced=False)
    reservation = core.picked_up()
    core.now = replace(core.now, synced=True)
    core.restart({}, boot_id="boot-2", off_s=5)
    return core.live(reservation)


def test_a_grace_without_a_date_is_as_old_as_the_boot_and_opens_nothing() -> None:
    core = only("A01")
    reservation = undated(core)
    began = reservation.picked_up
    assert began is not None
    assert (began.boot_id, began.boottime_ns) == ("boot-2", 0)
    assert (reservation.first_dropoff and reservation.first_dropoff.boottime_ns) == 0
    assert reservation.grace_unknown is True
    core.refused(core.command(reservation, Purpose.PICKUP))
    core.now = replace(core.now, boottime_ns=120 * 10**9)
    core.close("A01")
    assert reservation.reservation_id in core.state.reservations
    core.now = replace(core.now, boottime_ns=120 * 10**9 + 1)
    core.close("A01")
    assert core.state.cells["A01"].status is CellStatus.IDLE


def test_an_entry_that_was_invalid_begins_the_quiet_day_anew() -> None:
    core = only("A01")
    for _ in range(5):
        core.invalid("x")
    core.pass_s(7200)
    core.invalid("x")
    core.pass_s(24 * 3600 + 1)
    for _ in range(5):
        core.invalid("x")
    assert core.state.guesses["digits"].rests == 1


def test_a_drop_off_that_waited_for_its_scale_is_a_plain_one() -> None:
    core = weighing(hold=True)
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    assert core.live(reservation).to_be_weighed is True
    core.feed(Weighed("A01", 900))
    dropped = core.live(reservation)
    assert (dropped.status, dropped.to_be_weighed) == (ReservationStatus.DROPPED_OFF, False)
    assert (dropped.recovered, core.facts[-1].recovered) == (False, False)


def test_a_weight_behind_a_drop_off_is_waited_for_once() -> None:
    core = weighing()
    reservation = core.dropped_off()
    assert core.live(reservation).to_be_weighed is True
    core.feed(Weighed("A01", 900))
    assert core.live(reservation).to_be_weighed is False


@pytest.mark.parametrize(("mass_g", "changed"), [(400, False), (401, True), (200, False), (199, True)])
def test_how_much_is_a_change(mass_g: int, changed: bool) -> None:
    core = weighing()
    core.dropped_off()
    core.feed(Weighed("A01", 300))
    core.feed(Weighed("A01", mass_g))
    assert stands(core, Alarm.WEIGHT_CHANGED) is changed


def test_how_long_a_scale_is_waited_for() -> None:
    layout = Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}))
    cell = Cell("A01", door=Door.CLOSED, door_since=START)
    now = replace(START, boottime_ns=START.boottime_ns + 2 * 10**9)
    assert wait_left_ns(layout, cell, now) == 3 * 10**9
    for published in (
        replace(cell, mass_g=0),
        replace(cell, label="A02"),
        replace(cell, door_since=None),
        replace(cell, door_since=replace(START, boot_id="before", synced=False)),
    ):
        assert wait_left_ns(layout, published, now) == 0


def test_a_moment_is_brought_over_to_this_boot_or_gets_its_date() -> None:
    now = replace(START, boot_id="boot-2", boottime_ns=7 * 10**9, wall_s=START.wall_s + 60)
    assert redated(START, now) == replace(START, boot_id="boot-2", boottime_ns=-53 * 10**9)
    undated = replace(START, synced=False)
    assert redated(undated, now) is undated
    assert redated(START, replace(now, synced=False)) is START
    assert redated(None, now) is None
    early = replace(now, boottime_ns=4 * 10**9, wall_s=17.0, synced=False)
    assert redated(early, now) == replace(early, wall_s=START.wall_s + 57, synced=True)
    assert redated(early, replace(now, synced=False)) is early
    dated = replace(early, synced=True)
    assert redated(dated, now) is dated


def test_a_door_of_nobodys_cell_is_not_opened_since_an_allocation() -> None:
    core = only("A01")
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.state.cells["A01"].opened_since_allocation is False


def test_what_a_start_could_not_read_is_recovered_when_it_is_read() -> None:
    core = only("A01", "A02")
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.restart({"A01": Door.UNKNOWN, "A02": Door.OPEN})
    assert [core.state.cells[label].unread for label in ("A01", "A02")] == [True, False]
    core.close("A01")
    assert core.live(reservation).recovered is True
    assert core.facts[-1].recovered is True
    assert core.state.cells["A01"].unread is False
    core.restart({})
    assert [core.state.cells[label].unread for label in ("A01", "A02")] == [False, False]


def test_a_start_recovers_also_what_no_restart_has_touched() -> None:
    core = only("A01")
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.feed(Boot({"A01": Door.CLOSED}))
    core.settle("A01")
    assert core.live(reservation).recovered is True


def test_a_start_clears_alarms_of_cells_that_are_gone() -> None:
    core = only("A01")
    gone = StandingAlarm(Alarm.DOOR_FORCED, "Z9", START)
    core.state = replace(core.state, alarms={"DOOR_FORCED/Z9": gone})
    core.feed(Boot({"A01": Door.CLOSED}))
    assert not core.state.alarms
    assert [(f.kind, f.alarm, f.device) for f in core.facts] == [
        (FactKind.ALARM_CLEARED, Alarm.DOOR_FORCED, "Z9")
    ]


def test_a_door_that_nobody_saw_may_open_long_after() -> None:
    core = only("A01")
    reservation = core.reserve()
    core.feed(PulseDone(pulse(core, core.command(reservation, Purpose.DROPOFF)), 1, Door.UNKNOWN))
    core.pass_s(60)
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert not core.state.alarms
    assert core.live(reservation).dropoff_opened


def test_the_alarm_of_a_resting_keypad_stands_to_the_last_nanosecond() -> None:
    core = only("A01")
    for _ in range(5):
        core.invalid("x")
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 60 * 10**9 - 1)
    core.feed(Tick())
    assert stands(core, Alarm.CODE_GUESSING, "digits")
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 1)
    core.feed(Tick())
    assert not stands(core, Alarm.CODE_GUESSING, "digits")


def test_a_drop_off_is_not_held_longer_than_its_scale_is_waited_for() -> None:
    core = weighing(hold=True)
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 5 * 10**9 - 1)
    core.feed(Tick())
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 1)
    core.feed(Tick())
    dropped = core.live(reservation)
    assert (dropped.status, dropped.to_be_weighed) == (ReservationStatus.DROPPED_OFF, False)
    assert (dropped.recovered, core.facts[-1].recovered) == (False, False)


def test_pulses_of_long_ago_open_no_door() -> None:
    core = only("A01")
    reservation = core.dropped_off()
    core.pass_s(11)
    jams(core, core.command(reservation, Purpose.PICKUP))
    assert core.state.pulses["A01"].pulses_without_opening == 3
    core.pass_s(11)
    pulse(core, core.command(reservation, Purpose.PICKUP))
    assert core.state.pulses["A01"].pulses_without_opening == 1


def test_entries_from_before_a_reboot_count_on_this_boots_clock() -> None:
    core = only("A01")
    for _ in range(4):
        core.invalid("x")
    core.restart({}, boot_id="boot-2", off_s=5)
    core.now = replace(core.now, synced=False)
    core.invalid("x")
    assert stands(core, Alarm.CODE_GUESSING, "digits")


def test_a_moment_of_long_ago_gets_its_exact_date() -> None:
    then = replace(START, wall_s=17.0, synced=False)
    now = replace(START, boottime_ns=START.boottime_ns + 10**16, wall_s=START.wall_s + 10**7)
    dated = redated(then, now)
    assert dated is not None
    assert dated.wall_s == START.wall_s


def test_a_door_of_another_boot_counts_from_the_start_if_no_clock_shows_the_time() -> None:
    core = only("A01")
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2", off_s=5)
    assert core.state.cells["A01"].door_since == core.now


def test_an_open_door_of_an_earlier_versions_journal_counts_from_its_opening() -> None:
    core = only("A01")
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    opened = core.now
    core.state = replace(core.state, cells={"A01": replace(core.state.cells["A01"], open_since=None)})
    core.pass_s(20)
    core.restart({"A01": Door.OPEN})
    assert core.state.cells["A01"].open_since == opened


def test_a_door_open_since_another_boot_counts_from_the_start_if_no_clock_shows_the_time() -> None:
    core = only("A01")
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.now = replace(core.now, synced=False)
    core.restart({"A01": Door.OPEN}, boot_id="boot-2", off_s=5)
    assert core.state.cells["A01"].open_since == core.now


def test_a_door_is_ajar_to_the_nanosecond() -> None:
    core = only("A01")
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 120 * 10**9 - 1)
    core.feed(Tick())
    assert not stands(core, Alarm.DOOR_AJAR)
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 1)
    core.feed(Tick())
    assert stands(core, Alarm.DOOR_AJAR)


def test_the_only_pulse_was_not_sent() -> None:
    core = only("A01")
    core.feed(
        PulseDone(pulse(core, core.command(core.reserve(), Purpose.DROPOFF)), 1, Door.CLOSED, sent=False)
    )
    assert core.state.pulses["A01"].at_ns == ()


def test_a_rejected_command_stands_for_an_hour_from_the_last_one() -> None:
    core = only("A01")
    for detail in ("first", "second"):
        core.pass_s(60)
        core.feed(Condition(Alarm.COMMAND_REJECTED, "", True, detail))
    key = f"{Alarm.COMMAND_REJECTED}/"
    assert core.state.alarms[key] == StandingAlarm(Alarm.COMMAND_REJECTED, "", core.now, "second")
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 3600 * 10**9 - 1)
    core.feed(Tick())
    assert key in core.state.alarms
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 1)
    core.feed(Tick())
    assert key not in core.state.alarms


def test_a_full_disk_refuses_reservations() -> None:
    core = only("A01")
    core.feed(Condition(Alarm.STORAGE_FAULT, "", True, "full"))
    refusal = core.refused(Reserve("k", "res_x", "p", "o", SMALL, ("1", "2")))
    assert refusal.message == "the machine's disk is full: it takes no new reservations"


def test_a_start_forgets_the_sensor_of_a_cell_that_has_none() -> None:
    core = only("A01")
    core.state = replace(
        core.state, alarms={"SENSOR_FAULT/A01": StandingAlarm(Alarm.SENSOR_FAULT, "A01", START)}
    )
    core.feed(Boot({"A01": Door.CLOSED}))
    assert [(f.kind, f.alarm, f.cell, f.device) for f in core.facts] == [
        (FactKind.ALARM_CLEARED, Alarm.SENSOR_FAULT, "A01", None)
    ]
