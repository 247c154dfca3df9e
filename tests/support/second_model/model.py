"""A second model of a locker, written from the behaviour page and not from the code.

A parcel knows its status and its cell, a place its parcel; what a cell is used for follows from the two.
There are no tables. Each method is one input; it predicts the answer, the facts, which doors are read and
which locks are pulsed. Where two reasons to refuse apply, the core may give either.

Two things are taken from the core and not predicted: the codes that it draws, and when a lock counts as worn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from edge_agent.model import TECHNICIAN_PURPOSES, CellSpec, Door, Instant, Packaging, Purpose
from edge_agent.model import CellStatus as Use
from edge_agent.model import ReservationStatus as S
from edge_agent.statemachine.state import Layout
from tests.support.second_model.parcels import (
    CONDITIONS,
    EXPIRED,
    FULL,
    GRANTED,
    NOT_NOW,
    SECOND,
    UNKNOWN_ID,
    Attempt,
    Codes,
    Guessing,
    Parcel,
    Place,
    Refused,
    Standing,
    elapsed_ns,
    has_more_room,
    within,
)


class Locker(ABC):
    """The machine as the behaviour page describes it."""

    def __init__(self, layout: Layout, now: Instant) -> None:
        self.layout = layout
        self.boot_id = now.boot_id
        self.places = {label: Place(spec) for label, spec in layout.specs.items()}
        self.parcels: dict[str, Parcel] = {}
        self.attempts: dict[str, Attempt] = {}
        self.queue: list[str] = []
        self.alarms: dict[str, Standing] = {}
        self.guessing = {"digits": Guessing(), "qr": Guessing()}
        self.begin(now)

    def begin(self, now: Instant) -> None:
        """Before each input: no fact and no answer yet."""
        self.now: Instant = now
        self.facts: list[tuple[object, ...]] = []
        self.answers: list[tuple[str, Codes]] = []
        self.readings: list[str] = []
        self.weighs: list[str] = []
        self.pulsed: list[tuple[str, int]] = []

    def add_fact(self, kind: str, *details: object) -> None:
        """Predicts a fact."""
        self.facts.append((kind, *details))

    def add_cell_fact(self, label: str, cause: str) -> None:
        """The fact of a changed cell, with the cause."""
        self.add_fact("CELL_STATUS_CHANGED", label, cause, self.places[label].use)

    def alarm(self, name: str, place: str, on: bool = True, *, at_once: bool = False) -> None:
        """Raises or clears an alarm; one for a condition is cleared when it has been gone for 5 s."""
        key = f"{name}/{place}"
        known = self.alarms.get(key)
        if on and known is None:
            self.alarms[key] = Standing(self.now)
            self.add_fact("ALARM_RAISED", name, place)
        elif on and known is not None:
            known.gone = None
        elif known is not None and name in CONDITIONS and not at_once:
            known.gone = known.gone or self.now
        elif known is not None:
            del self.alarms[key]
            self.add_fact("ALARM_CLEARED", name, place)

    def stands(self, name: str, place: str) -> bool:
        """Whether an alarm stands."""
        return f"{name}/{place}" in self.alarms

    def condition_stands(self, name: str, place: str) -> bool:
        """Whether the condition of an alarm stands at present."""
        known = self.alarms.get(f"{name}/{place}")
        return known is not None and known.gone is None

    def answer(self, t: Attempt, *codes: int) -> None:
        """The answer, if a caller waits for it; an open-door was answered at once."""
        if t.key is not None and t.purpose is not Purpose.OPEN_DOOR:
            self.answers.append((t.key, frozenset(codes)))

    def add_outcome_fact(self, t: Attempt, outcome: str) -> None:
        """The fact of the outcome of an open-door, or of an opening by hand."""
        if t.purpose in TECHNICIAN_PURPOSES and not t.reported:
            self.add_fact("OPEN_DOOR_FULFILLED", t.cell, outcome, t.actor)
        if t.key is not None and t.purpose is Purpose.OPEN_DOOR:
            self.add_fact("OPEN_DOOR_FULFILLED", t.parcel.rid, outcome, t.key)

    # --- commands -------------------------------------------------------------------------------------------

    def find(self, rid: str) -> Parcel:
        """The reservation."""
        if rid not in self.parcels:
            raise Refused(UNKNOWN_ID)
        return self.parcels[rid]

    def place(self, label: str) -> Place:
        """The cell."""
        if label not in self.places:
            raise Refused(UNKNOWN_ID)
        return self.places[label]

    def working(self, label: str) -> Attempt | None:
        """The attempt at work on a door, from its reading to its outcome."""
        at_work = [t for t in self.attempts.values() if t.cell == label and t.stage != "waiting"]
        assert len(at_work) <= 1
        return at_work[0] if at_work else None

    def refuse_while_busy(self, label: str) -> None:
        """Refuses every command on a cell while its door is being opened."""
        if self.working(label):
            raise Refused(NOT_NOW)

    def best_cell(self, size: Packaging, too_small: str = "") -> str:
        """The cell that a parcel gets; a larger one than the cell `too_small`."""

        def fits(spec: CellSpec) -> bool:
            across, along = sorted((size.width_mm, size.depth_mm))
            room = sorted((spec.width_mm, spec.depth_mm))
            warm = spec.heating or not size.heating_required
            cold = spec.cooling or not size.cooling_required
            goes_in = across <= room[0] and along <= room[1] and size.height_mm <= spec.height_mm
            goes_in = goes_in and (not too_small or has_more_room(spec, self.places[too_small].spec))
            return goes_in and size.mass_g <= spec.max_mass_g and warm and cold

        def rank(label: str) -> tuple[int, int, int, str]:
            spec = self.places[label].spec
            heat = spec.heating and not size.heating_required
            cool = spec.cooling and not size.cooling_required
            volume = spec.width_mm * spec.height_mm * spec.depth_mm
            return sum((heat, cool, spec.weight_sensor)), volume, self.places[label].pulses, label

        found = [k for k, p in self.places.items() if p.free and fits(p.spec) and not self.working(k)]
        if not found:
            raise Refused(FULL)
        return min(found, key=rank)

    def reserve(self, key: str, rid: str, size: Packaging, dropoff_s: int, pickup_s: int) -> Parcel:
        """Allocates a cell."""
        if rid in self.parcels:
            raise Refused(NOT_NOW)
        parcel = Parcel(rid, size, self.best_cell(size), dropoff_s, pickup_s)
        self.parcels[rid] = parcel
        self.take_cell(parcel.cell, parcel)
        self.add_fact("RESERVATION_CREATED", rid, parcel.cell)
        self.answers.append((key, GRANTED))
        return parcel

    def take_cell(self, label: str, parcel: Parcel) -> None:
        """A reservation takes a cell; the one that had it last can no longer open it."""
        place = self.places[label]
        if place.last is not None:
            self.end_waiting(place.last)
        self.forget_use(place)
        place.holder, place.last = parcel, None
        parcel.cell = label

    def forget_use(self, place: Place) -> None:
        """Resets what happened in the cell during the last reservation."""
        place.opened = place.unlocked = place.outcome_unknown = place.inspect_unless_empty = (
            place.uncertain
        ) = False

    def end_waiting(self, parcel: Parcel) -> None:
        """Ends the attempts that wait for this parcel's door."""
        for t in [t for t in self.attempts.values() if t.parcel is parcel]:
            assert t.stage == "waiting"
            self.fail(t, NOT_NOW)

    def is_allowed(self, parcel: Parcel, purpose: Purpose) -> bool:
        """Whether the door may be opened for this purpose now."""
        if purpose in TECHNICIAN_PURPOSES:
            return purpose is Purpose.TECHNICIAN or self.places[parcel.cell].use is Use.IDLE
        if purpose is Purpose.OPEN_DOOR:
            return not parcel.over or self.places[parcel.cell].last is parcel
        if parcel.over:
            return False
        if purpose is Purpose.DROPOFF:
            again = not parcel.grace_unknown and within(
                parcel.first_dropoff, parcel.grace_dropoff_s, self.now
            )
            return parcel.status is S.PENDING or (parcel.status is S.DROPPED_OFF and again)
        again = not parcel.grace_unknown and within(parcel.picked_up, parcel.grace_pickup_s, self.now)
        return parcel.status is S.DROPPED_OFF or (parcel.status is S.PICKED_UP and again)

    def judge(self, t: Attempt) -> set[int]:
        """The codes against opening this door now; none if it may be opened."""
        against = set()
        if self.expired(t):
            against.add(EXPIRED)
        if not self.is_allowed(t.parcel, t.purpose) or self.working(t.parcel.cell) not in (None, t):
            against.add(NOT_NOW)
        if t.purpose not in TECHNICIAN_PURPOSES and self.stands("WRONG_DOOR", t.parcel.cell):
            against.add(NOT_NOW)
        return against

    def expired(self, t: Attempt) -> bool:
        """Whether the command has expired."""
        return t.expires_ns is not None and self.now.boottime_ns > t.expires_ns

    def open_for(self, key: str, rid: str, purpose: Purpose, uid: str, expires_ns: int | None) -> None:
        """A drop-off, pick-up or open-door by reservation id."""
        parcel = self.find(rid)
        self.accept(Attempt(uid, key, parcel, purpose, False, expires_ns, parcel.cell))

    def by_hand(self, key: str, label: str, purpose: Purpose, uid: str, actor: str = "") -> None:
        """A technician opens a cell, whichever reservation has it, or tests a free one."""
        no_reservation = Parcel("", Packaging(1, 1, 1), label, 0, 0, over=True)
        self.place(label)
        gone_ns = self.now.boottime_ns + 30 * SECOND
        if purpose is Purpose.TECHNICIAN:
            working = self.working(label)
            if working is not None and working.stage != "unresolved":
                raise Refused(NOT_NOW)
            self.places[label].awaited = None
            if working is not None:
                self.finish(working, "UNKNOWN")
        self.accept(Attempt(uid, key, no_reservation, purpose, True, gone_ns, label, actor=actor))

    @abstractmethod
    def finish(self, t: Attempt, outcome: str, *, recovered: bool = False) -> None:
        """The outcome of a command."""

    def accept(self, t: Attempt) -> None:
        """Queues an attempt; an open-door is answered at once."""
        against = self.judge(t)
        if against:
            raise Refused(*against)
        if t.purpose is Purpose.DROPOFF and t.parcel.first_dropoff is None:
            t.parcel.first_dropoff = self.now
        if t.purpose is Purpose.OPEN_DOOR:
            assert t.key is not None
            self.answers.append((t.key, GRANTED))
        self.attempts[t.uid] = t
        self.queue.append(t.uid)

    def start_waiting(self) -> None:
        """Starts waiting attempts while fewer than the limit are at work, oldest first, each judged again."""
        while self.queue:
            if (
                sum(t.stage in ("reading", "pulsing") for t in self.attempts.values())
                >= self.layout.max_concurrent_unlocks
            ):
                return
            t = self.attempts[self.queue.pop(0)]
            against = self.judge(t)
            if against:
                self.fail(t, *against)
                continue
            t.stage, t.cell = "reading", t.parcel.cell
            self.readings.append(t.cell)

    def fail(self, t: Attempt, *codes: int) -> None:
        """Ends an attempt without a pulse that counts."""
        del self.attempts[t.uid]
        if t.uid in self.queue:
            self.queue.remove(t.uid)
        self.answer(t, *codes)
        self.add_outcome_fact(t, "NO_MOVEMENT")

    def cancel_or_abandon(self, key: str, rid: str, status: S) -> None:
        """Cancel or abandon."""
        parcel = self.find(rid)
        if parcel.over or self.working(parcel.cell):
            raise Refused(NOT_NOW)
        place = self.places[parcel.cell]
        if status is S.CANCELLED and (parcel.status is not S.PENDING or parcel.dropping):
            raise Refused(NOT_NOW)
        closed = place.door is Door.CLOSED and place.answering
        if status is S.ABANDONED and not (parcel.status is S.DROPPED_OFF and closed):
            raise Refused(NOT_NOW)
        kind = "RESERVATION_CANCELLED" if status is S.CANCELLED else "PICKUP_ABANDONED"
        parcel.status = status
        self.add_fact(kind, parcel.rid, parcel.cell)
        if status is S.ABANDONED:
            self.release_cell(parcel, Use.AWAITING_CLEANUP)
        else:
            known_empty = not place.outcome_unknown and (not place.opened or place.empty is True)
            self.release_cell(parcel, None if known_empty else Use.AWAITING_INSPECTION)
        self.answers.append((key, GRANTED))
        self.end_waiting(parcel)

    def release_cell(self, parcel: Parcel, awaits: Use | None) -> None:
        """A reservation is over; its cell may await a person."""
        place = self.places[parcel.cell]
        parcel.over, place.holder, place.awaits = True, None, awaits
        for name in ("EMPTY_DROPOFF", "WEIGHT_CHANGED"):
            self.alarm(name, parcel.cell, on=False)
        self.forget_use(place)
        place.awaited = None
        if awaits:
            self.add_cell_fact(parcel.cell, "RELEASED")

    def complete(self, parcel: Parcel) -> None:
        """The grace is over, or the cell was cleared where no clock shows the time."""
        place = self.places[parcel.cell]
        self.add_fact("RESERVATION_COMPLETED", parcel.rid, parcel.cell)
        if place.empty is False:
            self.alarm("PARCEL_LEFT_BEHIND", parcel.cell)
        unproven = place.inspect_unless_empty and place.empty is not True
        looked_into = place.outcome_unknown or place.empty is False or unproven
        self.release_cell(parcel, Use.AWAITING_INSPECTION if looked_into else None)
        place.last = parcel

    def block(self, key: str, label: str, on: bool) -> None:
        """Block or unblock."""
        place = self.place(label)
        self.refuse_while_busy(label)
        if place.blocked is on:
            raise Refused(NOT_NOW)
        place.blocked = on
        self.add_cell_fact(label, "BLOCKED" if on else "UNBLOCKED")
        self.answers.append((key, GRANTED))

    def clear(self, key: str, label: str) -> None:
        """A person has checked the cell."""
        place = self.place(label)
        self.refuse_while_busy(label)
        forced = self.stands("DOOR_FORCED", label)
        if forced and place.door is not Door.CLOSED:
            raise Refused(NOT_NOW)
        if self.stands("WRONG_DOOR", label) and not place.opened_rightly:
            raise Refused(NOT_NOW)
        parcel, shut = place.holder, place.door is Door.CLOSED
        picked_up = None if parcel is None else parcel.picked_up
        something = place.awaits or place.faulty or place.worn or forced or (place.contact_doubted and shut)
        if parcel is not None and picked_up and (parcel.held or elapsed_ns(picked_up, self.now) is None):
            self.complete(parcel)
        elif not something:
            raise Refused(NOT_NOW)
        place.awaits, place.faulty, place.worn = None, False, False
        place.inspect_unless_empty = place.uncertain = place.failing = place.opened_rightly = False
        if shut:
            self.believe(label, at_once=True)
        self.add_cell_fact(label, "CLEARED")
        for name in ("LOCK_JAMMED", "WRONG_DOOR", "DOOR_FORCED", "PARCEL_LEFT_BEHIND"):
            self.alarm(name, label, on=False)
        self.answers.append((key, GRANTED))

    def believe(self, label: str, *, at_once: bool = False) -> None:
        """The contact is no longer in doubt."""
        place = self.places[label]
        if place.contact_doubted:
            place.contact_doubted, place.changes_ns = False, []
        self.alarm("SENSOR_FAULT", f"{label}/contact", on=False, at_once=at_once)

    def maintenance(self, key: str, label: str | None, block: bool) -> None:
        """Maintenance is requested."""
        if label is not None:
            place = self.place(label)
            if block:
                self.refuse_while_busy(label)
                if not place.blocked:
                    place.blocked = True
                    self.add_cell_fact(label, "BLOCKED")
        self.add_fact("MAINTENANCE_REQUESTED", label)
        self.answers.append((key, GRANTED))

    # --- the kiosk ----------------------------------------------------------------------------------------

    def rest_left_ns(self, guessing: Guessing) -> int:
        """How long entries are ignored."""
        if guessing.since is None:
            return 0
        rest_s = 3600 if guessing.long else min(3600, 60 << max(0, guessing.rests - 1))
        return rest_s * SECOND - (elapsed_ns(guessing.since, self.now) or 0)

    def enter_code(self, key: str, text: str, uid: str, made_ns: int | None = None) -> None:
        """Digits or a QR text, made at the kiosk then."""
        gone_ns = (self.now.boottime_ns if made_ns is None else made_ns) + 30 * SECOND
        if self.now.boottime_ns > gone_ns:
            self.answers.append((key, frozenset({EXPIRED})))
            return
        qr = text.startswith("DLV-")
        guessing = self.guessing["qr" if qr else "digits"]
        if self.rest_left_ns(guessing) > 0:
            self.answers.append((key, frozenset({NOT_NOW})))
            return
        for parcel in (p for p in self.parcels.values() if not p.over):
            for purpose, code in (
                (Purpose.DROPOFF, parcel.drop_off_code),
                (Purpose.PICKUP, parcel.pickup_code),
            ):
                word = "DROP" if purpose is Purpose.DROPOFF else "PICK"
                wanted = f"DLV-{word}-{parcel.rid}-{code}" if qr else code
                if text == wanted and self.is_allowed(parcel, purpose):
                    t = Attempt(uid, key, parcel, purpose, True, gone_ns, parcel.cell)
                    against = self.judge(t)
                    if against:
                        self.answers.append((key, frozenset(against)))
                    else:
                        self.accept(t)
                    return
        self.answers.append((key, frozenset({NOT_NOW})))
        self.invalid(guessing, "qr" if qr else "digits", guess=not qr or self.is_guess(text))

    def is_guess(self, text: str) -> bool:
        """Whether a QR text names a reservation that is not over, and not with its code."""
        _, word, rest = text.split("-", 2)
        rid, code = rest.rsplit("-", 1)
        parcel = next((p for p in self.parcels.values() if p.rid == rid and not p.over), None)
        if parcel is None:
            return False
        return code != (parcel.drop_off_code if word == "DROP" else parcel.pickup_code)

    def invalid(self, guessing: Guessing, way: str, *, guess: bool) -> None:
        """An entry that opened nothing; `guess`: it may have tried a code."""
        quiet = None if guessing.last is None else elapsed_ns(guessing.last, self.now)
        if quiet is not None and quiet > 24 * 3600 * SECOND:
            guessing.rests, guessing.since, guessing.long = 0, None, False
        recent = [at for at in guessing.recent if within(at, 300, self.now)]
        guessing.recent, guessing.last = [*recent, self.now], self.now
        of_the_day = [at for at in guessing.wrong if not self.surely_older(at, 24 * 3600)]
        guessing.wrong = [*of_the_day, *([self.now] if guess else [])][-60:]
        of_the_hour = [at for at in guessing.wrong if not self.surely_older(at, 3600)]
        too_many = guess and (len(guessing.wrong) >= 60 or len(of_the_hour) >= 20)
        if len(guessing.recent) >= 5 or too_many:
            guessing.long = too_many
            guessing.recent, guessing.since = [], self.now
            guessing.rests += 1
            self.alarm("CODE_GUESSING", way)

    def surely_older(self, at: Instant, seconds: int) -> bool:
        """Whether an entry is surely older; not if no clock shows the time."""
        passed = elapsed_ns(at, self.now)
        return passed is not None and passed > seconds * SECOND

    def forgive(self, t: Attempt) -> None:
        """A code has opened its door: the first time, the wrong entries of the last minute are forgiven."""
        if (
            not t.kiosk
            or t.purpose in TECHNICIAN_PURPOSES
            or t.parcel.over
            or t.purpose in t.parcel.codes_used
        ):
            return
        t.parcel.codes_used.add(t.purpose)
        for guessing in self.guessing.values():
            guessing.recent = [at for at in guessing.recent if not within(at, 60, self.now)]

    # --- a board ------------------------------------------------------------------------------------------

    def mates(self, label: str) -> list[str]:
        """The cells on the same board."""
        boards = self.layout.lock_boards
        return [mate for mate in self.places if label in boards and boards.get(mate) == boards[label]]

    def board_fails(self, label: str) -> bool:
        """Whether a jam is the third of different locks in a row: then the board is at fault."""
        place = self.places[label]
        place.failing = True
        failing = [mate for mate in self.mates(label) if self.places[mate].failing]
        if not failing or (len(failing) < 3 and not place.board_down):
            return False
        self.board_down(self.layout.lock_boards[label])
        for mate in failing:
            if self.stands("LOCK_JAMMED", mate):
                self.alarm("LOCK_JAMMED", mate, on=False)
                if self.places[mate].faulty and not self.stands("WRONG_DOOR", mate):
                    self.places[mate].faulty = False
                    self.add_cell_fact(mate, "BOARD")
        return True

    def board_down(self, board: str) -> None:
        """One alarm for the whole board; its cells are not allocated."""
        self.alarm("DEVICE_FAULT", board)
        for label, place in self.places.items():
            place.board_down = place.board_down or self.layout.lock_boards.get(label) == board

    def board_works(self, label: str) -> None:
        """A lock has opened its door."""
        self.places[label].failing = False
        for mate in self.mates(label):
            self.places[mate].failing = self.places[mate].board_down = False
        if label in self.layout.lock_boards:
            self.alarm("DEVICE_FAULT", self.layout.lock_boards[label], on=False)
