"""Unlock attempts and doors in the second model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_agent.model import TECHNICIAN_PURPOSES, Door, Instant, Purpose
from edge_agent.model import CellStatus as Use
from edge_agent.model import ReservationStatus as S
from tests.support.second_model.modelled_cells import Cells
from tests.support.second_model.parcels import (
    EXPIRED,
    INTERNAL,
    MOVES,
    NOT_NOW,
    SECOND,
    Attempt,
    AwaitedClosing,
    Refused,
    elapsed_ns,
)

LATE_S = 10


class Doors(Cells):
    """The machine with its doors."""

    # --- a door being opened ------------------------------------------------------------------------------

    def fresh_reading(self, uid: str, door: Door) -> None:
        """The fresh reading before the first pulse."""
        self.judge_openings()  # one that has lasted may forbid the pulse
        t = self.attempts.get(uid)
        if t is None or t.stage != "reading":
            return
        place = self.places[t.cell]
        if door is Door.OPEN:
            self.poll({t.cell: door})  # a lock that opens late may be the parcel's pick-up
        against, known_open = (
            self.judge(t),
            door is Door.OPEN and place.opened_by_machine and not place.contact_doubted,
        )
        if not known_open and not self.rested(t.cell):
            against.add(NOT_NOW)
        if against:
            self.fail(t, *against)
        elif known_open:
            self.finish(t, "ALREADY_OPEN")
        elif door is Door.CLOSED:
            self.pulse(t)
        elif door is Door.OPEN and place.unexplained is not None:
            self.readings.append(t.cell)  # it may be a glitch
        elif door is Door.OPEN:
            if not self.move_to_other_cell(t, place.unlocked):
                t.doubtful = True
                self.pulse(t)
        elif self.move_to_other_cell(t, place.opened):
            pass
        elif t.purpose is Purpose.TECHNICIAN:
            ours = place.door is Door.OPEN and place.opened_by_machine and not place.contact_doubted
            t.doubtful = place.door is not Door.CLOSED and not ours
            self.pulse(t)
        else:
            self.finish(t, "UNKNOWN")

    def pulse(self, t: Attempt) -> None:
        """One more pulse."""
        place = self.places[t.cell]
        t.stage, t.attempt = "pulsing", t.attempt + 1
        t.began_ns = self.now.boottime_ns if t.began_ns is None else t.began_ns
        place.quiet_ns = self.now.boottime_ns
        place.pulses += 1
        place.recent.append(self.now.boottime_ns)
        place.unspent.append(self.now.boottime_ns)
        place.pulsed_for = t
        self.pulsed.append((t.cell, t.attempt))

    def pulse_done(self, uid: str, attempt: int, door: Door, given: bool, acknowledged: bool = True) -> None:
        """The result of a pulse."""
        t = self.attempts.get(uid)
        if t is None or t.stage != "pulsing" or t.attempt != attempt:
            return
        if not given:
            self.places[t.cell].recent.pop()
            del self.places[t.cell].unspent[-1:]
            self.places[t.cell].pulses -= 1
            self.fail(t, EXPIRED)
        elif t.doubtful:
            self.unconfirmed(t)
        elif door is Door.OPEN:
            self.finish(t, "OPENED")
        elif door is Door.UNKNOWN:
            t.stage = "unresolved"
            self.doubt(t.cell)
            self.answer(t, INTERNAL)
            self.add_outcome_fact(t, "UNKNOWN")
            t.key, t.reported = None, True
        else:
            t.counted += acknowledged
            self.not_moved(t)

    def not_moved(self, t: Attempt) -> None:
        """The door read closed after a pulse; only acknowledged pulses count towards a jam."""
        elsewhere = any(place.unexplained is not None for place in self.places.values())
        jammed = t.counted >= self.layout.max_pulses
        marked = t.purpose not in TECHNICIAN_PURPOSES and self.stands("WRONG_DOOR", t.cell)
        stops = jammed or t.stopped or self.expired(t) or elsewhere or marked
        if not stops and self.rested(t.cell):
            self.pulse(t)
        elif not jammed and t.counted < t.attempt and not t.stopped:
            self.doubt(t.cell)
            self.finish(t, "UNKNOWN")
        elif not jammed or t.stopped or self.board_fails(t.cell):
            self.finish(t, "NO_MOVEMENT")
        else:
            self.fault(t.cell, "LOCK_JAMMED")
            if not self.move_to_other_cell(t, self.places[t.cell].opened):
                self.finish(t, "NO_MOVEMENT")

    def unconfirmed(self, t: Attempt) -> None:
        """A lock was pulsed in doubt: a later closing or a technician decides."""
        del self.attempts[t.uid]
        place = self.places[t.cell]
        place.uncertain = True
        if place.holder is not None:
            place.opened = place.unlocked = place.inspect_unless_empty = True
        elif t.purpose not in TECHNICIAN_PURPOSES:
            self.inspect(t.cell)
        concludes = (t.purpose, t.parcel.status) in (
            (Purpose.PICKUP, S.DROPPED_OFF),
            (Purpose.DROPOFF, S.PENDING),
        )
        place.awaited = None
        if concludes and not t.parcel.over and t.purpose not in TECHNICIAN_PURPOSES:
            assert t.began_ns is not None
            ago_ns = self.now.boottime_ns - t.began_ns
            since = replace(self.now, boottime_ns=t.began_ns, wall_s=self.now.wall_s - ago_ns / 1e9)
            place.awaited = AwaitedClosing(t.parcel, t.purpose, t.kiosk, since)
        self.answer(t, INTERNAL)
        self.add_outcome_fact(t, "UNKNOWN")

    def move_to_other_cell(self, t: Attempt, touched: bool) -> bool:
        """A drop-off with nothing in its cell moves to another one, in the same command.

        `touched`: something may have been put in.
        """
        parcel, old = t.parcel, self.places[t.cell]
        nothing = not touched or (old.empty is True and not old.outcome_unknown)
        empty = parcel.status is S.PENDING and nothing
        if t.purpose is not Purpose.DROPOFF or not empty or t.moves >= MOVES or self.expired(t):
            return False
        try:
            label = self.best_cell(parcel.size, parcel.too_small)
        except Refused:
            return False
        known_empty = not old.outcome_unknown and (not old.opened or old.empty is True)
        certain = known_empty and not old.faulty and not old.contact_doubted
        old.holder, old.awaits, old.awaited = None, None if certain else Use.AWAITING_INSPECTION, None
        self.forget_use(old)
        if not certain:
            self.add_cell_fact(t.cell, "RELEASED")
        self.take_cell(label, parcel)
        self.add_cell_fact(label, "MOVED")
        del self.attempts[t.uid]
        uid = f"{t.uid.split('.')[0]}.{t.moves + 1}"
        again = Attempt(
            uid, t.key, parcel, t.purpose, t.kiosk, t.expires_ns, label, "reading", moves=t.moves + 1
        )
        self.attempts[uid] = again
        self.readings.append(label)
        return True

    def finish(self, t: Attempt, outcome: str, *, recovered: bool = False) -> None:
        """The outcome of a command."""
        del self.attempts[t.uid]
        parcel, source, place = t.parcel, "MACHINE" if t.kiosk else "API", self.places[t.cell]
        place.awaited = None
        if outcome in ("OPENED", "ALREADY_OPEN"):
            self.record_door(t.cell, Door.OPEN)
            place.opened, place.uncertain = True, False
            if outcome == "OPENED":
                place.opened_by_machine = place.unlocked = True
                place.unexplained = None
                place.opened_rightly = t.purpose is Purpose.TECHNICIAN and not recovered
                self.remove_marks(t)
                self.lock_opened(t.cell)
                self.forgive(t)
            if place.holder is not None:
                place.holder.to_weigh = False
            elif t.purpose not in TECHNICIAN_PURPOSES:
                self.inspect(t.cell)
            self.granted(t, recovered)
            self.answer(t, 0)
        else:
            place.uncertain = True
            if t.purpose is Purpose.PICKUP and parcel.status is S.DROPPED_OFF:
                self.add_fact("PICKUP_FAILED", parcel.rid, parcel.cell, source, recovered)
            self.answer(t, INTERNAL)
        self.add_outcome_fact(t, outcome)

    # --- doors --------------------------------------------------------------------------------------------

    def poll(self, doors: Mapping[str, Door]) -> None:
        """One poll: openings without a pulse are found before any reading is believed."""
        self.find_unasked(doors)
        for label, door in doors.items():
            self.read_door(label, door)

    def find_unasked(self, doors: Mapping[str, Door]) -> None:
        """Finds the doors that read open although no pulse explains it."""
        for label, door in doors.items():
            t = self.working(label)
            pulsed = t is not None and t.stage in ("pulsing", "unresolved")
            place = self.places[label]
            if place.door is Door.CLOSED and door is Door.OPEN and not pulsed and not self.bounces(place):
                self.opened_unasked(label)

    def read_door(self, label: str, door: Door, *, starting: bool = False) -> None:
        """One door was read."""
        place, t = self.places[label], self.working(label)
        if door is Door.UNKNOWN:
            if place.answering:
                place.answering = place.settled = False
            if place.awaited is not None:
                place.awaited.closed = None
            return
        recovered = place.unread or starting
        self.record_door(label, door, unwatched=recovered or not place.answering)
        if t is not None and t.doubtful:
            if t.stage == "unresolved":
                self.unconfirmed(t)
        elif t is not None and t.stage in ("pulsing", "unresolved") and door is Door.OPEN:
            self.finish(t, "OPENED", recovered=recovered)
        elif t is not None and t.stage == "unresolved":
            self.doubt(label)
            self.finish(t, "UNKNOWN", recovered=recovered)
        if door is Door.OPEN:
            if place.holder:
                place.holder.to_weigh = False
            if place.awaited is not None:
                place.awaited.closed = None

    def closing_settled(self, label: str, since_ns: int) -> None:
        """The door has settled closed: the closing takes effect, dated at its first reading."""
        place = self.places[label]
        if place.door is not Door.CLOSED or not place.answering or place.settled:
            return
        ago_ns = self.now.boottime_ns - since_ns
        since = replace(self.now, boottime_ns=since_ns, wall_s=self.now.wall_s - ago_ns / 1e9)
        recovered, parcel, awaited = place.closing_unseen, place.holder, place.awaited
        place.settled, place.opened_by_machine, place.closing_unseen, place.open_since = (
            True,
            False,
            False,
            None,
        )
        self.alarm("DOOR_AJAR", label, on=False)
        if awaited is not None and since_ns >= awaited.since.boottime_ns:
            if awaited.purpose is Purpose.DROPOFF:
                awaited.closed = since
            else:
                place.awaited, place.inspect_unless_empty = None, True
                awaited.parcel.status, awaited.parcel.picked_up, awaited.parcel.grace_unknown = (
                    S.PICKED_UP,
                    since,
                    False,
                )
                source = "MACHINE" if awaited.kiosk else "API"
                self.add_fact("PICKUP", awaited.parcel.rid, label, source, True)
        if place.empty:
            self.proven_empty(label)
        if parcel is not None and parcel.status is S.PENDING and parcel.dropping:
            weighs = label in self.layout.weighed
            parcel.to_weigh = weighs
            if not (weighs and self.layout.hold_empty_dropoff and not recovered):
                self.dropped_off(parcel, recovered)
            if weighs and place.empty is not None:
                self.dropoff_weighed(label, place.empty)

    def opened_unasked(self, label: str) -> None:
        """A door opened without a pulse: by its own lock, late; else it is judged after 200 ms."""
        if not self.places[label].by_hand and not self.opened_late(label, self.now):
            self.places[label].unexplained, self.places[label].opened_by_machine = self.now, False

    def may_open(self, label: str, at: Instant) -> bool:
        """Whether a pulse of this lock in the 10 s before has not opened its door yet."""
        place = self.places[label]
        if not place.unspent or at.boot_id != self.now.boot_id:
            return False  # pulses of another boot are forgotten
        return 0 <= at.boottime_ns - place.unspent[-1] < LATE_S * SECOND

    def suspects(self, label: str, at: Instant) -> list[str]:
        """The other locks that may have opened this door."""
        others = [other for other, place in self.places.items() if other != label and not place.unexplained]
        return [other for other in others if self.may_open(other, at)]

    def pulsed_then(self, label: str, at: Instant, own_ns: int | None) -> bool:
        """Whether this lock is being pulsed, or was just before, or after the door's own lock."""
        t = self.working(label)
        if own_ns is not None and self.places[label].unspent[-1] >= own_ns:
            return True
        just_before = at.boottime_ns - self.places[label].unspent[-1] < 5 * SECOND // 2
        return just_before or (t is not None and t.stage == "pulsing")

    def opened_late(self, label: str, at: Instant) -> bool:
        """Whether the door was opened by its own lock, late: then the command's purpose is fulfilled."""
        place, t = self.places[label], self.places[label].pulsed_for
        if not self.may_open(label, at) or self.stands("WRONG_DOOR", label) or t is None or t.doubtful:
            return False
        own_ns = place.unspent[-1]
        if any(self.places[other].unspent[-1] >= own_ns for other in self.suspects(label, at)):
            return False
        place.opened_by_machine = place.opened = place.unlocked = True
        place.unexplained, place.uncertain = None, False
        if t.purpose not in TECHNICIAN_PURPOSES and (t.parcel.over or t.parcel.cell != label):
            self.inspect(label)
            return True
        self.lock_opened(label)
        if t.purpose not in TECHNICIAN_PURPOSES:
            self.granted(t)
        return True

    def judge_openings(self) -> None:
        """Openings without a cause that have lasted are judged."""
        for label, place in self.places.items():
            lasted = None if place.unexplained is None else elapsed_ns(place.unexplained, self.now)
            if place.unexplained is not None and (lasted is None or lasted >= SECOND // 5):
                self.judge_opening(label)

    def judge_opening(self, label: str) -> None:
        """Judges one opening that has lasted."""
        place = self.places[label]
        since = place.unexplained
        assert since is not None
        opened_late = self.opened_late(label, since)
        place.unexplained = None
        own_ns = place.unspent[-1] if self.may_open(label, since) else None
        pulsed = [other for other in self.suspects(label, since) if self.pulsed_then(other, since, own_ns)]
        place.unspent.clear()
        if opened_late:
            return
        board = self.layout.contact_boards.get(label)
        mates = [k for k, b in self.layout.contact_boards.items() if b == board and board is not None]
        mates = [mate for mate in mates if self.places[mate].unexplained == since]
        if pulsed:
            self.wrong_door(label, pulsed)
        elif mates and board is not None:
            for mate in mates:
                self.places[mate].unexplained = None
            self.board_down(board)
        else:
            self.alarm("DOOR_FORCED", label)
            self.doubt_contact(label)
            self.inspect(label)

    def wrong_door(self, label: str, pulsed: list[str]) -> None:
        """Another door moved than the commanded one: both are out of use until they are checked."""
        for other in pulsed:
            t = self.working(other)
            before = self.stands("WRONG_DOOR", other) or self.stands("WRONG_DOOR", label)
            if t is not None and t.stage == "pulsing":
                t.stopped = True
                t.wrong += [] if before else [label]
            else:
                self.places[other].unspent.clear()
        for one in (*pulsed, label):
            self.places[one].opened_rightly = False
            self.fault(one, "WRONG_DOOR")
        self.inspect(label)

    def remove_marks(self, t: Attempt) -> None:
        """The commanded door has opened after all: the other one was forced."""
        for label in t.wrong:
            for one in (t.cell, label):
                self.alarm("WRONG_DOOR", one, on=False)
                if self.places[one].faulty:
                    self.places[one].faulty = False
                    self.add_cell_fact(one, "REPAIRED")
            if self.places[label].door is Door.OPEN:
                ago_ns = self.now.boottime_ns - SECOND // 5
                self.places[label].unexplained = replace(self.now, boottime_ns=ago_ns)
            else:
                self.alarm("DOOR_FORCED", label)
                self.doubt_contact(label)
