"""Guessed codes: the keypad rests, each time twice as long, also across a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, Purpose, Reservation, qr_text
from edge_agent.statemachine.codes.guessing import rest_left_ns
from edge_agent.statemachine.locker import next_due_ns
from tests.support.pure_core.core import Core

DIGITS, QR = f"{Alarm.CODE_GUESSING}/digits", f"{Alarm.CODE_GUESSING}/qr"


def guess(core: Core, times: int = 5) -> None:
    for _ in range(times):
        core.invalid("no code")


def opens(core: Core, reservation: Reservation) -> bool:
    """Whether the drop-off code is accepted now."""
    before = len(core.pulses)
    entry = core.entry(reservation.drop_off_code)
    done = core.feed(entry)
    if done.answers:
        return False
    core.state = replace(core.state, unlock_attempts={})
    assert len(core.pulses) == before
    return True


@pytest.mark.behaviour("codes-12", "codes-14", "codes-18", "alarms-18")
def test_the_fifth_invalid_entry_in_five_minutes_begins_a_rest_of_60_s() -> None:
    core = Core()
    reservation = core.reserve()
    guess(core, 4)
    core.pass_s(301)
    guess(core, 4)
    assert opens(core, reservation)
    assert DIGITS not in core.state.alarms
    guess(core, 1)
    assert DIGITS in core.state.alarms
    assert not opens(core, reservation)
    due_ns = next_due_ns(core.state, core.layout, core.now)
    assert due_ns == core.now.boottime_ns + 60 * 10**9
    core.pass_s(59)
    assert not opens(core, reservation)
    core.pass_s(1)
    assert DIGITS not in core.state.alarms
    assert opens(core, reservation)


@pytest.mark.behaviour("codes-13")
def test_a_live_code_in_the_wrong_state_counts() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(5):
        core.invalid(reservation.pickup_code)
    assert DIGITS in core.state.alarms


@pytest.mark.behaviour("codes-15", "codes-16")
def test_rests_double_up_to_an_hour_and_a_quiet_day_forgives() -> None:
    core = Core()
    lengths = []
    for _ in range(8):
        core.pass_s(2 * 3600)  # fewer than twenty in an hour
        core.state = replace(
            core.state, guesses={k: replace(g, wrong=()) for k, g in core.state.guesses.items()}
        )
        guess(core)
        due_ns = next_due_ns(core.state, core.layout, core.now)
        assert due_ns is not None
        lengths.append((due_ns - core.now.boottime_ns) // 10**9)
        core.pass_s(lengths[-1])
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    core.pass_s(24 * 3600 + 1)
    guess(core)
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 60 * 10**9


@pytest.mark.behaviour("codes-19")
def test_qr_texts_are_counted_on_their_own() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(5):
        core.invalid("DLV-DROP-res_none-1234")
    assert QR in core.state.alarms
    assert DIGITS not in core.state.alarms
    core.invalid(qr_text(Purpose.DROPOFF, reservation.reservation_id, reservation.drop_off_code))
    assert opens(core, reservation)


@pytest.mark.behaviour("codes-17")
def test_a_rest_survives_a_restart_and_begins_anew_where_no_clock_shows_the_time() -> None:
    core = Core()
    reservation = core.reserve()
    guess(core)
    core.restart({}, off_s=30)
    assert not opens(core, reservation)
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2", off_s=3600)
    core.pass_s(59)
    assert not opens(core, reservation)
    core.pass_s(1)
    assert opens(core, reservation)
    core.restart({}, boot_id="boot-3", off_s=3600)
    assert opens(core, reservation)


def test_a_clock_that_jumped_a_day_over_a_reboot_forgets_no_entry_of_the_last_minutes() -> None:
    """The last entry seems a day old then, one before it does not."""
    core = Core()
    guess(core, 1)
    core.now = replace(core.now, wall_s=core.now.wall_s - 86_401)
    guess(core, 1)
    core.now = replace(core.now, wall_s=core.now.wall_s + 86_401)
    core.restart({}, boot_id="boot-2")
    guess(core, 3)
    assert DIGITS not in core.state.alarms
    guess(core, 1)
    assert DIGITS in core.state.alarms


def seen(core: Core, way: str) -> bool:
    """Whether entries of this way are accepted now."""
    known = core.state.guesses.get(way)
    return known is None or rest_left_ns(known, core.now) <= 0


@pytest.mark.behaviour("codes-21")
def test_x1_the_twentieth_wrong_entry_of_an_hour_rests_the_digits_for_an_hour() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(19):
        guess(core, 1)
        core.pass_s(76)  # four in five minutes
    assert DIGITS not in core.state.alarms
    guess(core, 1)
    detail = core.state.alarms[DIGITS].detail
    assert detail.endswith("resting for 3600 s; a full right QR text still opens")
    core.pass_s(3599)
    assert not opens(core, reservation)
    assert core.opens(
        core.entry(qr_text(Purpose.DROPOFF, reservation.reservation_id, reservation.drop_off_code))
    )
    core.close(reservation.cell)
    core.pass_s(1)
    assert opens(core, reservation)


def test_x1_from_the_sixtieth_wrong_entry_of_a_day_on_each_costs_an_hour() -> None:
    core = Core()
    for _ in range(59):
        guess(core, 1)
        core.pass_s(1201)  # three an hour
    assert DIGITS not in core.state.alarms
    core.restart({}, off_s=1)
    for _ in range(3):
        guess(core, 1)
        assert not seen(core, "digits")
        core.pass_s(3600)
        assert seen(core, "digits")
    core.pass_s(20 * 3600)  # only those of the last hours are left of the day
    guess(core, 1)
    assert seen(core, "digits")


@pytest.mark.parametrize("by_code", [True, False])
def test_x1_a_success_forgives_nothing_of_the_totals(by_code: bool) -> None:
    core = Core()
    mine = [core.reserve() for _ in range(3)]
    for number in range(19):
        if number in (4, 8, 12):
            own = mine.pop()
            core.opens(core.entry(own.drop_off_code) if by_code else core.command(own, Purpose.DROPOFF))
            core.close(own.cell)
        guess(core, 1)
        core.pass_s(76)
    guess(core, 1)
    assert not seen(core, "digits")
    core.pass_s(3599)
    assert not seen(core, "digits")


def test_x1_a_qr_text_counts_in_the_totals_if_it_tries_a_live_reservations_code() -> None:
    core = Core()
    live, over = core.reserve(), core.reserve()
    core.feed(core.cancel(over))
    ended = qr_text(Purpose.DROPOFF, over.reservation_id, over.drop_off_code)
    too_early = qr_text(Purpose.PICKUP, live.reservation_id, live.pickup_code)
    for text in (ended, too_early, "DLV-DROP-res_none-1234") * 10:
        core.invalid(text)
        core.pass_s(76)
    assert core.state.guesses["qr"].wrong == ()
    assert seen(core, "qr")
    for _ in range(20):
        core.invalid(qr_text(Purpose.PICKUP, live.reservation_id, live.drop_off_code))
        core.pass_s(76)
    assert len(core.state.guesses["qr"].wrong) == 20
    core.pass_s(3600 - 77)
    assert not seen(core, "qr")
    assert seen(core, "digits")
    core.pass_s(1)
    assert seen(core, "qr")
