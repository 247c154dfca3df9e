"""Drives the pure core in tests: feeds inputs, keeps the state, moves the clock."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from edge_agent.errors import Refusal
from edge_agent.model import CellSpec, Door, Instant, Packaging, Purpose, Reservation
from edge_agent.statemachine.inputs import (
    Abandon,
    Boot,
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
    Reserve,
    Tick,
)
from edge_agent.statemachine.invariants import check
from edge_agent.statemachine.locker import restored, step
from edge_agent.statemachine.outputs import Answer, Fact, FactKind, PulseLock, ReadDoor, UnlockRecord
from edge_agent.statemachine.state import Layout, LockerState, empty_state
from edge_agent.statemachine.step_builder import Step

SMALL = Packaging(width_mm=200, height_mm=100, depth_mm=300, mass_g=500)
START = Instant("boot-1", 10**12, 1_750_000_000.0, True)


def specs() -> list[CellSpec]:
    """A small plain cell, a larger plain one, a cooled one and a heated one with a scale."""
    return [
        CellSpec("A01", "id_a01", 350, 150, 450, 5_000),
        CellSpec("A02", "id_a02", 350, 150, 450, 5_000),
        CellSpec("B01", "id_b01", 350, 250, 450, 10_000, cooling=True),
        CellSpec("B02", "id_b02", 350, 250, 450, 10_000, heating=True, weight_sensor=True),
        CellSpec("C01", "id_c01", 350, 400, 450, 20_000),
    ]


def both(first: Step, second: Step) -> Step:
    """Two steps in a row as one."""
    return Step(
        second.state,
        first.effects + second.effects,
        first.facts + second.facts,
        first.answers + second.answers,
        first.ledger_lines + second.ledger_lines,
        first.ended + second.ended,
        tuple(dict.fromkeys(first.changed + second.changed)),
        first.temperatures + second.temperatures,
    )


class Core:
    """The core of one locker, fed by the test."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout(specs={spec.label: spec for spec in specs()})
        self.state: LockerState = empty_state(self.layout)
        self.now = START
        self.facts: list[Fact] = []
        self.pulses: list[PulseLock] = []
        self.ledger_lines: list[UnlockRecord] = []
        self.changed: dict[tuple[str, str], None] = {}
        self._numbers = count(1)
        self.feed(Boot(dict.fromkeys(self.layout.specs, Door.CLOSED)))
        for label in self.layout.specs:
            self.settle(label)
        self.facts.clear()

    def feed(self, given: Input) -> Step:
        """One step; the whole state is checked after it."""
        done = step(self.state, self.layout, given, self.now)
        self.state = done.state
        check(self.state, self.layout)
        self.facts += done.facts
        self.pulses += [effect for effect in done.effects if isinstance(effect, PulseLock)]
        self.ledger_lines += done.ledger_lines
        self.changed |= dict.fromkeys(done.changed)
        return done

    def refused(self, given: Input) -> Refusal:
        """A step that must be refused and change nothing."""
        before = self.state
        try:
            step(self.state, self.layout, given, self.now)
        except Refusal as refusal:
            assert self.state is before
            return refusal
        raise AssertionError(f"{given} was not refused")

    def invalid(self, text: str) -> None:
        """An entry at the kiosk that must open nothing and be answered "not valid"."""
        done = self.feed(self.entry(text))
        assert not done.effects
        assert [a.refusal.message for a in done.answers if a.refusal] == ["not valid"]

    def pass_s(self, seconds: float, *, wall_step_s: float = 0.0) -> Step:
        """Time passes; the wall clock may step in between."""
        self.now = replace(
            self.now,
            boottime_ns=self.now.boottime_ns + round(seconds * 1e9),
            wall_s=self.now.wall_s + seconds + wall_step_s,
        )
        return self.feed(Tick())

    def lasts(self) -> Step:
        """An opening without a cause has lasted long enough to be judged."""
        return self.pass_s(0.2)

    def forced(self, label: str) -> Step:
        """A door is pulled open, or the wire of its contact breaks; the step in which it is judged."""
        self.feed(DoorsChanged({label: Door.OPEN}))
        return self.lasts()

    def opened_by_hand(self, label: str) -> None:
        """A technician has opened a door, and it stands open."""
        key = self.key()
        self.opens(OpenCell(key, label, "because", f"unl-{key}"))

    def key(self) -> str:
        """A new request key."""
        return f"req-{next(self._numbers)}"

    def reserve(self, packaging: Packaging = SMALL, **details: object) -> Reservation:
        """A reservation, live."""
        number = next(self._numbers)
        codes = tuple(f"{(number * 37 + i * 101) % 10_000:04d}" for i in range(20))
        done = self.feed(
            Reserve(
                request_key=self.key(),
                reservation_id=f"res_{number}",
                platform="p",
                platform_order_id=f"order {number}",
                packaging=packaging,
                candidate_codes=codes,
                **details,  # type: ignore[arg-type]
            )
        )
        answer = done.answers[0]
        assert answer.reservation is not None
        return answer.reservation

    def command(self, reservation: Reservation, purpose: Purpose, life_s: float = 10.0) -> OpenForReservation:
        """A drop-off or pick-up as the API sends it."""
        return OpenForReservation(
            request_key=self.key(),
            reservation_id=reservation.reservation_id,
            purpose=purpose,
            unlock_id=f"unl-{next(self._numbers)}",
            expires_ns=self.now.boottime_ns + round(life_s * 1e9),
        )

    def entry(self, text: str) -> EnterCode:
        """An entry at the kiosk."""
        return EnterCode(self.key(), text, f"unl-{next(self._numbers)}")

    def cancel(self, reservation: Reservation) -> Cancel:
        """A cancel as the API sends it."""
        return Cancel(self.key(), reservation.reservation_id)

    def abandon(self, reservation: Reservation) -> Abandon:
        """An abandon as the API sends it."""
        return Abandon(self.key(), reservation.reservation_id)

    def clear(self, label: str) -> Step:
        """A technician inspected a cell and clears it."""
        return self.feed(Clear(self.key(), label))

    def take_changed(self) -> dict[tuple[str, str], None]:
        """What changed since the last call."""
        changed, self.changed = self.changed, {}
        return changed

    def kinds(self) -> list[FactKind]:
        """The facts so far, by kind."""
        return [fact.kind for fact in self.facts]

    def live(self, reservation: Reservation) -> Reservation:
        """A reservation as it stands now."""
        return self.state.reservations[reservation.reservation_id]

    def dropped_off(self, **details: object) -> Reservation:
        """A reservation whose parcel lies in its cell."""
        reservation = self.reserve(**details)  # type: ignore[arg-type]
        self.opens(self.command(reservation, Purpose.DROPOFF))
        self.close(reservation.cell)
        return self.live(reservation)

    def picked_up(self, **details: object) -> Reservation:
        """A reservation that was picked up and whose door is closed again."""
        reservation = self.dropped_off(**details)
        self.opens(self.command(reservation, Purpose.PICKUP))
        self.close(reservation.cell)
        return self.live(reservation)

    def requested_reading(self, done: Step) -> ReadDoor:
        """The one fresh reading that a step requests."""
        found = [effect for effect in done.effects if isinstance(effect, ReadDoor)]
        assert len(found) == 1
        return found[0]

    def jams(self, done: Step) -> Step:
        """The door that a step reads is closed and moves at no pulse; the last step."""
        look = self.requested_reading(done)
        self.feed(DoorRead(look.unlock_id, Door.CLOSED))
        for attempt in range(1, self.layout.max_pulses + 1):
            done = self.feed(PulseDone(look.unlock_id, attempt, Door.CLOSED))
        return done

    def opens(self, command: OpenForReservation | OpenCell | EnterCode) -> Answer:
        """The whole unlock: fresh reading, pulse, the door springs open."""
        first = self.feed(command)
        looks = [effect for effect in first.effects if isinstance(effect, ReadDoor)]
        assert len(looks) == 1
        label = looks[0].cell
        done = self.feed(DoorRead(command.unlock_id, self.state.cells[label].door))
        answers = list(done.answers)
        if command.unlock_id in self.state.unlock_attempts:
            answers += self.feed(DoorsChanged({label: Door.OPEN})).answers
        stale = self.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
        assert not stale.effects
        assert not stale.facts
        answers += first.answers
        assert len(answers) == 1
        return answers[0]

    def close(self, label: str) -> Step:
        """A door is closed, and its contact settles; both steps as one."""
        seen = self.feed(DoorsChanged({label: Door.CLOSED}))
        return both(seen, self.settle(label))

    def settle(self, label: str) -> Step:
        """The readings of a closed door have agreed for long enough."""
        return self.feed(ClosingSettled(label, self.now.boottime_ns))

    def restart(self, doors: dict[str, Door], *, boot_id: str | None = None, off_s: float = 0.0) -> Step:
        """The daemon dies and starts again, perhaps on another boot; `doors` are its first readings."""
        self.now = replace(
            self.now,
            boot_id=boot_id or self.now.boot_id,
            boottime_ns=10**9 if boot_id else self.now.boottime_ns + round(off_s * 1e9),
            wall_s=self.now.wall_s + off_s,
        )
        self.state = restored(self.state, self.now)
        seen = {label: cell.door for label, cell in self.state.cells.items()} | doors
        begun = self.feed(Boot(seen))
        for label, door in seen.items():
            if door is Door.CLOSED:
                begun = both(begun, self.settle(label))
        return begun
