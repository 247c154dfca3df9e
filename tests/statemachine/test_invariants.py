"""A state that contradicts itself is noticed, each rule by its name, whole or by what changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edge_agent.errors import InvariantBroken
from edge_agent.model import CellStatus, Purpose, Reservation, ReservationStatus, Source, UnlockAttempt
from edge_agent.statemachine.invariants import INVARIANTS, check
from edge_agent.statemachine.state import Layout, LockerState
from tests.support.pure_core.core import SMALL, Core, specs

UNLOCK = UnlockAttempt("u1", "res_1", "A01", Purpose.DROPOFF, Source.API, "reading", None)


def sound() -> tuple[Core, Reservation, Reservation]:
    """Two reservations, and a cell with a former reservation."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}))
    over = core.picked_up(grace_pickup_s=0)
    core.pass_s(1)
    first, second = core.reserve(), core.reserve(replace(SMALL, height_mm=300))
    assert (first.cell, second.cell) == ("A02", "C01")
    assert core.state.former[over.cell].reservation_id == over.reservation_id
    return core, first, second


def with_cell(state: LockerState, label: str, **changes: object) -> LockerState:
    changed = replace(state.cells[label], **changes)  # type: ignore[arg-type]
    return replace(state, cells={**state.cells, label: changed})


def with_reservation(state: LockerState, rid: str, **changes: object) -> LockerState:
    changed = replace(state.reservations[rid], **changes)  # type: ignore[arg-type]
    return replace(state, reservations={**state.reservations, rid: changed})


def with_former(state: LockerState, label: str, **changes: object) -> LockerState:
    changed = replace(state.former[label], **changes)  # type: ignore[arg-type]
    return replace(state, former={**state.former, label: changed})


def with_unlocks(state: LockerState, *attempts: UnlockAttempt, queue: tuple[str, ...] = ()) -> LockerState:
    return replace(state, unlock_attempts={t.unlock_id: t for t in attempts}, queue=queue)


FIRST, SECOND = "res_7", "res_9"
Broken = Callable[[LockerState], LockerState]
BREACHES: list[tuple[str, str, tuple[str, str], Broken]] = [
    (
        "cell status",
        "cell B02 is RESERVED without a reservation",
        ("cells", "B02"),
        lambda s: with_cell(s, "B02", status=CellStatus.RESERVED, reservation_id=None),
    ),
    (
        "one reservation per cell",
        "cell B01 is held by res_x, which is over",
        ("cells", "B01"),
        lambda s: with_cell(s, "B01", status=CellStatus.RESERVED, reservation_id="res_x"),
    ),
    (
        "one reservation per cell",
        "the holder of cell B01 has cell A02",
        ("cells", "B01"),
        lambda s: with_cell(s, "B01", status=CellStatus.RESERVED, reservation_id=FIRST),
    ),
    (
        "cell status",
        "cell A02 is OCCUPIED, its parcel RESERVATION_STATUS_PENDING",
        ("cells", "A02"),
        lambda s: with_cell(s, "A02", status=CellStatus.OCCUPIED),
    ),
    (
        "one reservation per cell",
        f"reservation {FIRST} is over but not removed",
        ("reservations", FIRST),
        lambda s: with_reservation(s, FIRST, status=ReservationStatus.CANCELLED),
    ),
    (
        "one reservation per cell",
        f"reservation {FIRST} has lost its cell",
        ("reservations", FIRST),
        lambda s: with_reservation(s, FIRST, cell="B01"),
    ),
    (
        "codes",
        f"reservation {FIRST} has one code for both",
        ("reservations", FIRST),
        lambda s: with_reservation(s, FIRST, pickup_code=s.reservations[FIRST].drop_off_code),
    ),
    (
        "codes",
        f"reservations {FIRST} and {SECOND} share one",
        ("reservations", FIRST),
        lambda s: with_reservation(s, FIRST, pickup_code=s.reservations[SECOND].drop_off_code),
    ),
    (
        "codes",
        f"reservations {FIRST} and {SECOND} share one",
        ("reservations", FIRST),
        lambda s: with_reservation(s, FIRST, drop_off_code=s.reservations[SECOND].pickup_code),
    ),
    (
        "former reservation",
        "cell A01 cannot have been left by res_1",
        ("former", "A01"),
        lambda s: with_former(s, "A01", cell="B01"),
    ),
    (
        "former reservation",
        "cell A01 cannot have been left by res_1",
        ("former", "A01"),
        lambda s: with_former(s, "A01", status=ReservationStatus.ABANDONED),
    ),
    (
        "former reservation",
        "cell A02 is held again",
        ("former", "A02"),
        lambda s: replace(s, former={"A02": replace(s.former["A01"], cell="A02")}),
    ),
    (
        "concurrent unlocks",
        "unlock u1 waits but is not queued",
        ("unlock_attempts", "u1"),
        lambda s: with_unlocks(s, replace(UNLOCK, stage="waiting")),
    ),
    (
        "one unlock per cell",
        "two unlocks at work on cell A01",
        ("unlock_attempts", "u1"),
        lambda s: with_unlocks(s, UNLOCK, replace(UNLOCK, unlock_id="u2", stage="unresolved")),
    ),
    (
        "unlock for the holder",
        "the unlock of cell A02 is not for its holder",
        ("unlock_attempts", "u1"),
        lambda s: with_unlocks(s, replace(UNLOCK, cell="A02")),
    ),
    (
        "unlock for the holder",
        "the unlock of cell B01 is not for its holder",
        ("unlock_attempts", "u1"),
        lambda s: with_unlocks(s, replace(UNLOCK, cell="B01", stage="pulsing")),
    ),
    (
        "concurrent unlocks",
        "more locks at work than allowed",
        ("unlock_attempts", "u1"),
        lambda s: with_unlocks(
            s,
            UNLOCK,
            replace(UNLOCK, unlock_id="u2", cell="A02", reservation_id=FIRST, stage="pulsing"),
            replace(UNLOCK, unlock_id="u3", cell=s.reservations[SECOND].cell, reservation_id=SECOND),
        ),
    ),
    (
        "one unlock per cell",
        "two unlocks at work on cell A01",
        ("unlock_attempts", "u0"),
        lambda s: with_unlocks(
            s,
            replace(UNLOCK, unlock_id="u0", stage="waiting"),
            UNLOCK,
            replace(UNLOCK, unlock_id="u2"),
            queue=("u0",),
        ),
    ),
    (
        "concurrent unlocks",
        "the queue holds ['u9'], which are over",
        ("unlock_attempts", "u1"),
        lambda s: with_unlocks(s, UNLOCK, queue=("u9",)),
    ),
]


@pytest.mark.parametrize(("rule", "message", "changed", "broken"), BREACHES, ids=[b[1] for b in BREACHES])
def test_every_breach_is_noticed(rule: str, message: str, changed: tuple[str, str], broken: Broken) -> None:
    core, first, second = sound()
    assert (first.reservation_id, second.reservation_id) == (FIRST, SECOND)
    state = broken(core.state)
    with pytest.raises(InvariantBroken) as found:
        check(state, core.layout, [("alarms", "x"), changed])
    assert str(found.value) == f"{rule}: {message}"
    assert rule in INVARIANTS
    if "is over but not removed" not in message:
        with pytest.raises(InvariantBroken):
            check(state, core.layout)


def test_a_sound_state_passes_and_only_what_changed_is_looked_at() -> None:
    core, _, _ = sound()
    check(core.state, core.layout)
    broken = with_cell(core.state, "B02", status=CellStatus.RESERVED, reservation_id=None)
    check(broken, core.layout, [("cells", "A01"), ("cells", "gone"), ("alarms", "C01")])
    busy = with_unlocks(broken, replace(UNLOCK, stage="waiting"))
    check(busy, core.layout, [("cells", "A01")])
    at_work = with_unlocks(
        core.state, UNLOCK, replace(UNLOCK, unlock_id="u2", stage="waiting"), queue=("u2",)
    )
    check(at_work, core.layout)


def test_a_reservation_that_had_its_dropoff_is_not_asked_for_its_codes_again() -> None:
    core, first, second = sound()
    old = with_reservation(core.state, FIRST, pickup_code=second.pickup_code, first_dropoff=core.now)
    check(old, core.layout, [("reservations", first.reservation_id)])
