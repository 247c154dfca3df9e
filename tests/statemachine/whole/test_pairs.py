"""Two commands that conflict, in either order, on the only cell there is, from every phase.

The model alone decides what is legal. The first command is judged as if the second were not there. The
second is judged where the first has left things; or, if the first has a door being opened just then, it may
be refused (9; 8 for a reserve), and everything ends as without it. Nothing else is legal: status, cell,
pulses, facts and codes must be those of one of these two courses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from itertools import product

import pytest

from edge_agent.errors import Refusal
from edge_agent.model import Door, Purpose, Reservation, Severity
from edge_agent.model import ReservationStatus as S
from edge_agent.statemachine.inputs import (
    Abandon,
    BlockCell,
    Cancel,
    Clear,
    ClosingSettled,
    DoorRead,
    DoorsChanged,
    EnterCode,
    Input,
    OpenCell,
    OpenForReservation,
    PulseDone,
    RequestMaintenance,
    Reserve,
    UnblockCell,
)
from edge_agent.statemachine.outputs import PulseLock
from tests.support.pure_core.core import SMALL, Core
from tests.support.pure_core.situations import LABEL, NOBODY, SITUATIONS, Situation, locker
from tests.support.second_model.mirror import mirrored
from tests.support.second_model.model_facts import as_model_fact
from tests.support.second_model.observed import Model
from tests.support.second_model.parcels import FULL, GRANTED, NOT_NOW, Codes, Refused

PURPOSES = {"drop-off": Purpose.DROPOFF, "pick-up": Purpose.PICKUP, "open-door": Purpose.OPEN_DOOR}
OPENING = {*PURPOSES, "drop-off code", "pick-up code", "by hand"}
COMMANDS = (
    "reserve",
    "reserve another",
    *PURPOSES,
    "cancel",
    "abandon",
    "drop-off code",
    "pick-up code",
    "maintain and block",
    "block",
    "unblock",
    "clear",
    "by hand",
)
PAIRS = [pytest.param(a, b, id=f"{a}, then {b}") for a, b in product(COMMANDS, COMMANDS)]
FATES = {
    "opens": (Door.CLOSED, Door.OPEN),
    "jams": (Door.CLOSED, Door.CLOSED),
    "is not seen before": (Door.UNKNOWN, Door.UNKNOWN),
    "is not seen after": (Door.CLOSED, Door.UNKNOWN),
}
"""What becomes of a door: what the look shows where it was closed, and what each watching shows."""
NEW_CODES = {"reserve": ("7000", "7001"), "reserve another": ("8000", "8001")}


@dataclass(frozen=True)
class Course:
    """What came of two commands: with which codes each may have been answered, and how everything ended."""

    verdicts: tuple[Codes, ...]
    status: S | None
    cell: tuple[object, ...]
    pulses: tuple[tuple[str, int], ...]
    facts: Counter[tuple[object, ...]]

    def covers(self, real: Course) -> bool:
        """Whether the real course is this one."""
        same = (self.status, self.cell, self.pulses, self.facts) == (
            real.status,
            real.cell,
            real.pulses,
            real.facts,
        )
        return same and all(r <= v for r, v in zip(real.verdicts, self.verdicts, strict=True))


@dataclass
class Foreseen:
    """A course in the making, by the model."""

    model: Model
    rid: str
    fate: str
    verdicts: dict[str, Codes] = field(default_factory=dict)
    pulses: list[tuple[str, int]] = field(default_factory=list)
    facts: list[tuple[object, ...]] = field(default_factory=list)

    def gather(self) -> None:
        """Keeps what the model has just predicted."""
        self.model.apply_due()
        self.verdicts.update(self.model.answers)
        self.pulses += self.model.pulsed
        self.facts += self.model.facts
        self.model.begin(self.model.now)

    def give(self, name: str, key: str) -> None:
        """One command."""
        self.model.begin(self.model.now)
        try:
            self.predict(name, key)
        except Refused as refused:
            self.verdicts[key] = refused.codes
            return
        self.gather()

    def predict(self, name: str, key: str) -> None:
        """The model's own method for it."""
        model, rid = self.model, self.rid
        if name in NEW_CODES:
            made = model.reserve(key, rid if name == "reserve" else "res_other", SMALL, 120, 120)
            made.drop_off_code, made.pickup_code = NEW_CODES[name]
        elif name in PURPOSES:
            model.open_for(key, rid, PURPOSES[name], f"unl-{key}", None)
        elif name.endswith("code"):
            model.enter_code(key, text_of(name, model.parcels.get(rid)), f"unl-{key}")
        elif name in ("cancel", "abandon"):
            model.cancel_or_abandon(key, rid, S.CANCELLED if name == "cancel" else S.ABANDONED)
        elif name == "clear":
            model.clear(key, LABEL)
        elif name == "by hand":
            model.by_hand(key, LABEL, Purpose.TECHNICIAN, f"unl-{key}")
        elif name == "maintain and block":
            model.maintenance(key, LABEL, True)
        else:
            model.block(key, LABEL, name == "block")

    def carry_through(self) -> None:
        """Every door that is being opened meets its fate."""
        look, watch = FATES[self.fate]
        while self.model.attempts:
            t = next(iter(self.model.attempts.values()))
            if t.stage == "reading":
                stands_open = self.model.places[t.cell].door is Door.OPEN
                self.model.fresh_reading(t.uid, Door.OPEN if stands_open else look)
            elif t.stage == "pulsing":
                self.model.pulse_done(t.uid, t.attempt, watch, True)
            else:
                self.model.poll({t.cell: Door.CLOSED})
                self.model.closing_settled(t.cell, self.model.now.boottime_ns)
            self.gather()

    def course(self) -> Course:
        """How it ended."""
        parcel, place = self.model.parcels.get(self.rid), self.model.places[LABEL]
        holder = place.holder.rid if place.holder else None
        return Course(
            verdicts=tuple(self.verdicts.get(key, GRANTED) for key in ("first", "second")),
            status=parcel.status if parcel else None,
            cell=(place.use, holder, place.door, place.blocked, place.faulty),
            pulses=tuple(self.pulses),
            facts=Counter(self.facts),
        )


def text_of(name: str, known: object) -> str:
    """What is typed at the kiosk."""
    which = "drop_off_code" if name == "drop-off code" else "pickup_code"
    return getattr(known, which, "") or NEW_CODES["reserve"][which == "pickup_code"]


@dataclass
class Real:
    """The same by the core."""

    core: Core
    reservation: Reservation
    fate: str
    over: dict[str, S] = field(default_factory=dict)
    verdicts: dict[str, Codes] = field(default_factory=dict)

    def feed(self, given: Input) -> None:
        """One step, with its answers."""
        done = self.core.feed(given)
        self.over |= {r.reservation_id: r.status for r in done.ended}
        for answer in done.answers:
            code = 0 if answer.refusal is None else int(answer.refusal.code)
            self.verdicts[answer.request_key] = frozenset({code})

    def give(self, name: str, key: str) -> None:
        """One command, as the loop would give it."""
        try:
            self.feed(self.command_input(name, key))
        except Refusal as refusal:
            self.verdicts[key] = frozenset({int(refusal.code)})

    def command_input(self, name: str, key: str) -> Input:
        """One command as an input."""
        rid = self.reservation.reservation_id
        over = self.over.get(rid) if rid not in self.core.state.reservations else None
        if name in NEW_CODES:
            other = name == "reserve another"
            rid, over = ("res_other", None) if other else (rid, over)
            return Reserve(key, rid, "p", "o", SMALL, NEW_CODES[name], ended=over)
        if name in PURPOSES:
            return OpenForReservation(key, rid, PURPOSES[name], f"unl-{key}", 2**62, ended=over)
        if name.endswith("code"):
            return EnterCode(key, text_of(name, self.reservation), f"unl-{key}")
        simple: dict[str, Input] = {
            "cancel": Cancel(key, rid, ended=over),
            "abandon": Abandon(key, rid, ended=over),
            "clear": Clear(key, LABEL),
            "by hand": OpenCell(key, LABEL, "why", f"unl-{key}"),
            "maintain and block": RequestMaintenance(key, "m", "d", Severity.LOW, LABEL, block=True),
            "block": BlockCell(key, LABEL, "b"),
            "unblock": UnblockCell(key, LABEL),
        }
        return simple[name]

    def carry_through(self) -> None:
        """Every door that is being opened meets its fate."""
        look, watch = FATES[self.fate]
        while self.core.state.unlock_attempts:
            t = next(iter(self.core.state.unlock_attempts.values()))
            if t.stage == "reading":
                stands_open = self.core.state.cells[t.cell].door is Door.OPEN
                self.feed(DoorRead(t.unlock_id, Door.OPEN if stands_open else look))
            elif t.stage == "pulsing":
                self.feed(PulseDone(t.unlock_id, t.pulse_number, watch))
            else:
                self.feed(DoorsChanged({t.cell: Door.CLOSED}))
                self.feed(ClosingSettled(t.cell, self.core.now.boottime_ns))

    def course(self) -> Course:
        """How it ended."""
        rid = self.reservation.reservation_id
        live = self.core.state.reservations.get(rid)
        cell = self.core.state.cells[LABEL]
        pulses: list[PulseLock] = self.core.pulses
        return Course(
            verdicts=tuple(self.verdicts[key] for key in ("first", "second")),
            status=live.status if live else self.over.get(rid),
            cell=(cell.status, cell.reservation_id, cell.door, bool(cell.blocked), bool(cell.faulty)),
            pulses=tuple((pulse.cell, pulse.pulse_number) for pulse in pulses),
            facts=Counter(as_model_fact(fact) for fact in self.core.facts),
        )


@cache
def built(situation: Situation) -> tuple[Core, Reservation]:
    """The only cell of a machine, brought there."""
    core = locker(LABEL)
    reservation = situation.build(core)
    core.pass_s(11)  # the lock has rested
    return core, reservation


def stage(situation: Situation, fate: str) -> Real:
    """The same for one course."""
    core, reservation = built(situation)
    core = copy(core)
    core.facts, core.pulses = [], []
    real = Real(core, reservation, fate)
    if reservation is not NOBODY and reservation.reservation_id not in core.state.reservations:
        real.over[reservation.reservation_id] = reservation.status
    return real


def foresee(situation: Situation, fate: str, *commands: str) -> Foreseen:
    """One command after the other, each carried through but the last."""
    core, reservation = built(situation)
    known = None if reservation is NOBODY else reservation
    course = Foreseen(mirrored(core, known), reservation.reservation_id, fate)
    for name, key in zip(commands, ("first", "second"), strict=False):
        course.carry_through()
        course.give(name, key)
    return course


def legal(situation: Situation, fate: str, first: str, second: str, at_once: bool) -> Iterator[Course]:
    """The courses that two commands may take."""
    both = foresee(situation, fate, first, second)
    both.carry_through()
    yield both.course()
    alone = foresee(situation, fate, first)
    if at_once and alone.model.attempts:
        alone.carry_through()
        busy = {"reserve another": {FULL}, "reserve": {FULL, NOT_NOW}}
        alone.verdicts["second"] = frozenset(busy.get(second, {NOT_NOW}))
        yield alone.course()


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one after the other"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_commands_end_in_a_legal_course(first: str, second: str, at_once: bool) -> None:
    opening = {first, second} & OPENING
    for situation, fate in product(SITUATIONS, FATES if opening else ["opens"]):
        real = stage(situation, fate)
        real.give(first, "first")
        if not at_once:
            real.carry_through()
        real.give(second, "second")
        real.carry_through()
        found, courses = real.course(), list(legal(situation, fate, first, second, at_once))
        assert any(course.covers(found) for course in courses), (str(situation), fate, found, courses)


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_of_two_that_want_the_last_cell_one_gets_it(situation: Situation) -> None:
    real = stage(situation, "opens")
    free = real.core.state.cells[LABEL].status == "IDLE" and real.core.state.cells[LABEL].door is Door.CLOSED
    given = Reserve("first", "res_x", "p", "o", SMALL, ("7000", "7001"))
    other = Reserve("second", "res_y", "p", "o", SMALL, ("7000", "7001", "8000", "8001"))
    codes = []
    for one in (given, other):
        try:
            real.feed(one)
        except Refusal as refusal:
            codes.append(int(refusal.code))
    assert codes == ([8] if free else [8, 8])
