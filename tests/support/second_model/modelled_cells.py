"""Cells, locks and contacts in the second model."""

from __future__ import annotations

from edge_agent.model import CellStatus as Use
from edge_agent.model import Door, Instant, Purpose
from edge_agent.model import ReservationStatus as S
from tests.support.second_model.model import Locker
from tests.support.second_model.parcels import (
    NOT_NOW,
    SECOND,
    Attempt,
    Parcel,
    Place,
    Refused,
    elapsed_ns,
    within,
)


class Cells(Locker):
    """The machine with its cells and contacts."""

    def rested(self, label: str) -> bool:
        """Whether the lock may be pulsed without exceeding its duty."""
        begin = self.now.boottime_ns - self.layout.duty_window_ns
        return sum(at > begin for at in self.places[label].recent) < self.layout.duty_pulses

    def inspect(self, label: str) -> None:
        """A free cell was opened: a person may have put something in."""
        place = self.places[label]
        if place.use is Use.IDLE:
            place.awaits, place.inspect_unless_empty = Use.AWAITING_INSPECTION, True
            self.add_cell_fact(label, "OPENED")

    def larger_cell(self, key: str, rid: str, uid: str) -> None:
        """The door stands open for a drop-off, and the parcel does not go in."""
        parcel = self.find(rid)
        old = self.places[parcel.cell]
        opened = old.opened_by_machine and not old.contact_doubted and old.answering
        stands_open = opened and old.door is Door.OPEN and within(old.open_since, 60, self.now)
        if parcel.over or self.working(parcel.cell) or self.stands("WRONG_DOOR", parcel.cell):
            raise Refused(NOT_NOW)
        if parcel.status is not S.PENDING or not parcel.dropping or parcel.too_small or not stands_open:
            raise Refused(NOT_NOW)
        small = parcel.cell
        label = self.best_cell(parcel.size, small)
        for name in ("EMPTY_DROPOFF", "WEIGHT_CHANGED"):
            self.alarm(name, small, on=False)
        self.forget_use(old)
        old.holder, old.awaited, old.awaits = None, None, Use.AWAITING_INSPECTION
        old.inspect_unless_empty = True
        self.add_cell_fact(small, "RELEASED")
        self.take_cell(label, parcel)
        parcel.dropping, parcel.to_weigh, parcel.too_small = False, False, small
        self.add_cell_fact(label, "MOVED")
        self.accept(
            Attempt(uid, key, parcel, Purpose.DROPOFF, True, self.now.boottime_ns + 30 * SECOND, label)
        )

    def fault(self, label: str, alarm: str) -> None:
        """Takes a cell out of allocation and requests maintenance once."""
        place = self.places[label]
        if not place.faulty:
            place.faulty = True
            self.add_cell_fact(label, "FAULT")
            self.add_fact("MAINTENANCE_REQUESTED", label)
        self.alarm(alarm, label)

    def doubt(self, label: str) -> None:
        """The outcome of a pulse is unknown."""
        place = self.places[label]
        if place.holder is not None:
            place.outcome_unknown = place.opened = place.unlocked = True
        elif place.awaits is None:
            place.awaits = Use.AWAITING_INSPECTION
            self.add_cell_fact(label, "DOUBT")

    def granted(self, t: Attempt, recovered: bool = False) -> None:
        """The door is open for this attempt."""
        parcel = t.parcel
        if t.purpose is Purpose.DROPOFF and parcel.status is S.PENDING:
            parcel.dropping = True
        if t.purpose is Purpose.PICKUP and parcel.status is S.DROPPED_OFF:
            parcel.status, parcel.picked_up, parcel.grace_unknown = S.PICKED_UP, self.now, False
            self.add_fact("PICKUP", parcel.rid, parcel.cell, "MACHINE" if t.kiosk else "API", recovered)

    def lock_opened(self, label: str) -> None:
        """Contact and board are believed and a jam is over; WRONG_DOOR stays until a technician clears it."""
        self.believe(label)
        self.board_works(label)
        place, wrong = self.places[label], self.stands("WRONG_DOOR", label)
        if place.faulty and not wrong:
            place.faulty = False
            self.add_cell_fact(label, "REPAIRED")
        self.alarm("LOCK_JAMMED", label, on=False)

    def record_door(self, label: str, door: Door, *, unwatched: bool = False) -> None:
        """Records a reading. `unwatched`: the change to it was not observed."""
        place = self.places[label]
        place.answering, place.unread = True, False
        if place.door is not door:
            was, stood_since = place.door, place.since
            place.door, place.since, place.settled = door, self.now, False
            place.closing_unseen = unwatched and door is Door.CLOSED
            place.mass_g = place.empty = None
            if was is not Door.UNKNOWN and not unwatched:
                self.contact_changed(label, was, stood_since)
            if door is Door.OPEN and place.holder is not None:
                place.opened = True
            if door is Door.OPEN:
                place.open_since = place.open_since or self.now
                if place.holder:
                    place.holder.to_weigh = False
            else:
                place.unexplained = None
                self.weighs += [label] * (label in self.layout.weighed)
        if door is Door.OPEN and place.unexplained is None:
            place.unspent.clear()  # it explains every pulse so far

    def bounces(self, place: Place) -> bool:
        """A door that this machine opened and that read closed less than a second ago has not latched."""
        passed = None if place.since is None else elapsed_ns(place.since, self.now)
        return place.opened_by_machine and passed is not None and passed < SECOND

    def contact_changed(self, label: str, was: Door, stood_since: Instant | None) -> None:
        """A contact has changed: four changes in 2 s, without bounces, cannot come from a person."""
        place, now_ns = self.places[label], self.now.boottime_ns
        if place.by_hand:
            return
        bounce_ns, quiet_ns = 600 * SECOND // 1000, place.quiet_ns
        if was is Door.OPEN and stood_since is not None:
            stood = elapsed_ns(stood_since, self.now)
            if stood is None or stood > bounce_ns:
                quiet_ns = now_ns
        if quiet_ns is not None and now_ns - quiet_ns <= bounce_ns:
            place.quiet_ns = quiet_ns
            return
        place.quiet_ns = None
        place.changes_ns = [*(at for at in place.changes_ns if now_ns - at <= 2 * SECOND), now_ns][-4:]
        if len(place.changes_ns) == 4:
            self.doubt_contact(label)

    def doubt_contact(self, label: str) -> None:
        """Puts the contact in doubt."""
        self.places[label].contact_doubted = True
        self.alarm("SENSOR_FAULT", f"{label}/contact")

    def proven_empty(self, label: str) -> None:
        """A scale ends an inspection that only an opening required."""
        place = self.places[label]
        if place.awaits is Use.AWAITING_INSPECTION and place.inspect_unless_empty and place.settled:
            place.awaits, place.inspect_unless_empty = None, False
            self.add_cell_fact(label, "PROVEN_EMPTY")

    def dropped_off(self, parcel: Parcel, recovered: bool = False, source: str = "MACHINE") -> None:
        """The parcel has been dropped off."""
        parcel.status, parcel.dropping = S.DROPPED_OFF, False
        self.add_fact("DROPOFF", parcel.rid, parcel.cell, source, recovered)

    def dropoff_weighed(self, label: str, empty: bool) -> None:
        """What the scale shows of a drop-off whose closing has settled."""
        parcel = self.places[label].holder
        if parcel is None or not parcel.to_weigh:
            return
        parcel.to_weigh = False
        if empty:
            self.alarm("EMPTY_DROPOFF", label)
        if parcel.dropping and empty:
            parcel.dropping = False  # held: it stays PENDING
        elif parcel.dropping:
            self.dropped_off(parcel)
