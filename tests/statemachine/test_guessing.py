"""Somebody tries codes: the keypad rests, doubling, also over a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, Purpose, Reservation, qr_text
from edge_agent.statemachine.locker import next_due_ns
from tests.support.core import Core

DIGITS, QR = f"{Alarm.CODE_GUESSING}/digits", f"{Alarm.CODE_GUESSING}/qr"


def guess(core: Core, times: int = 5) -> None:
    for _ in range(times):
        core.invalid("no code")


def opens(core: Core, reservation: Reservation) -> bool:
    """Whether the drop-off code is looked at and works now."""
    before = len(core.pulses)
    entry = core.entry(reservation.drop_off_code)
    done = core.feed(entry)
    if done.answers:
        return False
    core.state = replace(core.state, tickets={})
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
def test_a_rest_survives_a_restart_and_begins_anew_where_no_clock_tells() -> None:
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
