"""The other half of the model: what the doors and the clock do to a locker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_agent.model import CellStatus as Use
from edge_agent.model import Door, Instant, Purpose
from edge_agent.model import ReservationStatus as S
from tests.support.model import (
    EXPIRED,
    GRANTED,
    INTERNAL,
    MOVES,
    NOT_NOW,
    OFFLINE,
    SECOND,
    Locker,
    No,
    Parcel,
    Place,
    Try,
    brought_over,
    dated,
    passed_ns,
)

FORCED_S, LATE_S, PATIENCE_S = 600, 10, 5


class Model(Locker):
    """The machine with its doors."""

    # --- a door being opened ------------------------------------------------------------------------------

    def look(self, uid: str, door: Door) -> None:
        """The fresh reading before the first pulse."""
        t = self.tries.get(uid)
        if t is None or t.at != "looks":
            return
        place = self.places[t.cell]
        if door is Door.OPEN:
            if place.door is Door.CLOSED:
                self.unasked(t.cell)  # a lock that opens late may be the parcel's pick-up
            self.note(t.cell, door)
            if place.holder is not None:
                place.holder.to_weigh = False
        against = self.judge(t)
        if door is Door.CLOSED and not self.rested(t.cell):
            against.add(NOT_NOW)
        if against:
            self.fail(t, *against)
            self.next_turns()
        elif door is Door.OPEN:
            self.finish(t, "ALREADY_OPEN")
        elif door is Door.CLOSED:
            self.pulse(t)
        elif not self.moves_on(t):
            self.finish(t, "UNKNOWN")

    def rested(self, label: str) -> bool:
        """Whether the lock may be pulsed without exceeding its duty."""
        begin = self.now.boottime_ns - self.layout.duty_window_ns
        return sum(at > begin for at in self.places[label].recent) < self.layout.duty_pulses

    def pulse(self, t: Try) -> None:
        """One more pulse."""
        place = self.places[t.cell]
        t.at, t.attempt = "pulses", t.attempt + 1
        place.pulses += 1
        place.recent.append(self.now.boottime_ns)
        place.unspent.append(self.now.boottime_ns)
        place.pulsed_for = t
        self.pulsed.append((t.cell, t.attempt))

    def watched(self, uid: str, attempt: int, door: Door, given: bool) -> None:
        """What came of a pulse."""
        t = self.tries.get(uid)
        if t is None or t.at != "pulses" or t.attempt != attempt:
            return
        if not given:
            self.places[t.cell].recent.pop()
            del self.places[t.cell].unspent[-1:]
            self.places[t.cell].pulses -= 1
            self.fail(t, EXPIRED)
            self.next_turns()
        elif door is Door.OPEN:
            self.finish(t, "OPENED")
        elif door is Door.UNKNOWN:
            t.at = "unclear"
            self.doubt(t.cell)
            self.say(t, INTERNAL)
            self.tell_open_door(t, "UNKNOWN")
            t.key, t.told = None, True
            self.next_turns()
        else:
            self.not_moved(t)

    def not_moved(self, t: Try) -> None:
        """Seen closed after a pulse."""
        again = t.attempt < self.layout.attempts and not t.halted and not self.expired(t)
        if again and self.rested(t.cell):
            self.pulse(t)
            return
        if t.halted or t.attempt < self.layout.attempts:
            self.finish(t, "NO_MOVEMENT")
            return
        self.fault(t.cell, "LOCK_JAMMED")
        if not self.moves_on(t):
            self.finish(t, "NO_MOVEMENT")

    def fault(self, label: str, alarm: str) -> None:
        """Out of allocation; maintenance is asked for once."""
        place = self.places[label]
        if not place.faulty:
            place.faulty = True
            self.tell_cell(label, "FAULT")
            self.tell("MAINTENANCE_REQUESTED", label)
        self.alarm(alarm, label)

    def moves_on(self, t: Try) -> bool:
        """A drop-off of a parcel that has nothing in its cell gets another one, in the same call."""
        parcel, old = t.parcel, self.places[t.cell]
        nothing = not old.opened or (old.empty is True and not old.doubted)
        empty = parcel.status is S.PENDING and nothing
        if t.purpose is not Purpose.DROPOFF or not empty or t.moves >= MOVES or self.expired(t):
            return False
        try:
            label = self.best(parcel.size)
        except No:
            return False
        old.holder = None
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
            place.doubted = place.opened = True
        elif place.awaits is None:
            place.awaits = Use.AWAITING_INSPECTION
            self.tell_cell(label, "DOUBT")

    def finish(self, t: Try, outcome: str, *, recovered: bool = False) -> None:
        """The outcome of a wish."""
        del self.tries[t.uid]
        parcel, source = t.parcel, "MACHINE" if t.kiosk else "API"
        if outcome in ("OPENED", "ALREADY_OPEN"):
            self.note(t.cell, Door.OPEN)
            self.places[t.cell].opened = True
            if outcome == "OPENED":
                self.lock_opened(t.cell)
            self.granted(t, recovered)
            self.say(t, 0)
        else:
            if t.purpose is Purpose.PICKUP and parcel.status is S.DROPPED_OFF:
                self.tell("PICKUP_FAILED", parcel.rid, parcel.cell, source, recovered)
            self.say(t, INTERNAL)
        self.tell_open_door(t, outcome)
        self.next_turns()

    def granted(self, t: Try, recovered: bool = False) -> None:
        """The door stands open for this wish."""
        parcel = t.parcel
        if t.purpose is Purpose.DROPOFF and parcel.status is S.PENDING:
            parcel.dropping = True
        if t.purpose is Purpose.PICKUP and parcel.status is S.DROPPED_OFF:
            parcel.status, parcel.picked_up, parcel.unsure = S.PICKED_UP, self.now, False
            self.tell("PICKUP", parcel.rid, parcel.cell, "MACHINE" if t.kiosk else "API", recovered)

    def lock_opened(self, label: str) -> None:
        """A jam is over; a wrong door waits for somebody to look."""
        place, wrong = self.places[label], self.stands("WRONG_DOOR", label)
        if place.faulty and not wrong:
            place.faulty = False
            self.tell_cell(label, "REPAIRED")
        self.alarm("LOCK_JAMMED", label, on=False)

    # --- doors --------------------------------------------------------------------------------------------

    def note(self, label: str, door: Door) -> None:
        """How a door stands."""
        place = self.places[label]
        place.heard, place.unread = True, False
        if place.door is not door:
            place.door, place.since = door, self.now
            place.mass_g = place.empty = None
            if door is Door.OPEN and place.holder is not None:
                place.opened = True
            if door is Door.OPEN:
                place.unspent.clear()
                if place.holder:
                    place.holder.to_weigh = False
            else:
                self.alarm("DOOR_AJAR", label, on=False)
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
            if self.places[label].door is Door.CLOSED and door is Door.OPEN and not pulsed:
                self.unasked(label)

    def seen(self, label: str, door: Door) -> None:
        """How one door stands."""
        place, t = self.places[label], self.working(label)
        if door is Door.UNKNOWN:
            place.heard = False
            return
        recovered = place.unread
        self.note(label, door)
        if place.holder and door is Door.OPEN:
            place.holder.to_weigh = False
        if t is not None and t.at in ("pulses", "unclear") and door is Door.OPEN:
            self.finish(t, "OPENED", recovered=recovered)
        elif t is not None and t.at == "unclear":
            self.doubt(label)
            self.finish(t, "UNKNOWN", recovered=recovered)
        parcel = place.holder
        if door is Door.CLOSED and parcel is not None and parcel.status is S.PENDING and parcel.dropping:
            parcel.to_weigh = label in self.layout.weighed
            if not (parcel.to_weigh and self.layout.hold_empty_dropoff and not recovered):
                self.dropped_off(parcel, recovered)

    def dropped_off(self, parcel: Parcel, recovered: bool = False) -> None:
        """The parcel is in."""
        parcel.status, parcel.dropping = S.DROPPED_OFF, False
        self.tell("DROPOFF", parcel.rid, parcel.cell, "MACHINE", recovered)

    def weighed(self, label: str, reading_g: int | None, error: bool = False) -> None:
        """A scale has settled, or does not answer any more, or says that it cannot weigh."""
        place = self.places[label]
        if label in self.layout.weighed and (error or reading_g is not None):
            self.alarm("SENSOR_FAULT", f"{label}/scale", on=error)
        if reading_g is None or place.door is not Door.CLOSED or label not in self.layout.weighed:
            place.mass_g = place.empty = None
            return
        before_g, parcel, nothing_g = place.mass_g, place.holder, self.layout.empty_below_g
        if place.use is Use.IDLE:
            self.zero(place, label, reading_g)
        mass_g = reading_g - place.tare_g - place.drift_g
        doubtful = self.stands("SENSOR_FAULT", f"{label}/scale zero") or mass_g <= -nothing_g
        empty = None if doubtful else mass_g < nothing_g
        place.mass_g, place.empty = mass_g, empty
        if parcel and before_g is not None and abs(mass_g - before_g) > self.layout.weight_change_g:
            self.alarm("WEIGHT_CHANGED", label)
        if parcel is None or not parcel.to_weigh or empty is None:
            return
        parcel.to_weigh = False
        if empty:
            self.alarm("EMPTY_DROPOFF", label)
        if parcel.dropping and empty:
            parcel.dropping = False  # held: it stays PENDING
        elif parcel.dropping:
            self.dropped_off(parcel)

    def zero(self, place: Place, label: str, reading_g: int) -> None:
        """A free cell's scale: its zero creeps, or is wrong."""
        nothing_g, most_g = self.layout.empty_below_g, self.layout.drift_max_g
        shows_g, was_empty = reading_g - place.tare_g - place.drift_g, bool(place.empty)
        if was_empty and place.mass_g is not None and abs(shows_g - place.mass_g) <= nothing_g // 2:
            creep_g = min(abs(shows_g), nothing_g // 2) * (1 if shows_g > 0 else -1)
            if -most_g <= place.drift_g + creep_g <= most_g:
                place.drift_g += creep_g
                shows_g -= creep_g
        near = -nothing_g < shows_g < nothing_g
        if near and -most_g <= reading_g - place.tare_g <= most_g:
            self.alarm("SENSOR_FAULT", f"{label}/scale zero", on=False)
        elif near or shows_g < 0 or was_empty:
            self.alarm("SENSOR_FAULT", f"{label}/scale zero")

    def tare(self, key: str, label: str) -> None:
        """What lies on a scale is nothing from now on."""
        place = self.place(label)
        self.not_while_busy(label)
        if place.mass_g is None or place.use is not Use.IDLE or not place.heard:
            raise No(NOT_NOW)
        reads_g = place.mass_g + place.tare_g + place.drift_g
        if abs(reads_g) > place.spec.max_mass_g // 5:
            raise No(NOT_NOW)
        place.tare_g, place.drift_g, place.mass_g, place.empty = reads_g, 0, 0, True
        self.tell_cell(label, "TARED")
        self.alarm("SENSOR_FAULT", f"{label}/scale zero", on=False)
        self.answers.append((key, GRANTED))

    def unasked(self, label: str) -> None:
        """A door opened that nobody is opening."""
        place = self.places[label]
        if any(at > self.now.boottime_ns - LATE_S * SECOND for at in place.unspent):
            t = place.pulsed_for
            assert t is not None
            place.opened = True
            self.lock_opened(label)
            if not t.parcel.over and t.parcel.cell == label:
                self.granted(t)
            return
        others = [t for t in self.tries.values() if t.at == "pulses"]
        if not others:
            self.alarm("DOOR_FORCED", label)
        for t in others:
            t.halted = True
            self.fault(t.cell, "WRONG_DOOR")
            self.fault(label, "WRONG_DOOR")

    def health(self, device: str, answers: bool, labels: tuple[str, ...]) -> None:
        """A board ceases to answer, or answers again."""
        self.alarm("DEVICE_SILENT", device, on=not answers)
        for label in labels if not answers else ():
            self.places[label].heard = False

    # --- time ---------------------------------------------------------------------------------------------

    def restart(self, doors: Mapping[str, Door]) -> None:
        """A start: what was meant is not done again; what the doors show decides."""
        rebooted, self.boot_id = self.boot_id != self.now.boot_id, self.now.boot_id
        for place in self.places.values():
            place.heard, place.unread = False, True
            if rebooted:
                place.recent, place.unspent = [], []
        self.open_unasked(doors)
        self.queue.clear()
        for t in list(self.tries.values()):
            if t.at in ("pulses", "unclear"):
                t.at, t.key = "unclear", None if t.kiosk else t.key
            elif t.purpose is Purpose.OPEN_DOOR:
                self.fail(t, OFFLINE)
            else:
                del self.tries[t.uid]  # the loop answers these with 14
        if self.now.synced:
            self.bring_over()
        for way, guessing in self.guessing.items():
            if guessing.since is not None and passed_ns(guessing.since, self.now) is None:
                guessing.since = self.now if self.stands("CODE_GUESSING", way) else None
        for place in self.places.values():
            place.since = None if place.since is None else brought_over(place.since, self.now)
        for label in self.places:
            self.seen(label, doors.get(label, Door.UNKNOWN))

    def bring_over(self) -> None:
        """What began in another boot runs on this one's clock, as soon as that can be told."""
        for guessing in self.guessing.values():
            guessing.recent = [at for at in map(self.over_the_reboot, guessing.recent) if at is not None]
            guessing.last = self.over_the_reboot(guessing.last)
            guessing.since = self.over_the_reboot(guessing.since)
        for parcel in self.parcels.values():
            if not parcel.over:
                parcel.first_dropoff = self.at_least_as_old_as_this_boot(parcel, parcel.first_dropoff)
                parcel.picked_up = self.at_least_as_old_as_this_boot(parcel, parcel.picked_up)
        for place in self.places.values():
            place.since = self.over_the_reboot(place.since)

    def at_least_as_old_as_this_boot(self, parcel: Parcel, since: Instant | None) -> Instant | None:
        """When a grace began; nobody will ever tell of one that has no date: it opens nothing any more."""
        if since is None or passed_ns(since, self.now) is not None:
            return self.over_the_reboot(since)
        parcel.unsure = True
        return replace(since, boot_id=self.now.boot_id, boottime_ns=0)

    def over_the_reboot(self, since: Instant | None) -> Instant | None:
        """A moment by the clock of this boot; unchanged while no clock can tell."""
        if since is None or passed_ns(since, self.now) is None:
            return since
        if since.boot_id == self.now.boot_id:
            return dated(since, self.now)
        return brought_over(since, self.now)

    def due(self) -> None:
        """What time brings, after every input."""
        if self.now.synced and self.stands("CLOCK_UNSYNCED", ""):
            self.bring_over()
        self.alarm("CLOCK_UNSYNCED", "", on=not self.now.synced)
        for way, guessing in self.guessing.items():
            if self.rest_left_ns(guessing) <= 0:
                self.alarm("CODE_GUESSING", way, on=False)
        for label, place in self.places.items():
            stood = 0 if place.since is None else passed_ns(place.since, self.now) or 0
            if not place.heard:
                pass  # what a silent board said last is not what is
            elif place.door is Door.OPEN and stood >= self.layout.door_ajar_ns:
                self.alarm("DOOR_AJAR", label)
            elif place.door is Door.CLOSED and stood >= FORCED_S * SECOND:
                self.alarm("DOOR_FORCED", label, on=False)
            parcel, patient = place.holder, self.waits_for_scale(label)
            if parcel is not None and parcel.to_weigh and parcel.dropping and not patient:
                parcel.to_weigh = False
                self.dropped_off(parcel)
            if parcel is None or patient or parcel.picked_up is None or self.working(label):
                continue
            taken = passed_ns(parcel.picked_up, self.now)
            shut = place.door is Door.CLOSED and place.heard
            if shut and taken is not None and taken > parcel.grace_pickup_s * SECOND:
                self.complete(parcel)

    def waits_for_scale(self, label: str) -> bool:
        """Whether a door was closed so lately that its scale may still tell."""
        place = self.places[label]
        if label not in self.layout.weighed or place.mass_g is not None or place.since is None:
            return False
        stood = passed_ns(place.since, self.now)
        return stood is not None and stood < PATIENCE_S * SECOND
