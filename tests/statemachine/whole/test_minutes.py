"""Exact texts: what is published, answered, requested and written to the ledger in a dozen short scenes.

The minutes lie in `fixtures/minutes`; with `MINUTES=write` in the environment they are written anew, to be
read before they are committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.errors import Refusal
from edge_agent.model import Door, Purpose, Reservation, Severity, Source, qr_text
from edge_agent.statemachine.inputs import (
    BlockCell,
    Clear,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    Input,
    OpenForReservation,
    PulseDone,
    RequestMaintenance,
    Reserve,
    UnblockCell,
    Weighed,
)
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, specs
from tests.support.pure_core.minutes import Minutes

FOLDER = Path(__file__).parent / "fixtures" / "minutes"
SCENES: list[Callable[[], Minutes]] = []


def scene(play: Callable[[], Minutes]) -> Callable[[], Minutes]:
    """One more scene."""
    SCENES.append(play)
    return play


def only(*labels: str, concurrent: int = 2) -> Minutes:
    """A machine of these cells."""
    built = {spec.label: spec for spec in specs() if spec.label in labels}
    return Minutes(Layout(specs=built, max_concurrent_unlocks=concurrent))


def attempt(core: Minutes, given: Input) -> None:
    """An input that may be refused; the minutes show it."""
    before = core.state
    try:
        core.feed(given)
    except Refusal:
        assert core.state is before


def support(core: Minutes, reservation: Reservation) -> OpenForReservation:
    """An open-door with all that may come with it."""
    asked = core.command(reservation, Purpose.OPEN_DOOR)
    return replace(asked, reason="cannot open", platform_reference_id="ticket_456", x_request_id="x-1")


def look_closed(core: Minutes, command: OpenForReservation) -> None:
    """Asked, and seen closed: the first pulse is under way."""
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))


@scene
def a_whole_life() -> Minutes:
    core = only("A01")
    reservation = core.reserve(notes="fragile", webhook_url="https://x", eta_minutes=5, grace_pickup_s=60)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.pass_s(20)
    core.close("A01")
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    core.pass_s(61)
    return core


@scene
def at_the_kiosk() -> Minutes:
    core = only("A01")
    reservation = core.reserve()
    core.opens(core.entry(reservation.drop_off_code))
    core.close("A01")
    text = qr_text(Purpose.PICKUP, reservation.reservation_id, reservation.pickup_code)
    entry = core.entry(text)
    core.feed(entry)
    attempt(core, core.entry(text))
    core.feed(DoorRead(entry.unlock_id, Door.CLOSED))
    for number in (1, 2, 3):
        core.feed(PulseDone(entry.unlock_id, number, Door.CLOSED))
    for number in range(9):
        core.feed(core.entry("DLV-DROP-res_none-1" if number % 2 else "0000"))
    core.pass_s(60)
    return core


@scene
def given_up() -> Minutes:
    core = only("A01", "A02")
    first, second = core.reserve(), core.reserve()
    core.feed(core.cancel(first))
    core.opens(core.command(second, Purpose.DROPOFF))
    attempt(core, core.cancel(second))
    attempt(core, core.abandon(second))
    core.close("A02")
    core.feed(core.abandon(second))
    core.feed(Clear("k", "A02"))
    third = core.reserve()
    core.opens(support(core, third))
    core.close("A01")
    core.feed(core.cancel(third))
    core.feed(Clear("k", "A01", Source.API))
    return core


@scene
def jammed_and_moved() -> Minutes:
    core = only("A01", "A02")
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    done = core.jams(core.feed(replace(command, reason="why")))
    look = core.requested_reading(done)
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(PulseDone(look.unlock_id, 1, Door.OPEN))
    core.close("A02")
    core.pass_s(11)
    core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
    core.pass_s(11)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.feed(Clear("k", "A01"))
    core.close("A02")
    core.pass_s(0.5)
    core.jams(core.feed(support(core, reservation)))
    return core


@scene
def nobody_saw() -> Minutes:
    core = only("A01", "A02")
    for purpose, then in (
        (Purpose.DROPOFF, Door.CLOSED),
        (Purpose.DROPOFF, Door.OPEN),
        (Purpose.OPEN_DOOR, Door.CLOSED),
        (Purpose.PICKUP, Door.CLOSED),
        (Purpose.PICKUP, Door.OPEN),
    ):
        reservation = next(iter(core.state.reservations.values()), None) or core.reserve()
        command = replace(core.command(reservation, purpose), x_request_id="x-2")
        look_closed(core, command)
        core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
        core.feed(DoorsChanged({"A01": then}))
        core.close("A01")
    core.pass_s(121)
    core.feed(Clear("k", "A01"))
    command = support(core, core.state.former["A01"])
    look_closed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.close("A01")
    return core


@scene
def not_seen_before() -> Minutes:
    core = only("A01", "A02")
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    look = core.requested_reading(core.feed(DoorRead(command.unlock_id, Door.UNKNOWN)))
    core.feed(DoorRead(look.unlock_id, Door.OPEN))
    core.lasts()
    look = core.requested_reading(core.feed(DoorRead(look.unlock_id, Door.OPEN)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.close("A01")
    for purpose in (Purpose.DROPOFF, Purpose.PICKUP):
        command = core.command(reservation, purpose)
        core.feed(command)
        core.feed(DoorRead(command.unlock_id, Door.UNKNOWN))
    return core


@scene
def too_late() -> Minutes:
    core = only("A01", "A02", concurrent=1)
    first, second = core.reserve(), core.dropped_off()
    command = core.command(first, Purpose.DROPOFF)
    core.feed(command)
    core.feed(core.command(second, Purpose.PICKUP, life_s=5))
    core.feed(replace(support(core, second), expires_ns=core.now.boottime_ns + 5 * 10**9))
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.pass_s(6)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED, sent=False))
    command = core.command(second, Purpose.PICKUP)
    look_closed(core, command)
    core.pass_s(11)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    attempt(core, core.command(second, Purpose.PICKUP, life_s=-1))
    attempt(core, replace(core.cancel(first), expires_ns=0))
    attempt(core, Reserve("k", "res_x", "p", "o", SMALL, (), expires_ns=0))
    return core


@scene
def a_lock_that_must_rest() -> Minutes:
    core = only("A01")
    reservation = core.dropped_off()
    core.take()
    for _ in range(5):
        core.opens(core.command(reservation, Purpose.OPEN_DOOR))
        core.close("A01")
        core.pass_s(0.25)
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    return core


@scene
def doors_that_nobody_opened() -> Minutes:
    core = only("A01", "A02", "C01")
    reservation = core.reserve()
    core.feed(DoorsChanged({"A02": Door.OPEN}))
    attempt(core, Clear("k", "A02"))
    core.pass_s(120)
    core.close("A02")
    core.feed(Clear("k", "A02"))
    command = core.command(reservation, Purpose.DROPOFF, life_s=300)
    look_closed(core, command)
    core.forced("C01")
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    core.close("C01")
    attempt(core, core.command(reservation, Purpose.DROPOFF))
    for label in ("C01", "A01"):
        attempt(core, Clear("k", label))
        core.opened_by_hand(label)
        core.close(label)
        core.feed(Clear("k", label))
    core.pass_s(11)
    core.forced("A01")
    core.close("A01")
    core.pass_s(600)
    return core


@scene
def looked_after() -> Minutes:
    core = only("A01", "A02")
    attempt(core, UnblockCell("k1", "A01"))
    core.feed(BlockCell("k2", "A01", "smells"))
    attempt(core, BlockCell("k3", "A01", "again"))
    attempt(core, BlockCell("k3", "Z9", "again"))
    core.feed(UnblockCell("k4", "A01", Source.MACHINE))
    core.feed(BlockCell("k4", "A01", "again", Source.MACHINE))
    core.feed(UnblockCell("k4", "A01"))
    core.feed(RequestMaintenance("k5", "maint_1", "lamp", Severity.LOW))
    core.feed(RequestMaintenance("k6", "maint_2", "bent", Severity.CRITICAL, "A01", block=True))
    core.feed(RequestMaintenance("k7", "maint_3", "again", Severity.HIGH, "A01", block=True))
    core.feed(RequestMaintenance("k8", "maint_4", "report", Severity.MEDIUM, "A02"))
    attempt(core, Clear("k9", "A01"))
    attempt(core, Clear("k9", "Z9"))
    attempt(core, RequestMaintenance("k9", "m", "d", Severity.LOW, "Z9"))
    attempt(core, core.command(core.reserve(), Purpose.PICKUP))
    attempt(core, Reserve("k", "res_x", "p", "o", SMALL, ("1", "2")))
    attempt(core, Reserve("k", "res_x", "p", "o", replace(SMALL, height_mm=9_000), ("1", "2")))
    return core


@scene
def a_silent_board() -> Minutes:
    core = only("A01", "A02")
    reservation = core.dropped_off()
    core.take()
    core.feed(DeviceHealth("locks", False, ("A01", "A02")))
    core.feed(DeviceHealth("locks", False, ("A01", "A02")))
    attempt(core, core.abandon(reservation))
    core.feed(DeviceHealth("locks", True, ("A01", "A02")))
    core.close("A01")
    core.feed(core.abandon(reservation))
    return core


@scene
def support_that_comes_too_late() -> Minutes:
    core = only("A01", "C01", concurrent=1)
    first = core.picked_up(grace_pickup_s=0)
    core.pass_s(1)
    second = core.reserve(replace(SMALL, height_mm=350))
    core.take()
    busy = core.command(second, Purpose.DROPOFF)
    core.feed(busy)
    core.feed(support(core, first))
    core.reserve()
    third = next(r for r in core.state.reservations.values() if r.cell == "A01")
    core.feed(support(core, third))
    core.feed(core.command(third, Purpose.DROPOFF))
    core.feed(core.cancel(third))
    fourth = core.reserve()
    core.feed(support(core, fourth))
    core.restart({})
    return core


@scene
def a_start() -> Minutes:
    core = only("A01", "A02", "C01")
    first, second, third = core.reserve(), core.dropped_off(), core.reserve()
    core.opens(core.command(first, Purpose.DROPOFF))
    core.take()
    look_closed(core, core.command(second, Purpose.PICKUP))
    look_closed(core, support(core, third))
    core.restart({"A01": Door.CLOSED, "A02": Door.OPEN, "C01": Door.CLOSED}, off_s=30)
    core.close("A02")
    for label in ("A01", "A02"):
        command = core.command(first if label == "A01" else second, Purpose.PICKUP)
        look_closed(core, command)
    core.restart({"A01": Door.CLOSED, "A02": Door.UNKNOWN}, boot_id="boot-2", off_s=40)
    core.close("A02")
    core.now = replace(core.now, synced=False)
    core.restart({"A01": Door.OPEN}, boot_id="boot-3", off_s=500)
    attempt(core, core.command(second, Purpose.PICKUP))
    core.feed(Clear("k", "A02"))
    return core


@scene
def a_worn_lock() -> Minutes:
    core = only("A01")
    reservation = core.dropped_off()
    number = 0
    while not core.state.cells["A01"].worn:
        core.pass_s(20)
        number += 1
        command = core.command(reservation, Purpose.OPEN_DOOR)
        look_closed(core, command)
        core.now = replace(core.now, boottime_ns=core.now.boottime_ns + (100 if number < 60 else 250) * 10**6)
        core.take()
        core.feed(DoorsChanged({"A01": Door.OPEN}))
        core.close("A01")
    cell = core.state.cells["A01"]
    core.lines.append(f"after {number}: {cell.pulse_count} {cell.usual_open_us} {cell.recent_open_us}")
    core.feed(Clear("k", "A01"))
    return core


@scene
def what_scales_say() -> Minutes:
    core = Minutes(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    reservation = core.reserve(grace_pickup_s=5)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 20))
    core.feed(Weighed("A01", 900))
    core.feed(Weighed("A01", None))
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 300))
    core.pass_s(6)
    core.feed(Clear("k", "A01"))
    return core


@scene
def held_by_a_scale() -> Minutes:
    core = Minutes(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=True))
    reservation = core.reserve()
    for mass_g in (0, 900):
        core.opens(core.command(reservation, Purpose.DROPOFF))
        core.close("A01")
        core.feed(Weighed("A01", mass_g))
    core.feed(core.abandon(reservation))
    return core


@pytest.mark.parametrize("play", SCENES, ids=lambda play: play.__name__)
def test_the_minutes_of_a_scene(play: Callable[[], Minutes]) -> None:
    core = play()
    found = "\n".join([core.take(), *(f"stands: {alarm}" for alarm in core.standing())]) + "\n"
    kept = FOLDER / f"{play.__name__}.txt"
    if os.environ.get("MINUTES") == "write":
        kept.write_text(found, encoding="utf-8")
    assert found == kept.read_text(encoding="utf-8")


def test_no_minutes_are_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {play.__name__ for play in SCENES}
