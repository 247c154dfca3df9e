"""What the doors do to a locker, as the second model has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_agent.model import BY_HAND, Door, Instant, Purpose
from edge_agent.model import CellStatus as Use
from edge_agent.model import ReservationStatus as S
from tests.support.model import Locker
from tests.support.parcels import (
    EXPIRED,
    INTERNAL,
    MOVES,
    NOT_NOW,
    SECOND,
    No,
    Parcel,
    Place,
    Try,
    Waits,
    passed_ns,
)

LATE_S = 10


class Doors(Locker):
    """The machine with its doors."""

    # --- a door being opened ------------------------------------------------------------------------------

    def look(self, uid: str, door: Door) -> None:
        """The fresh reading before the first pulse."""
        self.judge_openings()  # one that has lasted may forbid the pulse
        t = self.tries.get(uid)
        if t is None or t.at != "looks":
            return
        place = self.places[t.cell]
        if door is Door.OPEN:
            self.poll({t.cell: door})  # a lock that opens late may be the parcel's pick-up
        against, known_open = self.judge(t), door is Door.OPEN and place.mine and not place.contact_doubted
        if not known_open and not self.rested(t.cell):
            against.add(NOT_NOW)
        if against:
            self.fail(t, *against)
        elif known_open:
            self.finish(t, "ALREADY_OPEN")
        elif door is Door.CLOSED:
            self.pulse(t)
        elif door is Door.OPEN and place.unexplained is not None:
            self.looks.append(t.cell)  # it may be a glitch
        elif door is Door.OPEN:
            if not self.moves_on(t, place.unlocked):
                t.doubtful = True
                self.pulse(t)
        elif self.moves_on(t, place.opened):
            pass
        elif t.purpose is Purpose.TECHNICIAN:
            ours = place.door is Door.OPEN and place.mine and not place.contact_doubted
            t.doubtful = place.door is not Door.CLOSED and not ours
            self.pulse(t)
        else:
            self.finish(t, "UNKNOWN")

    def rested(self, label: str) -> bool:
        """Whether the lock may be pulsed without exceeding its duty."""
        begin = self.now.boottime_ns - self.layout.duty_window_ns
        return sum(at > begin for at in self.places[label].recent) < self.layout.duty_pulses

    def pulse(self, t: Try) -> None:
        """One more pulse."""
        place = self.places[t.cell]
        t.at, t.attempt = "pulses", t.attempt + 1
        t.began_ns = self.now.boottime_ns if t.began_ns is None else t.began_ns
        place.quiet_ns = self.now.boottime_ns
        place.pulses += 1
        place.recent.append(self.now.boottime_ns)
        place.unspent.append(self.now.boottime_ns)
        place.pulsed_for = t
        self.pulsed.append((t.cell, t.attempt))

    def watched(self, uid: str, attempt: int, door: Door, given: bool, acknowledged: bool = True) -> None:
        """What came of a pulse."""
        t = self.tries.get(uid)
        if t is None or t.at != "pulses" or t.attempt != attempt:
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
            t.at = "unclear"
            self.doubt(t.cell)
            self.say(t, INTERNAL)
            self.tell_open_door(t, "UNKNOWN")
            t.key, t.told = None, True
        else:
            t.counted += acknowledged
            self.not_moved(t)

    def not_moved(self, t: Try) -> None:
        """Seen closed after a pulse; only acknowledged ones count towards a jam."""
        elsewhere = any(place.unexplained is not None for place in self.places.values())
        jammed = t.counted >= self.layout.attempts
        marked = t.purpose not in BY_HAND and self.stands("WRONG_DOOR", t.cell)
        stops = jammed or t.halted or self.expired(t) or elsewhere or marked
        if not stops and self.rested(t.cell):
            self.pulse(t)
        elif not jammed and t.counted < t.attempt and not t.halted:
            self.doubt(t.cell)
            self.finish(t, "UNKNOWN")
        elif not jammed or t.halted or self.board_fails(t.cell):
            self.finish(t, "NO_MOVEMENT")
        else:
            self.fault(t.cell, "LOCK_JAMMED")
            if not self.moves_on(t, self.places[t.cell].opened):
                self.finish(t, "NO_MOVEMENT")

    def unconfirmed(self, t: Try) -> None:
        """A lock was pulsed although its contact is in doubt: a closing will tell, or a technician."""
        del self.tries[t.uid]
        place = self.places[t.cell]
        place.uncertain = True
        if place.holder is not None:
            place.opened = place.unlocked = place.opened_only = True
        elif t.purpose not in BY_HAND:
            self.inspect(t.cell)
        concludes = (t.purpose, t.parcel.status) in (
            (Purpose.PICKUP, S.DROPPED_OFF),
            (Purpose.DROPOFF, S.PENDING),
        )
        place.waits = None
        if concludes and not t.parcel.over and t.purpose not in BY_HAND:
            assert t.began_ns is not None
            ago_ns = self.now.boottime_ns - t.began_ns
            since = replace(self.now, boottime_ns=t.began_ns, wall_s=self.now.wall_s - ago_ns / 1e9)
            place.waits = Waits(t.parcel, t.purpose, t.kiosk, since)
        self.say(t, INTERNAL)
        self.tell_open_door(t, "UNKNOWN")

    def inspect(self, label: str) -> None:
        """A free cell was opened; somebody may have put something in."""
        place = self.places[label]
        if place.use is Use.IDLE:
            place.awaits, place.opened_only = Use.AWAITING_INSPECTION, True
            self.tell_cell(label, "OPENED")

    def fault(self, label: str, alarm: str) -> None:
        """Out of allocation; maintenance is asked for once."""
        place = self.places[label]
        if not place.faulty:
            place.faulty = True
            self.tell_cell(label, "FAULT")
            self.tell("MAINTENANCE_REQUESTED", label)
        self.alarm(alarm, label)

    def moves_on(self, t: Try, touched: bool) -> bool:
        """A drop-off of a parcel that has nothing in its cell gets another one, in the same call.

        `touched`: something may have been put in.
        """
        parcel, old = t.parcel, self.places[t.cell]
        nothing = not touched or (old.empty is True and not old.doubted)
        empty = parcel.status is S.PENDING and nothing
        if t.purpose is not Purpose.DROPOFF or not empty or t.moves >= MOVES or self.expired(t):
            return False
        try:
            label = self.best(parcel.size)
        except No:
            return False
        known_empty = not old.doubted and (not old.opened or old.empty is True)
        certain = known_empty and not old.faulty and not old.contact_doubted
        old.holder, old.awaits, old.waits = None, None if certain else Use.AWAITING_INSPECTION, None
        self.forget_use(old)
        if not certain:
            self.tell_cell(t.cell, "RELEASED")
        self.give(label, parcel)
        self.tell_cell(label, "MOVED")
        del self.tries[t.uid]
        uid = f"{t.uid.split('.')[0]}.{t.moves + 1}"
        again = Try(uid, t.key, parcel, t.purpose, t.kiosk, t.expires_ns, label, "looks", moves=t.moves + 1)
        self.tries[uid] = again
        self.looks.append(label)
        return True

    def doubt(self, label: str) -> None:
        """Nobody saw what a pulse did."""
        place = self.places[label]
        if place.holder is not None:
            place.doubted = place.opened = place.unlocked = True
        elif place.awaits is None:
            place.awaits = Use.AWAITING_INSPECTION
            self.tell_cell(label, "DOUBT")

    def finish(self, t: Try, outcome: str, *, recovered: bool = False) -> None:
        """The outcome of a command."""
        del self.tries[t.uid]
        parcel, source, place = t.parcel, "MACHINE" if t.kiosk else "API", self.places[t.cell]
        place.waits = None
        if outcome in ("OPENED", "ALREADY_OPEN"):
            self.note(t.cell, Door.OPEN)
            place.opened, place.uncertain = True, False
            if outcome == "OPENED":
                place.mine = place.unlocked = True
                place.unexplained = None
                place.rightly = t.purpose is Purpose.TECHNICIAN and not recovered
                self.remove_marks(t)
                self.lock_opened(t.cell)
                self.forgive(t)
            if place.holder is not None:
                place.holder.to_weigh = False
            elif t.purpose not in BY_HAND:
                self.inspect(t.cell)
            self.granted(t, recovered)
            self.say(t, 0)
        else:
            place.uncertain = True
            if t.purpose is Purpose.PICKUP and parcel.status is S.DROPPED_OFF:
                self.tell("PICKUP_FAILED", parcel.rid, parcel.cell, source, recovered)
            self.say(t, INTERNAL)
        self.tell_open_door(t, outcome)

    def granted(self, t: Try, recovered: bool = False) -> None:
        """The door stands open for this command."""
        parcel = t.parcel
        if t.purpose is Purpose.DROPOFF and parcel.status is S.PENDING:
            parcel.dropping = True
        if t.purpose is Purpose.PICKUP and parcel.status is S.DROPPED_OFF:
            parcel.status, parcel.picked_up, parcel.unsure = S.PICKED_UP, self.now, False
            self.tell("PICKUP", parcel.rid, parcel.cell, "MACHINE" if t.kiosk else "API", recovered)

    def lock_opened(self, label: str) -> None:
        """Contact and board are believed and a jam is over; a wrong door waits for somebody to look."""
        self.believe(label)
        self.board_works(label)
        place, wrong = self.places[label], self.stands("WRONG_DOOR", label)
        if place.faulty and not wrong:
            place.faulty = False
            self.tell_cell(label, "REPAIRED")
        self.alarm("LOCK_JAMMED", label, on=False)

    # --- doors --------------------------------------------------------------------------------------------

    def note(self, label: str, door: Door, *, unwatched: bool = False) -> None:
        """How a door stands. `unwatched`: nobody saw how it became so."""
        place = self.places[label]
        place.heard, place.unread = True, False
        if place.door is not door:
            was, stood_since = place.door, place.since
            place.door, place.since, place.settled = door, self.now, False
            place.unseen = unwatched and door is Door.CLOSED
            place.mass_g = place.empty = None
            if was is not Door.UNKNOWN and not unwatched:
                self.flipped(label, was, stood_since)
            if door is Door.OPEN and place.holder is not None:
                place.opened = True
            if door is Door.OPEN:
                place.ajar = place.ajar or self.now
                if place.unexplained is None:
                    place.unspent.clear()
                if place.holder:
                    place.holder.to_weigh = False
            else:
                place.unexplained = None
                self.weighs += [label] * (label in self.layout.weighed)

    def poll(self, doors: Mapping[str, Door]) -> None:
        """How doors stand: which of them nobody opened is judged before any is believed."""
        self.open_unasked(doors)
        for label, door in doors.items():
            self.seen(label, door)

    def open_unasked(self, doors: Mapping[str, Door]) -> None:
        """Which of these doors nobody is opening."""
        for label, door in doors.items():
            t = self.working(label)
            pulsed = t is not None and t.at in ("pulses", "unclear")
            place = self.places[label]
            if place.door is Door.CLOSED and door is Door.OPEN and not pulsed and not self.bounces(place):
                self.unasked(label)

    def bounces(self, place: Place) -> bool:
        """A door of ours that was shown closed less than a second ago has not latched."""
        passed = None if place.since is None else passed_ns(place.since, self.now)
        return place.mine and passed is not None and passed < SECOND

    def flipped(self, label: str, was: Door, stood_since: Instant | None) -> None:
        """A contact has changed: four changes in 2 s, bounces not counted, are no person's."""
        place, now_ns = self.places[label], self.now.boottime_ns
        if place.by_hand:
            return
        bounce_ns, quiet_ns = 600 * SECOND // 1000, place.quiet_ns
        if was is Door.OPEN and stood_since is not None:
            stood = passed_ns(stood_since, self.now)
            if stood is None or stood > bounce_ns:
                quiet_ns = now_ns
        if quiet_ns is not None and now_ns - quiet_ns <= bounce_ns:
            place.quiet_ns = quiet_ns
            return
        place.quiet_ns = None
        place.flips = [*(at for at in place.flips if now_ns - at <= 2 * SECOND), now_ns][-4:]
        if len(place.flips) == 4:
            self.doubt_contact(label)

    def doubt_contact(self, label: str) -> None:
        """The contact is not believed."""
        self.places[label].contact_doubted = True
        self.alarm("SENSOR_FAULT", f"{label}/contact")

    def seen(self, label: str, door: Door, *, starting: bool = False) -> None:
        """How one door stands."""
        place, t = self.places[label], self.working(label)
        if door is Door.UNKNOWN:
            if place.heard:
                place.heard = place.settled = False
            if place.waits is not None:
                place.waits.closed = None
            return
        recovered = place.unread or starting
        self.note(label, door, unwatched=recovered or not place.heard)
        if t is not None and t.doubtful:
            if t.at == "unclear":
                self.unconfirmed(t)
        elif t is not None and t.at in ("pulses", "unclear") and door is Door.OPEN:
            self.finish(t, "OPENED", recovered=recovered)
        elif t is not None and t.at == "unclear":
            self.doubt(label)
            self.finish(t, "UNKNOWN", recovered=recovered)
        if door is Door.OPEN:
            if place.holder:
                place.holder.to_weigh = False
            if place.waits is not None:
                place.waits.closed = None

    def settles(self, label: str, since_ns: int) -> None:
        """Every reading of the door for 600 ms was closed: now the closing concludes, dated at the first."""
        place = self.places[label]
        if place.door is not Door.CLOSED or not place.heard or place.settled:
            return
        ago_ns = self.now.boottime_ns - since_ns
        since = replace(self.now, boottime_ns=since_ns, wall_s=self.now.wall_s - ago_ns / 1e9)
        recovered, parcel, waits = place.unseen, place.holder, place.waits
        place.settled, place.mine, place.unseen, place.ajar = True, False, False, None
        self.alarm("DOOR_AJAR", label, on=False)
        if waits is not None and since_ns >= waits.since.boottime_ns:
            if waits.purpose is Purpose.DROPOFF:
                waits.closed = since
            else:
                place.waits, place.opened_only = None, True
                waits.parcel.status, waits.parcel.picked_up, waits.parcel.unsure = S.PICKED_UP, since, False
                source = "MACHINE" if waits.kiosk else "API"
                self.tell("PICKUP", waits.parcel.rid, label, source, True)
        if place.empty:
            self.proven_empty(label)
        if parcel is not None and parcel.status is S.PENDING and parcel.dropping:
            weighs = label in self.layout.weighed
            parcel.to_weigh = weighs
            if not (weighs and self.layout.hold_empty_dropoff and not recovered):
                self.dropped_off(parcel, recovered)
            if weighs and place.empty is not None:
                self.dropoff_weighed(label, place.empty)

    def proven_empty(self, label: str) -> None:
        """A scale ends an inspection that only an opening asked for."""
        place = self.places[label]
        if place.awaits is Use.AWAITING_INSPECTION and place.opened_only and place.settled:
            place.awaits, place.opened_only = None, False
            self.tell_cell(label, "PROVEN_EMPTY")

    def dropped_off(self, parcel: Parcel, recovered: bool = False, source: str = "MACHINE") -> None:
        """The parcel is in."""
        parcel.status, parcel.dropping = S.DROPPED_OFF, False
        self.tell("DROPOFF", parcel.rid, parcel.cell, source, recovered)

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

    def unasked(self, label: str) -> None:
        """A door opened that nobody is opening: its own lock may be late; else it is judged after 200 ms."""
        if not self.places[label].by_hand and not self.late(label, self.now):
            self.places[label].unexplained, self.places[label].mine = self.now, False

    def may_open(self, label: str, at: Instant) -> bool:
        """Whether a pulse of this lock in the 10 s before has not been seen to open its door."""
        place = self.places[label]
        if not place.unspent or at.boot_id != self.now.boot_id:
            return False  # pulses of another boot are forgotten
        return 0 <= at.boottime_ns - place.unspent[-1] < LATE_S * SECOND

    def suspects(self, label: str, at: Instant) -> list[str]:
        """The other locks that may have opened this door."""
        others = [other for other, place in self.places.items() if other != label and not place.unexplained]
        return [other for other in others if self.may_open(other, at)]

    def watched_then(self, label: str, at: Instant, own_ns: int | None) -> bool:
        """Whether this lock is being pulsed, or was just before, or after the door's own lock."""
        t = self.working(label)
        if own_ns is not None and self.places[label].unspent[-1] >= own_ns:
            return True
        just_before = at.boottime_ns - self.places[label].unspent[-1] < 5 * SECOND // 2
        return just_before or (t is not None and t.at == "pulses")

    def late(self, label: str, at: Instant) -> bool:
        """Whether the door was opened by its own lock, late; what its command wanted is true then."""
        place, t = self.places[label], self.places[label].pulsed_for
        if not self.may_open(label, at) or self.stands("WRONG_DOOR", label) or t is None or t.doubtful:
            return False
        own_ns = place.unspent[-1]
        if any(self.places[other].unspent[-1] >= own_ns for other in self.suspects(label, at)):
            return False
        place.mine = place.opened = place.unlocked = True
        place.unexplained, place.uncertain = None, False
        if t.purpose not in BY_HAND and (t.parcel.over or t.parcel.cell != label):
            self.inspect(label)
            return True
        self.lock_opened(label)
        if t.purpose not in BY_HAND:
            self.granted(t)
        return True

    def judge_openings(self) -> None:
        """Openings without a cause that have lasted are judged."""
        for label, place in self.places.items():
            lasted = None if place.unexplained is None else passed_ns(place.unexplained, self.now)
            if place.unexplained is not None and (lasted is None or lasted >= SECOND // 5):
                self.judge_opening(label)

    def judge_opening(self, label: str) -> None:
        """An opening without a cause has lasted."""
        place = self.places[label]
        since = place.unexplained
        assert since is not None
        late = self.late(label, since)
        place.unexplained = None
        own_ns = place.unspent[-1] if self.may_open(label, since) else None
        pulsed = [other for other in self.suspects(label, since) if self.watched_then(other, since, own_ns)]
        place.unspent.clear()
        if late:
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
        """Another door moved than the one commanded: both are out of use until a technician looked."""
        for other in pulsed:
            t = self.working(other)
            before = self.stands("WRONG_DOOR", other) or self.stands("WRONG_DOOR", label)
            if t is not None and t.at == "pulses":
                t.halted = True
                t.wrong += [] if before else [label]
            else:
                self.places[other].unspent.clear()
        for one in (*pulsed, label):
            self.places[one].rightly = False
            self.fault(one, "WRONG_DOOR")
        self.inspect(label)

    def remove_marks(self, t: Try) -> None:
        """The commanded door opened after all: the other one was forced."""
        for label in t.wrong:
            for one in (t.cell, label):
                self.alarm("WRONG_DOOR", one, on=False)
                if self.places[one].faulty:
                    self.places[one].faulty = False
                    self.tell_cell(one, "REPAIRED")
            if self.places[label].door is Door.OPEN:
                ago_ns = self.now.boottime_ns - SECOND // 5
                self.places[label].unexplained = replace(self.now, boottime_ns=ago_ns)
            else:
                self.alarm("DOOR_FORCED", label)
                self.doubt_contact(label)
